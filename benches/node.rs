//! What the operations of a Redis node cost: `cargo bench --bench node`.
//!
//! One server, one client, the operations one batch after the other; the time of the server alone
//! is taken from its own statistics.

#[path = "../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;

use std::future::Future;

use bytes::Bytes;
use redis_server::RedisServer;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    ClaimKey, Cookie, Fencing, Generation, Incarnation, MessageRef, NodeId, Offset, Placement,
    PoolId, ProducerId, ReplicaAt, SegmentNo, Version,
};
use roundelay::node::redis::RedisNode;
use roundelay::node::{
    Append, Delete, Filter, Guard, Hold, Node, Op, Open, Pick, Read, Reply, Role, SegmentOf,
};
use tokio::time::Instant;

const PRODUCER: ProducerId = ProducerId(77);

fn at(placement: u64) -> ReplicaAt {
    let cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
    ReplicaAt { cookie, placement: Placement(placement) }
}

fn block(messages: u32, len: usize) -> Bytes {
    let record = |_| Record {
        index: 0,
        state: State::Ready,
        client: None,
        ttl_ms: 600_000_000,
        delay_ms: 0,
        envelope: Bytes::from(vec![b'x'; len]),
    };
    Block::of((0..messages).map(record)).encode()
}

fn append(placement: u64, block: u32, bytes: &Bytes) -> Op {
    let (at, noted, bytes) = (at(placement), block - 1, bytes.clone().into());
    Op::Append(Append { at, producer: PRODUCER, block, noted, bytes })
}

struct Bench {
    server: RedisServer,
    node: RedisNode,
}

impl Bench {
    async fn call(&self, ops: Vec<Op>) -> Vec<Reply> {
        let replies = self.node.call(ops).await.expect("replies");
        for reply in &replies {
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        }
        replies
    }

    async fn open(&self, placement: u64) {
        self.open_as(placement, Role::Appending).await;
    }

    async fn open_as(&self, placement: u64, role: Role) {
        let register = "p/q".into();
        let of = SegmentOf { register, generation: Generation(1), segment: SegmentNo(1) };
        self.call(vec![Op::Open(Open { at: at(placement), role, of })]).await;
    }

    async fn tell_end(&self, placement: u64, last: u32) {
        let end = [(PRODUCER, last)].into();
        self.call(vec![Op::TellEnd { at: at(placement), version: Version(1), end }]).await;
    }

    /// Microseconds of the server's own work so far.
    async fn work(&self) -> f64 {
        let info: String = self.server.run(&["INFO", "commandstats"]).await;
        let of = |wanted: &str| {
            let prefix = format!("cmdstat_{wanted}:");
            let line = info.lines().find_map(|line| line.strip_prefix(&*prefix))?;
            let usec = line.split(',').find_map(|field| field.strip_prefix("usec="))?;
            usec.parse::<f64>().ok()
        };
        // What a transaction runs is counted with it, and once more by itself.
        of("exec").or_else(|| of("evalsha")).unwrap_or(0.0)
    }

    /// Runs something that does `units` of work and prints what one costs.
    async fn take(&self, name: &str, units: u32, run: impl Future<Output = ()>) {
        self.server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
        let start = Instant::now();
        run.await;
        let took = start.elapsed().as_secs_f64() * 1e6 / f64::from(units);
        let work = self.work().await / f64::from(units);
        println!("{name:58} {took:9.2} us, of the server {work:8.2}");
    }
}

async fn posts(bench: &Bench) {
    for (placement, messages, len) in
        [(1, 1u32, 100usize), (2, 1, 1024), (3, 64, 100), (4, 64, 1024)]
    {
        bench.open(placement).await;
        let bytes = block(messages, len);
        let name = format!("append, {messages} of {len} B, one at a time: a block");
        bench
            .take(&name, 2_000, async {
                for number in 1..=2_000 {
                    bench.call(vec![append(placement, number, &bytes)]).await;
                }
            })
            .await;
        bench.open(placement + 10).await;
        let name = format!("append, {messages} of {len} B, 64 blocks a call: a block");
        bench
            .take(&name, 64 * 60, async {
                for batch in 0..60 {
                    let numbers = batch * 64 + 1..=batch * 64 + 64;
                    let ops = numbers.map(|number| append(placement + 10, number, &bytes));
                    bench.call(ops.collect()).await;
                }
            })
            .await;
    }
    let bytes = block(1, 1024);
    for queue in 0..100 {
        bench.open(1000 + queue).await;
    }
    bench
        .take("append, 1 of 1024 B to each of 100 queues a call: a block", 100 * 60, async {
            for number in 1..=60 {
                let ops = (0..100).map(|queue| append(1000 + queue, number, &bytes));
                bench.call(ops.collect()).await;
            }
        })
        .await;
}

async fn reads(bench: &Bench) {
    for (placement, limit) in [(3, 20), (3, 1000), (1, 20)] {
        let name = format!("read, {limit} a page, blocks as in replica {placement}: a page");
        bench
            .take(&name, 200, async {
                for page in 0..200 {
                    let from = Offset::new(page, 0);
                    let (at, filter) = (at(placement), Filter::default());
                    bench
                        .call(vec![Op::Read(Read { at, from, limit, max_bytes: 1 << 20, filter })])
                        .await;
                }
            })
            .await;
    }
    bench
        .take("stats, 2,000 blocks of 64: a call", 200, async {
            for _ in 0..200 {
                bench.call(vec![Op::Stats { at: at(3) }]).await;
            }
        })
        .await;
}

async fn claims(bench: &Bench, placement: u64, last: u32, limit: u32) {
    bench.tell_end(placement, last).await;
    let mut held: Vec<(ClaimKey, Fencing, Vec<MessageRef>)> = Vec::new();
    let named = |what: &str| format!("{what}, {limit} a claim, blocks as in {placement}: a claim");
    bench
        .take(&named("pick"), 300, async {
            for key in 1..=300 {
                let claim = ClaimKey(key);
                let pick = Pick {
                    cookie: at(placement).cookie,
                    placements: vec![Placement(placement)],
                    version: Version(1),
                    claim,
                    ttl_ms: 1_000_000,
                    grace_ms: 0,
                    limit,
                    max_bytes: 1 << 20,
                };
                if let Reply::Picked(picked) = &bench.call(vec![Op::Pick(pick)]).await[0]
                    && let Some((_, fencing)) = picked.on
                {
                    let refs = picked.entries.iter().map(|entry| entry.at).collect();
                    held.push((claim, fencing, refs));
                }
            }
        })
        .await;
    assert_eq!(held.len(), 300);
    bench
        .take(&named("hold again"), 300, async {
            for (claim, fencing, refs) in held.clone() {
                let (at, version) = (at(placement), Version(1));
                let (ttl_ms, grace_ms) = (1_000_000, 0);
                let hold = Hold { at, version, claim, fencing, ttl_ms, grace_ms, refs };
                bench.call(vec![Op::Hold(hold)]).await;
            }
        })
        .await;
    bench
        .take(&named("delete"), 300, async {
            for (claim, fencing, refs) in held.clone() {
                let guard = Guard::ClaimedBy(claim, fencing);
                let (at, version) = (at(placement), Version(1));
                bench.call(vec![Op::Delete(Delete { at, version, refs, guard })]).await;
            }
        })
        .await;
}

/// Copies a replica of 2,000 blocks into a new one on the same server.
async fn copies(bench: &Bench, placement: u64, what: &str) {
    bench.tell_end(placement, 2_000).await;
    let mut batches = Vec::new();
    bench
        .take(&format!("copy out, {what}: a block"), 2_000, async {
            let mut from = 0;
            loop {
                let out = Op::CopyOut { at: at(placement), from, max_bytes: 256 * 1024 };
                let Some(Reply::CopyBatch(batch)) = bench.call(vec![out]).await.pop() else {
                    return;
                };
                let done = batch.done;
                from = batch.next;
                batches.push(batch.blocks);
                if done {
                    return;
                }
            }
        })
        .await;
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 2_000);
    let target = placement + 100;
    bench.open_as(target, Role::Joining).await;
    bench
        .take(&format!("copy in, {what}: a block"), 2_000, async {
            for blocks in batches {
                bench.call(vec![Op::CopyIn { at: at(target), version: Version(1), blocks }]).await;
            }
        })
        .await;
}

async fn run() {
    let server = RedisServer::start().await;
    let node = RedisNode::connect(&server.url()).expect("its own URL");
    let bench = Bench { server, node };
    let Reply::Identity(identity) = &bench.call(vec![Op::Identity]).await[0] else { return };
    let run_id = identity.run_id.clone();
    bench.call(vec![Op::Admit { cookie: at(0).cookie, run_id }]).await;
    posts(&bench).await;
    copies(&bench, 2, "blocks of 1 x 1 KiB").await;
    copies(&bench, 3, "blocks of 64 x 100 B").await;
    reads(&bench).await;
    claims(&bench, 3, 2_000, 20).await;
    claims(&bench, 1, 2_000, 1).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run());
}
