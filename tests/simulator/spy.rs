//! What the simulator sees of the nodes behind the clients' backs: which transitions were reached, what
//! majorities of keepers have chosen, and whether all copies are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use roundelay::id::{Cookie, Incarnation, NodeId, Placement, ReplicaAt};
use roundelay::node::memory::MemoryNode;
use roundelay::node::{
    Ballot, Coverage, DeleteStatus, Frontier, HoldStatus, Node, NodeError, Op, Refusal,
    RegisterDump, Reply, Role, Watch,
};
use xxhash_rust::xxh3::xxh3_64;

use super::manifest::{KeeperSet, Manifest, Standing, View, Written, read};
use super::reached::Reached;

/// Stands before each node and looks at what passes.
#[derive(Debug)]
pub(crate) struct Spied {
    pub(crate) node: MemoryNode,
    pub(crate) sight: Sight,
}

/// What was seen at all nodes; copies share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight(Arc<Mutex<Seen>>);

/// A node in one of its lives.
type Keeper = (NodeId, Incarnation);

/// See [`Sight`].
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reached: Reached,
    /// What was chosen since it was last taken: register, version, digest.
    pub(crate) chosen: Vec<(String, u64, u64)>,
    pub(crate) queues: BTreeMap<String, Manifest>,
    pub(crate) view: Option<View>,
    /// Who accepted what, by register: those of the latest ballots.
    accepted: BTreeMap<String, BTreeMap<Ballot, BTreeSet<Keeper>>>,
    /// What keepers that do not vote yet were filled with: it counts from when they vote.
    filled: BTreeMap<Keeper, Vec<RegisterDump>>,
    /// The newest version of each register that was chosen.
    versions: BTreeMap<String, u64>,
    /// The keepers of each epoch.
    epochs: BTreeMap<u32, BTreeSet<Keeper>>,
    joining: BTreeSet<Placement>,
}

impl Sight {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the node itself, behind everybody's back.
pub(crate) fn ask(node: &MemoryNode, op: Op) -> Reply {
    let answered = node.call(vec![op]).now_or_never().expect("a memory node answers at once");
    answered.expect("a memory node answers").pop().expect("one answer")
}

impl Node for Spied {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let replies = ops
            .into_iter()
            .map(|op| {
                let before = self.look_before(&op);
                let kept = is_looked_at(&op).then(|| op.clone());
                let reply = ask(&self.node, op);
                let mut seen = self.sight.seen();
                seen.answered(kept.as_ref(), &reply);
                if let Some(transition) = before.and_then(|before| before.then(&reply)) {
                    seen.reached.note(transition);
                }
                reply
            })
            .collect();
        ready(Ok(replies)).boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.node.watch(at)
    }
}

/// What has to be known from before an operation to tell what it did.
enum Before {
    /// Some of the messages had not come yet.
    NotCome(Vec<bool>),
    /// The replica covered more than the end that it is told.
    Above,
}

impl Before {
    fn then(self, reply: &Reply) -> Option<&'static str> {
        match (self, reply) {
            (Self::NotCome(absent), Reply::Deleted(deleted)) => {
                let ended = deleted.each.iter().zip(absent);
                let first = |(status, absent): (&_, bool)| absent && *status == DeleteStatus::Ended;
                ended.into_iter().any(first).then_some("a tombstone first")
            }
            (Self::NotCome(absent), Reply::Held(held)) => {
                let each = held.each.iter().zip(absent);
                let first = |(status, absent): (&_, bool)| absent && *status == HoldStatus::Held;
                each.into_iter().any(first).then_some("a hold first")
            }
            (Self::Above, Reply::Done) => Some("blocks above the end thrown away"),
            _ => None,
        }
    }
}

impl Spied {
    fn look_before(&self, op: &Op) -> Option<Before> {
        let (at, refs) = match op {
            Op::Delete(delete) => (delete.at, &delete.refs),
            Op::Hold(hold) => (hold.at, &hold.refs),
            Op::TellEnd { at, end, .. } => {
                let Reply::Coverage(coverage) = ask(&self.node, Op::Probe { at: *at }) else {
                    return None;
                };
                return is_above(&coverage, end).then_some(Before::Above);
            }
            _ => return None,
        };
        if !self.sight.seen().joining.contains(&at.placement) {
            return None;
        }
        let Reply::Coverage(coverage) = ask(&self.node, Op::Probe { at }) else { return None };
        let frontier = coverage.frontier();
        let covered = |producer| frontier.get(producer).copied().unwrap_or(0);
        Some(Before::NotCome(refs.iter().map(|r| r.block > covered(&r.producer)).collect()))
    }
}

/// Whether anything but a refusal is to be seen in what such an operation did.
fn is_looked_at(op: &Op) -> bool {
    matches!(
        op,
        Op::Open(_)
            | Op::Append(_)
            | Op::Seal { .. }
            | Op::Hold(_)
            | Op::Delete(_)
            | Op::Keep { .. }
            | Op::Restore { .. }
            | Op::Activate { .. }
            | Op::Accept(_)
    )
}

fn is_above(coverage: &Coverage, end: &Frontier) -> bool {
    let above = |(producer, last): (&_, &u32)| *last > end.get(producer).copied().unwrap_or(0);
    coverage.frontier().iter().any(above)
}

impl Seen {
    fn answered(&mut self, op: Option<&Op>, reply: &Reply) {
        if let Reply::Refused(refusal) = reply {
            self.refused(op, refusal);
            return;
        }
        let Some(op) = op else { return };
        match (op, reply) {
            (Op::Open(open), Reply::Done) if open.role == Role::Joining => {
                self.joining.insert(open.at.placement);
            }
            (Op::Append(_), Reply::Appended(appended)) if appended.again => {
                self.reached.note("a block taken again");
            }
            (Op::Seal { by, .. }, Reply::Coverage(coverage))
                if coverage.sealed.is_some_and(|sealed| sealed.by != *by && sealed.by.0 != 0) =>
            {
                self.reached.note("a seal race");
            }
            (Op::Hold(_), Reply::Held(held)) if held.each.contains(&HoldStatus::Outranked) => {
                self.reached.note("a hold outranked");
            }
            (Op::Delete(_), Reply::Deleted(deleted)) => {
                if deleted.each.contains(&DeleteStatus::Claimed) {
                    self.reached.note("a claimed message refused");
                }
                if deleted.each.contains(&DeleteStatus::NotClaimed) {
                    self.reached.note("a claim found over");
                }
            }
            (Op::Keep { epoch, keepers, .. }, Reply::Done) => {
                let set: KeeperSet = rmp_serde::from_slice(keepers).expect("a set of keepers");
                self.epochs.insert(epoch.0, set.members.into_iter().collect());
            }
            (Op::Restore { cookie, registers, .. }, Reply::Done) => {
                let filled = self.filled.entry(keeper(*cookie)).or_default();
                filled.extend(registers.iter().cloned());
            }
            (Op::Activate { cookie, epoch }, Reply::Done) => {
                self.reached.note("a keeper restored");
                for register in self.filled.remove(&keeper(*cookie)).unwrap_or_default() {
                    if let Some((ballot, value)) = register.accepted {
                        self.accepted(*cookie, epoch.0, &register.name, ballot, &value);
                    }
                }
            }
            (Op::Accept(accept), Reply::Done) => {
                let (name, ballot) = (&accept.name, accept.ballot);
                self.accepted(accept.cookie, accept.epoch.0, name, ballot, &accept.value);
            }
            _ => {}
        }
    }

    fn refused(&mut self, op: Option<&Op>, refusal: &Refusal) {
        let transition = match (op, refusal) {
            (Some(Op::Append(_)), Refusal::Gap { .. }) => "a gap refused",
            (Some(Op::Append(_)), Refusal::Sealed) => "an append refused as sealed",
            (_, Refusal::Full) => "an append refused for lack of memory",
            (_, Refusal::Stranger { .. }) => "a stranger refused",
            (_, Refusal::Gone) => "a replica gone",
            (_, Refusal::EndUnknown) => "an end not told yet",
            (_, Refusal::Stale { .. }) => "a stale version refused",
            (_, Refusal::NoClaim) => "a claim found over",
            (_, Refusal::Epoch { .. }) => "an epoch refused",
            (_, Refusal::NotKeeper) => "a vote of a keeper that forgot refused",
            (_, Refusal::Ballot { .. }) => "a compare-and-set lost",
            _ => return,
        };
        self.reached.note(transition);
    }

    /// Looks whether a majority has accepted the same.
    fn accepted(&mut self, by: Cookie, epoch: u32, name: &str, ballot: Ballot, value: &Bytes) {
        let ballots = self.accepted.entry(name.to_owned()).or_default();
        let nodes = ballots.entry(ballot).or_default();
        // Before anybody was told who keeps, the first node does alone.
        let alone = BTreeSet::from([keeper(by)]);
        let keepers = self.epochs.get(&epoch).unwrap_or(&alone);
        let agree =
            |nodes: &BTreeSet<Keeper>| nodes.intersection(keepers).count() > keepers.len() / 2;
        if agree(nodes) {
            return;
        }
        nodes.insert(keeper(by));
        if !agree(nodes) {
            return;
        }
        while ballots.len() > 8 {
            ballots.pop_first();
        }
        let (version, written) = read(name, value);
        self.chosen.push((name.to_owned(), version, xxh3_64(value)));
        let newest = self.versions.entry(name.to_owned()).or_default();
        if version <= *newest {
            return;
        }
        *newest = version;
        match written {
            Written::Queue(manifest) => self.queue_changed(name, manifest),
            Written::Pool(view) => self.view_changed(view),
            Written::Other => {}
        }
    }

    fn view_changed(&mut self, view: View) {
        if let Some(before) = self.view.take() {
            let lives = |(id, node): (&NodeId, &super::manifest::Node)| {
                before.nodes.get(id).is_some_and(|before| before.incarnation < node.incarnation)
            };
            if view.nodes.iter().any(lives) {
                self.reached.note("a node's new life");
            }
            let was = before.keepers.members.iter().map(|(node, _)| node);
            let is: BTreeSet<_> = view.keepers.members.iter().map(|(node, _)| node).collect();
            if was.into_iter().any(|node| !is.contains(node)) {
                self.reached.note("a keeper replaced");
            }
        }
        self.view = Some(view);
    }

    fn queue_changed(&mut self, name: &str, manifest: Manifest) {
        let reached = &mut self.reached;
        if let Some(before) = self.queues.get(name) {
            if before.alive && !manifest.alive {
                reached.note("a queue deleted");
            }
            if !before.alive && manifest.alive {
                reached.note("a queue born again");
            }
            if before.generation == manifest.generation {
                segments_changed(reached, before, &manifest);
            }
        }
        self.queues.insert(name.to_owned(), manifest);
    }
}

fn keeper(cookie: Cookie) -> Keeper {
    (cookie.node, cookie.incarnation)
}

fn segments_changed(reached: &mut Reached, before: &Manifest, after: &Manifest) {
    for was in &before.segments {
        let Some(is) = after.segments.iter().find(|segment| segment.no == was.no) else {
            if after.stubs.iter().any(|(no, ..)| *no == was.no) {
                reached.note("a segment left");
            }
            continue;
        };
        if is.lost && !was.lost {
            reached.note("a segment lost");
        }
        if let (Some(first), Some(second)) = (&was.end, &is.end)
            && first != second
        {
            reached.note("an end lowered");
        }
        let count = |standing| is.replicas.iter().filter(|r| r.standing == standing).count();
        if was.end.is_none() && is.end.is_some() {
            reached.note("a segment closed");
            if count(Standing::Former) > 0 {
                reached.note("a segment closed without a replica");
            }
            if count(Standing::Full) < 2 {
                reached.note("a thin segment");
            }
        }
        for old in &was.replicas {
            let new = is.replicas.iter().find(|replica| replica.placement == old.placement);
            let transition = match (old.standing, new.map(|replica| replica.standing)) {
                (Standing::Joining, Some(Standing::Full)) => "a joining replica promoted",
                (Standing::Joining, None | Some(Standing::Dropped)) => "a joining replica given up",
                (Standing::Former, Some(Standing::Full)) => "a former replica taken back",
                (Standing::Dropped, Some(Standing::Full)) => "a dropped replica taken back",
                (Standing::Full, Some(Standing::Dropped)) => "a replica dropped",
                _ => continue,
            };
            reached.note(transition);
        }
    }
}
