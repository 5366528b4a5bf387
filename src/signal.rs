//! A count that only grows, and those who wait until it has: woken in the order in which they came.
//!
//! As `tokio::sync::watch`, which wakes them in an order of chance: here the same run repeats itself.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Raises the count. Dropping it ends all waiting.
#[derive(Debug)]
pub(crate) struct Sender(Arc<Shared>);

/// Waits for the count to be raised.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    seen: u64,
}

/// The sender is gone: the count stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    is_closed: AtomicBool,
    raised: Notify,
}

impl Sender {
    /// A count of 0.
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// One that waits for what comes from now on.
    pub(crate) fn subscribe(&self) -> Receiver {
        let shared = Arc::clone(&self.0);
        let seen = shared.count();
        Receiver { shared, seen }
    }

    /// Raises the count by one.
    pub(crate) fn raise(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.raised.notify_waiters();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.raised.notify_waiters();
    }
}

impl Shared {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

impl Receiver {
    /// The count as it is; it is seen with that.
    pub(crate) fn look(&mut self) -> u64 {
        self.seen = self.shared.count();
        self.seen
    }

    /// Whether it was raised since it was last seen.
    #[cfg(test)]
    pub(crate) fn has_changed(&self) -> bool {
        self.shared.count() != self.seen
    }

    /// Waits until it is another one than was last seen.
    ///
    /// # Errors
    /// The sender is gone and the count has been seen.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        self.above(self.seen).await.map(drop)
    }

    /// Waits until it is above `count`, and tells it; it is seen with that.
    ///
    /// # Errors
    /// The sender is gone and the count is not.
    pub(crate) async fn above(&mut self, count: u64) -> Result<u64, Closed> {
        loop {
            let mut raised = pin!(self.shared.raised.notified());
            // From here on nothing is missed that is raised after the look below.
            raised.as_mut().enable();
            let is_closed = self.shared.is_closed.load(Ordering::Acquire);
            let found = self.shared.count();
            if found > count {
                self.seen = found;
                return Ok(found);
            }
            if is_closed {
                return Err(Closed);
            }
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_was_raised_before_one_waits_is_not_missed() {
        let sender = Sender::new();
        let mut receiver = sender.subscribe();
        assert!(receiver.changed().now_or_never().is_none());
        sender.raise();
        sender.raise();
        assert!(receiver.has_changed());
        assert_eq!(receiver.above(1).await, Ok(2));
        assert!(receiver.changed().now_or_never().is_none());
        drop(sender);
        assert_eq!(receiver.changed().await, Err(Closed));
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let sender = Sender::new();
        let woken = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (mut receiver, woken) = (sender.subscribe(), Arc::clone(&woken));
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.raise();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }
}
