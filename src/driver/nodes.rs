//! The connections of this process to the nodes, and how they do: who answers, who is slow.
//!
//! A node has a *slot* here, for ever: those that the process was given, and later those that it
//! learnt of from the pool's register. A node that was taken out of the pool keeps its slot, retired.
//!
//! Health is this process's own view. A node in doubt is asked again by its prober
//! (`driver::membership`), which alone clears it; everybody else may only cast doubt. Which life a
//! node is in, and whether it belongs to the pool, is not known here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use crate::env::Env;
use crate::id::{NodeId, ReplicaAt};
use crate::metrics::{CallKind, Calls, NodeMetrics};
use crate::node::{Identity, Node, NodeError, Op, Refusal, Reply, Watch};
use crate::protocol::latency::Latency;
use crate::signal;
use crate::spans;
use crate::time::millis;

/// Patience is never raised above this.
const MAX_PATIENCE: Duration = Duration::from_secs(1);
/// A node in doubt that has not answered for this long is down.
const DOWN_AFTER: Duration = Duration::from_secs(1);
/// A node that refused for lack of memory is left alone for this long.
const FULL_FOR: Duration = Duration::from_secs(1);

type Answer = Result<Vec<Reply>, NodeError>;

/// How a node does, as far as this process can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers in time.
    Up,
    /// It was slow, or its last answer never came.
    Suspect,
    /// It cannot be reached or must not be used.
    Down {
        /// Since when it has not been up.
        for_ms: u64,
    },
    /// It answers but has no memory left.
    Full,
}

/// All nodes that this process knows how to reach.
#[derive(Debug)]
pub(crate) struct Nodes {
    slots: RwLock<Vec<Arc<Slot>>>,
    bound: Mutex<BTreeMap<NodeId, usize>>,
    suspect_after: Duration,
    env: Env,
    changed: signal::Sender,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Slot {
    node: Arc<dyn Node>,
    state: Mutex<State>,
    calls: Calls,
    /// Somebody doubts the node: its prober should look now.
    pub(crate) doubt: Notify,
    /// It was taken out of the pool: what it does says nothing of the others.
    retired: AtomicBool,
}

#[derive(Debug)]
struct State {
    trouble: Option<Trouble>,
    full_until: Option<Instant>,
    heard: Instant,
    latency: Latency,
    memory: (u64, u64),
    version: String,
}

/// Why a node is not up.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// Not merely slow.
    down: bool,
    /// Whether the log tells of it.
    told: bool,
    why: String,
}

impl Nodes {
    pub(crate) fn new(nodes: Vec<Arc<dyn Node>>, suspect_after: Duration, env: Env) -> Self {
        let slots = nodes.into_iter().map(|node| Arc::new(Slot::new(node)));
        Self {
            slots: RwLock::new(slots.collect()),
            bound: Mutex::default(),
            suspect_after,
            env,
            changed: signal::Sender::new(),
        }
    }

    /// Bumped on each change of a node's health, and by [`Nodes::announce`].
    pub(crate) fn watch(&self) -> signal::Receiver {
        self.changed.subscribe()
    }

    pub(crate) fn announce(&self) {
        self.changed.raise();
    }

    pub(crate) fn slots(&self) -> std::ops::Range<usize> {
        0..self.all().len()
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The nodes that are not known to have been taken out of the pool.
    pub(crate) fn in_use(&self) -> Vec<Arc<dyn Node>> {
        let slots = self.all().into_iter().filter(|slot| !slot.is_retired());
        slots.map(|slot| Arc::clone(&slot.node)).collect()
    }

    pub(crate) fn slot(&self, index: usize) -> Option<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    pub(crate) fn name(&self, index: usize) -> String {
        self.slot(index).map_or_else(String::new, |slot| slot.node.name().to_owned())
    }

    /// The slot of a node of that name, a new one if there is none: and whether it is new.
    pub(crate) fn add(&self, node: Arc<dyn Node>) -> (usize, bool) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slots.iter().position(|slot| slot.node.name() == node.name()) {
            return (known, false);
        }
        slots.push(Arc::new(Slot::new(node)));
        (slots.len() - 1, true)
    }

    /// The slot of a node of that name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().position(|slot| slot.node.name() == name)
    }

    /// From now on `node` is the one in this slot.
    pub(crate) fn bind(&self, node: NodeId, index: usize) {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if bound.get(&node) == Some(&index) {
            return;
        }
        bound.retain(|_, slot| *slot != index);
        bound.insert(node, index);
    }

    pub(crate) fn index_of(&self, node: NodeId) -> Option<usize> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }

    fn of(&self, node: NodeId) -> Option<Arc<Slot>> {
        self.slot(self.index_of(node)?)
    }

    pub(crate) fn health(&self, node: NodeId) -> Health {
        self.of(node).map_or(Health::Down { for_ms: u64::MAX }, |slot| slot.health())
    }

    /// Whether no answer of the node is to be expected soon.
    pub(crate) fn in_doubt(&self, node: NodeId) -> bool {
        self.of(node).is_none_or(|slot| slot.in_doubt())
    }

    pub(crate) fn metrics(&self) -> Vec<NodeMetrics> {
        self.all().iter().map(|slot| slot.calls.now(slot.node.name())).collect()
    }

    /// Why the node is not up, for people; and its memory and version.
    pub(crate) fn describe(&self, node: NodeId) -> (String, (u64, u64), String) {
        let Some(slot) = self.of(node) else {
            return ("down: not among the nodes of this process".into(), (0, 0), String::new());
        };
        let health = slot.health();
        let state = slot.state();
        let why = state.trouble.as_ref().map_or("", |trouble| &trouble.why);
        let text = match health {
            Health::Up => "up".into(),
            Health::Full => "full: no memory left".into(),
            Health::Suspect => format!("suspect: {why}"),
            Health::Down { .. } => format!("down: {why}"),
        };
        (text, state.memory, state.version.clone())
    }

    pub(crate) fn patience(&self, node: NodeId) -> Duration {
        self.of(node).map_or(self.suspect_after, |slot| self.patience_of(&slot))
    }

    pub(crate) fn patience_in(&self, index: usize) -> Duration {
        self.slot(index).map_or(self.suspect_after, |slot| self.patience_of(&slot))
    }

    fn patience_of(&self, slot: &Slot) -> Duration {
        let usual = Duration::from_micros(slot.state().latency.p999_micros().saturating_mul(3));
        usual.clamp(self.suspect_after, MAX_PATIENCE.max(self.suspect_after))
    }

    #[cfg(test)]
    pub(crate) fn suspect(&self, node: NodeId, why: &str) {
        if let Some(index) = self.index_of(node) {
            self.doubt(index, why, false);
        }
    }

    pub(crate) async fn ask(&self, node: NodeId, ops: Vec<Op>, limit: Option<Duration>) -> Answer {
        match self.index_of(node) {
            Some(index) => self.ask_slot(index, ops, limit).await,
            None => Err(unknown(node)),
        }
    }

    /// Watches a replica; waits for the node's patience until it is watched. What comes of it says
    /// nothing about the node: it is a connection of its own.
    pub(crate) async fn watch_replica(&self, at: ReplicaAt) -> Result<Watch, NodeError> {
        let slot = self.of(at.cookie.node).ok_or_else(|| unknown(at.cookie.node))?;
        let patience = self.patience_of(&slot);
        timeout(patience, slot.node.watch(at)).await.unwrap_or_else(|_| {
            let reason = format!("not watched within {} ms", millis(patience));
            Err(NodeError::Unknown { node: slot.node.name().into(), reason })
        })
    }

    /// Sends `ops` and waits: for the node's patience, or up to `limit`. A node that lets its
    /// patience pass is suspect, however long the caller goes on waiting.
    pub(crate) async fn ask_slot(
        &self,
        index: usize,
        ops: Vec<Op>,
        limit: Option<Duration>,
    ) -> Answer {
        let Some(slot) = self.slot(index) else {
            return Err(NodeError::Unreached {
                node: String::new(),
                reason: "no such node".into(),
            });
        };
        let (asked, kind, start) = (ops.len(), CallKind::of(&ops), Instant::now());
        let span = spans::of_node(slot.node.name(), kind.name(), asked);
        let patience = self.patience_of(&slot);
        let mut call = slot.node.call(ops);
        let answer = match limit {
            Some(limit) if limit < patience => timeout_at(start + limit, &mut call).await.ok(),
            _ => match within(&mut call, start, patience).await {
                Some(answer) => Some(answer),
                None => {
                    self.doubt(index, &format!("no answer within {} ms", millis(patience)), false);
                    match limit {
                        Some(limit) => timeout_at(start + limit, &mut call).await.ok(),
                        None => None,
                    }
                }
            },
        };
        let took = start.elapsed();
        let Some(answer) = answer else {
            slot.calls.failed(kind);
            let reason = format!("no answer within {} ms", millis(took));
            let error = NodeError::Unknown { node: slot.node.name().into(), reason };
            spans::node_failed(&span, &error);
            return Err(error);
        };
        let answer = answer.and_then(|replies| {
            if replies.len() == asked {
                return Ok(replies);
            }
            let reason = format!("{} answers to {asked} questions", replies.len());
            Err(NodeError::Broken { node: slot.node.name().into(), reason })
        });
        match &answer {
            Ok(_) => slot.calls.answered(kind, took),
            Err(error) => {
                slot.calls.failed(kind);
                spans::node_failed(&span, error);
            }
        }
        self.learn(index, &slot, &answer, took, patience);
        answer
    }

    fn learn(
        &self,
        index: usize,
        slot: &Slot,
        answer: &Answer,
        took: Duration,
        patience: Duration,
    ) {
        match answer {
            Ok(replies) => {
                let is_usual = took <= patience || took <= self.usual_among_nodes();
                let mut state = slot.state();
                state.heard = Instant::now();
                if is_usual {
                    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                    state.latency.took(micros, self.env.clock.now_ms());
                }
                drop(state);
                self.scan(slot, replies);
            }
            Err(error @ NodeError::Unreached { .. }) => {
                self.doubt(index, &error.to_string(), true);
            }
            Err(error @ (NodeError::Unknown { .. } | NodeError::Broken { .. })) => {
                self.doubt(index, &error.to_string(), false);
            }
        }
    }

    /// What a node may take to be no slower than the others. When most of them are in doubt it is
    /// the machine or the network, and any answer tells what is usual now.
    fn usual_among_nodes(&self) -> Duration {
        let mut slots = self.all();
        slots.retain(|slot| !slot.is_retired());
        let up = slots.iter().filter(|slot| !slot.in_doubt());
        if 2 * up.clone().count() < slots.len() {
            return Duration::MAX;
        }
        up.map(|slot| self.patience_of(slot)).max().unwrap_or_default()
    }

    /// Notices what replies say of the node itself.
    fn scan(&self, slot: &Slot, replies: &[Reply]) {
        for reply in replies {
            match reply {
                Reply::Refused(Refusal::Full) => self.mark_full(slot),
                Reply::Refused(Refusal::Stranger { .. }) => slot.doubt.notify_one(),
                _ => {}
            }
        }
    }

    fn mark_full(&self, slot: &Slot) {
        let until = Instant::now() + FULL_FOR;
        if slot.state().full_until.replace(until).is_none() {
            tracing::warn!(node = slot.node.name(), "the node has no memory left");
            self.announce();
        }
    }

    /// The node is slow, or (`down`) not to be used at all.
    pub(crate) fn doubt(&self, index: usize, why: &str, down: bool) {
        let Some(slot) = self.slot(index) else { return };
        if slot.doubted(why, down, true) {
            tracing::warn!(node = slot.node.name(), why, down, "the node is in doubt");
            self.announce();
        }
        slot.doubt.notify_one();
    }

    /// The node is not to be used before its next life has begun. Of that the log tells, once.
    pub(crate) fn await_admission(&self, index: usize) {
        let Some(slot) = self.slot(index) else { return };
        if slot.doubted("it is being admitted", true, false) {
            self.announce();
        }
        slot.doubt.notify_one();
    }

    /// The node answered in time, as itself, with this identity.
    pub(crate) fn cleared(&self, index: usize, identity: &Identity) {
        let Some(slot) = self.slot(index) else { return };
        slot.retired.store(false, Ordering::Relaxed);
        let (used, limit) = identity.memory;
        let full = limit > 0 && used / 97 >= limit / 100;
        let now = Instant::now();
        let mut state = slot.state();
        state.memory = identity.memory;
        identity.version.clone_into(&mut state.version);
        let trouble = state.trouble.take();
        let was = (trouble.is_some(), state.full_until.is_some());
        if full {
            state.full_until = Some(now + 2 * FULL_FOR);
        } else if state.full_until.is_some_and(|until| until <= now) {
            state.full_until = None;
        }
        let news = was != (false, state.full_until.is_some());
        drop(state);
        if news {
            if trouble.is_some_and(|trouble| trouble.told) {
                tracing::info!(node = slot.node.name(), "the node is up");
            }
            self.announce();
        }
    }
}

impl Slot {
    fn new(node: Arc<dyn Node>) -> Self {
        let now = Instant::now();
        Self {
            node,
            // Not up before it has said who it is.
            state: Mutex::new(State {
                trouble: Some(Trouble {
                    since: now,
                    down: true,
                    told: true,
                    why: "not asked yet".into(),
                }),
                full_until: None,
                heard: now,
                latency: Latency::default(),
                memory: (0, 0),
                version: String::new(),
            }),
            calls: Calls::default(),
            doubt: Notify::new(),
            retired: AtomicBool::new(false),
        }
    }

    /// Whether the node has been taken out of the pool.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of trouble, of which the log tells or does not. Whether it is news.
    fn doubted(&self, why: &str, down: bool, told: bool) -> bool {
        let mut state = self.state();
        match &mut state.trouble {
            Some(trouble) => {
                let news = down && !trouble.down;
                // Slow is the weaker word: it does not replace the reason why a node is down.
                if down || !trouble.down {
                    trouble.down = down;
                    why.clone_into(&mut trouble.why);
                }
                trouble.told |= news && told;
                news
            }
            none @ None => {
                *none = Some(Trouble { since: Instant::now(), down, told, why: why.into() });
                self.calls.suspected();
                true
            }
        }
    }

    pub(crate) fn health(&self) -> Health {
        let state = self.state();
        match &state.trouble {
            Some(trouble) => {
                let lasted = trouble.since.elapsed();
                if trouble.down || lasted.min(state.heard.elapsed()) >= DOWN_AFTER {
                    Health::Down { for_ms: millis(lasted) }
                } else {
                    Health::Suspect
                }
            }
            None if state.full_until.is_some() => Health::Full,
            None => Health::Up,
        }
    }

    /// Whether the node is in doubt, and so asked more often.
    pub(crate) fn in_doubt(&self) -> bool {
        self.state().trouble.is_some()
    }
}

fn unknown(node: NodeId) -> NodeError {
    let reason = "not among the nodes of this process".into();
    NodeError::Unreached { node: node.to_string(), reason }
}

/// Waits until `patience` has passed since `start`. A timer that fired late means that this process
/// stood still and the answer may lie unread: then it waits once more.
async fn within(
    call: &mut BoxFuture<'static, Answer>,
    start: Instant,
    patience: Duration,
) -> Option<Answer> {
    let mut deadline = start + patience;
    for _ in 0..2 {
        if let Ok(answer) = timeout_at(deadline, &mut *call).await {
            return Some(answer);
        }
        let now = Instant::now();
        // Timers have a grain of a millisecond.
        if now.duration_since(deadline) <= (patience / 5).max(Duration::from_millis(2)) {
            return None;
        }
        deadline = now + patience;
    }
    None
}
