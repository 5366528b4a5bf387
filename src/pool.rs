//! The pool: which nodes there are, how they do, and the registers that they keep.
//!
//! A [`Pool`] is one process's handle. It owns the background work: a prober for each node, the
//! care of the keepers, and the question once a second what changed. All of it ends when the last
//! handle is dropped, or by [`Pool::close`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::driver::bootstrap::unknown_view;
pub(crate) use crate::driver::changes::Changed;
use crate::driver::lease::Lease;
pub(crate) use crate::driver::nodes::Health;
use crate::driver::nodes::Nodes;
pub(crate) use crate::driver::registers::{Change, Registers};
use crate::env::Env;
use crate::error::Error;
use crate::id::{Cookie, NodeId, PoolId, ProducerId, ReplicaAt};
use crate::metrics::{Counters, NodeMetrics};
use crate::node::{Node, NodeError, Op, Reply, Watch};
use crate::protocol::view::REGISTER;
pub(crate) use crate::protocol::view::{PoolView, REGISTER as POOL_REGISTER};
use crate::signal;
use crate::store::{NodeStatus, PoolStatus};

/// How often it is asked what changed.
const POLL: Duration = Duration::from_secs(1);

/// A process's handle of a pool.
#[derive(Debug)]
pub(crate) struct Pool {
    core: Arc<Core>,
    tasks: Mutex<JoinSet<()>>,
}

/// The node at an address; none if it cannot be one.
pub(crate) type Reach = dyn Fn(&str) -> Option<Arc<dyn Node>> + Send + Sync;

/// How nodes are reached that are named by their addresses alone.
#[derive(Clone)]
pub(crate) struct Dial(pub(crate) Arc<Reach>);

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dial")
    }
}

/// What a pool's background work shares with its handle.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: PoolId,
    pub(crate) me: ProducerId,
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) registers: Registers,
    pub(crate) view: Mutex<Arc<PoolView>>,
    pub(crate) lease: Lease,
    counters: Counters,
}

impl Core {
    pub(crate) fn new(
        id: PoolId,
        me: ProducerId,
        config: Config,
        env: Env,
        nodes: Arc<Nodes>,
        registers: Registers,
    ) -> Self {
        let view = Mutex::new(Arc::new(unknown_view(id)));
        let (lease, counters) = (Lease::default(), Counters::default());
        Self { id, me, config, env, nodes, registers, view, lease, counters }
    }

    pub(crate) fn view(&self) -> Arc<PoolView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks once a second what changed.
    async fn follow_changes(self: Arc<Self>) {
        loop {
            let start = Instant::now();
            let changed = self.registers.poll_changes().await;
            if changed.is_some_and(|changed| changed.includes(REGISTER))
                && let Err(error) = self.refresh().await
            {
                tracing::warn!(%error, "cannot read the pool register");
            }
            sleep_until(start + POLL).await;
        }
    }
}

impl Pool {
    /// Joins the pool that these nodes form, or begins one if all of them are empty. Nodes that
    /// forgot are admitted, empty nodes that the pool does not know are added.
    ///
    /// # Errors
    /// `Config`: nodes of different pools, or given twice. `UnsafeNode`: settings with which
    /// messages could be lost. `Unavailable`: too few nodes answer. `Lost`: the keepers forgot.
    pub(crate) async fn open(
        config: Config,
        nodes: Vec<Arc<dyn Node>>,
        env: Env,
        dial: Dial,
    ) -> Result<Arc<Self>, Error> {
        let core = Core::open(config, nodes, env).await?;
        let mut tasks = JoinSet::new();
        for index in core.nodes.slots() {
            tasks.spawn(core.clone().watch_node(index));
        }
        tasks.spawn(core.clone().meet_newcomers(dial));
        tasks.spawn(core.clone().keep_lease());
        tasks.spawn(core.clone().tend_keepers());
        tasks.spawn(core.clone().follow_changes());
        Ok(Arc::new(Self { core, tasks: Mutex::new(tasks) }))
    }

    pub(crate) fn id(&self) -> PoolId {
        self.core.id
    }

    /// This process, for the time of this handle.
    pub(crate) fn me(&self) -> ProducerId {
        self.core.me
    }

    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    pub(crate) fn config(&self) -> &Config {
        &self.core.config
    }

    /// The newest pool register that this process has seen.
    pub(crate) fn view(&self) -> Arc<PoolView> {
        self.core.view()
    }

    /// Bumped on each change of the view or of a node's health.
    pub(crate) fn watch(&self) -> signal::Receiver {
        self.core.nodes.watch()
    }

    /// The cookie of the node's present life.
    pub(crate) fn cookie(&self, node: NodeId) -> Option<Cookie> {
        self.view().cookie(node)
    }

    /// How the node does, as this process sees it.
    pub(crate) fn health(&self, node: NodeId) -> Health {
        self.core.nodes.health(node)
    }

    /// Whether the node is up and in the life that the cookie names.
    pub(crate) fn usable(&self, cookie: Cookie) -> bool {
        self.cookie(cookie.node) == Some(cookie) && self.health(cookie.node) == Health::Up
    }

    /// Whether what the node held under that cookie is gone for good.
    pub(crate) fn is_lost(&self, cookie: Cookie) -> bool {
        self.view().is_lost(cookie)
    }

    /// Sends `ops` in one round trip and waits for the node's patience at most; a node that lets
    /// it pass is suspect from then on.
    pub(crate) async fn ask(&self, node: NodeId, ops: Vec<Op>) -> Result<Vec<Reply>, NodeError> {
        self.core.nodes.ask(node, ops, None).await
    }

    /// Like [`Pool::ask`], but waits for up to `limit`; the node is suspect all the same once its
    /// patience has passed.
    pub(crate) async fn ask_within(
        &self,
        node: NodeId,
        ops: Vec<Op>,
        limit: Duration,
    ) -> Result<Vec<Reply>, NodeError> {
        self.core.nodes.ask(node, ops, Some(limit)).await
    }

    /// Watches a replica, see [`Node::watch`].
    pub(crate) async fn watch_replica(&self, at: ReplicaAt) -> Result<Watch, NodeError> {
        self.core.nodes.watch_replica(at).await
    }

    /// The node's address, for people.
    pub(crate) fn name(&self, node: NodeId) -> String {
        let view = self.view();
        view.nodes.get(&node).map_or_else(|| format!("node {node}"), |entry| entry.name.clone())
    }

    /// How long the node may take before it is suspect.
    pub(crate) fn patience(&self, node: NodeId) -> Duration {
        self.core.nodes.patience(node)
    }

    /// Casts doubt on a node: it is not used until it has answered a question in time.
    #[cfg(test)]
    pub(crate) fn suspect(&self, node: NodeId, why: &str) {
        self.core.nodes.suspect(node, why);
    }

    pub(crate) fn registers(&self) -> &Registers {
        &self.core.registers
    }

    /// Whether this process is the one that restores copies in the background.
    pub(crate) fn repairs(&self) -> bool {
        self.core.repairs()
    }

    /// Lets another process repair, if this one does: before it ends.
    pub(crate) async fn resign(&self) {
        self.core.resign().await;
    }

    /// Reads the pool register.
    ///
    /// # Errors
    /// `Unavailable` if no majority of keepers answers.
    pub(crate) async fn refresh(&self) -> Result<Arc<PoolView>, Error> {
        self.core.refresh().await
    }

    /// The nodes that this process reaches: those it was given, and those it learnt of.
    pub(crate) fn nodes(&self) -> Vec<Arc<dyn Node>> {
        self.core.nodes.in_use()
    }

    /// From now on this node is asked as well, if it has not been.
    pub(crate) fn watch_node(&self, node: Arc<dyn Node>) {
        let (index, is_new) = self.core.nodes.add(node);
        if is_new {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(Arc::clone(&self.core).watch_node(index));
        }
    }

    /// Changes the pool register by `edit`, which may be run several times.
    ///
    /// # Errors
    /// Those of `edit`; `Unavailable` if no majority of keepers answers.
    pub(crate) async fn change_view<T: Send>(
        &self,
        edit: impl FnMut(&mut PoolView) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        self.core.change_view(edit).await
    }

    /// What this process sees of the pool.
    pub(crate) fn status(&self) -> PoolStatus {
        let view = self.view();
        let nodes = view.nodes.iter().map(|(id, entry)| {
            let (health, memory, version) = self.core.nodes.describe(*id);
            NodeStatus {
                id: id.0,
                name: entry.name.clone(),
                incarnation: entry.incarnation.0,
                health,
                keeper: view.keepers.has(*id),
                memory,
                version,
                draining: entry.draining,
            }
        });
        PoolStatus {
            pool: self.id().to_string(),
            nodes: nodes.collect(),
            keeper_epoch: view.keepers.epoch.0,
            repairer: view.repairer.map(|repairer| repairer.by.to_string()),
            repairs: self.repairs(),
        }
    }

    /// What is counted of this process's work, but for the calls to nodes.
    pub(crate) fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What is counted of the calls to nodes.
    pub(crate) fn node_metrics(&self) -> Vec<NodeMetrics> {
        self.core.nodes.metrics()
    }

    /// What the background work holds on to.
    #[cfg(test)]
    pub(crate) fn weak_core(&self) -> std::sync::Weak<Core> {
        Arc::downgrade(&self.core)
    }

    /// Ends the background work. Questions in flight are answered still.
    pub(crate) fn close(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
