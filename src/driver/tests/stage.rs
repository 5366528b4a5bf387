//! A queue whose replicas were laid out by hand.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::{World, millis, started};
use crate::block::Block;
use crate::config::Config;
use crate::driver::ask::ask;
use crate::driver::post::record;
use crate::driver::{Core, QueueState};
use crate::id::{
    ClaimKey, Fencing, Generation, MessageRef, NodeId, Placement, ProducerId, ReplicaAt, SegmentNo,
    Version,
};
use crate::message::{ContentType, NewMessage};
use crate::node::faulty::Faults;
use crate::node::{
    Append, Appended, Coverage, Delete, Deleted, Got, Guard, Held, Hold, Op, Open, Role, SegmentOf,
};
use crate::protocol::manifest::{Manifest, Segment};
use crate::token::MessageId;

pub(super) const NO: SegmentNo = SegmentNo(1);
pub(super) const PRODUCER: ProducerId = ProducerId(9);

/// A queue with one closed segment of two messages, in one block.
pub(super) struct Stage {
    pub(super) core: Arc<Core>,
    pub(super) queue: Arc<QueueState>,
    /// Of its wires, by node.
    pub(super) faults: Vec<Faults>,
}

impl Stage {
    pub(super) async fn new(world: &World) -> Self {
        Self::with(world, |_| ()).await
    }

    pub(super) async fn with(world: &World, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        set(&mut config);
        let process = world.open_with(1, config, |_| ()).await.unwrap();
        let (core, queue) = started(process.pool);
        Self { core, queue, faults: process.faults }
    }

    pub(super) fn at(&self, node: u16, placement: u64) -> ReplicaAt {
        let cookie = self.core.pool.cookie(NodeId(node)).unwrap();
        ReplicaAt { cookie, placement: Placement(placement) }
    }

    pub(super) async fn open(&self, at: ReplicaAt, role: Role) {
        let register = self.queue.register.clone();
        let of = SegmentOf { register, generation: Generation(1), segment: NO };
        let op = Op::Open(Open { at, role, of });
        ask::<()>(&self.core.pool, at.cookie.node, op).await.unwrap();
    }

    /// A replica that has everything.
    pub(super) async fn written(&self, at: ReplicaAt) {
        self.open(at, Role::Appending).await;
        let record =
            |body: &'static [u8]| record(&NewMessage::new(ContentType::Text, body).unwrap(), None);
        let bytes = Block::of([record(b"one"), record(b"two")]).encode();
        let append =
            Op::Append(Append { at, producer: PRODUCER, block: 1, noted: 0, bytes: bytes.into() });
        ask::<Appended>(&self.core.pool, at.cookie.node, append).await.unwrap();
        let seal = Op::Seal { at, by: self.core.pool.me() };
        ask::<Coverage>(&self.core.pool, at.cookie.node, seal).await.unwrap();
        self.tell_end(at).await;
    }

    /// The segment is closed, and these replicas have everything.
    pub(super) async fn closed_on(&self, replicas: &[ReplicaAt]) {
        for at in replicas {
            self.written(*at).await;
        }
        self.manifest(replicas, |_| ()).await;
    }

    pub(super) async fn tell_end(&self, at: ReplicaAt) {
        let told = Op::TellEnd { at, version: Version(1), end: [(PRODUCER, 1)].into() };
        ask::<()>(&self.core.pool, at.cookie.node, told).await.unwrap();
    }

    pub(super) async fn delete(&self, at: ReplicaAt, index: u8) {
        let refs = vec![MessageRef { producer: PRODUCER, block: 1, index }];
        let delete = Delete { at, version: Version(4), refs, guard: Guard::Always };
        let op = Op::Delete(delete);
        ask::<Deleted>(&self.core.pool, at.cookie.node, op).await.unwrap();
    }

    pub(super) async fn present(&self, at: ReplicaAt) -> Vec<bool> {
        let refs = (0..2).map(|index| MessageRef { producer: PRODUCER, block: 1, index }).collect();
        let got: Got = ask(&self.core.pool, at.cookie.node, Op::Get { at, refs }).await.unwrap();
        got.entries.iter().map(Option::is_some).collect()
    }

    pub(super) async fn segment(&self) -> Segment {
        let manifest = self.core.manifests.read(&self.queue).await.unwrap().unwrap();
        manifest.segment(NO).unwrap().clone()
    }

    /// A message's id as callers know it.
    pub(super) fn id(&self, index: u8) -> MessageId {
        let tag = self.core.tag(&self.queue, Generation(1));
        let at = MessageRef { producer: PRODUCER, block: 1, index };
        MessageId { tag, segment: NO, at }
    }

    pub(super) async fn hold(&self, at: ReplicaAt, index: u8) {
        let hold = Hold {
            at,
            version: Version(1),
            claim: ClaimKey(77),
            fencing: Fencing { version: Version(1), count: 1 },
            ttl_ms: 60_000,
            grace_ms: 0,
            refs: vec![MessageRef { producer: PRODUCER, block: 1, index }],
        };
        ask::<Held>(&self.core.pool, at.cookie.node, Op::Hold(hold)).await.unwrap();
    }

    /// Writes the manifest: one closed segment, changed by `edit` after its end was decided.
    pub(super) async fn manifest(
        &self,
        replicas: &[ReplicaAt],
        edit: impl Fn(&mut Manifest) + Send + Sync,
    ) {
        let placements: Vec<Placement> = replicas.iter().map(|at| at.placement).collect();
        let made = self.core.manifests.change_any(&self.queue, |_| {
            let mut manifest = Manifest::created(b"", None);
            manifest.add_open(Segment::open(NO, replicas));
            manifest.close(NO, &placements, &[(PRODUCER, 1)].into(), None, 0);
            edit(&mut manifest);
            Ok((manifest, true))
        });
        made.await.unwrap();
    }

    /// Waits until a replica is full.
    pub(super) async fn until_full(&self, at: ReplicaAt) {
        let start = Instant::now();
        while self.segment().await.full().all(|replica| replica.placement != at.placement) {
            assert!(start.elapsed().as_secs() < 20, "{:?}", self.segment().await);
            sleep(millis(10)).await;
        }
    }
}
