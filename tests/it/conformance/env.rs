//! What a case gets: a fresh admitted node, a way to let time pass, and hooks into the server.
//!
//! Another implementation joins by implementing [`Implementation`] and by a line in the macro of
//! `conformance/mod.rs`.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use roundelay::id::{Cookie, Incarnation, NodeId, Placement, PoolId, ReplicaAt};
use roundelay::node::faulty::FaultyNode;
use roundelay::node::memory::MemoryNode;
use roundelay::node::{Node, Op, Reply};
use roundelay::time::Clock;

/// An implementation of `Node` that the suite runs against.
pub(crate) trait Implementation {
    /// Starts a server that holds nothing yet.
    fn start() -> impl Future<Output = Started>;
}

/// A started server.
pub(crate) struct Started {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) server: Box<dyn Server>,
    pub(crate) pace: Pace,
    /// Dropped at the end of the case: whatever must be ended then.
    pub(crate) guard: Box<dyn Any>,
}

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Tokio's paused clock: exactly as told.
    Paused,
    /// It really passes: checks of times need tolerance.
    Real,
}

/// What is done to a server from outside. The node given at the start serves on afterwards.
pub(crate) trait Server {
    /// Ends it and starts it again without its data.
    fn restart_empty(&self) -> BoxFuture<'_, ()>;
    /// Ends it and starts it again with its data.
    fn restart_with_data(&self) -> BoxFuture<'_, ()>;
    /// Deletes all data of the running server.
    fn flush(&self) -> BoxFuture<'_, ()>;
    /// Leaves no memory for further blocks, or lifts that.
    fn fill_memory(&self, full: bool) -> BoxFuture<'_, ()>;
}

/// What a case works with.
pub(crate) struct Env {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) cookie: Cookie,
    pub(crate) server: Box<dyn Server>,
    pace: Pace,
    placements: AtomicU64,
    _guard: Box<dyn Any>,
}

impl Env {
    /// A fresh node, admitted.
    pub(crate) async fn new<I: Implementation>() -> Self {
        let Started { node, server, pace, guard } = I::start().await;
        let cookie = Cookie { pool: PoolId(77), node: NodeId(3), incarnation: Incarnation(5) };
        let placements = AtomicU64::new(1);
        let env = Self { node, cookie, server, pace, placements, _guard: guard };
        env.admit(cookie).await;
        env
    }

    /// Admits the node under its present run id.
    pub(crate) async fn admit(&self, cookie: Cookie) {
        let run_id = self.identity(Op::Identity).await.run_id;
        self.done(Op::Admit { cookie, run_id }).await;
    }

    /// Lets so much time pass, for the node too.
    pub(crate) async fn pass(&self, time: Duration) {
        match self.pace {
            Pace::Paused => tokio::time::advance(time).await,
            Pace::Real => tokio::time::sleep(time).await,
        }
    }

    /// Lets so many milliseconds pass.
    pub(crate) async fn pass_ms(&self, ms: u64) {
        self.pass(Duration::from_millis(ms)).await;
    }

    /// Checks a time of which at least `least` has passed.
    pub(crate) fn assert_age(&self, found_ms: u64, least_ms: u64) {
        let slack_ms = match self.pace {
            Pace::Paused => 0,
            Pace::Real => 5_000,
        };
        let range = least_ms..=least_ms + slack_ms;
        assert!(range.contains(&found_ms), "{found_ms} ms is not within {range:?}");
    }

    /// The address of a replica that was never opened.
    pub(crate) fn fresh(&self) -> ReplicaAt {
        let placement = Placement(self.placements.fetch_add(1, Ordering::Relaxed));
        ReplicaAt { cookie: self.cookie, placement }
    }

    /// Sends one op.
    pub(crate) async fn reply(&self, op: Op) -> Reply {
        let mut replies = self.node.call(vec![op]).await.expect("the node answers");
        assert_eq!(replies.len(), 1, "one reply for one op");
        replies.remove(0)
    }
}

/// The memory node itself.
pub(crate) struct Memory;

impl Implementation for Memory {
    async fn start() -> Started {
        tokio::time::pause();
        let node = MemoryNode::new("memory", Clock::starting_at(1_000_000_000));
        Started {
            node: Arc::new(node.clone()),
            server: Box::new(node),
            pace: Pace::Paused,
            guard: Box::new(()),
        }
    }
}

/// A memory node behind a wire without faults.
pub(crate) struct FaultyWithEmptyPlan;

impl Implementation for FaultyWithEmptyPlan {
    async fn start() -> Started {
        let memory = Memory::start().await;
        let (node, _) = FaultyNode::new(memory.node);
        Started { node: Arc::new(node), ..memory }
    }
}

impl Server for MemoryNode {
    fn restart_empty(&self) -> BoxFuture<'_, ()> {
        Self::restart_empty(self);
        ready(()).boxed()
    }

    fn restart_with_data(&self) -> BoxFuture<'_, ()> {
        Self::restart_with_data(self);
        ready(()).boxed()
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Self::flush(self);
        ready(()).boxed()
    }

    fn fill_memory(&self, full: bool) -> BoxFuture<'_, ()> {
        self.set_memory_limit(full.then_some(1));
        ready(()).boxed()
    }
}
