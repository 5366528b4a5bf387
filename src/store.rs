//! A store: queues on a pool of nodes.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{Admin, Finding};
use crate::config::Config;
use crate::dial::dial;
use crate::driver::Core;
use crate::driver::admin::doctor::examine;
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::name::{Project, QueueName};
use crate::node::Node;
use crate::node::memory::MemoryNode;
use crate::node::redis::RedisNode;
use crate::pool::{Dial, POOL_REGISTER, Pool};
use crate::queue::{MAX_BATCH, Metadata, Queue};
use crate::spans::{call_span, traced};

/// Queues on a pool of nodes. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Store {
    core: Arc<Core>,
}

/// How to open a [`Store`].
#[derive(Debug, Default)]
pub struct StoreBuilder {
    config: Config,
    urls: Vec<String>,
    embedded: usize,
    nodes: Vec<Arc<dyn Node>>,
    reach: Option<Dial>,
    env: Option<Env>,
}

/// A page of queues.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueuePage {
    /// By name, with their metadata.
    pub queues: Vec<(QueueName, Metadata)>,
}

/// What a store sees of its pool.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The pool's name for ever, in hexadecimal.
    pub pool: String,
    /// The nodes, by id.
    pub nodes: Vec<NodeStatus>,
    /// The keepers' epoch.
    pub keeper_epoch: u32,
    /// The process that restores copies in the background; `None`: nobody yet.
    pub repairer: Option<String>,
    /// Whether that is this one.
    pub repairs: bool,
}

/// What a store sees of one node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its number in the pool.
    pub id: u16,
    /// Its address, without credentials.
    pub name: String,
    /// Its life: raised each time it may have forgotten something.
    pub incarnation: u32,
    /// `up`, `suspect` or `down`, with the reason.
    pub health: String,
    /// Whether it keeps manifests.
    pub keeper: bool,
    /// Bytes used, and the limit (0: none).
    pub memory: (u64, u64),
    /// The server's version.
    pub version: String,
    /// Whether it is being emptied.
    pub draining: bool,
}

impl Store {
    /// How to open a store.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

    /// A queue of this store; nothing is sent, and it need not exist.
    #[must_use]
    pub fn queue(&self, project: &Project, name: &QueueName) -> Queue {
        Queue::new(Arc::clone(&self.core), self.core.queue(project, name))
    }

    /// A page of a project's queues: up to `limit` of them, by name, strictly after `after`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if a majority of keepers does not
    /// answer.
    pub async fn queues(
        &self,
        project: &Project,
        after: Option<&QueueName>,
        limit: usize,
    ) -> Result<QueuePage, Error> {
        if limit == 0 || limit > MAX_BATCH {
            return Err(Error::invalid(format!(
                "a page of {limit} queues: 1 to {MAX_BATCH} are allowed"
            )));
        }
        let queues = self.core.queues(project, after, limit);
        Ok(QueuePage { queues: traced(call_span!("store.queues"), queues).await? })
    }

    /// Whether posts can be taken: enough nodes and a majority of keepers answer.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) saying what is missing.
    pub async fn ping(&self) -> Result<(), Error> {
        self.core.open_or_error()?;
        let usable = self.core.candidates().len();
        let needed = self.core.pool.config().copies_min;
        if usable < needed {
            return Err(Error::unavailable(format!(
                "{usable} nodes can take messages, {needed} are needed"
            )));
        }
        let read = self.core.pool.registers().read(POOL_REGISTER);
        traced(call_span!("store.ping"), read).await.map(drop)
    }

    /// The administration of the pool.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.core))
    }

    /// What this process sees of the pool.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.core.pool.status()
    }

    /// What this process has counted of its work; no node is asked.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let (pool, pace) = (&self.core.pool, &self.core.pace);
        let counted = pool.counters().now(pool.node_metrics(), self.core.latest_census());
        Metrics {
            repairs: pool.repairs(),
            copied_bytes_urgent: pace.at_once.get(),
            copied_bytes_paced: pace.paced.get(),
            ..counted
        }
    }

    /// Counts the messages of the queues that this process has met, for [`Metrics::census`]. It asks
    /// about at most 128 segments, those first whose count is oldest, and none if it did so less than
    /// five seconds ago: made to be called at each scrape.
    pub async fn count_messages(&self) {
        self.core.count_messages().await;
    }

    /// Stops the background work; posts that wait are given up. Calls after it answer
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub async fn close(&self) {
        self.core.close().await;
    }
}

impl StoreBuilder {
    /// A node at this URL: `redis://[user:password@]host:port[/db]`, `rediss://…` for TLS, or
    /// `unix:///path/to/socket`.
    #[must_use]
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// This many embedded nodes, in this process's memory: what they hold ends with the process.
    #[must_use]
    pub fn embedded(mut self, nodes: usize) -> Self {
        self.embedded = nodes;
        self
    }

    /// These nodes, made by the caller.
    #[must_use]
    pub fn nodes(mut self, nodes: Vec<Arc<dyn Node>>) -> Self {
        self.nodes = nodes;
        self
    }

    /// How nodes are reached that are added to the pool while this store is open: a node of the given
    /// address, which must be its name. Without it, URLs are called with the credentials and
    /// certificates of those that were given.
    #[must_use]
    pub fn reach(
        mut self,
        reach: impl Fn(&str) -> Option<Arc<dyn Node>> + Send + Sync + 'static,
    ) -> Self {
        self.reach = Some(Dial::new(reach));
        self
    }

    /// All settings at once.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Replicas of each segment. Default 3.
    #[must_use]
    pub fn copies(mut self, copies: usize) -> Self {
        self.config.copies = copies;
        self
    }

    /// Replicas below which nothing is acknowledged. Default 2.
    #[must_use]
    pub fn copies_min(mut self, copies_min: usize) -> Self {
        self.config.copies_min = copies_min;
        self
    }

    /// Nodes that also keep manifests. Default 3.
    #[must_use]
    pub fn keepers(mut self, keepers: usize) -> Self {
        self.config.keepers = keepers;
        self
    }

    /// How long a node may take before others go on without it. Default 50 ms.
    #[must_use]
    pub fn suspect_after(mut self, suspect_after: Duration) -> Self {
        self.config.suspect_after = suspect_after;
        self
    }

    /// Time and randomness, for tests.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Looks at the nodes without opening a store or changing anything: settings, versions, clocks,
    /// memory, and whether they belong together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for URLs that cannot be used.
    pub async fn examine(self) -> Result<Vec<Finding>, Error> {
        let env = self.env.unwrap_or_else(Env::system);
        let mut nodes = self.nodes;
        for url in &self.urls {
            nodes.push(Arc::new(RedisNode::connect(url)?));
        }
        Ok(examine(&nodes, self.config.copies, &env.clock).await)
    }

    /// Opens the store: initialises the pool if its nodes are all new, admits nodes that forgot.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings or URLs that cannot be used,
    /// [`ErrorKind::UnsafeNode`](crate::ErrorKind::UnsafeNode) naming node, setting and what mends
    /// it, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if too few nodes answer.
    pub async fn open(self) -> Result<Store, Error> {
        self.config.check()?;
        let env = self.env.unwrap_or_else(Env::system);
        let mut nodes = self.nodes;
        for number in 1..=self.embedded {
            let name = format!("embedded-{number}");
            nodes.push(Arc::new(MemoryNode::new(name, env.clock.clone())));
        }
        for url in &self.urls {
            nodes.push(Arc::new(RedisNode::connect(url)?));
        }
        if nodes.len() < self.config.copies_min {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{} nodes are given, and copies_min is {}: that many copies need as many nodes",
                    nodes.len(),
                    self.config.copies_min
                ),
            ));
        }
        let urls = self.urls;
        let like_given = || Dial::new(move |name| dial(name, &urls));
        let reach = self.reach.unwrap_or_else(like_given);
        let pool = Pool::open(self.config, nodes, env, reach).await?;
        Ok(Store { core: Core::start(pool) })
    }
}
