//! Emptying nodes: what lies on a node that is being drained moves to others.
//!
//! The node takes nothing new. Open segments on it are closed; the next ones are opened elsewhere.
//! Closed segments get another replica first, by the usual repair, and only when enough others are
//! full and answer is the one on the node taken out of the manifest. So a segment never has fewer
//! copies than before. When no manifest names the node, it is empty.

use std::sync::Arc;

use futures_util::StreamExt;

use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::ReplicaAt;
use crate::pool::Health;
use crate::protocol::manifest::{Manifest, Replica, Segment};

/// Open segments that are closed at the same time because of it.
const CLOSED_AT_ONCE: usize = 32;
/// How long a node may be down before its replicas do not count any more.
pub(super) const DOWN_MS: u64 = 1_000;

impl Core {
    /// Whether the replica's node is being emptied.
    pub(crate) fn is_leaving(&self, replica: &Replica) -> bool {
        self.pool.view().is_draining(replica.node())
    }

    /// Whether a replica of the segment counts towards `copies`: it is not lost, and its node stays.
    /// If another one of them leaves, the node must not be down either: the one that leaves is given
    /// up for it.
    pub(crate) fn counts(&self, segment: &Segment, replica: &Replica) -> bool {
        let leaving = segment.full().any(|other| self.is_leaving(other));
        let is_down =
            |node| matches!(self.pool.health(node), Health::Down { for_ms } if for_ms >= DOWN_MS);
        !self.has_lost(replica)
            && !self.is_leaving(replica)
            && !(leaving && is_down(replica.node()))
    }

    /// Full replicas that count towards `copies`.
    pub(crate) fn lasting_copies(&self, segment: &Segment) -> usize {
        segment.full().filter(|replica| self.counts(segment, replica)).count()
    }

    /// Whether a replica of the segment is on a node that is being emptied.
    pub(crate) fn has_leaving(&self, segment: &Segment) -> bool {
        segment.replicas.iter().any(|replica| self.is_leaving(replica))
    }

    /// Full replicas on other nodes that must answer before one on a node that is being emptied
    /// goes. Where too few nodes stay for `copies`, it is as many as there are.
    fn copies_to_stay(&self) -> usize {
        let config = self.pool.config();
        config.copies.min(self.pool.view().staying()).max(config.copies_min)
    }

    fn may_stay(&self, replica: &Replica) -> bool {
        self.pool.usable(replica.cookie(self.pool.id()))
    }

    /// Whether some replica of the queue can be taken off the node that is being emptied.
    pub(super) fn can_release(&self, manifest: &Manifest) -> bool {
        let copies = self.copies_to_stay();
        manifest.segments.iter().filter(|s| !s.is_open() && self.has_leaving(s)).any(|segment| {
            let stay = segment.full().filter(|r| self.may_stay(r) && !self.is_leaving(r));
            segment.lost || stay.count() >= copies
        })
    }

    /// Takes all replicas off nodes that are being emptied that others have taken the place of.
    /// Returns whether there were any.
    pub(super) async fn move_off(self: &Arc<Self>, queue: &Arc<QueueState>) -> Result<bool, Error> {
        let copies = self.copies_to_stay();
        let mut released = Vec::new();
        let (_, changed) = self
            .manifests
            .change(queue, |manifest| {
                let stays = |replica: &Replica| self.may_stay(replica);
                let leaves = |replica: &Replica| self.is_leaving(replica);
                let (replicas, changed) = manifest.release(copies, stays, leaves);
                released = replicas;
                changed
            })
            .await?;
        if changed {
            let pool = self.pool.id();
            let replicas: Vec<ReplicaAt> =
                released.iter().map(|replica| replica.at(pool)).collect();
            tracing::debug!(queue = queue.name, replicas = replicas.len(), "moved off a node");
            self.wipe(replicas);
        }
        Ok(changed)
    }

    /// Closes the queue's open segment soon, a few queues at a time.
    pub(super) fn close_soon(self: &Arc<Self>, queue: &Arc<QueueState>) {
        let mut closing = locked(&self.closing);
        let is_first = closing.is_empty();
        closing.insert(queue.register.clone());
        drop(closing);
        if !is_first {
            return;
        }
        let core = Arc::downgrade(self);
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            core.close_all().await;
        });
    }

    async fn close_all(self: &Arc<Self>) {
        loop {
            let registers = locked(&self.closing).clone();
            if registers.is_empty() {
                return;
            }
            let each = futures_util::stream::iter(registers).for_each_concurrent(
                CLOSED_AT_ONCE,
                async |register| {
                    if let Some(queue) = self.queue_named(&register)
                        && let Err(error) = self.close_open(&queue).await
                    {
                        tracing::debug!(queue = queue.name, %error, "could not move on");
                    }
                    locked(&self.closing).remove(&register);
                },
            );
            each.await;
        }
    }

    async fn close_open(self: &Arc<Self>, queue: &Arc<QueueState>) -> Result<(), Error> {
        let Some(manifest) = self.manifests.get(queue).await? else { return Ok(()) };
        let Some(open) = manifest.open_segment() else { return Ok(()) };
        if self.has_leaving(open) {
            self.move_on(queue, open.no, "a node of it is being emptied").await?;
        }
        Ok(())
    }
}
