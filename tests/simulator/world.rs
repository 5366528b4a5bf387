//! The simulated surroundings: nodes with clocks of their own, the wires to them, and processes that
//! come and go. Everything random follows from the seed, and time is tokio's paused clock.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roundelay::node::faulty::{Faults, FaultyNode};
use roundelay::node::memory::MemoryNode;
use roundelay::node::{Identity, Node, Op, Reply};
use roundelay::time::{Clock, Jumps};
use roundelay::{Env, Project, Queue, QueueName, Store};
use tokio::time::sleep;

use super::flawed::{Copies, Flawed, Losses};
use super::life::{Life, Mortal};
use super::manifest::{Manifest, Standing};
use super::plan::Plan;
use super::recorder::Recorder;
use super::spy::{Sight, Spied, ask};
use crate::oracles::What;

const START_MS: u64 = 1_700_000_000_000;

/// Puts something before a node that lies; the node is the one with this number.
pub(crate) type Lie = fn(usize, Arc<dyn Node>, &MemoryNode) -> Arc<dyn Node>;

/// One node, with what makes it fail.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) node: MemoryNode,
    pub(crate) faults: Faults,
    clock: Jumps,
    wire: Arc<dyn Node>,
}

/// A process of clients.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) store: Store,
    pub(crate) life: Arc<Life>,
    pub(crate) clock: Jumps,
    /// Its own wires, by node.
    pub(crate) wires: Vec<Faults>,
    /// What is lost on them, by node.
    pub(crate) losses: Vec<Losses>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) servers: Vec<Server>,
    pub(crate) sight: Sight,
    pub(crate) recorder: Recorder,
    pub(crate) copies: Copies,
    /// By how much things may end too early, and too late.
    pub(crate) early: AtomicU64,
    pub(crate) late: AtomicU64,
    processes: Mutex<Vec<Option<Arc<Process>>>>,
    opened: AtomicU64,
    over: AtomicBool,
}

impl World {
    pub(crate) fn new(plan: Plan, lie: Option<Lie>) -> Self {
        let sight = Sight::default();
        let servers = (0..plan.nodes).map(|number| {
            let (clock, jumps) = Clock::jumping(START_MS);
            let seed = plan.seed.wrapping_mul(100).wrapping_add(number as u64);
            let node = MemoryNode::seeded(format!("node-{number}"), clock, seed);
            let spied: Arc<dyn Node> = Arc::new(Spied { node: node.clone(), sight: sight.clone() });
            let spied = match lie {
                Some(lie) => lie(number, spied, &node),
                None => spied,
            };
            let (wire, faults) = FaultyNode::new(spied);
            Server { node, faults, clock: jumps, wire: Arc::new(wire) }
        });
        Self {
            servers: servers.collect(),
            sight,
            recorder: Recorder::new(),
            copies: Copies::default(),
            // Timers have a grain of a millisecond, and copies take a moment to arrive.
            early: AtomicU64::new(5),
            late: AtomicU64::new(100),
            processes: Mutex::default(),
            opened: AtomicU64::new(0),
            over: AtomicBool::new(false),
            plan,
        }
    }

    /// Opens a process; tries again while too few nodes answer.
    pub(crate) async fn open(&self) -> Arc<Process> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let seed = self.plan.seed.wrapping_mul(1_000).wrapping_add(number);
        let mut rng = fastrand::Rng::with_seed(seed);
        let life = Arc::new(Life::default());
        let (clock, jumps) = Clock::jumping(START_MS + self.recorder.now() + rng.u64(..20));
        let (mut wires, mut losses) = (Vec::new(), Vec::new());
        let mut nodes: Vec<Arc<dyn Node>> = Vec::new();
        for server in &self.servers {
            let (wire, faults) = FaultyNode::new(Arc::clone(&server.wire));
            faults.delay_before(Duration::from_millis(rng.u64(..3)));
            faults.delay_after(Duration::from_millis(rng.u64(..3)));
            wires.push(faults);
            let node = Arc::new(Mortal { node: Arc::new(wire), life: Arc::clone(&life) });
            let flawed = Flawed { node, copies: self.copies.clone(), losses: Losses::default() };
            losses.push(flawed.losses.clone());
            nodes.push(Arc::new(flawed));
        }
        let env = Env::seeded(clock, seed);
        let store = loop {
            let builder = Store::builder().config(self.plan.config.clone()).nodes(nodes.clone());
            match builder.env(env.clone()).open().await {
                Ok(store) => break store,
                Err(error) if error.is_retryable() => sleep(Duration::from_millis(100)).await,
                Err(error) => panic!("seed {}: a store does not open: {error:?}", self.plan.seed),
            }
        };
        let name = format!("process-{number}");
        Arc::new(Process { name, store, life, clock: jumps, wires, losses })
    }

    fn places(&self) -> MutexGuard<'_, Vec<Option<Arc<Process>>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process in this place; none while it is being started.
    pub(crate) fn process(&self, place: usize) -> Option<Arc<Process>> {
        self.places().get(place).cloned().flatten()
    }

    pub(crate) fn set_process(&self, place: usize, process: Option<Arc<Process>>) {
        let mut places = self.places();
        if places.len() <= place {
            places.resize(place + 1, None);
        }
        places[place] = process;
    }

    /// Clients begin nothing any more.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Something may arrive so much later.
    pub(crate) fn may_be_late(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.late.fetch_add(ms, Ordering::Relaxed);
    }

    /// A node's clock is put forward.
    pub(crate) fn jump(&self, node: usize, ms: u64) {
        self.servers[node].clock.forward(ms);
        self.early.fetch_add(ms, Ordering::Relaxed);
    }

    /// Writes down what was chosen.
    pub(crate) fn write_chosen(&self) {
        let chosen = std::mem::take(&mut self.sight.seen().chosen);
        for (register, version, digest) in chosen {
            let version = version.to_string();
            self.recorder.note("keepers", What::Chosen { register, version, digest });
        }
    }

    pub(crate) fn identity(&self, number: usize) -> Identity {
        match ask(&self.servers[number].node, Op::Identity) {
            Reply::Identity(identity) => identity,
            other => panic!("no identity: {other:?}"),
        }
    }

    /// Segments that have fewer copies than they should, of all queues: an open one has as many as
    /// it was opened with.
    pub(crate) fn short_segments(&self) -> Vec<String> {
        let lives = self.lives();
        let copies = self.plan.config.copies.min(self.plan.nodes);
        let seen = self.sight.seen();
        let mut short = Vec::new();
        for (name, Manifest { segments, alive, .. }) in &seen.queues {
            if !alive {
                continue;
            }
            for segment in segments.iter().filter(|segment| !segment.lost) {
                let full = segment.replicas.iter().filter(|replica| {
                    replica.standing == Standing::Full
                        && lives.contains(&(replica.node, replica.incarnation))
                });
                let wanted = if segment.end.is_some() { copies } else { segment.replicas.len() };
                if full.count() < wanted {
                    short.push(format!("{name} segment {}", segment.no));
                }
            }
        }
        short
    }

    /// The nodes that are what the pool takes them for.
    fn lives(&self) -> BTreeSet<(roundelay::id::NodeId, roundelay::id::Incarnation)> {
        let seen = self.sight.seen();
        let Some(view) = &seen.view else { return BTreeSet::new() };
        let living = (0..self.servers.len()).filter_map(|number| {
            let identity = self.identity(number);
            let (cookie, run_id) = identity.cookie?;
            let is_member =
                view.nodes.get(&cookie.node).map(|n| n.incarnation) == Some(cookie.incarnation);
            (is_member && run_id == identity.run_id).then_some((cookie.node, cookie.incarnation))
        });
        living.collect()
    }

    /// Whether all that was lost has been made good: every node is a member, every keeper votes, and
    /// every closed segment has its copies.
    pub(crate) fn is_restored(&self) -> bool {
        let lives = self.lives();
        if lives.len() < self.servers.len() {
            return false;
        }
        let (epoch, members) = {
            let seen = self.sight.seen();
            let Some(view) = &seen.view else { return false };
            (view.keepers.epoch, view.keepers.members.clone())
        };
        let votes = (0..self.servers.len()).filter(|number| {
            let identity = self.identity(*number);
            let keeper = identity.keeper.filter(|keeper| keeper.active && keeper.epoch.0 == epoch);
            let member = identity.cookie.map(|(cookie, _)| (cookie.node, cookie.incarnation));
            keeper.is_some() && member.is_some_and(|member| members.contains(&member))
        });
        votes.count() == members.len() && members.len() >= 3 && self.short_segments().is_empty()
    }

    /// The nodes of one open segment, by number; none if none is open.
    pub(crate) fn nodes_of_open_segments(&self) -> Vec<usize> {
        let ids: Vec<_> = {
            let seen = self.sight.seen();
            let segments = seen.queues.values().flat_map(|manifest| manifest.segments.last());
            let open = segments.filter(|segment| segment.end.is_none());
            let largest = open.max_by_key(|segment| segment.no);
            largest.map(|s| s.replicas.iter().map(|r| r.node).collect()).unwrap_or_default()
        };
        let is_one = |number: &usize| {
            let cookie = self.identity(*number).cookie;
            cookie.is_some_and(|(cookie, _)| ids.contains(&cookie.node))
        };
        (0..self.servers.len()).filter(is_one).collect()
    }

    /// Nodes that keep nothing but messages, by number.
    pub(crate) fn no_keepers(&self) -> Vec<usize> {
        let is_keeper = |number: &usize| self.identity(*number).keeper.is_some();
        (0..self.servers.len()).filter(|number| !is_keeper(number)).collect()
    }
}

impl Process {
    /// A queue of this process.
    pub(crate) fn queue(&self, name: &str) -> Queue {
        let project = Project::new("p").expect("a project");
        self.store.queue(&project, &QueueName::new(name).expect("a queue's name"))
    }
}
