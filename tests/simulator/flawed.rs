//! Flaws of single requests, which no fault of a whole wire brings about: one block of several in flight
//! is lost, and copies of segments arrive so slowly as if they were large.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use roundelay::id::ReplicaAt;
use roundelay::node::{Node, NodeError, Op, Reply, Watch};
use tokio::time::sleep;

/// How long what is copied is under way, for all processes; copies share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies(Arc<AtomicU64>);

/// What is lost between one process and one node; copies share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses(Arc<Mutex<Option<Rng>>>);

/// A process's wire to one node, with flaws.
#[derive(Debug)]
pub(crate) struct Flawed {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) copies: Copies,
    pub(crate) losses: Losses,
}

impl Copies {
    /// From now on copies arrive so late.
    pub(crate) fn take(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl Losses {
    /// From now on one block in four is lost, as `rng` draws them; with none, no more.
    pub(crate) fn draw(&self, rng: Option<Rng>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rng;
    }

    pub(crate) fn are_any(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn next(&self) -> bool {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rng.as_mut().is_some_and(|rng| rng.u32(..4) == 0)
    }
}

impl Node for Flawed {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let delay = self.copies.delay();
        if !delay.is_zero() && ops.iter().any(|op| matches!(op, Op::CopyIn { .. })) {
            let node = Arc::clone(&self.node);
            return async move {
                sleep(delay).await;
                node.call(ops).await
            }
            .boxed();
        }
        if ops.iter().any(|op| matches!(op, Op::Append(_))) && self.losses.next() {
            return pending().boxed();
        }
        self.node.call(ops)
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.node.watch(at)
    }
}
