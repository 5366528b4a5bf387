//! Moving on: seal the open segment, decide its end, open the next one.
//!
//! Anyone may do it, at any time, safely: the end is decided once, by the compare-and-set (Q6),
//! from what sealed replicas cover, so it covers all that was acked (Q1). A needless one costs a
//! short segment.

use std::sync::Arc;
use std::time::Duration;

use super::ask::{Failure, ask_all, unavailable};
use super::manifests::not_found;
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{Placement, ReplicaAt, SegmentNo};
use crate::node::{Coverage, Frontier, Op};
use crate::protocol::frontier::end_of;
use crate::protocol::manifest::{Manifest, Segment};

/// What sealing found.
struct Sealing {
    answered: Vec<(ReplicaAt, Coverage)>,
    failures: Vec<(ReplicaAt, Failure)>,
}

impl Core {
    /// Closes the segment if it is still open, and opens the next one if enough nodes can take
    /// it. Returns the manifest in which it is closed.
    ///
    /// # Errors
    /// `QueueNotFound`; `Unavailable` if no replica or no majority of keepers answers.
    pub(crate) async fn move_on(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        why: &str,
    ) -> Result<Arc<Manifest>, Error> {
        let _moving = queue.moving.lock().await;
        let manifest = match self.manifests.get_or_old(queue).await? {
            (Some(manifest), _) => manifest,
            (None, _) => return Err(not_found(queue)),
        };
        let Some(segment) = manifest.open_segment().filter(|segment| segment.no == no) else {
            return Ok(manifest);
        };
        // A sealed segment takes nothing any more: without keepers it is better left open.
        if let Some(error) = self.pool.registers().away() {
            return Err(unavailable(&queue.name, &format!("{why}, but {error}"), &[]));
        }
        tracing::debug!(queue = queue.name, segment = %no, why, "moving on");
        let (sealing, next) = tokio::join!(
            self.seal(segment),
            self.open_segment(queue, manifest.generation, manifest.next, Some(segment)),
        );
        if let Some(manifest) = self.leave_it_to_the_first(queue, no, &sealing).await? {
            self.wipe_unused(next.ok());
            return Ok(manifest);
        }
        if sealing.failures.iter().any(|(_, failure)| failure.is_loss()) {
            // Somebody else may have closed it long ago.
            let now = self.manifests.read(queue).await?.ok_or_else(|| not_found(queue))?;
            let same = now.generation == manifest.generation
                && now.open_segment().is_some_and(|open| open.no == no);
            if !same {
                self.wipe_unused(next.ok());
                return Ok(now);
            }
        }
        let all_lost = sealing.answered.is_empty()
            && sealing.failures.iter().all(|(at, _)| self.pool.is_lost(at.cookie));
        if sealing.answered.is_empty() && !all_lost {
            self.wipe_unused(next.ok());
            let failures: Vec<Failure> =
                sealing.failures.into_iter().map(|(_, failure)| failure).collect();
            return Err(unavailable(
                &queue.name,
                "no replica of the open segment answers",
                &failures,
            ));
        }
        if all_lost {
            tracing::error!(
                queue = queue.name, segment = %no,
                "every replica of the open segment was lost, with all it held"
            );
        }
        let coverages: Vec<Coverage> =
            sealing.answered.iter().map(|(_, coverage)| coverage.clone()).collect();
        let end = end_of(&coverages);
        let full: Vec<ReplicaAt> = sealing.answered.iter().map(|(at, _)| *at).collect();
        self.decide(queue, &manifest, no, &full, &end, next.ok()).await
    }

    async fn decide(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        seen: &Manifest,
        no: SegmentNo,
        full: &[ReplicaAt],
        end: &Frontier,
        next: Option<Segment>,
    ) -> Result<Arc<Manifest>, Error> {
        let placements: Vec<Placement> = full.iter().map(|at| at.placement).collect();
        let now_ms = self.pool.env().clock.now_ms();
        let decided = self
            .manifests
            .change(queue, |manifest| {
                manifest.generation == seen.generation
                    && manifest.close(no, &placements, end, next.clone(), now_ms)
            })
            .await;
        let (manifest, won) = match decided {
            Ok(decided) => decided,
            // Unknown: the opened replicas may be named in the manifest; the nodes' lists of due
            // replicas will find them if they are not.
            Err(error) => return Err(error),
        };
        self.wipe_unnamed(&manifest, next);
        if !won {
            return Ok(manifest);
        }
        match manifest.segment(no) {
            Some(segment) => {
                self.tell_end(segment).await;
                if segment.full().count() < self.pool.config().copies_min {
                    self.repair_soon(queue, no);
                }
            }
            // It ended with nothing in it.
            None => self.wipe(full.to_vec()),
        }
        Ok(manifest)
    }

    /// Seals every replica that answers.
    async fn seal(&self, segment: &Segment) -> Sealing {
        let replicas: Vec<ReplicaAt> =
            segment.replicas.iter().map(|replica| replica.at(self.pool.id())).collect();
        let questions = replicas
            .iter()
            .map(|at| (at.cookie.node, Op::Seal { at: *at, by: self.pool.me() }))
            .collect();
        let answers = ask_all::<Coverage>(&self.pool, questions).await;
        let mut sealing = Sealing { answered: Vec::new(), failures: Vec::new() };
        for (at, answer) in replicas.into_iter().zip(answers) {
            match answer {
                Ok(coverage) => sealing.answered.push((at, coverage)),
                Err(failure) => sealing.failures.push((at, failure)),
            }
        }
        sealing
    }

    /// Gives a process that sealed just before us the time to finish: two that finish the same
    /// work at once only make each other's ballots fail.
    async fn leave_it_to_the_first(
        &self,
        queue: &QueueState,
        no: SegmentNo,
        sealing: &Sealing,
    ) -> Result<Option<Arc<Manifest>>, Error> {
        let patience = self.pool.config().suspect_after;
        let first = sealing
            .answered
            .iter()
            .filter_map(|(_, coverage)| coverage.sealed)
            .max_by_key(|sealed| sealed.age_ms);
        let Some(first) = first.filter(|first| first.by != self.pool.me()) else {
            return Ok(None);
        };
        let mut left = patience.saturating_sub(Duration::from_millis(first.age_ms));
        let mut step = Duration::from_millis(2);
        while !left.is_zero() {
            let manifest = self.manifests.read(queue).await?.ok_or_else(|| not_found(queue))?;
            if manifest.open_segment().is_none_or(|open| open.no != no) {
                return Ok(Some(manifest));
            }
            let pause = step.min(left);
            tokio::time::sleep(pause).await;
            left -= pause;
            step *= 2;
        }
        Ok(None)
    }

    /// Tells the full replicas of a closed segment its end. Those that do not hear it refuse
    /// claims and deletes until they are told again.
    pub(crate) async fn tell_end(&self, segment: &Segment) {
        let Some(end) = &segment.end else { return };
        let questions = segment
            .full()
            .map(|replica| {
                let at = replica.at(self.pool.id());
                (at.cookie.node, Op::TellEnd { at, version: segment.version, end: end.clone() })
            })
            .collect::<Vec<_>>();
        for told in futures_util::future::join_all(
            questions.into_iter().map(|(node, op)| super::ask::ask::<()>(&self.pool, node, op)),
        )
        .await
        {
            if let Err(failure) = told {
                tracing::debug!(segment = %segment.no, %failure, "a replica did not hear the end");
            }
        }
    }

    fn wipe_unused(self: &Arc<Self>, next: Option<Segment>) {
        if let Some(next) = next {
            self.wipe(next.replicas.iter().map(|replica| replica.at(self.pool.id())).collect());
        }
    }

    /// Wipes replicas that were opened for a segment that did not come to be. What counts is what
    /// the manifest names, not who changed it: the change may have been made by an attempt whose
    /// answer was lost.
    pub(crate) fn wipe_unnamed(self: &Arc<Self>, manifest: &Manifest, opened: Option<Segment>) {
        let named = |segment: &Segment| {
            segment.replicas.iter().any(|replica| manifest.names(replica.placement))
        };
        self.wipe_unused(opened.filter(|segment| !named(segment)));
    }
}
