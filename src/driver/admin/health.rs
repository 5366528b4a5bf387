//! How a pool does: whether any one node may fail now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::admin::{NodeHealth, PoolHealth};
use crate::driver::Core;
use crate::error::Error;
use crate::id::NodeId;
use crate::node::{Op, Reply};
use crate::pool::{Health, PoolView};
use crate::protocol::admission::{Standing, standing};
use crate::protocol::manifest::{Manifest, Segment, Standing as Use};

/// How long a node may take to say who it is.
const LIMIT: Duration = Duration::from_secs(1);

/// What was counted so far.
#[derive(Debug, Default)]
struct Sums {
    queues: u64,
    segments: u64,
    short: u64,
    thin: u64,
    lost: u64,
    replicas: BTreeMap<NodeId, u64>,
}

impl Core {
    /// Asks all nodes, and looks at all queues.
    pub(crate) async fn pool_health(self: &Arc<Self>) -> Result<PoolHealth, Error> {
        let view = self.pool.refresh().await?;
        let mut troubles = Vec::new();
        let checks = view.nodes.keys().map(|node| self.check_node(&view, *node));
        let mut up = BTreeSet::new();
        for (node, trouble) in view.nodes.keys().zip(join_all(checks).await) {
            match trouble {
                None => _ = up.insert(*node),
                Some(trouble) => {
                    troubles.push(format!("node {node} ({}): {trouble}", self.pool.name(*node)));
                }
            }
        }
        troubles.extend(self.check_keepers(&view).await);
        let mut sums = Sums::default();
        let mut walk = self.walk();
        loop {
            let queues = self.next_queues(&mut walk).await?;
            if queues.is_empty() {
                break;
            }
            for (_, manifest) in &queues {
                self.add(&mut sums, manifest, &up);
            }
        }
        let copies = self.pool.config().copies;
        if sums.short > 0 {
            troubles.push(format!(
                "{} of {} segments have fewer than {copies} copies, {} of them fewer than {}",
                sums.short,
                sums.segments,
                sums.thin,
                self.pool.config().copies_min
            ));
        }
        if view.staying() < copies {
            troubles.push(format!(
                "{} nodes cannot hold {copies} copies: add another one",
                view.staying()
            ));
        }
        let nodes = self.pool.status().nodes.into_iter();
        let nodes = nodes.map(|node| NodeHealth {
            replicas: sums.replicas.get(&NodeId(node.id)).copied().unwrap_or(0),
            node,
        });
        Ok(PoolHealth {
            healthy: troubles.is_empty(),
            troubles,
            nodes: nodes.collect(),
            repairer: self.pool.view().repairer.map(|repairer| repairer.by.to_string()),
            queues: sums.queues,
            segments: sums.segments,
            segments_under_replicated: sums.short,
            segments_thin: sums.thin,
            segments_lost: sums.lost,
        })
    }

    /// What keeps a node from being used, asked now: it may have forgotten a moment ago.
    async fn check_node(&self, view: &PoolView, node: NodeId) -> Option<String> {
        let answer = self.pool.ask_within(node, vec![Op::Identity], LIMIT).await;
        let identity = match answer.map(|mut replies| replies.pop()) {
            Ok(Some(Reply::Identity(identity))) => identity,
            Ok(_) => return Some("it does not say who it is".into()),
            Err(error) => return Some(error.to_string()),
        };
        match standing(view, &self.pool.name(node), &identity) {
            Standing::Member(_) => {}
            Standing::Stranger(_) | Standing::Awaited(_) | Standing::New => {
                return Some("it forgot what it had, and is being admitted".into());
            }
            other => return Some(format!("it is not the node that it should be ({other:?})")),
        }
        match self.pool.health(node) {
            Health::Up => None,
            Health::Full => Some("no memory left".into()),
            Health::Suspect => Some("it is slow".into()),
            Health::Down { .. } => Some("it was down a moment ago".into()),
        }
    }

    /// What the keepers lack.
    async fn check_keepers(&self, view: &PoolView) -> Vec<String> {
        let set = &view.keepers;
        let most = view.keepers_wanted.min(view.staying());
        let possible = most - (1 - most % 2).min(most);
        let mut troubles = Vec::new();
        if set.members.len() < possible {
            troubles.push(format!("{} keepers, {possible} are wanted", set.members.len()));
        }
        let asked = set.members.iter().map(async |member| {
            let cookie = member.cookie(self.pool.id());
            let names = Vec::new();
            let op = Op::ReadRegisters { cookie, epoch: set.epoch, names };
            let answer = self.pool.ask_within(member.node, vec![op], LIMIT).await;
            let votes = matches!(answer.as_deref(), Ok([Reply::Registers(_)]));
            (!votes).then(|| format!("keeper {} does not vote", member.node))
        });
        troubles.extend(join_all(asked).await.into_iter().flatten());
        troubles
    }

    fn add(&self, sums: &mut Sums, manifest: &Manifest, up: &BTreeSet<NodeId>) {
        let config = self.pool.config();
        sums.queues += 1;
        for segment in &manifest.segments {
            if segment.lost {
                sums.lost += 1;
                continue;
            }
            sums.segments += 1;
            let sound = self.sound_copies(segment, up);
            sums.short += u64::from(sound < config.copies);
            sums.thin += u64::from(sound < config.copies_min);
            for replica in &segment.replicas {
                let is_used = matches!(replica.standing, Use::Full | Use::Joining);
                if is_used && !self.has_lost(replica) {
                    *sums.replicas.entry(replica.node()).or_default() += 1;
                }
            }
        }
    }

    /// Full replicas of a segment on nodes that are up.
    pub(super) fn sound_copies(&self, segment: &Segment, up: &BTreeSet<NodeId>) -> usize {
        let is_sound = |node| up.contains(&node);
        segment.full().filter(|r| !self.has_lost(r) && is_sound(r.node())).count()
    }
}
