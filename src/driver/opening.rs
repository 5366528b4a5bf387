//! Opening fresh replicas: choosing nodes, drawing placements, creating them.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::ask::{Failure, ask_all, unavailable};
use super::manifests::not_found;
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{Cookie, Generation, NodeId, Placement, ReplicaAt, SegmentNo};
use crate::node::{Op, Open, Role, SegmentOf};
use crate::pool::Health;
use crate::protocol::manifest::{Manifest, Segment};
use crate::protocol::placement::{Candidate, order, start};

impl Core {
    /// The nodes that may take new replicas, in the pool's fixed order.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let view = self.pool.view();
        view.nodes
            .iter()
            .filter(|(node, entry)| {
                !entry.draining && matches!(self.pool.health(**node), Health::Up)
            })
            .map(|(node, entry)| Candidate { node: *node, zone: entry.zone.clone() })
            .collect()
    }

    /// Creates replicas on up to `want` of the nodes, best first, trying further ones for those
    /// that do not answer. Only replicas whose opening was answered are returned.
    pub(crate) async fn open_on(
        self: &Arc<Self>,
        nodes: Vec<NodeId>,
        want: usize,
        role: Role,
        of: &SegmentOf,
    ) -> (Vec<ReplicaAt>, Vec<Failure>) {
        let mut opened = Vec::new();
        let mut failures = Vec::new();
        let mut left = nodes.into_iter();
        while opened.len() < want {
            let batch: Vec<ReplicaAt> = left
                .by_ref()
                .filter_map(|node| self.pool.cookie(node))
                .map(|cookie: Cookie| ReplicaAt {
                    cookie,
                    placement: Placement(self.pool.env().random()),
                })
                .take(want - opened.len())
                .collect();
            if batch.is_empty() {
                break;
            }
            let questions = batch
                .iter()
                .map(|at| (at.cookie.node, Op::Open(Open { at: *at, role, of: of.clone() })))
                .collect();
            let answers = ask_all::<()>(&self.pool, questions).await;
            for (at, answer) in batch.into_iter().zip(answers) {
                match answer {
                    Ok(()) => opened.push(at),
                    Err(failure) => failures.push(failure),
                }
            }
        }
        (opened, failures)
    }

    /// Creates the replicas of a queue's next segment.
    ///
    /// # Errors
    /// `Unavailable` if fewer than `copies_min` nodes answered; nothing is left behind.
    pub(crate) async fn open_segment(
        self: &Arc<Self>,
        queue: &QueueState,
        generation: Generation,
        no: SegmentNo,
        last: Option<&Segment>,
    ) -> Result<Segment, Error> {
        let config = self.pool.config();
        let candidates = self.candidates();
        let last_first = last.and_then(|segment| segment.replicas.first()).map(|r| r.node());
        let from = start(&candidates, last_first, xxh3_64(queue.register.as_bytes()));
        let nodes = order(&candidates, from, &[]);
        let of = SegmentOf { register: queue.register.clone(), generation, segment: no };
        let (opened, failures) = self.open_on(nodes, config.copies, Role::Appending, &of).await;
        if opened.len() < config.copies_min {
            let what = format!(
                "{} of {} nodes can take a new segment, {} are needed",
                opened.len(),
                self.pool.view().nodes.len(),
                config.copies_min
            );
            self.wipe(opened);
            return Err(unavailable(&queue.name, &what, &failures));
        }
        Ok(Segment::open(no, &opened))
    }

    /// The manifest with an open segment, opening one if there is none.
    ///
    /// # Errors
    /// `QueueNotFound`, `Unavailable`.
    pub(crate) async fn with_open_segment(
        self: &Arc<Self>,
        queue: &QueueState,
    ) -> Result<Arc<Manifest>, Error> {
        // Without keepers an open segment goes on: its replicas say whether it is sealed.
        let (known, silent) = self.manifests.get_or_old(queue).await?;
        let known = known.ok_or_else(|| not_found(queue))?;
        if known.open_segment().is_some() {
            return Ok(known);
        }
        if let Some(error) = silent {
            return Err(error);
        }
        let _moving = queue.moving.lock().await;
        let known = self.manifests.get(queue).await?.ok_or_else(|| not_found(queue))?;
        if known.open_segment().is_some() {
            return Ok(known);
        }
        let segment =
            self.open_segment(queue, known.generation, known.next, known.segments.last()).await?;
        let added = self
            .manifests
            .change(queue, |manifest| {
                manifest.generation == known.generation && manifest.add_open(segment.clone())
            })
            .await;
        let (manifest, _) = added?;
        self.wipe_unnamed(&manifest, Some(segment));
        match manifest.open_segment() {
            Some(_) => Ok(manifest),
            None => Err(Error::unavailable(format!(
                "queue {}: its segments change too fast",
                queue.name
            ))),
        }
    }
}
