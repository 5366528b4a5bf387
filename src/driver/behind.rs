//! A marker from a message: for readers that kept the last message's id instead of the page's marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Core, QueueState};
use crate::error::{Error, ErrorKind};
use crate::id::{Offset, Placement};
use crate::queue::ListOptions;
use crate::token::{Marker, MessageId};

/// Messages looked at in one page.
const PAGE: usize = 1_000;

impl Core {
    /// Where a reader stands that has come to this message; `None` if it is not there any more.
    ///
    /// An id does not tell where its message stands among those of other producers, so its segment
    /// is read from the start: 16 MiB at most, by default.
    pub(crate) async fn marker_behind(
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
            limit: PAGE,
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
                    options.marker = page.marker;
                    options.limit = PAGE;
                }
            }
        }
    }
}
