//! Counting a queue's messages: the sum over its segments, each from one replica.

use std::sync::Arc;

use super::ask::{Failure, ask, unavailable};
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::Generation;
use crate::message::{Envelope, Message};
use crate::node::{Entry, Op, Refusal, Stats};
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::queue::QueueStats;
use crate::token::{ClaimId, MessageId, QueueTag};
use std::time::Duration;

impl Core {
    /// Counts, with the oldest and the newest message.
    pub(crate) async fn stats(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
    ) -> Result<QueueStats, Error> {
        self.open_or_error()?;
        let known = self.manifests.cached(queue).filter(|manifest| manifest.alive);
        let look = |manifest: Arc<Manifest>| async move { self.stats_by(queue, &manifest).await };
        Ok(self.look(queue, known, look).await?.unwrap_or_default())
    }

    async fn stats_by(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Manifest,
    ) -> Result<QueueStats, Error> {
        let mut sum = QueueStats::default();
        let counted = manifest.segments.iter().filter(|segment| !segment.lost);
        let each = futures_util::future::join_all(
            counted.map(|segment| self.segment_stats(queue, manifest.generation, segment)),
        )
        .await;
        for counts in each {
            let (counts, oldest, newest) = counts?;
            sum.active += counts.active;
            sum.claimed += counts.claimed;
            sum.delayed += counts.delayed;
            if sum.oldest.is_none() {
                sum.oldest = oldest;
            }
            if newest.is_some() {
                sum.newest = newest;
            }
        }
        Ok(sum)
    }

    async fn segment_stats(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        life: Generation,
        segment: &Segment,
    ) -> Result<(Stats, Option<Message>, Option<Message>), Error> {
        let tag = self.tag(queue, life);
        let mut failures = Vec::new();
        for at in self.addresses(segment, Standing::Full) {
            for told in [false, true] {
                let answer: Result<Stats, Failure> =
                    ask(&self.pool, at.cookie.node, Op::Stats { at }).await;
                match answer {
                    Ok(mut stats) => {
                        if stats.active + stats.claimed + stats.delayed == 0 && !segment.is_open() {
                            self.may_have_ended(queue, segment.no);
                        }
                        let take = |entry: Option<Entry>| {
                            entry
                                .map(|entry| self.message(queue, tag, segment.no, entry))
                                .transpose()
                        };
                        let oldest = take(stats.oldest.take())?;
                        let newest = take(stats.newest.take())?;
                        return Ok((stats, oldest, newest));
                    }
                    Err(Failure::Refused(Refusal::EndUnknown)) if !told && !segment.is_open() => {
                        self.tell_end(segment).await;
                    }
                    Err(failure @ Failure::Refused(Refusal::EndUnknown)) if segment.is_open() => {
                        // It is being closed: what is above its end must not be counted.
                        self.move_on(queue, segment.no, "its end is not decided").await?;
                        return Err(unavailable(&queue.name, "a segment was closed", &[failure]));
                    }
                    Err(failure) => {
                        failures.push(failure);
                        break;
                    }
                }
            }
        }
        // What nobody could say may be out of date: the next call looks again.
        self.manifests.forget(queue);
        Err(unavailable(&queue.name, "no replica of a segment answers", &failures))
    }

    /// A message as callers see it.
    pub(crate) fn message(
        &self,
        queue: &QueueState,
        tag: QueueTag,
        segment: crate::id::SegmentNo,
        entry: Entry,
    ) -> Result<Message, Error> {
        let envelope = Envelope::decode(&entry.envelope).map_err(|error| {
            super::ask::internal(format!("queue {}: {error}", queue.name)).because(error)
        })?;
        Ok(Message {
            id: MessageId { tag, segment, at: entry.at },
            body: envelope.body,
            content_type: envelope.content_type,
            age: Duration::from_millis(entry.age_ms),
            ttl: Duration::from_millis(entry.ttl_ms.into()),
            claim: entry.claim.map(|(claim, fencing)| ClaimId { tag, segment, claim, fencing }),
            claim_count: entry.times,
            client: entry.client,
            origin: envelope.origin,
        })
    }
}
