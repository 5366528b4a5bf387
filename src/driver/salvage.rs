//! When no full replica of a segment is left: what can still be had of it.
//!
//! A joining replica that lacks its promotion only is taken; else the dropped one that covers the
//! end and was dropped last, after what joining ones know of claims and deletes was merged into it.
//! What succeeded before a drop was taken by all who stayed, so those dropped earlier know no more of
//! that. They may know of what did not happen: a delete that reached them late, after it had been
//! refused. Failing that, a former replica is taken, and the end lowered to what it has; but only
//! when every replica that ever covered the end is known to be lost for good, never because of a
//! silence. When nothing is left the segment is marked as lost. Both are said loudly.
//!
//! Whoever raises the version makes fail what another process has begun. So nobody raises it who
//! could not save the segment anyway, and whoever failed leaves it to the others for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Failure, ask};
use super::pace::Speed;
use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::{ReplicaAt, Version};
use crate::node::{CopyBatch, Coverage, Frontier, Op, Refusal};
use crate::protocol::frontier::{blocks, covered, covers, minimum};
use crate::protocol::manifest::{Replica, Segment, Standing};

/// How long a process that failed leaves a queue's segments to others, at least, and at most twice
/// that. Doubled each time: what is saved may be large.
const LEAVE_MS: u64 = 100;
/// How often it is doubled.
const DOUBLED: u32 = 5;

/// Until when this process leaves it to others to save a queue's segments.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    until: Option<Instant>,
    /// Attempts in a row that failed.
    failed: u32,
}

impl Leave {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }
}

/// What can be had of a segment.
enum Left<'a> {
    /// A replica that covers the end.
    Whole(&'a Replica),
    /// One that does not, and what it has.
    Part(&'a Replica, Frontier),
    Nothing,
}

impl Core {
    /// Finds the segment a full replica again, or marks it as lost. `false`: not possible now.
    pub(crate) async fn salvage(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
    ) -> Result<bool, Error> {
        let Some(end) = &segment.end else { return Ok(false) };
        if !locked(&queue.leave).is_over() {
            return Ok(false);
        }
        if self.left(segment, end, &self.reachable(segment, false).await).is_none() {
            return Ok(false);
        }
        let saved = self.try_salvage(queue, segment, end).await;
        let mut leave = locked(&queue.leave);
        if matches!(saved, Ok(true)) {
            *leave = Leave::default();
        } else {
            // Drawn at random, so that two that failed at the same time part.
            let least = LEAVE_MS << leave.failed.min(DOUBLED);
            let wait = least + self.pool.env().random_below(least);
            leave.until = Some(Instant::now() + Duration::from_millis(wait));
            leave.failed = leave.failed.saturating_add(1);
        }
        saved
    }

    async fn try_salvage(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        end: &Frontier,
    ) -> Result<bool, Error> {
        // Nothing of the old version may be taken by anybody from here on.
        let (manifest, raised) =
            self.manifests.change(queue, |m| m.raise(segment.no, segment.version)).await?;
        let Some(segment) = manifest.segment(segment.no).filter(|_| raised) else {
            return Ok(false);
        };
        let reachable = self.reachable(segment, true).await;
        match self.left(segment, end, &reachable) {
            None => Ok(false),
            Some(Left::Whole(replica)) => {
                self.take_back(queue, segment, replica, end, &reachable).await
            }
            Some(Left::Part(replica, lower)) => {
                tracing::error!(
                    queue = queue.name, segment = %segment.no, was = blocks(end),
                    now = blocks(&lower),
                    "all replicas that covered the segment are lost; going on with one that was \
                     behind"
                );
                self.take_back(queue, segment, replica, &lower, &reachable).await
            }
            Some(Left::Nothing) => {
                let seen = segment.version;
                let (_, marked) = self
                    .manifests
                    .change(queue, |m| m.mark_lost(segment.no, seen, |r| self.has_lost(r)))
                    .await?;
                if marked {
                    tracing::error!(
                        queue = queue.name, segment = %segment.no, blocks = blocks(end),
                        "the segment is lost with every node that had it"
                    );
                }
                Ok(marked)
            }
        }
    }

    /// What is left of a segment, going by the replicas that can be reached. `None`: one that is
    /// silent may have or know more.
    fn left<'a>(
        &self,
        segment: &Segment,
        end: &Frontier,
        reachable: &'a [(Replica, Coverage)],
    ) -> Option<Left<'a>> {
        // One that is silent may be the last to know of a claim or a delete (Q8).
        let may_know = |r: &&Replica| matches!(r.standing, Standing::Dropped | Standing::Joining);
        let heard = |r: &Replica| {
            self.has_lost(r) || reachable.iter().any(|(other, _)| other.placement == r.placement)
        };
        if !segment.replicas.iter().filter(may_know).all(heard) {
            return None;
        }
        let whole = |standing| {
            let covers_end = |c: &Coverage| covers(&c.frontier(), end);
            let is = move |(r, c): &&(Replica, Coverage)| r.standing == standing && covers_end(c);
            reachable.iter().filter(is)
        };
        // One that was told the end had been filled, and lacked its promotion only.
        let filled = whole(Standing::Joining).find(|(_, coverage)| coverage.end_told);
        if let Some((replica, _)) = filled.or_else(|| whole(Standing::Dropped).next_back()) {
            return Some(Left::Whole(replica));
        }
        let covering = |r: &&Replica| matches!(r.standing, Standing::Full | Standing::Dropped);
        let mut ever = segment.replicas.iter().filter(covering);
        if !ever.all(|replica| self.has_lost(replica)) {
            return None;
        }
        if !segment.with(Standing::Former).all(heard) {
            return None;
        }
        let former = reachable.iter().filter(|(replica, _)| replica.standing == Standing::Former);
        let parts = former.map(|(replica, had)| (replica, minimum(&had.frontier(), end)));
        let best = parts.max_by_key(|(_, part)| blocks(part));
        Some(best.map_or(Left::Nothing, |(replica, part)| Left::Part(replica, part)))
    }

    /// The replicas that can be reached; with `fence` the segment's version is raised on them.
    async fn reachable(&self, segment: &Segment, fence: bool) -> Vec<(Replica, Coverage)> {
        let mut reachable = Vec::new();
        for replica in segment.replicas.iter().filter(|r| r.standing != Standing::Full) {
            let at = replica.at(self.pool.id());
            let fenced = Op::Fence { at, version: segment.version };
            if fence && ask::<()>(&self.pool, at.cookie.node, fenced).await.is_err() {
                continue;
            }
            let coverage = ask::<Coverage>(&self.pool, at.cookie.node, Op::Probe { at }).await;
            if let Ok(coverage) = coverage {
                reachable.push((*replica, coverage));
            }
        }
        reachable
    }

    async fn take_back(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        replica: &Replica,
        end: &Frontier,
        reachable: &[(Replica, Coverage)],
    ) -> Result<bool, Error> {
        let at = replica.at(self.pool.id());
        // What is merged into it must find it sealed.
        let sealed = Op::Seal { at, by: self.pool.me() };
        if ask::<Coverage>(&self.pool, at.cookie.node, sealed).await.is_err() {
            return Ok(false);
        }
        let joining = |other: &Replica| {
            other.placement != replica.placement && other.standing == Standing::Joining
        };
        for (other, _) in reachable.iter().filter(|(other, _)| joining(other)) {
            let other = other.at(self.pool.id());
            // What it remembers of blocks to come is known of them once they are there.
            let filled = self.copy(at, other, segment.version, end, Speed::AtOnce).await;
            let merged = match filled {
                Ok(()) => self.merge(other, at, segment.version, end).await,
                failed => failed,
            };
            if let Err(failure) = merged {
                // What it knows of deletes must not come back: another attempt will ask it again.
                tracing::warn!(queue = queue.name, %failure, "a replica's state was not merged");
                return Ok(false);
            }
        }
        let (manifest, saved) = self
            .manifests
            .change(queue, |manifest| {
                let lost = |replica: &Replica| self.has_lost(replica);
                manifest.salvage(segment.no, segment.version, at.placement, end, lost)
            })
            .await?;
        if let Some(segment) = manifest.segment(segment.no).filter(|_| saved) {
            self.tell_end(segment).await;
            tracing::warn!(
                queue = queue.name, segment = %segment.no, node = %at.cookie.node,
                "a replica was taken back"
            );
        }
        Ok(saved)
    }

    /// Merges what one replica knows of blocks up to `end` into another, as far as it fits.
    async fn merge(
        &self,
        source: ReplicaAt,
        target: ReplicaAt,
        version: Version,
        end: &Frontier,
    ) -> Result<(), Failure> {
        let mut from = 0;
        loop {
            let op = Op::CopyOut { at: source, from, max_bytes: 1024 * 1024 };
            let batch: CopyBatch = ask(&self.pool, source.cookie.node, op).await?;
            for block in batch.blocks {
                if block.block > covered(end, block.producer) {
                    continue;
                }
                let op = Op::CopyIn { at: target, version, blocks: vec![block] };
                match ask::<Coverage>(&self.pool, target.cookie.node, op).await {
                    // A block that comes too early for this replica says nothing to it.
                    Ok(_) | Err(Failure::Refused(Refusal::Gap { .. })) => {}
                    Err(failure) => return Err(failure),
                }
            }
            if batch.done {
                return Ok(());
            }
            from = batch.next;
        }
    }
}
