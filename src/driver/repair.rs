//! Restoring copies: a closed segment with too few full replicas is copied to another node.
//!
//! The new replica is named in the manifest as joining first; from then on it takes claims and
//! deletes as well. The segment's version is raised on the full replicas before anything is
//! copied, so that an operation of somebody who does not know of the new replica is either in the
//! copy or refused (Q7, Q8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::ask::Failure;
use super::filling::Job;
use super::salvage::Leave;
use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::{Cookie, Generation, NodeId, SegmentNo};
use crate::node::{Role, SegmentOf};
use crate::protocol::frontier;
use crate::protocol::manifest::{Manifest, Replica, Segment, Standing};
use crate::protocol::placement::order;

/// How long after a repair failed another is begun because somebody waits for it.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often somebody who waits for a repair looks.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// Rounds in one go at making a queue whole.
const ROUNDS: usize = 10_000;
/// Segments without any full replica that one round tries to save.
const SALVAGED_AT_ONCE: usize = 8;
/// Segments that get a replica in one round.
pub(super) const AT_ONCE: usize = 32;
/// Blocks of them, about: what is named as joining is waited for by others.
const BLOCKS_AT_ONCE: u64 = 8_192;

/// How far a repair goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// `copies_min` full replicas of each segment: urgent, whoever notices it.
    Enough,
    /// `copies` of them, on nodes that stay.
    Whole,
}

/// What one round of repairs came to.
#[derive(Debug, PartialEq)]
pub(super) enum Round {
    /// Nothing is missing (any more).
    Whole,
    /// Something was mended; more may be missing.
    Mended,
    /// It cannot be done now.
    Failed(String),
}

impl Core {
    /// Repairs a segment in the background, at once.
    pub(crate) fn repair_soon(self: &Arc<Self>, queue: &Arc<QueueState>, no: SegmentNo) {
        let failed = locked(&queue.repair_failed).as_ref().map(|(at, _)| at.elapsed());
        if queue.repairing.try_lock().is_err() || failed.is_some_and(|ago| ago < TRY_AGAIN_AFTER) {
            // Whoever holds it goes through all of the queue's segments.
            return;
        }
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            tracing::debug!(queue = queue.name, segment = %no, "repairing");
            if core.restore(&queue, Goal::Enough).await {
                // What was so short is short still: the next fault would be one too many.
                core.restore(&queue, Goal::Whole).await;
            }
        });
    }

    /// Repairs every segment that has fewer than `copies_min` full replicas, at once.
    pub(crate) fn repair_thin(self: &Arc<Self>, queue: &Arc<QueueState>, manifest: &Manifest) {
        let copies_min = self.pool.config().copies_min;
        let mut settled = manifest.settled();
        if let Some(thin) = settled.find(|segment| self.standing_copies(segment) < copies_min) {
            self.repair_soon(queue, thin.no);
        }
    }

    /// Brings all closed segments of a queue to that many full replicas, as far as nodes allow.
    /// Whether it has, and there was something to do.
    pub(crate) async fn restore(self: &Arc<Self>, queue: &Arc<QueueState>, goal: Goal) -> bool {
        let Ok(_repairing) = queue.repairing.try_lock() else { return false };
        for rounds in 0..ROUNDS {
            match self.round(queue, goal).await {
                Round::Mended => {}
                Round::Whole => {
                    *locked(&queue.repair_failed) = None;
                    *locked(&queue.leave) = Leave::default();
                    return rounds > 0;
                }
                Round::Failed(why) => {
                    tracing::debug!(queue = queue.name, why, "repair failed");
                    *locked(&queue.repair_failed) = Some((Instant::now(), why));
                    return false;
                }
            }
        }
        false
    }

    /// Waits until a segment has `copies_min` full replicas.
    ///
    /// # Errors
    /// `Unavailable` if that is not so before `deadline`.
    pub(crate) async fn repair_now(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        deadline: Instant,
    ) -> Result<(), Error> {
        let copies_min = self.pool.config().copies_min;
        loop {
            let Some(manifest) = self.manifests.read(queue).await? else { return Ok(()) };
            let missing = manifest
                .segment(no)
                .is_some_and(|segment| segment.is_settled() && segment.full().count() < copies_min);
            if !missing {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let failed = locked(&queue.repair_failed).clone();
                let why = failed.map_or("its replicas are being copied".into(), |(_, why)| why);
                return Err(Error::unavailable(format!(
                    "queue {}: segment {no} has fewer than {copies_min} copies: {why}",
                    queue.name
                )));
            }
            self.repair_soon(queue, no);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One round: drops what is lost, saves what has lost all, gives up to [`AT_ONCE`] segments
    /// one more replica each, those with the fewest first.
    async fn round(self: &Arc<Self>, queue: &Arc<QueueState>, goal: Goal) -> Round {
        let round = self.try_round(queue, goal).await;
        round.unwrap_or_else(|error| Round::Failed(error.to_string()))
    }

    async fn try_round(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        goal: Goal,
    ) -> Result<Round, Error> {
        let Some(manifest) = self.manifests.get(queue).await? else { return Ok(Round::Whole) };
        let pool = self.pool.id();
        let has_none = |segment: &&Segment| self.standing_copies(segment) == 0;
        for segment in manifest.settled().filter(has_none).take(SALVAGED_AT_ONCE) {
            if self.salvage(queue, segment).await? {
                return Ok(Round::Mended);
            }
        }
        // What cannot be saved now must not keep others from being copied.
        let unsaved = manifest.settled().any(|segment| has_none(&segment));
        let held = || manifest.settled().filter(|segment| !has_none(segment));
        let lost: BTreeSet<Cookie> = held()
            .flat_map(|segment| segment.replicas.iter())
            .filter(|r| matches!(r.standing, Standing::Full | Standing::Joining))
            .filter(|replica| self.has_lost(replica))
            .map(|replica| replica.cookie(pool))
            .collect();
        if !lost.is_empty() {
            let lost: Vec<Cookie> = lost.into_iter().collect();
            self.drop_replicas(queue, &lost).await?;
            return Ok(Round::Mended);
        }
        if goal == Goal::Whole && self.can_release(&manifest) && self.move_off(queue).await? {
            return Ok(Round::Mended);
        }
        let config = self.pool.config();
        let is_thin = |segment: &Segment| segment.full().count() < config.copies_min;
        let mut short: Vec<&Segment> = held()
            .filter(|segment| match goal {
                Goal::Enough => is_thin(segment),
                Goal::Whole => self.lasting_copies(segment) < config.copies,
            })
            .collect();
        let count = short.len();
        short.retain(|s| s.full().any(|replica| self.pool.usable(replica.cookie(pool))));
        if short.is_empty() {
            return Ok(match unsaved || count > 0 {
                true => Round::Failed("no replica of a segment answers".into()),
                false => Round::Whole,
            });
        }
        short.sort_by_key(|segment| (segment.full().count(), segment.no));
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
        let is_urgent = goal == Goal::Enough || free.iter().any(|segment| is_thin(segment));
        if free.is_empty() || (!taken.is_empty() && !is_urgent) {
            // Several at it would only be in each other's way.
            return self.help(queue, taken, is_urgent).await;
        }
        let mut blocks = 0;
        free.truncate(AT_ONCE);
        free.retain(|segment| {
            let fits = blocks < BLOCKS_AT_ONCE;
            blocks += segment.end.as_ref().map_or(0, frontier::blocks);
            fits
        });
        match self.copy_segments(queue, &manifest, &free, goal).await? {
            Round::Failed(_) if !taken.is_empty() => self.help(queue, taken, is_urgent).await,
            round => Ok(round),
        }
    }

    /// Gives each of the segments one more full replica: all opened, named, filled and promoted
    /// together, so that many small segments cost few changes of the manifest.
    async fn copy_segments(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Manifest,
        segments: &[&Segment],
        goal: Goal,
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
                let add = |any, job: &Job| {
                    let copies = match goal {
                        Goal::Enough => self.pool.config().copies_min,
                        Goal::Whole => self.pool.config().copies,
                    };
                    let counts = |replica: &Replica| match goal {
                        Goal::Enough => true,
                        Goal::Whole => self.counts(&job.segment, replica),
                    };
                    now.add_joining(job.segment.no, job.at, copies, counts) | any
                };
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
}
