//! Writes down what clients ask and are told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roundelay::{Error, ErrorKind, Message, Outcome};
use tokio::time::Instant;

use crate::oracles::{Answer, Entry, Seen, UNHEARD, What};

/// After so many more entries clients are slower by as much as they were first.
const SLOWER_EVERY: usize = 40;

/// Writes a history; copies write the same one.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    start: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// A call that was begun. Dropped without an end, its outcome is unknown.
#[derive(Debug)]
pub(crate) struct Call {
    recorder: Recorder,
    entry: Option<Entry>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), entries: Arc::default() }
    }

    /// Milliseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A call begins; `what` says what its outcome is if nobody ever hears of it.
    pub(crate) fn begin(&self, by: &str, queue: &str, what: What) -> Call {
        let began = self.now();
        tell(began, "begins", &what);
        let (by, queue) = (by.to_owned(), queue.to_owned());
        let entry = Entry { by, began, ended: began, queue, what };
        Call { recorder: self.clone(), entry: Some(entry) }
    }

    /// Something that took no time.
    pub(crate) fn note(&self, by: &str, what: What) {
        drop(self.begin(by, "", what));
    }

    /// How much slower clients go once there are more entries than `wanted`: the more, the slower.
    pub(crate) fn pace(&self, wanted: usize) -> u64 {
        let more = self.entries().len().saturating_sub(wanted);
        1 + (more / SLOWER_EVERY) as u64
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The call was answered.
    pub(crate) fn end(mut self, change: impl FnOnce(&mut What)) {
        if let Some(entry) = &mut self.entry {
            change(&mut entry.what);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.ended = self.recorder.now();
            tell(entry.ended, "ends", &entry.what);
            self.recorder.entries().push(entry);
        }
    }
}

/// Faults stand in the log, too: between what the library says of them, and whatever breaks later.
fn tell(at: u64, what_of_it: &str, what: &What) {
    if let What::Fault { .. } | What::Disturbed { .. } = what {
        tracing::debug!(at, ?what, "{what_of_it}");
    }
}

/// What nobody heard of.
pub(crate) fn unheard<T>() -> Answer<T> {
    Answer::Unknown(UNHEARD.into())
}

/// What came of a call.
pub(crate) fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    result.map_or_else(|error| failure(&error), Answer::Done)
}

/// What a failure says.
pub(crate) fn failure<T>(error: &Error) -> Answer<T> {
    let what = format!("{:?}: {error}", error.kind());
    match error.outcome() {
        Outcome::Unknown => Answer::Unknown(what),
        // A defect that must be seen.
        Outcome::NotApplied if error.kind() == ErrorKind::Internal => Answer::NotApplied(what),
        Outcome::NotApplied if error.is_retryable() => Answer::NotApplied(what),
        Outcome::NotApplied => Answer::Refused(what),
    }
}

/// Messages, as a history has them.
pub(crate) fn seen(messages: &[Message]) -> Vec<Seen> {
    let one = |message: &Message| Seen {
        name: String::from_utf8_lossy(&message.body).into_owned(),
        id: message.id.to_string(),
        claimed: message.claim.is_some(),
    };
    messages.iter().map(one).collect()
}
