//! Messages by their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::ask::{Failure, ask_all, unavailable};
use super::read::confirmed;
use super::{Core, QueueState};
use crate::Message;
use crate::error::Error;
use crate::id::{MessageRef, SegmentNo};
use crate::node::{Coverage, Entry, Frontier, Got, Op};
use crate::protocol::frontier::{covered, noted};
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::token::{MessageId, QueueTag};

impl Core {
    /// Messages by id; those that are not there are left out.
    pub(crate) async fn get_many(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        ids: &[MessageId],
    ) -> Result<Vec<Message>, Error> {
        self.open_or_error()?;
        let knows = |known: &Arc<Manifest>| {
            let tag = self.tag(queue, known.generation);
            ids.iter().all(|id| id.tag == tag && known.segment(id.segment).is_some())
        };
        // Nobody says that a message is not there before the keepers were asked.
        let known = self.manifests.cached(queue).filter(knows);
        let look = |manifest| async move { self.get_by(queue, &manifest, ids).await };
        Ok(self.look(queue, known, look).await?.unwrap_or_default())
    }

    async fn get_by(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Arc<Manifest>,
        ids: &[MessageId],
    ) -> Result<Vec<Message>, Error> {
        let tag = self.tag(queue, manifest.generation);
        let ids: Vec<&MessageId> = ids.iter().filter(|id| id.tag == tag).collect();
        let mut by_segment: BTreeMap<SegmentNo, Vec<(usize, MessageRef)>> = BTreeMap::new();
        for (place, id) in ids.iter().enumerate() {
            by_segment.entry(id.segment).or_default().push((place, id.at));
        }
        let mut found: BTreeMap<usize, Message> = BTreeMap::new();
        for (no, wanted) in by_segment {
            let Some(segment) = manifest.segment(no).filter(|s| !s.lost) else { continue };
            let refs: Vec<MessageRef> = wanted.iter().map(|(_, at)| *at).collect();
            let entries = self.get_in(queue, tag, segment, &refs).await?;
            for ((place, _), entry) in wanted.iter().zip(entries) {
                if let Some(entry) = entry {
                    found.insert(*place, self.message(queue, tag, no, entry)?);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    async fn get_in(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        segment: &Segment,
        refs: &[MessageRef],
    ) -> Result<Vec<Option<Entry>>, Error> {
        let mut replicas = self.addresses(segment, Standing::Full);
        replicas.sort_by_key(|at| !self.pool.usable(at.cookie));
        let mut failures = Vec::new();
        for at in &replicas {
            let others = replicas.iter().filter(|other| segment.is_open() && *other != at);
            let questions =
                others.map(|at| (at.cookie.node, Op::Probe { at: *at })).collect::<Vec<_>>();
            let asked = [Op::Probe { at: *at }, Op::Get { at: *at, refs: refs.to_vec() }];
            let (answer, probes) = tokio::join!(
                self.pool.ask(at.cookie.node, asked.into()),
                ask_all::<Coverage>(&self.pool, questions),
            );
            let taken = answer.map_err(Failure::Silent).and_then(|replies| {
                let mut replies = replies.into_iter();
                let mut next = || replies.next().unwrap_or(crate::node::Reply::Done);
                let coverage: Coverage = super::ask::shape(&self.pool, at.cookie.node, next())?;
                let got: Got = super::ask::shape(&self.pool, at.cookie.node, next())?;
                Ok((coverage, got))
            });
            match taken {
                Ok((coverage, got)) => {
                    let told = |probe: &Result<Coverage, Failure>| {
                        probe.as_ref().is_ok_and(|coverage| coverage.sealed.is_none())
                    };
                    let unsealed = coverage.sealed.is_none() && probes.iter().all(told);
                    if segment.is_open() && !unsealed {
                        // What all replicas have cannot be told: its end has to be decided.
                        let why = "a replica is sealed or does not answer";
                        self.move_on(queue, segment.no, why).await?;
                        failures.extend(probes.into_iter().filter_map(Result::err));
                        break;
                    }
                    let bound = match &segment.end {
                        Some(end) => end.clone(),
                        None => confirmed(&coverage, &probes),
                    };
                    let thin = replicas.len() < self.pool.config().copies_min;
                    let safe = noted(&coverage.producers);
                    let within =
                        |at: &MessageRef, all: &Frontier| at.block <= covered(all, at.producer);
                    let entries = got.entries.into_iter().zip(refs);
                    let entries: Vec<(Option<Entry>, &MessageRef)> = entries
                        .map(|(entry, at)| (entry.filter(|_| within(at, &bound)), at))
                        .collect();
                    let mut there = entries.iter().filter(|(entry, _)| entry.is_some());
                    if thin && segment.end.is_some() && there.any(|(_, at)| !within(at, &safe)) {
                        return self.get_repaired(queue, tag, segment.no, refs).await;
                    }
                    return Ok(entries.into_iter().map(|(entry, _)| entry).collect());
                }
                Err(failure) => failures.push(failure),
            }
        }
        self.manifests.forget(queue);
        Err(unavailable(&queue.name, "no replica of a segment answers", &failures))
    }

    /// The same once the segment has its copies again. Until then what no note covers may have been
    /// acked or not: it cannot be given (Q5), nor be said not to be there (Q1).
    async fn get_repaired(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        refs: &[MessageRef],
    ) -> Result<Vec<Option<Entry>>, Error> {
        let deadline = Instant::now() + self.pool.config().deadline;
        self.repair_now(queue, no, deadline).await?;
        let manifest = self.read_life(queue, tag).await?;
        match manifest.as_ref().and_then(|manifest| manifest.segment(no)) {
            Some(now) if !now.lost => Box::pin(self.get_in(queue, tag, now, refs)).await,
            // All of its messages have ended meanwhile, or it was lost.
            _ => Ok(vec![None; refs.len()]),
        }
    }
}
