//! Restoring copies: a closed segment with too few full replicas is copied to another node.
//!
//! The new replica is named in the manifest as joining first; from then on it takes claims and
//! deletes as well. The segment's version is raised on the full replicas before anything is
//! copied, so that an operation of somebody who does not know of the new replica is either in the
//! copy or refused (Q7, Q8).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Failure, ask, ask_all};
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{NodeId, ReplicaAt, SegmentNo};
use crate::node::{CopyBatch, Coverage, Frontier, Op, Refusal, Role, SegmentOf};
use crate::protocol::frontier::{covered, covers};
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::protocol::placement::order;

/// Bytes of one batch of a copy.
const COPY_BYTES: u32 = 1024 * 1024;
/// How long one batch of a copy may take.
const COPY_PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody else's copy is waited for before it is given up for dead.
const ABANDONED_AFTER: Duration = Duration::from_secs(3);

/// Attempts in one go at making one segment whole.
const ATTEMPTS: usize = 6;

/// What one attempt at a repair came to.
#[derive(Debug, PartialEq)]
enum Attempt {
    /// Nothing is missing (any more), or the segment is gone.
    Whole,
    /// One more copy was made; more may be missing.
    Copied,
    /// Somebody else is at it.
    Underway,
    /// It cannot be done now.
    Failed(String),
}

impl Core {
    /// Repairs a segment in the background, at once.
    pub(crate) fn repair_soon(self: &Arc<Self>, queue: &Arc<QueueState>, no: SegmentNo) {
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            tracing::debug!(queue = queue.name, segment = %no, "repairing");
            core.restore(&queue, core.pool.config().copies_min).await;
        });
    }

    /// Repairs every segment that has fewer than `copies_min` full replicas, at once.
    pub(crate) fn repair_thin(self: &Arc<Self>, queue: &Arc<QueueState>, manifest: &Manifest) {
        if self.thin_segments(manifest).next().is_none() {
            return;
        }
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            core.restore(&queue, core.pool.config().copies_min).await;
        });
    }

    fn thin_segments<'a>(&self, manifest: &'a Manifest) -> impl Iterator<Item = &'a Segment> {
        let copies_min = self.pool.config().copies_min;
        let closed = manifest.segments.iter().filter(|s| !s.is_open() && !s.lost);
        closed.filter(move |segment| segment.full().count() < copies_min)
    }

    /// Brings all closed segments of a queue to `copies` full replicas, as far as nodes allow.
    pub(crate) async fn restore(self: &Arc<Self>, queue: &Arc<QueueState>, copies: usize) {
        let Ok(_repairing) = queue.repairing.try_lock() else { return };
        let Ok(Some(manifest)) = self.manifests.get(queue).await else { return };
        let missing: Vec<SegmentNo> = manifest
            .segments
            .iter()
            .filter(|s| !s.is_open() && !s.lost && self.standing_copies(s) < copies)
            .map(|segment| segment.no)
            .collect();
        for no in missing {
            // Each attempt drops, saves or adds a replica: a few make a segment whole.
            for _ in 0..ATTEMPTS {
                match self.repair(queue, no, copies).await {
                    Attempt::Failed(why) => {
                        tracing::debug!(queue = queue.name, segment = %no, why, "repair failed");
                        return;
                    }
                    Attempt::Whole => break,
                    Attempt::Copied | Attempt::Underway => {}
                }
            }
        }
    }

    /// Repairs a segment that somebody waits for: until it has `copies_min` full replicas.
    ///
    /// # Errors
    /// `Unavailable` if that cannot be done before `deadline`.
    pub(crate) async fn repair_now(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        deadline: Instant,
    ) -> Result<(), Error> {
        let copies_min = self.pool.config().copies_min;
        let mut why = String::from("its replicas are being copied");
        loop {
            {
                let repairing = tokio::time::timeout_at(deadline, queue.repairing.lock());
                if let Ok(_repairing) = repairing.await {
                    match self.repair(queue, no, copies_min).await {
                        Attempt::Whole => return Ok(()),
                        Attempt::Copied | Attempt::Underway => {}
                        Attempt::Failed(reason) => why = reason,
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "queue {}: segment {no} has fewer than {copies_min} copies: {why}",
                    queue.name
                )));
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
            self.manifests.forget(queue);
        }
    }

    /// One attempt to give a segment one more full replica, if it has fewer than `copies`.
    async fn repair(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        copies: usize,
    ) -> Attempt {
        let attempt = self.try_repair(queue, no, copies).await;
        attempt.unwrap_or_else(|error| Attempt::Failed(error.to_string()))
    }

    async fn try_repair(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        copies: usize,
    ) -> Result<Attempt, Error> {
        let Some(manifest) = self.manifests.get(queue).await? else { return Ok(Attempt::Whole) };
        let Some(segment) = manifest.segment(no).filter(|s| !s.is_open() && !s.lost) else {
            return Ok(Attempt::Whole);
        };
        let gone: Vec<_> = self
            .addresses(segment, Standing::Full)
            .into_iter()
            .map(|at| at.cookie)
            .filter(|cookie| self.pool.is_lost(*cookie))
            .collect();
        if !gone.is_empty() {
            if gone.len() == segment.full().count() {
                return self.salvage(queue, segment).await.map(|saved| match saved {
                    true => Attempt::Copied,
                    false => Attempt::Failed("none of its replicas answers".into()),
                });
            }
            self.drop_replicas(queue, &gone).await?;
            return Ok(Attempt::Copied);
        }
        if segment.full().count() >= copies {
            return Ok(Attempt::Whole);
        }
        if let Some(joining) = segment.with(Standing::Joining).next() {
            return self.wait_for_joining(queue, segment, joining.at(self.pool.id())).await;
        }
        self.copy_somewhere(queue, &manifest, segment, copies).await
    }

    /// Somebody else fills a replica: it is given a while.
    async fn wait_for_joining(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        joining: ReplicaAt,
    ) -> Result<Attempt, Error> {
        let mut arrived = None;
        let mut since = Instant::now();
        while since.elapsed() < ABANDONED_AFTER {
            let Some(manifest) = self.manifests.read(queue).await? else {
                return Ok(Attempt::Whole);
            };
            let still = manifest.segment(segment.no).is_some_and(|segment| {
                segment.with(Standing::Joining).any(|r| r.placement == joining.placement)
            });
            if !still {
                return Ok(Attempt::Underway);
            }
            let op = Op::Probe { at: joining };
            match ask::<Coverage>(&self.pool, joining.cookie.node, op).await {
                Ok(coverage) if arrived != Some(coverage.arrived) => {
                    arrived = Some(coverage.arrived);
                    since = Instant::now();
                }
                Err(failure) if failure.is_loss() => break,
                Ok(_) | Err(_) => {}
            }
            let jitter = self.pool.env().random_below(20);
            tokio::time::sleep(Duration::from_millis(20 + jitter)).await;
        }
        self.manifests
            .change(queue, |manifest| manifest.drop_joining(segment.no, joining.placement))
            .await?;
        self.wipe(vec![joining]);
        Ok(Attempt::Underway)
    }

    async fn copy_somewhere(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Manifest,
        segment: &Segment,
        copies: usize,
    ) -> Result<Attempt, Error> {
        let holding: Vec<NodeId> = segment
            .replicas
            .iter()
            .filter(|r| matches!(r.standing, Standing::Full | Standing::Joining))
            .map(|replica| replica.node())
            .collect();
        let view = self.pool.view();
        let zones: Vec<Option<String>> = holding
            .iter()
            .filter_map(|node| view.nodes.get(node))
            .map(|entry| entry.zone.clone())
            .collect();
        let mut candidates = self.candidates();
        candidates.retain(|candidate| !holding.contains(&candidate.node));
        let start = usize::try_from(segment.no.0).unwrap_or(0);
        let nodes = order(&candidates, start, &zones);
        if nodes.is_empty() {
            return Ok(Attempt::Failed("no node is left to copy it to".into()));
        }
        let of = SegmentOf {
            register: queue.register.clone(),
            generation: manifest.generation,
            segment: segment.no,
        };
        let (opened, failures) = self.open_on(nodes, 1, Role::Joining, &of).await;
        let Some(at) = opened.first().copied() else {
            let why = failures.first().map_or("no node answers".into(), ToString::to_string);
            return Ok(Attempt::Failed(why));
        };
        let (now, added) = self
            .manifests
            .change(queue, |now| {
                now.generation == manifest.generation && now.add_joining(segment.no, at, copies)
            })
            .await?;
        let named = now.segment(segment.no).filter(|_| added).cloned();
        let Some(named) = named else {
            self.wipe(vec![at]);
            return Ok(Attempt::Underway);
        };
        match self.fill(queue, &named, at).await {
            Ok(true) => {
                tracing::debug!(queue = queue.name, segment = %segment.no, node = %at.cookie.node, "copied");
                Ok(Attempt::Copied)
            }
            Ok(false) => Ok(Attempt::Underway),
            Err(failure) => {
                self.manifests
                    .change(queue, |manifest| manifest.drop_joining(segment.no, at.placement))
                    .await?;
                self.wipe(vec![at]);
                Ok(Attempt::Failed(failure.to_string()))
            }
        }
    }

    /// Fills a joining replica and makes it full. `false`: the manifest changed meanwhile.
    async fn fill(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        at: ReplicaAt,
    ) -> Result<bool, Failure> {
        let Some(end) = segment.end.clone() else { return Ok(false) };
        let full = self.addresses(segment, Standing::Full);
        let fences = full
            .iter()
            .map(|at| (at.cookie.node, Op::Fence { at: *at, version: segment.version }))
            .collect();
        let mut source = None;
        let mut unfenced = None;
        for (at, fenced) in full.iter().zip(ask_all::<()>(&self.pool, fences).await) {
            match fenced {
                Ok(()) => source = source.or(Some(*at)),
                Err(Failure::Refused(Refusal::Stale { .. })) => return Ok(false),
                Err(failure) => unfenced = Some((*at, failure)),
            }
        }
        let Some(source) = source else {
            let none = Failure::Refused(Refusal::Gone);
            return Err(unfenced.map_or(none, |(_, failure)| failure));
        };
        if let Some((silent, failure)) = unfenced {
            // An operation of the old version might still be taken by it, and by it alone.
            self.drop_replicas(queue, &[silent.cookie]).await.map_err(|_| failure)?;
            return Ok(false);
        }
        self.copy(source, at, &end).await?;
        let told = Op::TellEnd { at, version: segment.version, end };
        ask::<()>(&self.pool, at.cookie.node, told).await?;
        let lost = |replica: &crate::protocol::manifest::Replica| {
            self.pool.is_lost(replica.cookie(self.pool.id()))
        };
        let promoted = self
            .manifests
            .change(queue, |manifest| manifest.promote(segment.no, at.placement, lost))
            .await;
        Ok(promoted.is_ok_and(|(_, changed)| changed))
    }

    /// Copies blocks up to `end`, with their state, from one replica to another.
    pub(crate) async fn copy(
        &self,
        source: ReplicaAt,
        target: ReplicaAt,
        end: &Frontier,
    ) -> Result<(), Failure> {
        let mut from = 0;
        loop {
            let op = Op::CopyOut { at: source, from, max_bytes: COPY_BYTES };
            let batch: CopyBatch = self.ask_patiently(source, op).await?;
            let blocks: Vec<_> = batch
                .blocks
                .into_iter()
                .filter(|block| block.block <= covered(end, block.producer))
                .collect();
            if !blocks.is_empty() {
                let op = Op::CopyIn { at: target, blocks };
                let _: Coverage = self.ask_patiently(target, op).await?;
            }
            if batch.done {
                break;
            }
            from = batch.next;
        }
        let now: Coverage = self.ask_patiently(target, Op::Probe { at: target }).await?;
        match covers(&now.frontier(), end) {
            true => Ok(()),
            false => Err(Failure::Refused(Refusal::Gap { frontier: 0 })),
        }
    }

    async fn ask_patiently<T: super::ask::Shape>(
        &self,
        at: ReplicaAt,
        op: Op,
    ) -> Result<T, Failure> {
        let replies = self
            .pool
            .ask_within(at.cookie.node, vec![op], COPY_PATIENCE)
            .await
            .map_err(Failure::Silent)?;
        let reply = replies.into_iter().next().unwrap_or(crate::node::Reply::Done);
        super::ask::shape(&self.pool, at.cookie.node, reply)
    }
}
