//! What a replica costs in memory, as the server itself counts it.

use bytes::Bytes;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    ClaimKey, Cookie, Generation, Incarnation, MessageRef, NodeId, Placement, PoolId, ProducerId,
    ReplicaAt, SegmentNo, Version,
};
use roundelay::node::redis::RedisNode;
use roundelay::node::{Append, Delete, Guard, Node, Op, Open, Pick, Reply, Role, SegmentOf};

use crate::redis_server::RedisServer;

/// Envelopes of so many bytes, in blocks of so many messages.
const ENVELOPE: usize = 100;
const IN_A_BLOCK: u8 = 100;

/// Bytes, as far as not said otherwise a message and above its envelope.
#[derive(Debug)]
pub(crate) struct Report {
    /// Posted, in blocks of 100.
    pub(crate) posted: f64,
    /// The same while each is claimed, 20 a claim.
    pub(crate) claimed: f64,
    /// After 90 % were deleted at random: bytes used, compared with what the rest needs when it
    /// is posted anew.
    pub(crate) after_deletes: f64,
    /// After all were deleted: bytes a block that is kept until the segment leaves.
    pub(crate) stub: f64,
    /// Posted one by one.
    pub(crate) alone: f64,
    /// An open replica into which nothing was posted, as a whole.
    pub(crate) idle: f64,
}

fn at(placement: u64) -> ReplicaAt {
    let cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
    ReplicaAt { cookie, placement: Placement(placement) }
}

fn block(messages: u8) -> Bytes {
    let record = |_| Record {
        index: 0,
        state: State::Ready,
        client: None,
        ttl_ms: 600_000_000,
        delay_ms: 0,
        envelope: Bytes::from(vec![b'x'; ENVELOPE]),
    };
    Block::of((0..messages).map(record)).encode()
}

fn open(placement: u64) -> Op {
    let register = "0123456789abcdef/some-queue".into();
    let of = SegmentOf { register, generation: Generation(1), segment: SegmentNo(1) };
    Op::Open(Open { at: at(placement), role: Role::Appending, of })
}

/// A server, its node, and the replica under measurement.
struct Scale {
    server: RedisServer,
    node: RedisNode,
}

impl Scale {
    async fn new() -> Self {
        let server = RedisServer::start().await;
        let node = RedisNode::connect(&server.url()).expect("its own URL");
        let this = Self { server, node };
        let Reply::Identity(identity) = this.one(Op::Identity).await else { panic!("no identity") };
        this.one(Op::Admit { cookie: at(0).cookie, run_id: identity.run_id }).await;
        this
    }

    async fn one(&self, op: Op) -> Reply {
        self.node.call(vec![op]).await.expect("an answer").remove(0)
    }

    async fn post(&self, placement: u64, blocks: u32, messages: u8) {
        let (at, producer, bytes) = (at(placement), ProducerId(77), block(messages));
        let ops: Vec<Op> = (1..=blocks)
            .map(|block| {
                Op::Append(Append {
                    at,
                    producer,
                    block,
                    noted: block - 1,
                    bytes: bytes.clone().into(),
                })
            })
            .collect();
        for some in ops.chunks(64) {
            for reply in self.node.call(some.to_vec()).await.expect("answers") {
                assert!(matches!(reply, Reply::Appended(_)), "{reply:?}");
            }
        }
    }

    /// Bytes of all keys of a replica, and of their places in the table of keys. What the process
    /// uses as a whole moves by more than a replica when connections come and go.
    async fn used(&self, placement: u64) -> f64 {
        const SUM: &str = "local sum = 0
            for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
                sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) + 16
            end
            return sum";
        let keys = format!("*:{}*", Placement(placement));
        let bytes: u32 = self.server.run(&["EVAL", SUM, "0", &keys]).await;
        f64::from(bytes)
    }

    async fn delete(&self, placement: u64, refs: &[MessageRef]) {
        for some in refs.chunks(50) {
            let (at, version, refs) = (at(placement), Version(1), some.to_vec());
            let delete = Delete { at, version, refs, guard: Guard::Always };
            let reply = self.one(Op::Delete(delete)).await;
            assert!(matches!(reply, Reply::Deleted(_)), "{reply:?}");
        }
    }

    async fn claim_all(&self, placement: u64, claims: u64) {
        for claim in 1..=claims {
            let reply = self
                .one(Op::Pick(Pick {
                    cookie: at(placement).cookie,
                    placements: vec![Placement(placement)],
                    version: Version(1),
                    claim: ClaimKey(fastrand::u64(..)),
                    ttl_ms: 100_000_000,
                    grace_ms: 0,
                    limit: 20,
                    max_bytes: 1_000_000,
                }))
                .await;
            let Reply::Picked(picked) = reply else { panic!("{reply:?}") };
            assert_eq!(picked.entries.len(), 20, "claim {claim}");
        }
    }

    async fn seal(&self, placement: u64, blocks: u32) {
        let end = [(ProducerId(77), blocks)].into();
        let told = self.one(Op::TellEnd { at: at(placement), version: Version(1), end }).await;
        assert_eq!(told, Reply::Done);
    }
}

/// Weighs replicas of so many blocks.
pub(crate) async fn measure(blocks: u32) -> Report {
    let scale = Scale::new().await;
    let messages = f64::from(blocks) * f64::from(IN_A_BLOCK);
    let envelopes = messages * 100.0;
    scale.one(open(1)).await;
    let idle = scale.used(1).await;
    scale.post(1, blocks, IN_A_BLOCK).await;
    let posted = scale.used(1).await;
    scale.seal(1, blocks).await;

    let mut refs: Vec<MessageRef> = (1..=blocks)
        .flat_map(|block| {
            (0..IN_A_BLOCK).map(move |index| MessageRef { producer: ProducerId(77), block, index })
        })
        .collect();
    fastrand::Rng::with_seed(7).shuffle(&mut refs);
    let kept = refs.split_off(refs.len() * 9 / 10);
    scale.delete(1, &refs).await;
    let rest = scale.used(1).await;
    scale.delete(1, &kept).await;
    let stubs = scale.used(1).await;

    scale.one(open(2)).await;
    scale.post(2, blocks / 10, IN_A_BLOCK).await;
    let anew = scale.used(2).await;

    scale.one(open(3)).await;
    scale.post(3, blocks, IN_A_BLOCK).await;
    scale.seal(3, blocks).await;
    scale.claim_all(3, u64::from(blocks) * 5).await;
    let claimed = scale.used(3).await;

    scale.one(open(4)).await;
    scale.post(4, blocks, 1).await;
    let alone = scale.used(4).await;
    Report {
        posted: (posted - envelopes) / messages,
        claimed: (claimed - envelopes) / messages,
        after_deletes: rest / anew,
        stub: stubs / f64::from(blocks),
        alone: alone / f64::from(blocks) - 100.0,
        idle,
    }
}

#[tokio::test]
async fn messages_cost_little_and_deleted_ones_next_to_nothing() {
    let report = measure(200).await;
    assert!(report.posted <= 40.0, "{report:?}");
    assert!(report.claimed <= 120.0, "{report:?}");
    assert!(report.after_deletes <= 3.0, "{report:?}");
    assert!(report.stub <= 100.0, "{report:?}");
    assert!(report.alone <= 300.0, "{report:?}");
    assert!(report.idle <= 500.0, "{report:?}");
}
