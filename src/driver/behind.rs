//! A marker from a message: for readers that kept the last message's id instead of the page's marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::timeout;

use super::ask::unavailable;
use super::{Core, QueueState};
use crate::error::{Error, ErrorKind};
use crate::id::{Offset, Placement};
use crate::queue::ListOptions;
use crate::token::{Marker, MessageId};

/// Messages looked at in the first page, and in the longest.
///
/// A page has no bound in bytes: one that goes on behind the segment may have bodies of any length,
/// so that even the longest must be bearable if all its bodies are (256 KiB each: 64 MiB).
const PAGES: (usize, usize) = (16, 256);
/// Bytes of bodies that a page should have: the next one is longer or shorter accordingly.
const PAGE_BYTES: usize = 1 << 20;

impl Core {
    /// Where a reader stands that has come to this message; `None` if it is not there any more.
    ///
    /// An id does not tell where its message stands among those of other producers, so its segment
    /// is read from the start: 16 MiB at most, by default. All of that has the time of one call.
    pub(crate) async fn marker_behind(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &MessageId,
    ) -> Result<Option<Marker>, Error> {
        let search = self.search_behind(queue, id);
        timeout(self.pool.config().deadline, search).await.unwrap_or_else(|_| {
            Err(unavailable(&queue.name, "the search for a message took too long", &[]))
        })
    }

    async fn search_behind(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &MessageId,
    ) -> Result<Option<Marker>, Error> {
        let start = Marker {
            tag: id.tag,
            segment: id.segment,
            placement: Placement(0),
            offset: Offset(0),
            frontier: BTreeMap::new(),
        };
        let mut options = ListOptions {
            marker: Some(start),
            limit: PAGES.0,
            not_from: None,
            include_claimed: true,
            include_delayed: true,
        };
        loop {
            let page = match self.list(queue, &options).await {
                // Of another queue, or of an earlier life of this one.
                Err(error) if error.kind() == ErrorKind::Invalid => return Ok(None),
                page => page?,
            };
            match page.messages.iter().position(|message| message.id == *id) {
                Some(place) if place + 1 == page.messages.len() => return Ok(page.marker),
                // The page that ends with it, from the same start. If one before it ends meanwhile,
                // that page is too long, and the next one shorter.
                Some(place) => options.limit = place + 1,
                None => {
                    let last = page.messages.last();
                    if last.is_none_or(|last| last.id.segment > id.segment) {
                        return Ok(None);
                    }
                    let bytes = page.messages.iter().map(|message| message.body.len()).sum();
                    options.limit = next_limit(options.limit, bytes);
                    options.marker = page.marker;
                }
            }
        }
    }
}

/// How many messages to ask for next: twice as many while they are small, else few.
fn next_limit(limit: usize, bytes: usize) -> usize {
    match bytes {
        0..PAGE_BYTES => (limit * 2).min(PAGES.1),
        _ => PAGES.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_long_only_while_bodies_are_short() {
        let small = (0..20).fold(PAGES.0, |limit, _| next_limit(limit, 1_000));
        assert_eq!(small, PAGES.1);
        assert_eq!(next_limit(small, PAGE_BYTES), PAGES.0);
    }
}
