//! The contract of a node: the only seam at which anything can fail, delay or lie.
//!
//! A node is one Redis or Valkey server, or its embedded equal in memory. It is passive: it holds
//! *replicas* of segments and, if it is a keeper, *registers*, and applies operations to them.
//! Which operations to send, to whom and when is decided elsewhere (`protocol`, `driver`).
//!
//! - **Atomicity**: each [`Op`] is one atomic step. A batch handed to [`Node::call`] is one round
//!   trip, applied in order, but not atomic as a whole. Every op yields its own reply; a refused
//!   op does not keep the next ones from being applied.
//! - **Ordering**: [`Op::Append`]s of successive `call`s made by one task reach the node in that
//!   order. Nothing else is promised between two calls.
//! - **Time**: ages, deadlines, TTLs and delays count by the node's own clock. Durations travel as
//!   time passed or time left, never as points in time.
//! - **Cancellation**: a request is on its way when `call` returns. Dropping the future never
//!   cancels it; it may have been applied or may be applied later.
//! - **Unknown**: an error says only what is known, see [`NodeError`].
//! - **Refusals**: what a node refuses is an answer ([`Refusal`]), not an error, and a refused
//!   operation has changed nothing.
//! - **Cookie (Q9)**: every op but [`Op::Identity`] and [`Op::Admit`] names the cookie under which
//!   it was meant; the node refuses with [`Refusal::Stranger`] when it holds none or another. A
//!   node whose run id is not the one it was admitted under is a stranger too, unless durable.
//! - **Absence**: a replica exists only through [`Op::Open`]. An absent one answers
//!   [`Refusal::Gone`], never "empty".
//! - **Watching**: once [`Node::watch`] has answered, whatever changes the replica from then on ends
//!   the [`Watch`]: appends, notes, seals, ends told, claims, releases, deletes, copies, its wiping.
//!   So does losing the connection, or the server its data. A watch may end without a reason, and never
//!   says what happened; operations that change nothing (reads, probes, counts) do not end it. It costs
//!   nobody anything while nothing happens.

use std::fmt;

use futures_util::future::BoxFuture;

pub mod faulty;
pub mod memory;
mod op;
pub mod redis;
mod reply;
mod watch;

pub use op::*;
pub use reply::*;
pub use watch::Watch;

use crate::id::ReplicaAt;

/// One node of the pool. See the module's documentation for the contract.
pub trait Node: fmt::Debug + Send + Sync + 'static {
    /// The node's address without credentials, as messages and logs name it.
    fn name(&self) -> &str;

    /// Sends `ops` in one round trip and returns one reply for each, in order.
    ///
    /// # Errors
    /// [`NodeError`], for the whole batch: some, all or none of the ops may have been applied,
    /// unless it is [`NodeError::Unreached`].
    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>>;

    /// Watches a replica, whether or not it is there: once this has answered, the first change ends
    /// the [`Watch`]. So nothing is missed by whoever looks at the replica after the answer and before
    /// it awaits the watch.
    ///
    /// # Errors
    /// [`NodeError`]: nothing is watched.
    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>>;
}

/// Why a node gave no answer. It says only what we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Nothing was sent: nothing has been applied.
    #[error("node {node} is not reachable: {reason}")]
    Unreached {
        /// The node's name.
        node: String,
        /// What happened.
        reason: String,
    },
    /// Sent, but no answer came: may have been applied, or may still be.
    #[error("node {node} did not answer: {reason}")]
    Unknown {
        /// The node's name.
        node: String,
        /// What happened.
        reason: String,
    },
    /// An answer came that cannot be read: counts as unknown.
    #[error("node {node} gave an unreadable answer: {reason}")]
    Broken {
        /// The node's name.
        node: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl NodeError {
    /// The name of the node.
    pub fn node(&self) -> &str {
        match self {
            Self::Unreached { node, .. }
            | Self::Unknown { node, .. }
            | Self::Broken { node, .. } => node,
        }
    }
}
