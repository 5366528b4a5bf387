//! Who moves a connection's bytes: whoever waits for an answer, in its own task.
//!
//! A task for each connection would be woken by every answer, only to wake the one who waits for it. So
//! it is polled by those who wait, and what the socket has to say is told to one of them: to the
//! call that was sent without the lane's task while there is one, else to the lane's task.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Moves bytes both ways when it is polled, until the connection has ended.
type Moving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's bytes on their way, and who is told of them.
pub(super) struct Driver {
    /// None: the connection has ended.
    moving: Mutex<Option<Moving>>,
    relay: Arc<Relay>,
    waker: Waker,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Wakes whoever waits now, which is not who polled last.
#[derive(Debug, Default)]
struct Relay {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    call: Option<Waker>,
    task: Option<Waker>,
    /// Somebody was woken and has not moved anything since.
    woken: bool,
    /// Somebody who is awake will move bytes before he waits for anything.
    is_driven_next: bool,
}

impl Driver {
    pub(super) fn new(moving: impl Future<Output = ()> + Send + 'static) -> Self {
        let relay = Arc::<Relay>::default();
        let waker = Waker::from(Arc::clone(&relay));
        // Nobody may be kept from an answer by what else his task has done.
        let moving: Moving = Box::pin(tokio::task::unconstrained(moving));
        Self { moving: Mutex::new(Some(moving)), relay, waker }
    }

    /// Who calls this moves bytes right behind it: until then nobody needs to be woken.
    pub(super) fn is_driven_next(&self) {
        self.relay.lock().is_driven_next = true;
    }

    /// Moves what can be moved now.
    pub(super) fn drive(&self) {
        {
            let mut waiting = self.relay.lock();
            (waiting.woken, waiting.is_driven_next) = (false, false);
        }
        let mut slot = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut moving) = slot.take()
            && moving.as_mut().poll(&mut Context::from_waker(&self.waker)).is_pending()
        {
            *slot = Some(moving);
        }
    }

    /// A call that was sent without the task waits: it alone is woken.
    pub(super) fn call_waits(&self, waker: &Waker) {
        keep(&mut self.relay.lock().call, waker);
    }

    /// The lane's task waits: it is woken while no call waits without it.
    pub(super) fn task_waits(&self, waker: &Waker) {
        keep(&mut self.relay.lock().task, waker);
    }

    /// No call waits without the task any longer. What was told to the call and not looked at is told
    /// to the task.
    pub(super) fn call_ended(&self) {
        let mut waiting = self.relay.lock();
        waiting.call = None;
        let task = if waiting.woken { waiting.task.clone() } else { None };
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Relay {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut waiting = self.lock();
        if waiting.is_driven_next {
            return;
        }
        waiting.woken = true;
        let waker = waiting.call.as_ref().or(waiting.task.as_ref()).cloned();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Remembers whom to wake, unless it is he already.
pub(super) fn keep(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(kept) => kept.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection whose socket can be made to speak, and how often it was looked at.
    struct Stage {
        driver: Driver,
        socket: Arc<Mutex<Option<Waker>>>,
        looks: Arc<AtomicUsize>,
        ends_at: Arc<AtomicUsize>,
    }

    impl Stage {
        fn new() -> Self {
            let socket = Arc::<Mutex<Option<Waker>>>::default();
            let looks = Arc::<AtomicUsize>::default();
            let ends_at = Arc::new(AtomicUsize::new(usize::MAX));
            let (waker, seen, end) =
                (Arc::clone(&socket), Arc::clone(&looks), Arc::clone(&ends_at));
            let driver = Driver::new(std::future::poll_fn(move |context| {
                *waker.lock().unwrap() = Some(context.waker().clone());
                let looks = seen.fetch_add(1, Ordering::Relaxed);
                if looks >= end.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
            }));
            Self { driver, socket, looks, ends_at }
        }

        fn speak(&self) {
            self.socket.lock().unwrap().as_ref().expect("was looked at").wake_by_ref();
        }
    }

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    fn woken(count: &Count) -> usize {
        count.0.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn the_socket_is_heard_by_the_call_while_there_is_one_and_else_by_the_task() {
        let stage = Stage::new();
        let ((call, call_waker), (task, task_waker)) = (counted(), counted());
        stage.driver.task_waits(&task_waker);
        stage.driver.drive();
        stage.speak();
        assert_eq!((woken(&call), woken(&task)), (0, 1));
        stage.driver.drive();
        stage.driver.call_waits(&call_waker);
        stage.speak();
        assert_eq!((woken(&call), woken(&task)), (1, 0), "whoever polled last");
        stage.driver.drive();
        stage.driver.call_ended();
        assert_eq!((woken(&call), woken(&task)), (0, 0), "all that was told was looked at");
        stage.speak();
        assert_eq!((woken(&call), woken(&task)), (0, 1));
    }

    #[test]
    fn what_a_call_was_told_last_is_left_to_the_task() {
        let stage = Stage::new();
        let ((call, call_waker), (task, task_waker)) = (counted(), counted());
        stage.driver.task_waits(&task_waker);
        stage.driver.call_waits(&call_waker);
        stage.driver.drive();
        stage.speak();
        stage.driver.call_ended();
        assert_eq!((woken(&call), woken(&task)), (1, 1));
    }

    #[test]
    fn nobody_is_woken_while_somebody_is_about_to_move_bytes() {
        let stage = Stage::new();
        let (task, task_waker) = counted();
        stage.driver.task_waits(&task_waker);
        stage.driver.drive();
        stage.driver.is_driven_next();
        stage.speak();
        assert_eq!(woken(&task), 0);
        stage.driver.drive();
        stage.speak();
        assert_eq!(woken(&task), 1, "only until then");
    }

    #[test]
    fn what_has_ended_is_not_polled_again() {
        let stage = Stage::new();
        stage.ends_at.store(1, Ordering::Relaxed);
        for _ in 0..4 {
            stage.driver.drive();
        }
        assert_eq!(stage.looks.load(Ordering::Relaxed), 2);
    }
}
