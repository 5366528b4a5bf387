//! When no full replica of a segment is left: what can still be had of it.
//!
//! A joining replica that lacks its promotion only is taken; else the dropped one that covers the
//! end and was dropped last, after what joining ones know of claims and deletes was merged into it.
//! What succeeded before a drop was taken by all who stayed, so those dropped earlier know no more of
//! that. They may know of what did not happen: a delete that reached them late, after it had been
//! refused. Failing that, a former replica is taken, and the end lowered to what it has; but only
//! when every replica that ever covered the end is known to be lost for good, never because of a
//! silence. When nothing is left the segment is marked as lost. Both are said loudly.

use std::sync::Arc;

use super::ask::{Failure, ask};
use super::pace::Speed;
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{ReplicaAt, Version};
use crate::node::{CopyBatch, Coverage, Frontier, Op, Refusal};
use crate::protocol::frontier::{blocks, covered, covers, minimum};
use crate::protocol::manifest::{Replica, Segment, Standing};

impl Core {
    /// Finds the segment a full replica again, or marks it as lost. `false`: not possible now.
    pub(crate) async fn salvage(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
    ) -> Result<bool, Error> {
        let Some(end) = &segment.end else { return Ok(false) };
        // Nothing of the old version may be taken by anybody from here on.
        let (manifest, raised) =
            self.manifests.change(queue, |m| m.raise(segment.no, segment.version)).await?;
        let Some(segment) = manifest.segment(segment.no).filter(|_| raised) else {
            return Ok(false);
        };
        let reachable = self.reachable(segment).await;
        // One that is silent may be the last to know of a claim or a delete (Q8).
        let may_know = |r: &&Replica| matches!(r.standing, Standing::Dropped | Standing::Joining);
        let heard = |r: &Replica| {
            self.has_lost(r) || reachable.iter().any(|(other, _)| other.placement == r.placement)
        };
        if !segment.replicas.iter().filter(may_know).all(heard) {
            return Ok(false);
        }
        let whole = |standing| {
            let covers_end = |c: &Coverage| covers(&c.frontier(), end);
            let is = move |(r, c): &&(Replica, Coverage)| r.standing == standing && covers_end(c);
            reachable.iter().filter(is)
        };
        // One that was told the end had been filled, and lacked its promotion only.
        let filled = whole(Standing::Joining).find(|(_, coverage)| coverage.end_told);
        if let Some((replica, _)) = filled.or_else(|| whole(Standing::Dropped).next_back()) {
            return self.take_back(queue, segment, replica, end, &reachable).await;
        }
        let covering = |r: &&Replica| matches!(r.standing, Standing::Full | Standing::Dropped);
        let mut ever = segment.replicas.iter().filter(covering);
        if !ever.all(|replica| self.has_lost(replica)) {
            return Ok(false);
        }
        if !segment.with(Standing::Former).all(heard) {
            return Ok(false);
        }
        let best = reachable
            .iter()
            .filter(|(replica, _)| replica.standing == Standing::Former)
            .max_by_key(|(_, coverage)| blocks(&minimum(&coverage.frontier(), end)));
        match best {
            Some((replica, coverage)) => {
                let lower = minimum(&coverage.frontier(), end);
                tracing::error!(
                    queue = queue.name, segment = %segment.no, was = blocks(end),
                    now = blocks(&lower),
                    "all replicas that covered the segment are lost; going on with one that was \
                     behind"
                );
                self.take_back(queue, segment, replica, &lower, &reachable).await
            }
            None => {
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
                Ok(true)
            }
        }
    }

    /// The replicas that can be reached, with the segment's version raised on them.
    async fn reachable(&self, segment: &Segment) -> Vec<(Replica, Coverage)> {
        let mut reachable = Vec::new();
        for replica in segment.replicas.iter().filter(|r| r.standing != Standing::Full) {
            let at = replica.at(self.pool.id());
            let fenced = Op::Fence { at, version: segment.version };
            if ask::<()>(&self.pool, at.cookie.node, fenced).await.is_err() {
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
