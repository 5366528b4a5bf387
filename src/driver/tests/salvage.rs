//! What is had of a segment when its full replicas are lost.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::{World, millis};
use crate::block::{Block, Record, State};
use crate::driver::ask::ask;
use crate::driver::{Core, QueueState};
use crate::id::{
    Generation, MessageRef, NodeId, Placement, ProducerId, ReplicaAt, SegmentNo, Version,
};
use crate::name::{Project, QueueName};
use crate::node::{
    Append, Appended, Coverage, Delete, Deleted, Got, Guard, Op, Open, Role, SegmentOf,
};
use crate::protocol::manifest::{Manifest, Replica, Segment, Standing};

const NO: SegmentNo = SegmentNo(1);
const PRODUCER: ProducerId = ProducerId(9);

/// A queue with one closed segment of two messages, in one block.
struct Stage {
    core: Arc<Core>,
    queue: Arc<QueueState>,
}

impl Stage {
    fn at(&self, node: u16, placement: u64) -> ReplicaAt {
        let cookie = self.core.pool.cookie(NodeId(node)).unwrap();
        ReplicaAt { cookie, placement: Placement(placement) }
    }

    async fn open(&self, at: ReplicaAt, role: Role) {
        let register = self.queue.register.clone();
        let of = SegmentOf { register, generation: Generation(1), segment: NO };
        let op = Op::Open(Open { at, role, of });
        ask::<()>(&self.core.pool, at.cookie.node, op).await.unwrap();
    }

    /// A replica that has everything.
    async fn written(&self, at: ReplicaAt) {
        self.open(at, Role::Appending).await;
        let record = |body: &'static [u8]| Record {
            index: 0,
            state: State::Ready,
            client: None,
            ttl_ms: 600_000,
            delay_ms: 0,
            envelope: bytes::Bytes::from_static(body),
        };
        let bytes = Block::of([record(b"one"), record(b"two")]).encode();
        let append = Op::Append(Append { at, producer: PRODUCER, block: 1, noted: 0, bytes });
        ask::<Appended>(&self.core.pool, at.cookie.node, append).await.unwrap();
        let seal = Op::Seal { at, by: self.core.pool.me() };
        ask::<Coverage>(&self.core.pool, at.cookie.node, seal).await.unwrap();
        let told = Op::TellEnd { at, version: Version(1), end: [(PRODUCER, 1)].into() };
        ask::<()>(&self.core.pool, at.cookie.node, told).await.unwrap();
    }

    async fn delete(&self, at: ReplicaAt, index: u8) {
        let refs = vec![MessageRef { producer: PRODUCER, block: 1, index }];
        let delete = Delete { at, version: Version(4), refs, guard: Guard::Always };
        let op = Op::Delete(delete);
        ask::<Deleted>(&self.core.pool, at.cookie.node, op).await.unwrap();
    }

    async fn present(&self, at: ReplicaAt) -> Vec<bool> {
        let refs = (0..2).map(|index| MessageRef { producer: PRODUCER, block: 1, index }).collect();
        let got: Got = ask(&self.core.pool, at.cookie.node, Op::Get { at, refs }).await.unwrap();
        got.entries.iter().map(Option::is_some).collect()
    }

    async fn segment(&self) -> Segment {
        let manifest = self.core.manifests.read(&self.queue).await.unwrap().unwrap();
        manifest.segment(NO).unwrap().clone()
    }
}

/// Q8: a delete that the joining replica remembers, of a block that it does not have yet, holds on
/// the replica that is taken back too.
#[tokio::test(start_paused = true)]
async fn a_delete_that_only_a_joining_replica_remembers_is_not_undone() {
    let world = World::new(4);
    let process = world.open(1).await;
    let core = Core::start(process.pool.clone());
    let queue = core.queue(&Project::new("p").unwrap(), &QueueName::new("q").unwrap());
    let stage = Stage { core, queue };
    let (full, joining, dropped) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    stage.written(full).await;
    stage.written(dropped).await;
    stage.open(joining, Role::Joining).await;
    let end = [(PRODUCER, 1)].into();
    let made = stage.core.manifests.change_any(&stage.queue, |_| {
        let mut manifest = Manifest::created(b"", None);
        manifest.add_open(Segment::open(NO, &[full, dropped]));
        manifest.close(NO, &[full.placement, dropped.placement], &end, None, 0);
        manifest.drop_where(|replica: &Replica| replica.node() == dropped.cookie.node);
        manifest.add_joining(NO, joining, 2);
        Ok((manifest, true))
    });
    made.await.unwrap();
    stage.delete(full, 0).await;
    stage.delete(joining, 0).await;
    world.nodes[0].flush();
    let start = Instant::now();
    while stage.segment().await.with(Standing::Full).all(|r| r.placement != dropped.placement) {
        assert!(start.elapsed().as_secs() < 20, "{:?}", stage.segment().await);
        sleep(millis(10)).await;
    }
    assert_eq!(stage.present(dropped).await, [false, true]);
}
