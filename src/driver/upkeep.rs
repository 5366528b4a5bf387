//! What nobody asks for: segments whose messages have ended leave, copies are restored, open
//! segments on nodes that died are closed, forgotten replicas are wiped.
//!
//! One process does this for all queues: the one that holds the lease on repairs
//! (`driver::lease`). The others do, for the queues that they have met, what does not wait: copies of
//! segments that have fewer than `copies_min`, and the next open segment where a node died. All of it
//! may be done by several at once: each step is a compare-and-set or idempotent.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::ask;
use super::emptying::DOWN_MS;
use super::repair::Goal;
use super::survey::Scope;
use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::{Incarnation, NodeId, ReplicaAt, SegmentNo};
use crate::node::{DueReplicas, Op, Refusal, SegmentOf, Stats};
use crate::pool::Health;
use crate::protocol::manifest::{Manifest, Replica, Segment, Standing};

/// How often ended segments are looked for.
const TICK: Duration = Duration::from_millis(100);
/// How often everything is looked at without a reason.
const ROUND: Duration = Duration::from_secs(1);
/// How long a missing copy is waited for while enough others are there: a hiccup must not copy
/// the pool.
const COPY_AFTER: Duration = Duration::from_millis(400);
/// Replicas looked at in one round and node.
const DUE_AT_ONCE: u32 = 64;
/// When a due replica that has not ended is looked at again.
const LOOK_AGAIN_MS: u64 = 30_000;

/// Runs until the store ends.
pub(crate) async fn run(core: Weak<Core>) {
    let Some(mut changes) = core.upgrade().map(|core| core.pool.watch()) else { return };
    let mut last_round = Instant::now();
    let mut short_since: BTreeMap<String, Instant> = BTreeMap::new();
    let mut surveyed = (Vec::new(), false);
    loop {
        let changed = tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
            () = tokio::time::sleep(TICK) => false,
        };
        let Some(core) = core.upgrade() else { return };
        core.look_for_ended().await;
        let lives = core.lives();
        let (is_news, repairs) = (lives != surveyed.0, core.pool.repairs());
        if is_news || (repairs && !surveyed.1) {
            let scope = if repairs { Scope::All } else { Scope::Thin };
            core.spawn(super::survey::run(Arc::downgrade(&core), scope));
        }
        surveyed = (lives, repairs);
        let queues = match changed || last_round.elapsed() >= ROUND {
            true => core.known(),
            // What has been short for long enough does not wait for the next round.
            false => {
                let long = short_since.iter().filter(|(_, since)| since.elapsed() >= COPY_AFTER);
                long.filter_map(|(register, _)| core.queue_named(register)).collect()
            }
        };
        for queue in queues {
            core.look_after(&queue, &mut short_since);
            core.look_after_keys(&queue);
        }
        if last_round.elapsed() >= ROUND {
            last_round = Instant::now();
            if core.pool.repairs() {
                core.look_at_noticed().await;
                core.look_at_due().await;
            }
        }
    }
}

impl Core {
    /// Starts what a queue needs, as far as this process knows its manifest.
    fn look_after(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        short_since: &mut BTreeMap<String, Instant>,
    ) {
        let Some(manifest) = self.manifests.old(queue).filter(|m| m.alive) else {
            short_since.remove(&queue.register);
            return;
        };
        let repairs = self.pool.repairs();
        if repairs && manifest.open_segment().is_some_and(|open| self.has_leaving(open)) {
            self.close_soon(queue);
        }
        if let Some(open) = manifest.open_segment()
            && (self.misses_replica(open) || (repairs && self.could_be_wider(open)))
        {
            let (core, queue, no) = (Arc::downgrade(self), Arc::clone(queue), open.no);
            self.spawn(async move {
                let Some(core) = core.upgrade() else { return };
                if let Err(error) = core.move_on(&queue, no, "a replica is missing").await {
                    tracing::debug!(queue = queue.name, %error, "could not move on");
                }
            });
        }
        let config = self.pool.config();
        let fewest = manifest.settled().map(|segment| self.standing_copies(segment)).min();
        let is_short = || {
            let fewest = manifest.settled().map(|segment| self.lasting_copies(segment)).min();
            fewest.is_some_and(|fewest| fewest < config.copies) && self.could_copy(&manifest)
        };
        let goal = match fewest {
            Some(fewest) if fewest < config.copies_min => Goal::Enough,
            _ if repairs && self.can_release(&manifest) => Goal::Whole,
            _ if repairs && is_short() => {
                let since = short_since.entry(queue.register.clone()).or_insert_with(Instant::now);
                if since.elapsed() < COPY_AFTER {
                    return;
                }
                Goal::Whole
            }
            _ => {
                short_since.remove(&queue.register);
                return;
            }
        };
        let failed = locked(&queue.repair_failed).as_ref().map(|(at, _)| at.elapsed());
        if failed.is_some_and(|ago| ago < ROUND / 2) {
            return;
        }
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            if let Some(core) = core.upgrade() {
                core.restore(&queue, goal).await;
            }
        });
    }

    /// Whether what a replica held is gone for good.
    pub(crate) fn has_lost(&self, replica: &Replica) -> bool {
        self.pool.is_lost(replica.cookie(self.pool.id()))
    }

    /// Full replicas that are not known to be lost.
    pub(crate) fn standing_copies(&self, segment: &Segment) -> usize {
        segment.full().filter(|replica| !self.has_lost(replica)).count()
    }

    /// Whether there are more nodes to copy to than some short segment is on.
    fn could_copy(&self, manifest: &Manifest) -> bool {
        let nodes = self.candidates();
        let copies = self.pool.config().copies;
        let mut short = manifest.settled().filter(|s| self.lasting_copies(s) < copies);
        short.any(|segment| {
            nodes.iter().any(|candidate| {
                // A node that came back empty is as good as any other.
                let mut kept = segment.full().filter(|replica| !self.has_lost(replica));
                kept.all(|replica| replica.node() != candidate.node)
            })
        })
    }

    /// Whether a replica of an open segment is gone: it should be closed although nobody posts to it.
    pub(crate) fn misses_replica(&self, open: &Segment) -> bool {
        let gone = |node: NodeId| matches!(self.pool.health(node), Health::Down { for_ms } if for_ms >= DOWN_MS);
        open.full().any(|replica| self.has_lost(replica) || gone(replica.node()))
    }

    /// Whether an open segment has fewer replicas than the next one could have.
    pub(crate) fn could_be_wider(&self, open: &Segment) -> bool {
        let replicas = open.replicas.len();
        replicas < self.pool.config().copies && self.candidates().len() > replicas
    }

    /// What segments lost copies by, or have to move for, when it changes.
    fn lives(&self) -> Vec<(NodeId, Incarnation, bool)> {
        let view = self.pool.view();
        let nodes = view.nodes.iter();
        nodes.map(|(node, entry)| (*node, entry.incarnation, entry.draining)).collect()
    }

    /// Takes segments out of manifests whose messages have all ended.
    async fn look_for_ended(self: &Arc<Self>) {
        let registers = std::mem::take(&mut *locked(&self.attention));
        for register in registers {
            let Some(queue) = self.queue_named(&register) else { continue };
            let which: Vec<SegmentNo> =
                std::mem::take(&mut *locked(&queue.maybe_ended)).into_iter().collect();
            if let Err(error) = self.remove_ended(&queue, &which).await {
                tracing::debug!(queue = queue.name, %error, "could not remove ended segments");
                for no in which {
                    self.may_have_ended(&queue, no);
                }
            }
        }
    }

    /// Takes those of the segments out whose messages have all ended, as every full replica says.
    async fn remove_ended(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        which: &[SegmentNo],
    ) -> Result<(), Error> {
        let Some(manifest) = self.manifests.get(queue).await? else { return Ok(()) };
        let mut ended: Vec<&Segment> = Vec::new();
        for no in which {
            let Some(segment) = manifest.segment(*no).filter(|s| !s.is_open()) else { continue };
            if !segment.lost && self.has_ended(segment).await {
                ended.push(segment);
            }
        }
        if ended.is_empty() {
            return Ok(());
        }
        let numbers: Vec<SegmentNo> = ended.iter().map(|segment| segment.no).collect();
        let now_ms = self.pool.env().clock.now_ms();
        let generation = manifest.generation;
        // What posts with keys have in them is known by their ends only (Q11).
        self.settle_parts_of(queue, generation, &ended).await?;
        let (_, removed) = self
            .manifests
            .change(queue, |m| m.generation == generation && m.remove(&numbers, now_ms))
            .await?;
        if removed {
            let pool = self.pool.id();
            let replicas = ended.iter().flat_map(|segment| &segment.replicas);
            self.wipe(replicas.map(|replica| replica.at(pool)).collect());
        }
        Ok(())
    }

    async fn has_ended(&self, segment: &Segment) -> bool {
        let full = self.addresses(segment, Standing::Full);
        for at in &full {
            let stats: Result<Stats, _> =
                ask(&self.pool, at.cookie.node, Op::Stats { at: *at }).await;
            match stats {
                Ok(stats) if stats.active + stats.claimed + stats.delayed == 0 => {}
                Err(super::ask::Failure::Refused(Refusal::EndUnknown)) => {
                    self.tell_end(segment).await;
                    return false;
                }
                Ok(_) | Err(_) => return false,
            }
        }
        !full.is_empty()
    }

    /// Looks at the replicas that nodes say are due.
    async fn look_at_due(self: &Arc<Self>) {
        let nodes: Vec<NodeId> = self.pool.view().nodes.keys().copied().collect();
        for node in nodes {
            let Some(cookie) = self.pool.cookie(node).filter(|c| self.pool.usable(*c)) else {
                continue;
            };
            let op = Op::Due { cookie, limit: DUE_AT_ONCE };
            let Ok(due) = ask::<DueReplicas>(&self.pool, node, op).await else { continue };
            for (placement, of) in due.replicas {
                let at = ReplicaAt { cookie, placement };
                if let Err(error) = self.look_at_replica(at, &of).await {
                    tracing::debug!(%error, "could not look at a due replica");
                }
            }
        }
    }

    async fn look_at_replica(self: &Arc<Self>, at: ReplicaAt, of: &SegmentOf) -> Result<(), Error> {
        let Some(queue) = self.queue_named(&of.register) else {
            tracing::warn!(register = of.register, "a replica of something that is no queue");
            return Ok(());
        };
        let manifest = self.manifests.read(&queue).await?;
        let manifest = manifest.filter(|manifest| manifest.generation == of.generation);
        let segment = manifest.and_then(|manifest| manifest.segment(of.segment).cloned());
        let Some(segment) = segment.filter(|segment| segment.names(at.placement)) else {
            self.wipe(vec![at]);
            return Ok(());
        };
        let after_ms = match segment.is_open() {
            true => 24 * 3_600_000,
            false => {
                self.may_have_ended(&queue, segment.no);
                LOOK_AGAIN_MS
            }
        };
        // Not heard: it is due again at once, which does no harm.
        ask::<()>(&self.pool, at.cookie.node, Op::Defer { at, after_ms }).await.ok();
        Ok(())
    }
}
