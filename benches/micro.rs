//! Small parts of the hot paths, alone: `cargo bench --bench micro`.
//!
//! Blocks and markers, one call of a node in this process's memory and of one on a Redis server,
//! and whole calls of the library on nodes in memory, where nothing waits for a network: envelopes,
//! the gathering of blocks, decisions.

#[path = "../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use redis_server::RedisServer;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    Cookie, Generation, Incarnation, NodeId, Placement, PoolId, ProducerId, ReplicaAt, SegmentNo,
};
use roundelay::node::memory::MemoryNode;
use roundelay::node::redis::RedisNode;
use roundelay::node::{Append, Node, Op, Open, Reply, Role, SegmentOf};
use roundelay::time::Clock;
use roundelay::{
    ClaimOptions, ContentType, ListOptions, Marker, Metadata, NewMessage, Project, Queue,
    QueueName, Store,
};
use tokio::runtime::Runtime;

const BODY: usize = 1024;
const PRODUCER: ProducerId = ProducerId(77);
/// Messages of one replica, above which a fresh one is taken: memory has an end.
const MANY: u32 = 20_000;

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn block_of(messages: usize) -> Block {
    let record = |_| Record {
        index: 0,
        state: State::Ready,
        client: None,
        ttl_ms: 600_000_000,
        delay_ms: 0,
        envelope: Bytes::from(vec![b'x'; BODY]),
    };
    Block::of((0..messages).map(record))
}

fn blocks(criterion: &mut Criterion) {
    for messages in [1, 64] {
        let mut group = criterion.benchmark_group(format!("block of {messages} x {BODY} B"));
        group.throughput(Throughput::Elements(messages as u64));
        let block = block_of(messages);
        let encoded = block.encode();
        group.bench_function("encode", |bencher| bencher.iter(|| black_box(&block).encode()));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| Block::decode(black_box(&encoded)).expect("its own encoding"));
        });
        group.finish();
    }
}

fn at(placement: u64) -> ReplicaAt {
    let cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
    ReplicaAt { cookie, placement: Placement(placement) }
}

/// A node that takes appends, one replica after the other.
struct Appending<N> {
    node: N,
    bytes: Bytes,
    next: AtomicU32,
}

impl<N: Node> Appending<N> {
    async fn new(node: N) -> Self {
        let this = Self { node, bytes: block_of(1).encode(), next: AtomicU32::new(0) };
        let Reply::Identity(identity) = this.call(Op::Identity).await else {
            panic!("no identity")
        };
        this.call(Op::Admit { cookie: at(0).cookie, run_id: identity.run_id }).await;
        this
    }

    async fn call(&self, op: Op) -> Reply {
        let mut replies = self.node.call(vec![op]).await.expect("a reply");
        let reply = replies.pop().expect("one reply");
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        reply
    }

    /// Appends one block of one message.
    async fn append(&self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (turn, noted) = (u64::from(number / MANY), number % MANY);
        let (before, at) = (at(turn), at(1 + turn));
        if noted == 0 {
            // The one before has had its time.
            while let Reply::Wiped(wiped) = self.call(Op::Wipe { at: before }).await
                && !wiped.done
            {}
            let (register, generation) = ("p/q".into(), Generation(1));
            let of = SegmentOf { register, generation, segment: SegmentNo(1) };
            self.call(Op::Open(Open { at, role: Role::Appending, of })).await;
        }
        let (producer, block, bytes) = (PRODUCER, noted + 1, self.bytes.clone());
        self.call(Op::Append(Append { at, producer, block, noted, bytes: bytes.into() })).await;
    }
}

fn nodes(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("append of 1 x 1024 B");
    let memory = MemoryNode::new("bench", Clock::system());
    let memory = runtime.block_on(Appending::new(memory));
    group.bench_function("node in memory", |bencher| {
        bencher.iter(|| runtime.block_on(memory.append()));
    });
    let server = runtime.block_on(RedisServer::start());
    let redis = runtime.block_on(async {
        Appending::new(RedisNode::connect(&server.url()).expect("its own URL")).await
    });
    group.bench_function("node on a Redis server", |bencher| {
        bencher.iter(|| runtime.block_on(redis.append()));
    });
    group.finish();
}

async fn queue(store: &Store, name: &str) -> Result<Queue, roundelay::Error> {
    let queue = store.queue(&Project::new("bench")?, &QueueName::new(name)?);
    queue.create(&Metadata::default()).await?;
    Ok(queue)
}

fn library(criterion: &mut Criterion) {
    let runtime = runtime();
    let message = || NewMessage::new(ContentType::Bytes, vec![b'x'; BODY]).expect("a message");
    let store = runtime.block_on(Store::builder().embedded(3).open()).expect("a store");
    let queue = runtime.block_on(queue(&store, "q")).expect("a queue");
    for _ in 0..10 {
        runtime.block_on(queue.post(vec![message(); 100], None)).expect("a post");
    }
    let options = ListOptions { limit: 100, ..ListOptions::default() };
    let page = runtime.block_on(queue.list(&options)).expect("a page");
    let marker = page.marker.expect("a marker");

    let mut group = criterion.benchmark_group("marker");
    let text = marker.to_string();
    group.bench_function("to text", |bencher| bencher.iter(|| black_box(&marker).to_string()));
    group.bench_function("from text", |bencher| {
        bencher.iter(|| black_box(&text).parse::<Marker>().expect("its own text"));
    });
    group.finish();

    let mut group = criterion.benchmark_group("library on nodes in memory");
    group.bench_function("list 100", |bencher| {
        bencher.iter(|| runtime.block_on(queue.list(&options)).expect("a page"));
    });
    let claims = ClaimOptions { limit: 20, ..ClaimOptions::default() };
    group.bench_function("claim 20 and release them", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let claim = queue.claim(&claims).await.expect("an answer").expect("messages");
                queue.release(&claim.id).await.expect("released");
            });
        });
    });
    group.bench_function("post 1 and pop it", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                queue.post(vec![message()], None).await.expect("posted");
                queue.pop(1).await.expect("popped");
            });
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    blocks(&mut criterion);
    nodes(&mut criterion);
    library(&mut criterion);
    criterion.final_summary();
}
