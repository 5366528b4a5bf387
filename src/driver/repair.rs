//! Restoring copies: a closed segment with too few full replicas is copied to another node.
//!
//! The new replica is named in the manifest as joining first; from then on it takes claims and
//! deletes as well. The segment's version is raised on the full replicas before anything is
//! copied, so that an operation of somebody who does not know of the new replica is either in the
//! copy or refused (Q7, Q8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ask::{Failure, ask, ask_all};
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{Cookie, Generation, NodeId, ReplicaAt, SegmentNo};
use crate::node::{CopyBatch, Coverage, Frontier, Op, Refusal, Role, SegmentOf};
use crate::protocol::frontier::{covered, covers};
use crate::protocol::manifest::{Manifest, Replica, Segment, Standing};
use crate::protocol::placement::order;

/// Bytes of one batch of a copy.
const COPY_BYTES: u32 = 1024 * 1024;
/// How long one batch of a copy may take.
const COPY_PATIENCE: Duration = Duration::from_secs(2);
/// How long copies that somebody else makes may stand still before they are finished for him.
const HELP_AFTER: Duration = Duration::from_millis(400);

/// Rounds in one go at making a queue whole.
const ROUNDS: usize = 10_000;
/// Segments that get a replica in one round.
const AT_ONCE: usize = 32;
/// Segments copied at the same time.
const COPIES_IN_FLIGHT: usize = 4;

/// Why a replica was not filled.
struct Unfilled {
    failure: Failure,
    /// A full replica that did not hear of the new version.
    unfenced: Option<Cookie>,
}

impl From<Failure> for Unfilled {
    fn from(failure: Failure) -> Self {
        Self { failure, unfenced: None }
    }
}

/// What one round of repairs came to.
#[derive(Debug, PartialEq)]
enum Round {
    /// Nothing is missing (any more).
    Whole,
    /// Something was mended; more may be missing.
    Mended,
    /// It cannot be done now.
    Failed(String),
}

/// A segment and the replica that is to be filled for it.
struct Job {
    segment: Segment,
    at: ReplicaAt,
}

impl Core {
    /// Repairs a segment in the background, at once.
    pub(crate) fn repair_soon(self: &Arc<Self>, queue: &Arc<QueueState>, no: SegmentNo) {
        if queue.repairing.try_lock().is_err() {
            // Whoever holds it goes through all of the queue's segments.
            return;
        }
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            tracing::debug!(queue = queue.name, segment = %no, "repairing");
            core.restore(&queue, core.pool.config().copies_min).await;
        });
    }

    /// Repairs every segment that has fewer than `copies_min` full replicas, at once.
    pub(crate) fn repair_thin(self: &Arc<Self>, queue: &Arc<QueueState>, manifest: &Manifest) {
        let copies_min = self.pool.config().copies_min;
        let mut closed = manifest.segments.iter().filter(|s| !s.is_open() && !s.lost);
        if let Some(thin) = closed.find(|segment| self.standing_copies(segment) < copies_min) {
            self.repair_soon(queue, thin.no);
        }
    }

    /// Brings all closed segments of a queue to `copies` full replicas, as far as nodes allow.
    pub(crate) async fn restore(self: &Arc<Self>, queue: &Arc<QueueState>, copies: usize) {
        let Ok(_repairing) = queue.repairing.try_lock() else { return };
        for _ in 0..ROUNDS {
            match self.round(queue, copies, None).await {
                Round::Mended => {}
                Round::Whole => return,
                Round::Failed(why) => {
                    tracing::debug!(queue = queue.name, why, "repair failed");
                    return;
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
            if let Ok(_repairing) = tokio::time::timeout_at(deadline, queue.repairing.lock()).await
            {
                let Some(manifest) = self.manifests.read(queue).await? else { return Ok(()) };
                let missing = manifest
                    .segment(no)
                    .is_some_and(|s| !s.is_open() && !s.lost && s.full().count() < copies_min);
                if !missing {
                    return Ok(());
                }
                match self.round(queue, copies_min, Some(no)).await {
                    Round::Failed(reason) => why = reason,
                    Round::Mended | Round::Whole => continue,
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "queue {}: segment {no} has fewer than {copies_min} copies: {why}",
                    queue.name
                )));
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// One round: drops what is lost, saves what has lost all, gives up to [`AT_ONCE`] segments
    /// one more replica each.
    async fn round(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        copies: usize,
        first: Option<SegmentNo>,
    ) -> Round {
        let round = self.try_round(queue, copies, first).await;
        round.unwrap_or_else(|error| Round::Failed(error.to_string()))
    }

    async fn try_round(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        copies: usize,
        first: Option<SegmentNo>,
    ) -> Result<Round, Error> {
        let Some(manifest) = self.manifests.get(queue).await? else { return Ok(Round::Whole) };
        let pool = self.pool.id();
        let closed = || manifest.segments.iter().filter(|s| !s.is_open() && !s.lost);
        let is_lost = |r: &&Replica| self.pool.is_lost(r.cookie(pool));
        if let Some(segment) = closed().find(|segment| segment.full().all(|r| is_lost(&r))) {
            return Ok(match self.salvage(queue, segment).await? {
                true => Round::Mended,
                false => Round::Failed("no replica of a segment answers".into()),
            });
        }
        let lost: BTreeSet<Cookie> = closed()
            .flat_map(|segment| segment.replicas.iter())
            .filter(|r| matches!(r.standing, Standing::Full | Standing::Joining))
            .filter(is_lost)
            .map(|replica| replica.cookie(pool))
            .collect();
        if !lost.is_empty() {
            let lost: Vec<Cookie> = lost.into_iter().collect();
            self.drop_replicas(queue, &lost).await?;
            return Ok(Round::Mended);
        }
        let mut short: Vec<&Segment> =
            closed().filter(|segment| segment.full().count() < copies).collect();
        if short.is_empty() {
            return Ok(Round::Whole);
        }
        short
            .sort_by_key(|segment| (Some(segment.no) != first, segment.full().count(), segment.no));
        let mut taken = Vec::new();
        let mut free = Vec::new();
        for segment in short {
            match segment.with(Standing::Joining).next() {
                Some(joining) => {
                    taken.push(Job { segment: segment.clone(), at: joining.at(pool) });
                }
                None => free.push(segment),
            }
        }
        if free.is_empty() {
            taken.truncate(AT_ONCE);
            return self.help(queue, taken).await;
        }
        free.truncate(AT_ONCE);
        self.copy_segments(queue, &manifest, &free, copies).await
    }

    /// Somebody else fills these replicas. As long as he gets on, he is watched; if he does not,
    /// they are filled for him, which does no harm if he is only slow: a block that is there
    /// already is merged. A process that ends in the middle of its repairs leaves such replicas
    /// behind, and whoever reads meets them first.
    async fn help(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        mut filling: Vec<Job>,
    ) -> Result<Round, Error> {
        let patience = HELP_AFTER + Duration::from_millis(self.pool.env().random_below(200));
        let mut since = Instant::now();
        let mut arrived = None;
        loop {
            let Some(manifest) = self.manifests.read(queue).await? else {
                return Ok(Round::Mended);
            };
            filling.retain(|job| {
                manifest.segment(job.segment.no).is_some_and(|segment| {
                    let mut joining = segment.with(Standing::Joining);
                    joining.any(|replica| replica.placement == job.at.placement)
                })
            });
            if filling.is_empty() {
                return Ok(Round::Mended);
            }
            let questions =
                filling.iter().map(|job| (job.at.cookie.node, Op::Probe { at: job.at })).collect();
            let answers = ask_all::<Coverage>(&self.pool, questions).await;
            let blocks: u64 = answers.iter().flatten().map(|c| u64::from(c.arrived)).sum();
            let now = Some((filling.len(), blocks));
            if arrived != now {
                arrived = now;
                since = Instant::now();
            }
            if since.elapsed() >= patience {
                tracing::debug!(queue = queue.name, copies = filling.len(), "finishing copies");
                return self.fill_named(queue, &manifest, &filling).await;
            }
            let jitter = self.pool.env().random_below(20);
            tokio::time::sleep(Duration::from_millis(20 + jitter)).await;
        }
    }

    /// Gives each of the segments one more full replica: all opened, named, filled and promoted
    /// together, so that many small segments cost few changes of the manifest.
    async fn copy_segments(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Manifest,
        segments: &[&Segment],
        copies: usize,
    ) -> Result<Round, Error> {
        let mut opening: Vec<BoxFuture<'_, Result<Option<Job>, Failure>>> = Vec::new();
        for segment in segments {
            opening.push(Box::pin(self.open_joining(queue, manifest.generation, segment)));
        }
        let mut jobs = Vec::new();
        let mut why = String::from("no node is left to copy to");
        for opened in futures_util::future::join_all(opening).await {
            match opened {
                Ok(Some(job)) => jobs.push(job),
                Ok(None) => {}
                Err(failure) => why = failure.to_string(),
            }
        }
        if jobs.is_empty() {
            return Ok(Round::Failed(why));
        }
        let (now, _) = self
            .manifests
            .change(queue, |now| {
                let same = now.generation == manifest.generation;
                let add = |any, job: &Job| now.add_joining(job.segment.no, job.at, copies) | any;
                same && jobs.iter().fold(false, add)
            })
            .await?;
        // What counts is what the manifest names now: a change may have been made by an attempt
        // whose answer was lost.
        let (named, unused): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| {
            now.generation == manifest.generation
                && now.segment(job.segment.no).is_some_and(|s| s.names(job.at.placement))
        });
        self.wipe(unused.into_iter().map(|job| job.at).collect());
        self.fill_named(queue, &now, &named).await
    }

    /// Fills joining replicas that the manifest names, and promotes them.
    async fn fill_named(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        now: &Manifest,
        named: &[Job],
    ) -> Result<Round, Error> {
        let mut filling: Vec<BoxFuture<'_, Result<(SegmentNo, ReplicaAt), Unfilled>>> = Vec::new();
        for job in named {
            if let Some(segment) = now.segment(job.segment.no) {
                filling.push(Box::pin(self.fill(segment.clone(), job.at)));
            }
        }
        let filled: Vec<Result<(SegmentNo, ReplicaAt), Unfilled>> =
            futures_util::stream::iter(filling).buffer_unordered(COPIES_IN_FLIGHT).collect().await;
        self.conclude_copies(queue, named, filled).await
    }

    /// Opens a replica for a segment on a node that has none of it.
    async fn open_joining(
        self: &Arc<Self>,
        queue: &QueueState,
        generation: Generation,
        segment: &Segment,
    ) -> Result<Option<Job>, Failure> {
        let holding: Vec<NodeId> = segment
            .replicas
            .iter()
            .filter(|r| matches!(r.standing, Standing::Full | Standing::Joining))
            .map(Replica::node)
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
        let of = SegmentOf { register: queue.register.clone(), generation, segment: segment.no };
        let (opened, failures) = self.open_on(nodes, 1, Role::Joining, &of).await;
        match (opened.first(), failures.into_iter().next()) {
            (Some(at), _) => Ok(Some(Job { segment: segment.clone(), at: *at })),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    /// Promotes what was filled and gives up the rest, in one change.
    async fn conclude_copies(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        named: &[Job],
        filled: Vec<Result<(SegmentNo, ReplicaAt), Unfilled>>,
    ) -> Result<Round, Error> {
        let mut full = Vec::new();
        let mut silent = Vec::new();
        let mut why = None;
        for outcome in filled {
            match outcome {
                Ok(filled) => full.push(filled),
                Err(unfilled) => {
                    silent.extend(unfilled.unfenced);
                    why = Some(unfilled.failure.to_string());
                }
            }
        }
        let failed: Vec<&Job> = named
            .iter()
            .filter(|job| full.iter().all(|(_, at)| at.placement != job.at.placement))
            .collect();
        let pool = self.pool.id();
        let lost = |replica: &Replica| self.pool.is_lost(replica.cookie(pool));
        let (now, _) = self
            .manifests
            .change(queue, |manifest| {
                let mut changed = false;
                for (no, at) in &full {
                    changed |= manifest.promote(*no, at.placement, lost);
                }
                for job in &failed {
                    changed |= manifest.drop_joining(job.segment.no, job.at.placement);
                }
                changed
            })
            .await?;
        // Somebody else may have filled one of them all the same.
        let unused = failed.iter().map(|job| job.at).filter(|at| !now.names(at.placement));
        self.wipe(unused.collect());
        if !silent.is_empty() {
            // An operation of the old version might still be taken by them, and by them alone.
            self.drop_replicas(queue, &silent).await?;
            return Ok(Round::Mended);
        }
        tracing::debug!(queue = queue.name, copied = full.len(), failed = failed.len(), "repaired");
        Ok(match why {
            Some(why) if full.is_empty() => Round::Failed(why),
            _ => Round::Mended,
        })
    }

    /// Fills a joining replica from a full one, after the segment's version was raised on all
    /// full ones.
    async fn fill(
        &self,
        segment: Segment,
        at: ReplicaAt,
    ) -> Result<(SegmentNo, ReplicaAt), Unfilled> {
        let end = segment.end.clone().unwrap_or_default();
        let full = self.addresses(&segment, Standing::Full);
        let fences = full
            .iter()
            .map(|at| (at.cookie.node, Op::Fence { at: *at, version: segment.version }))
            .collect();
        let fenced = ask_all::<()>(&self.pool, fences).await;
        let mut source = None;
        let mut refused = None;
        for (at, fenced) in full.iter().zip(fenced) {
            match fenced {
                Ok(()) => source = source.or(Some(*at)),
                Err(failure) => refused = Some((*at, failure)),
            }
        }
        match (source, refused) {
            (Some(source), None) => {
                let told = Op::TellEnd { at, version: segment.version, end: end.clone() };
                self.copy(source, at, &end).await?;
                self.copy_notes(source, at).await?;
                ask::<()>(&self.pool, at.cookie.node, told).await?;
                Ok((segment.no, at))
            }
            (None, None) => Err(Failure::Refused(Refusal::Gone).into()),
            (_, Some((_, failure @ Failure::Refused(Refusal::Stale { .. })))) => {
                Err(failure.into())
            }
            (source, Some((silent, failure))) => {
                // Only if another full one is left may this one be dropped.
                let unfenced = source.map(|_| silent.cookie);
                Err(Unfilled { failure, unfenced })
            }
        }
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

    /// Tells a copy what its source knows to have been acked.
    async fn copy_notes(&self, source: ReplicaAt, at: ReplicaAt) -> Result<(), Failure> {
        let known: Coverage = ask(&self.pool, source.cookie.node, Op::Probe { at: source }).await?;
        let notes: Vec<Op> = known
            .producers
            .iter()
            .filter(|state| state.noted > 0)
            .map(|state| Op::Note { at, producer: state.producer, noted: state.noted })
            .collect();
        if !notes.is_empty() {
            self.pool.ask(at.cookie.node, notes).await.map_err(Failure::Silent)?;
        }
        Ok(())
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
