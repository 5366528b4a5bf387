//! Walks from marker to marker, put together from their pages.

use std::collections::BTreeMap;

use super::{Answer, Entry, History, Seen, What};

/// One walk of everything in a queue.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) by: &'a str,
    pub(crate) queue: &'a str,
    /// The marker at which it started; none: at the oldest message.
    pub(crate) start: Option<&'a str>,
    pub(crate) pages: Vec<Page<'a>>,
}

/// A page that was answered.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) next: Option<&'a str>,
    pub(crate) seen: &'a [Seen],
}

impl<'a> Walk<'a> {
    /// All that it gave, in order.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &'a Seen> {
        self.pages.iter().flat_map(|page| page.seen)
    }

    /// Whether it began at the oldest message.
    pub(crate) fn is_whole(&self) -> bool {
        self.start.is_none()
    }

    /// Whether it began after everything had become quiet, and came to the end.
    pub(crate) fn is_final(&self, history: &History) -> bool {
        let quiet = history.quiet();
        let came_to_end = self.pages.last().is_some_and(|page| page.seen.is_empty());
        let began = self.pages.first().map(|page| page.began);
        came_to_end && quiet.zip(began).is_some_and(|(quiet, began)| quiet <= began)
    }
}

/// All walks of everything, in the order of their numbers.
pub(crate) fn walks(history: &History) -> Vec<Walk<'_>> {
    let mut walks: BTreeMap<u64, Walk<'_>> = BTreeMap::new();
    for entry in &history.entries {
        let Entry { by, began, ended, queue, what } = entry;
        let What::List { walk, marker, next, everything: true, answer: Answer::Done(seen) } = what
        else {
            continue;
        };
        let walk = walks.entry(*walk).or_insert_with(|| Walk {
            by,
            queue,
            start: marker.as_deref(),
            pages: Vec::new(),
        });
        walk.pages.push(Page { began: *began, ended: *ended, next: next.as_deref(), seen });
    }
    walks.into_values().collect()
}
