//! Who waits for posts, in the order in which they came, which is that of their deadlines.
//!
//! One look at the oldest, now and then, keeps the deadlines of all: a timer for each post would cost
//! more than the rest of waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::post::Place;
use super::{Core, QueueState, locked};
use crate::error::{Error, ErrorKind};

/// What a caller is told of a part of a post.
pub(crate) type Told = Result<Place, Error>;

/// The callers of one queue.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    /// The number of the first one in `callers`.
    first: u64,
    /// None: told, or not waited for any longer. The first one waits.
    callers: VecDeque<Option<Caller>>,
    /// Somebody keeps the deadlines.
    pub(super) is_guarded: bool,
}

#[derive(Debug)]
struct Caller {
    since: Instant,
    reply: oneshot::Sender<Told>,
}

impl Awaited {
    /// Another caller, its number, and where it will hear.
    pub(super) fn add(&mut self, since: Instant) -> (u64, oneshot::Receiver<Told>) {
        let (reply, told) = oneshot::channel();
        let number = self.first + self.callers.len() as u64;
        self.callers.push_back(Some(Caller { since, reply }));
        (number, told)
    }

    /// Whether somebody still waits under this number.
    pub(super) fn is_there(&self, number: u64) -> bool {
        let caller = self.place(number).and_then(|place| self.callers.get(place));
        caller.is_some_and(|caller| caller.as_ref().is_some_and(|c| !c.reply.is_closed()))
    }

    /// Where a caller will be told something, once.
    pub(super) fn take(&mut self, number: u64) -> Option<oneshot::Sender<Told>> {
        let place = self.place(number)?;
        let caller = self.callers.get_mut(place)?.take()?;
        self.forget_told();
        Some(caller.reply)
    }

    /// Nobody will be told anything: all hear that.
    pub(super) fn clear(&mut self) {
        self.first += self.callers.len() as u64;
        self.callers.clear();
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn forget_told(&mut self) {
        while self.callers.front().is_some_and(Option::is_none) {
            self.callers.pop_front();
            self.first += 1;
        }
    }

    /// Those who have waited since before `until`.
    fn due(&mut self, until: Instant) -> Vec<oneshot::Sender<Told>> {
        let mut due = Vec::new();
        while let Some(caller) = self.callers.front_mut() {
            match caller.take_if(|caller| caller.since <= until) {
                Some(caller) => due.push(caller.reply),
                None => break,
            }
            self.forget_told();
        }
        due
    }

    /// Since when the oldest one has waited.
    fn oldest(&self) -> Option<Instant> {
        self.callers.front().and_then(Option::as_ref).map(|caller| caller.since)
    }
}

impl Core {
    /// Tells those who have waited for longer than they may, until nobody waits.
    pub(super) fn guard(&self, queue: &Arc<QueueState>) {
        let (queue, deadline) = (Arc::clone(queue), self.pool.config().deadline);
        self.spawn(async move {
            while let Some(at) = next_deadline(&queue, deadline) {
                tokio::time::sleep_until(at).await;
            }
        });
    }
}

/// Tells those who are due, and when the next will be; none if nobody waits.
fn next_deadline(queue: &QueueState, deadline: Duration) -> Option<Instant> {
    let (due, next) = {
        let mut outbox = locked(&queue.post);
        let awaited = &mut outbox.awaited;
        let until = Instant::now().checked_sub(deadline);
        let due = until.map_or_else(Vec::new, |until| awaited.due(until));
        let next = awaited.oldest().map(|since| since + deadline);
        awaited.is_guarded = next.is_some();
        (due, next)
    };
    for reply in due {
        let late = format!("queue {}: the post was not acknowledged in time", queue.name);
        reply.send(Err(Error::new(ErrorKind::Timeout, late).unknown())).ok();
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited() -> (Awaited, Vec<oneshot::Receiver<Told>>) {
        let mut awaited = Awaited::default();
        let told = (0..3).map(|_| awaited.add(Instant::now()).1).collect();
        (awaited, told)
    }

    fn refuse(reply: Option<oneshot::Sender<Told>>) {
        reply.expect("waits").send(Err(Error::invalid("no".to_owned()))).expect("hears");
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_told_once_in_any_order() {
        let (mut awaited, told) = awaited();
        refuse(awaited.take(1));
        assert!(awaited.take(1).is_none());
        assert!(!awaited.is_there(1) && awaited.is_there(0) && awaited.is_there(2));
        refuse(awaited.take(0));
        assert_eq!(awaited.callers.len(), 1, "what was told is forgotten");
        refuse(awaited.take(2));
        assert!(awaited.oldest().is_none());
        for told in told {
            assert!(told.await.expect("told").is_err());
        }
        assert_eq!(awaited.add(Instant::now()).0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_went_away_is_not_there() {
        let (awaited, mut told) = awaited();
        told.remove(0);
        assert!(!awaited.is_there(0) && awaited.is_there(1));
        assert!(!awaited.is_there(7), "never given");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_are_due_are_the_oldest() {
        let (mut awaited, _told) = awaited();
        let before = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (number, _later) = awaited.add(Instant::now());
        drop(awaited.take(1));
        assert_eq!(awaited.due(before).len(), 2);
        assert!(awaited.is_there(number));
        assert_eq!(awaited.oldest(), Some(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn all_hear_that_nobody_will_tell_them() {
        let (mut awaited, told) = awaited();
        awaited.clear();
        for told in told {
            assert!(told.await.is_err());
        }
        assert_eq!(awaited.add(Instant::now()).0, 3, "numbers are not given twice");
    }
}
