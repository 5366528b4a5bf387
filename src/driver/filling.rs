//! Filling joining replicas: blocks with their state from a full one, then the promotion.
//!
//! What was filled is promoted while the rest is still being copied: a fault in the middle must
//! not cost what is done. A node that falls silent fails what is left for it at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ask::{Failure, Shape, ask, ask_all, ask_within};
use super::pace::Speed;
use super::repair::{AT_ONCE, Round};
use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::{Cookie, ReplicaAt, Version};
use crate::node::{CopyBatch, Coverage, Frontier, NodeError, Op, Refusal};
use crate::protocol::frontier::{covered, covers};
use crate::protocol::manifest::{Manifest, Replica, Segment, Standing};

/// Bytes of one batch of a copy: what a node can do between two posts without being noticed.
const COPY_BYTES: u32 = 256 * 1024;
/// How long one batch of a copy may take: so many times the patience that the node is worth for a
/// common question, within these bounds. Others wait for the repair behind it.
const COPY_PATIENCES: u32 = 8;
const MIN_COPY_PATIENCE: Duration = Duration::from_millis(400);
const MAX_COPY_PATIENCE: Duration = Duration::from_secs(2);
/// Segments copied at the same time.
const COPIES_IN_FLIGHT: usize = 4;
/// How often what was filled is promoted.
const PROMOTE_EVERY: Duration = Duration::from_millis(100);
/// How often somebody looks how far another's copies have come.
const WATCH_EVERY: Duration = Duration::from_millis(60);
/// The same, if callers wait for them.
const WATCH_URGENT_EVERY: Duration = Duration::from_millis(20);
/// How long copies that somebody else makes may stand still before they are finished for him.
const HELP_AFTER: Duration = Duration::from_millis(400);

/// A segment and the replica that is to be filled for it.
pub(super) struct Job {
    pub(super) segment: Segment,
    pub(super) at: ReplicaAt,
}

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

/// What became of a job.
type Outcome<'a> = (&'a Job, Result<(), Unfilled>);

/// What became of all of them so far.
#[derive(Default)]
struct Sum {
    copied: usize,
    unfenced: Vec<Cookie>,
    why: Option<String>,
}

impl Core {
    /// Somebody else fills these replicas. As long as he gets on, he is watched; if he does not,
    /// they are filled for him, which does no harm if he is only slow: a block that is there
    /// already is merged. A process that ends in the middle of its repairs leaves such replicas
    /// behind, and whoever reads meets them first.
    pub(super) async fn help(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        mut filling: Vec<Job>,
        is_urgent: bool,
    ) -> Result<Round, Error> {
        filling.truncate(AT_ONCE);
        let every = if is_urgent { WATCH_URGENT_EVERY } else { WATCH_EVERY };
        let patience = HELP_AFTER + Duration::from_millis(self.pool.env().random_below(200));
        let mut since = Instant::now();
        let mut arrived = None;
        loop {
            let stands_still = since.elapsed() >= patience;
            let manifest = match stands_still || is_urgent {
                true => self.manifests.read(queue).await?,
                // Watching must cost the one who works little.
                false => self.manifests.get(queue).await?,
            };
            let Some(manifest) = manifest else { return Ok(Round::Mended) };
            filling.retain(|job| {
                manifest.segment(job.segment.no).is_some_and(|segment| {
                    let mut joining = segment.with(Standing::Joining);
                    joining.any(|replica| replica.placement == job.at.placement)
                })
            });
            if filling.is_empty() {
                return Ok(Round::Mended);
            }
            if stands_still && arrived.is_some_and(|(count, _)| count == filling.len()) {
                tracing::debug!(queue = queue.name, copies = filling.len(), "finishing copies");
                return self.fill_named(queue, &manifest, &filling).await;
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
            let jitter = self.pool.env().random_below(10);
            tokio::time::sleep(every + Duration::from_millis(jitter)).await;
        }
    }

    /// Fills joining replicas that the manifest names, and promotes them.
    pub(super) async fn fill_named(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        now: &Manifest,
        named: &[Job],
    ) -> Result<Round, Error> {
        let silent: Mutex<BTreeSet<String>> = Mutex::default();
        let mut filling: Vec<BoxFuture<'_, Outcome<'_>>> = Vec::new();
        for job in named {
            if let Some(segment) = now.segment(job.segment.no) {
                filling.push(Box::pin(self.fill_one(segment.clone(), job, &silent)));
            }
        }
        let mut filling = futures_util::stream::iter(filling).buffer_unordered(COPIES_IN_FLIGHT);
        let mut sum = Sum::default();
        let mut filled = Vec::new();
        let mut promote_at = Instant::now() + PROMOTE_EVERY;
        loop {
            let next = tokio::time::timeout_at(promote_at, filling.next()).await;
            let ended = matches!(next, Ok(None));
            if let Ok(Some(outcome)) = next {
                filled.push(outcome);
            }
            if ended || promote_at <= Instant::now() {
                self.conclude_copies(queue, std::mem::take(&mut filled), &mut sum).await?;
                promote_at = Instant::now() + PROMOTE_EVERY;
            }
            if ended {
                break;
            }
        }
        if !sum.unfenced.is_empty() {
            // An operation of the old version might still be taken by them, and by them alone.
            self.drop_replicas(queue, &sum.unfenced).await?;
            return Ok(Round::Mended);
        }
        tracing::debug!(queue = queue.name, copied = sum.copied, of = named.len(), "repaired");
        Ok(match sum.why {
            Some(why) if sum.copied == 0 => Round::Failed(why),
            _ => Round::Mended,
        })
    }

    /// Promotes what was filled and gives up what was not, in one change.
    async fn conclude_copies(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        outcomes: Vec<Outcome<'_>>,
        sum: &mut Sum,
    ) -> Result<(), Error> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let mut full = Vec::new();
        let mut failed = Vec::new();
        for (job, outcome) in outcomes {
            match outcome {
                Ok(()) => full.push(job),
                Err(unfilled) => {
                    failed.push(job);
                    sum.unfenced.extend(unfilled.unfenced);
                    sum.why = Some(unfilled.failure.to_string());
                }
            }
        }
        sum.copied += full.len();
        let lost = |replica: &Replica| self.has_lost(replica);
        let (now, _) = self
            .manifests
            .change(queue, |manifest| {
                let mut changed = false;
                for job in &full {
                    changed |= manifest.promote(job.segment.no, job.at.placement, lost);
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
        Ok(())
    }

    async fn fill_one<'a>(
        &self,
        segment: Segment,
        job: &'a Job,
        silent: &Mutex<BTreeSet<String>>,
    ) -> Outcome<'a> {
        let node = self.pool.name(job.at.cookie.node);
        if locked(silent).contains(&node) {
            let reason = "it fell silent during a copy".into();
            return (job, Err(Failure::Silent(NodeError::Unreached { node, reason }).into()));
        }
        let filled = self.fill(segment, job.at).await;
        if let Err(Unfilled { failure: Failure::Silent(error), .. }) = &filled {
            locked(silent).insert(error.node().to_owned());
        }
        (job, filled)
    }

    /// Fills a joining replica from a full one, after the segment's version was raised on all
    /// full ones.
    async fn fill(&self, segment: Segment, at: ReplicaAt) -> Result<(), Unfilled> {
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
                let speed = match full.len() < self.pool.config().copies_min {
                    true => Speed::AtOnce,
                    false => Speed::Paced,
                };
                self.copy(source, at, segment.version, &end, speed).await?;
                self.copy_notes(source, at).await?;
                ask::<()>(&self.pool, at.cookie.node, told).await?;
                Ok(())
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

    /// Copies blocks up to `end`, with their state, from one replica to another. What is on its way
    /// after the segment has changed is refused: its source may not be full any more (Q8).
    pub(crate) async fn copy(
        &self,
        source: ReplicaAt,
        target: ReplicaAt,
        version: Version,
        end: &Frontier,
        speed: Speed,
    ) -> Result<(), Failure> {
        let read = |from| {
            let op = Op::CopyOut { at: source, from, max_bytes: COPY_BYTES };
            self.ask_patiently::<CopyBatch>(source, op)
        };
        let write = |batch: CopyBatch| async {
            let mut blocks = batch.blocks;
            blocks.retain(|block| block.block <= covered(end, block.producer));
            if blocks.is_empty() {
                return Ok(());
            }
            let sizes =
                blocks.iter().map(|block| block.bytes.as_ref().map_or(0, |b| b.len() as u64));
            self.pace.take(speed, sizes.sum(), self.pool.config().repair_bytes_per_second).await;
            let op = Op::CopyIn { at: target, version, blocks };
            self.ask_patiently::<Coverage>(target, op).await.map(|_| ())
        };
        let mut batch = read(0).await?;
        while !batch.done {
            // The next one is read while this one is written.
            let next = read(batch.next);
            let (next, written) = tokio::join!(next, write(batch));
            written?;
            batch = next?;
        }
        write(batch).await?;
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

    async fn ask_patiently<T: Shape>(&self, at: ReplicaAt, op: Op) -> Result<T, Failure> {
        let patience = self.pool.patience(at.cookie.node).saturating_mul(COPY_PATIENCES);
        let patience = patience.clamp(MIN_COPY_PATIENCE, MAX_COPY_PATIENCE);
        ask_within(&self.pool, at.cookie.node, op, patience).await
    }
}
