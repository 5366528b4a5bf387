//! The administration of a pool: how it does, nodes that come and go, whether copies agree.
//!
//! What is told here is found out at the time of the call, about all queues of the pool and not only
//! those that this process has met. `roundelay pool` is made of these calls.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::Core;
use crate::driver::admin::doctor::examine;
use crate::driver::admin::drain::Counted;
use crate::error::Error;
use crate::id::NodeId;
use crate::node::Node;
use crate::store::NodeStatus;

/// The administration of a store's pool, see [`Store::admin`](crate::Store::admin).
#[derive(Debug, Clone)]
pub struct Admin {
    core: Arc<Core>,
}

/// How a pool does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PoolHealth {
    /// Whether every node is up and of the pool, the keepers are complete, and no segment has fewer
    /// than `copies` copies: any one node may fail now.
    pub healthy: bool,
    /// What keeps it from being so, for people.
    pub troubles: Vec<String>,
    /// The nodes, by id.
    pub nodes: Vec<NodeHealth>,
    /// Which process restores copies; `None`: nobody yet.
    pub repairer: Option<String>,
    /// Queues of all projects.
    pub queues: u64,
    /// Segments of all queues, lost ones not counted.
    pub segments: u64,
    /// Segments with fewer than `copies` copies on nodes that are up.
    pub segments_under_replicated: u64,
    /// Those of them that have fewer than `copies_min`.
    pub segments_thin: u64,
    /// Segments of which nothing is left. They do not make the pool unhealthy: nothing mends them.
    pub segments_lost: u64,
}

/// How a node does, and what rests on it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeHealth {
    /// How it does.
    pub node: NodeStatus,
    /// Replicas on it that manifests name, in its present life.
    pub replicas: u64,
}

/// What is left to be moved off a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Remaining {
    /// Segments that take posts, with a replica there.
    pub open_segments: u64,
    /// Replicas of all segments there.
    pub replicas: u64,
    /// Messages in them, as they were counted when they were first seen.
    pub messages: u64,
    /// Whether the node keeps manifests still.
    pub keeper: bool,
    /// What keeps it from getting on, for people.
    pub blocked: Option<String>,
    /// Whether the node has been empty for so long that nobody can mean to use it.
    pub done: bool,
}

/// A node on its way out.
#[derive(Debug)]
pub struct Drain {
    core: Arc<Core>,
    node: NodeId,
    counted: Counted,
}

/// What a pool would lack without a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Removal {
    /// Its number.
    pub node: u16,
    /// Its address.
    pub name: String,
    /// Replicas on it.
    pub replicas: u64,
    /// Segments that would be left with fewer than `copies_min` copies on nodes that are up.
    pub segments_thin: u64,
    /// The messages in them.
    pub messages_thin: u64,
    /// Segments of which nothing would be left.
    pub segments_lost: u64,
    /// The messages in them; blocks, where no node tells how many messages.
    pub messages_lost: u64,
    /// Some of the queues that would lose messages.
    pub queues_lost: Vec<String>,
    /// Whether it is being emptied.
    pub draining: bool,
}

/// What an operator takes into the bargain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bargain {
    /// Nothing: the call is refused if it would cost anything.
    Nothing,
    /// Fewer copies than set, until there are nodes for them.
    FewerCopies,
    /// The loss of messages.
    LostMessages,
}

/// What a comparison of replicas found, of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The project and the queue.
    pub queue: (String, String),
    /// The segment's number.
    pub segment: u64,
    /// Messages compared.
    pub messages: u64,
    /// The replicas: nodes' addresses, and what they hold.
    pub replicas: Vec<VerifiedReplica>,
    /// Whether all replicas answered and hold the same.
    pub agrees: bool,
}

/// One replica that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedReplica {
    /// The node's address.
    pub node: String,
    /// The digest of the messages, in hexadecimal; or why there is none.
    pub digest: Result<String, String>,
    /// Messages that others have and this one lacks, or has otherwise.
    pub differing: u64,
}

/// Something that was looked at by the doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The node's address; empty: the pool.
    pub node: String,
    /// What was looked at: `reachable`, `settings`, `version`, `memory`, `clock`, `membership`,
    /// `pool`, `health`.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The command that mends it, or what to do.
    pub mend: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, and should be looked at.
    Warning,
    /// Messages are in danger, or the node is of no use.
    Problem,
}

impl Admin {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// How the pool does: asks all nodes, and looks at all queues.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no majority of keepers answers.
    pub async fn health(&self) -> Result<PoolHealth, Error> {
        self.core.open_or_error()?;
        self.core.pool_health().await
    }

    /// Looks at every node that this process reaches, also those that it was not given: settings,
    /// versions, clocks, memory; and at what the pool lacks.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no majority of keepers answers.
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        let health = self.health().await?;
        let (pool, copies) = (&self.core.pool, self.core.pool.config().copies);
        let mut findings = examine(&pool.nodes(), copies, &pool.env().clock).await;
        findings.extend(health.troubles.into_iter().map(|found| Finding {
            node: String::new(),
            check: "health",
            verdict: Verdict::Warning,
            found,
            mend: Some("roundelay pool status --wait 600, if it is being mended".to_owned()),
        }));
        Ok(findings)
    }

    /// The number of a node, by its number or its address (`redis://host:7001` or `host:7001`).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the pool has no such node.
    pub async fn find(&self, node: &str) -> Result<u16, Error> {
        self.core.find_node(node).await.map(|node| node.0)
    }

    /// Adds a node to the pool. It must be empty and safe to use; it takes part as soon as it is up.
    /// Processes that were not given it connect to it by themselves.
    ///
    /// # Errors
    /// [`ErrorKind::UnsafeNode`](crate::ErrorKind::UnsafeNode) with what mends its settings;
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it belongs to another pool, or was removed
    /// from this one and not emptied since; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if
    /// it does not answer, or is not up within `patience`.
    pub async fn add(&self, node: Arc<dyn Node>, patience: Duration) -> Result<u16, Error> {
        self.core.open_or_error()?;
        self.core.add_node(node, patience).await.map(|node| node.0)
    }

    /// Begins to empty a node, or goes on with it: what is on it moves to others, by and by, whether or
    /// not anybody watches.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if there is no such node, or too few others
    /// for `copies` (with [`Bargain::FewerCopies`]: for `copies_min`).
    pub async fn drain(&self, node: u16, bargain: Bargain) -> Result<Drain, Error> {
        self.core.open_or_error()?;
        let node = NodeId(node);
        self.core.begin_drain(node, bargain).await?;
        Ok(Drain { core: Arc::clone(&self.core), node, counted: Counted::default() })
    }

    /// Stops emptying a node: it is used like any other again. Whether it was being emptied.
    ///
    /// # Errors
    /// As for [`Admin::drain`].
    pub async fn cancel_drain(&self, node: u16) -> Result<bool, Error> {
        self.core.open_or_error()?;
        self.core.cancel_drain(NodeId(node)).await
    }

    /// What the pool would lack without a node. Nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if there is no such node,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no majority of keepers answers.
    pub async fn removal(&self, node: u16) -> Result<Removal, Error> {
        self.core.open_or_error()?;
        self.core.removal(NodeId(node)).await
    }

    /// Takes a node out of the pool for good: what it holds counts as lost, and it is never used again
    /// unless it is added anew. Returns what that cost.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if that costs more than `bargain` says, or too
    /// few nodes would be left.
    pub async fn remove(&self, node: u16, bargain: Bargain) -> Result<Removal, Error> {
        self.core.open_or_error()?;
        self.core.remove_node(NodeId(node), bargain).await
    }

    /// Compares the replicas of every segment, and tells what it found of each. Memory is bounded: a
    /// digest is made page by page.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no majority of keepers answers.
    pub async fn verify(&self, tell: impl FnMut(Verified) + Send) -> Result<(), Error> {
        self.core.open_or_error()?;
        self.core.verify(tell).await
    }
}

impl Drain {
    /// What is left on the node. Each call looks at all queues.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no majority of keepers answers;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the node is not being emptied any more.
    pub async fn remaining(&mut self) -> Result<Remaining, Error> {
        self.core.remaining(self.node, &mut self.counted).await
    }
}
