//! Emptying a node: the decision, and how far it has come. `driver::emptying` does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::no_such_node;
use crate::admin::{Bargain, Remaining};
use crate::driver::Core;
use crate::driver::ask::ask_within;
use crate::error::Error;
use crate::id::{NodeId, Placement, ReplicaAt};
use crate::node::{Op, Stats};
use crate::protocol::manifest::Segment;

/// How long every process has heard by then that the node takes nothing new.
const SETTLED: Duration = Duration::from_millis(2_500);
/// How long a node may take to count.
const LIMIT: Duration = Duration::from_secs(2);
/// Counts under way together.
const TOGETHER: usize = 8;

/// What is known of the replicas on a node.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    messages: BTreeMap<Placement, u64>,
    empty_since: Option<Instant>,
}

impl Core {
    pub(crate) async fn begin_drain(&self, node: NodeId, bargain: Bargain) -> Result<(), Error> {
        let config = self.pool.config();
        let needed = match bargain {
            Bargain::Nothing => config.copies,
            Bargain::FewerCopies | Bargain::LostMessages => config.copies_min,
        };
        self.pool
            .change_view(|view| {
                let others =
                    view.nodes.iter().filter(|(other, entry)| **other != node && !entry.draining);
                let others = others.count();
                let entry = view.nodes.get_mut(&node).ok_or_else(|| no_such_node(node))?;
                if !entry.draining && others < needed {
                    return Err(Error::invalid(format!(
                        "node {node} is needed: {others} nodes would be left for {needed} copies \
                         of each message; add another node first"
                    )));
                }
                entry.draining = true;
                Ok(())
            })
            .await
    }

    pub(crate) async fn cancel_drain(&self, node: NodeId) -> Result<bool, Error> {
        self.pool
            .change_view(|view| {
                let entry = view.nodes.get_mut(&node).ok_or_else(|| no_such_node(node))?;
                Ok(std::mem::replace(&mut entry.draining, false))
            })
            .await
    }

    /// What is left on a node that is being emptied.
    pub(crate) async fn remaining(
        self: &Arc<Self>,
        node: NodeId,
        counted: &mut Counted,
    ) -> Result<Remaining, Error> {
        self.open_or_error()?;
        let view = self.pool.refresh().await?;
        if !view.is_draining(node) {
            return Err(Error::invalid(format!("node {node} is not being emptied any more")));
        }
        let mut left = Remaining { keeper: view.keepers.has(node), ..Remaining::default() };
        let mut there: BTreeMap<Placement, Vec<ReplicaAt>> = BTreeMap::new();
        let mut walk = self.walk();
        loop {
            let queues = self.next_queues(&mut walk).await?;
            if queues.is_empty() {
                break;
            }
            for segment in queues.iter().flat_map(|(_, manifest)| &manifest.segments) {
                let Some(replica) = segment.replicas.iter().find(|r| r.node() == node) else {
                    continue;
                };
                left.replicas += 1;
                left.open_segments += u64::from(segment.is_open());
                there.insert(replica.placement, self.who_counts(segment));
            }
        }
        self.count_new(&there, counted).await;
        counted.messages.retain(|placement, _| there.contains_key(placement));
        left.messages = counted.messages.values().sum();
        left.blocked = self.what_blocks(node, &left);
        if left.replicas > 0 || left.keeper {
            counted.empty_since = None;
        } else {
            let since = *counted.empty_since.get_or_insert_with(Instant::now);
            left.done = since.elapsed() >= SETTLED;
        }
        Ok(left)
    }

    /// Full replicas of the segment that can be asked.
    pub(super) fn who_counts(&self, segment: &Segment) -> Vec<ReplicaAt> {
        let pool = self.pool.id();
        let full = segment.full().map(|replica| replica.at(pool));
        full.filter(|at| self.pool.usable(at.cookie)).collect()
    }

    async fn count_new(&self, there: &BTreeMap<Placement, Vec<ReplicaAt>>, counted: &mut Counted) {
        let new = there.iter().filter(|(placement, _)| !counted.messages.contains_key(placement));
        let asked = new.map(|(placement, replicas)| async {
            Some((*placement, self.count_in(replicas).await?))
        });
        let found: Vec<Option<(Placement, u64)>> =
            futures_util::stream::iter(asked).buffer_unordered(TOGETHER).collect().await;
        counted.messages.extend(found.into_iter().flatten());
    }

    /// Messages of a segment, as the first of its replicas says that answers.
    pub(super) async fn count_in(&self, replicas: &[ReplicaAt]) -> Option<u64> {
        for at in replicas {
            let op = Op::Stats { at: *at };
            if let Ok(stats) = ask_within::<Stats>(&self.pool, at.cookie.node, op, LIMIT).await {
                return Some(stats.active + stats.claimed + stats.delayed);
            }
        }
        None
    }

    fn what_blocks(&self, node: NodeId, left: &Remaining) -> Option<String> {
        let candidates = self.candidates().len();
        let needed = self.pool.config().copies_min;
        if left.replicas > 0 && candidates < needed {
            return Some(format!("{candidates} other nodes are up, {needed} are needed"));
        }
        if left.keeper && left.replicas == 0 {
            let view = self.pool.view();
            let free = view.nodes.iter().any(|(other, entry)| {
                *other != node && !entry.draining && !view.keepers.has(*other)
            });
            return (!free).then(|| "no other node is left to keep manifests: add one".into());
        }
        None
    }
}
