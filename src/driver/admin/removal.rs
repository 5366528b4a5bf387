//! Removing a node: what it would cost is counted first.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::no_such_node;
use crate::admin::{Bargain, Removal};
use crate::driver::Core;
use crate::driver::ask::ask;
use crate::error::Error;
use crate::id::{Incarnation, NodeId};
use crate::node::{Coverage, Op};
use crate::pool::{Health, PoolView};
use crate::protocol::frontier::{blocks, covers};
use crate::protocol::manifest::{Replica, Segment, Standing};

/// Queues named that would lose messages.
const NAMED: usize = 10;
/// How often what it costs is counted anew because other nodes came or went meanwhile.
const TRIES: usize = 5;

impl Core {
    /// What the pool would lack without the node.
    pub(crate) async fn removal(self: &Arc<Self>, node: NodeId) -> Result<Removal, Error> {
        self.pool.refresh().await.and_then(|view| match view.nodes.contains_key(&node) {
            true => Ok(()),
            false => Err(no_such_node(node)),
        })?;
        let view = self.pool.view();
        let mut removal = Removal {
            node: node.0,
            name: self.pool.name(node),
            draining: view.is_draining(node),
            ..Removal::default()
        };
        let up: BTreeSet<NodeId> = view
            .nodes
            .keys()
            .copied()
            .filter(|other| *other != node && self.pool.health(*other) == Health::Up)
            .collect();
        let mut walk = self.walk();
        loop {
            let queues = self.next_queues(&mut walk).await?;
            if queues.is_empty() {
                return Ok(removal);
            }
            for (register, manifest) in &queues {
                let segments = manifest.segments.iter().filter(|segment| !segment.lost);
                for segment in segments.filter(|s| s.replicas.iter().any(|r| r.node() == node)) {
                    self.without(node, register, segment, &up, &mut removal).await;
                }
            }
        }
    }

    /// Counts what one segment would lack.
    async fn without(
        &self,
        node: NodeId,
        register: &str,
        segment: &Segment,
        up: &BTreeSet<NodeId>,
        removal: &mut Removal,
    ) {
        removal.replicas += 1;
        if segment.full().all(|replica| replica.node() != node) {
            return;
        }
        if self.sound_copies(segment, up) >= self.pool.config().copies_min {
            return;
        }
        let remains = |replica: &&Replica| replica.node() != node && !self.has_lost(replica);
        let is_left = segment.full().any(|r| remains(&r)) || self.could_be_had(segment, node).await;
        let count = self.count_in(&self.who_counts(segment)).await;
        let count = count.unwrap_or_else(|| segment.end.as_ref().map_or(0, blocks));
        // In an open segment nothing but what was never acknowledged can be missing elsewhere.
        if is_left || count == 0 {
            removal.segments_thin += 1;
            removal.messages_thin += count;
            return;
        }
        removal.segments_lost += 1;
        removal.messages_lost += count;
        let queue = self.queue_named(register);
        if let Some(queue) = queue.filter(|_| removal.queues_lost.len() < NAMED)
            && !removal.queues_lost.contains(&queue.name)
        {
            removal.queues_lost.push(queue.name.clone());
        }
    }

    /// Whether a dropped replica elsewhere has the whole segment: it would be taken back.
    async fn could_be_had(&self, segment: &Segment, node: NodeId) -> bool {
        let Some(end) = &segment.end else { return false };
        for replica in segment.with(Standing::Dropped).filter(|r| r.node() != node) {
            let at = replica.at(self.pool.id());
            let coverage = ask::<Coverage>(&self.pool, at.cookie.node, Op::Probe { at }).await;
            if coverage.is_ok_and(|coverage| covers(&coverage.frontier(), end)) {
                return true;
            }
        }
        false
    }

    pub(crate) async fn remove_node(
        self: &Arc<Self>,
        node: NodeId,
        bargain: Bargain,
    ) -> Result<Removal, Error> {
        for _ in 0..TRIES {
            let view = self.pool.refresh().await?;
            let before = lives(&view, node);
            let removal = self.removal(node).await?;
            check(&removal, bargain)?;
            let needed = self.pool.config().copies_min;
            let removed = self
                .pool
                .change_view(|view| {
                    if !view.nodes.contains_key(&node) {
                        return Err(no_such_node(node));
                    }
                    // What was counted rests on the lives of the others.
                    if lives(view, node) != before {
                        return Ok(false);
                    }
                    if view.nodes.len() <= needed && bargain != Bargain::LostMessages {
                        return Err(Error::invalid(format!(
                            "node {node} is needed: fewer than {needed} nodes would be left"
                        )));
                    }
                    Ok(view.remove(node))
                })
                .await?;
            if removed {
                tracing::warn!(node = removal.name, id = %node, "removed from the pool");
                return Ok(removal);
            }
        }
        Err(Error::unavailable("other nodes come and go: try again"))
    }
}

/// The lives of all other nodes.
fn lives(view: &PoolView, node: NodeId) -> Vec<(NodeId, Incarnation)> {
    let others = view.nodes.iter().filter(|(other, _)| **other != node);
    others.map(|(other, entry)| (*other, entry.incarnation)).collect()
}

fn check(removal: &Removal, bargain: Bargain) -> Result<(), Error> {
    let Removal { name, messages_lost, messages_thin, .. } = removal;
    if removal.segments_lost > 0 && bargain != Bargain::LostMessages {
        return Err(Error::invalid(format!(
            "{name} cannot be removed: {messages_lost} messages would be lost, which no other node has"
        )));
    }
    if removal.segments_thin > 0 && bargain == Bargain::Nothing {
        return Err(Error::invalid(format!(
            "{name} cannot be removed: {messages_thin} messages would be left with too few copies; \
             drain it first"
        )));
    }
    Ok(())
}
