//! What one task has asked and not heard of yet.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Requests on their way, and their outcomes as they come.
///
/// One of them never ends. When the library has polled all that there are in a row it puts its task
/// off, for which another thread is woken: with that one there, it has never polled them all.
pub(super) struct Requests<T>(FuturesUnordered<BoxFuture<'static, T>>);

impl<T: Send + 'static> Requests<T> {
    pub(super) fn new() -> Self {
        let requests = Self(FuturesUnordered::new());
        requests.push(Box::pin(std::future::pending()));
        requests
    }

    pub(super) fn push(&self, request: BoxFuture<'static, T>) {
        self.0.push(request);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    /// Nobody waits for them any longer.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The next outcome; none if there is nothing to wait for.
    pub(super) async fn next(&mut self) -> Option<T> {
        if self.is_empty() { None } else { self.0.next().await }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Debug, Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_that_waits_is_woken_by_outcomes_alone() {
        let mut requests = Requests::new();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        // The one that never ends is looked at once.
        let (first, told) = oneshot::channel();
        requests.push(told.boxed());
        assert!(pin!(requests.next()).poll(&mut context).is_pending());
        first.send(0).expect("waits");
        assert_eq!(pin!(requests.next()).poll(&mut context), Poll::Ready(Some(Ok(0))));
        for round in 1..4 {
            let (asked, told): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
            told.into_iter().for_each(|told| requests.push(told.boxed()));
            woken.0.store(0, Ordering::Relaxed);
            assert!(pin!(requests.next()).poll(&mut context).is_pending());
            assert_eq!(woken.0.load(Ordering::Relaxed), 0, "nothing has happened");
            for asked in asked {
                asked.send(round).expect("waits");
                assert_eq!(pin!(requests.next()).poll(&mut context), Poll::Ready(Some(Ok(round))));
            }
        }
    }

    #[test]
    fn nothing_is_waited_for_when_nothing_was_asked() {
        let mut requests = Requests::<u8>::new();
        assert!(requests.is_empty());
        assert_eq!(requests.next().now_or_never(), Some(None));
        requests.push(std::future::ready(1).boxed());
        assert!(!requests.is_empty());
        assert_eq!(requests.next().now_or_never(), Some(Some(1)));
        requests.push(std::future::pending().boxed());
        requests.clear();
        assert!(requests.is_empty());
        assert_eq!(requests.next().now_or_never(), Some(None));
    }
}
