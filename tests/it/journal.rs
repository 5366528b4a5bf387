//! Blocks that are noted down without a script: taken all the same, and refused all the same.

use std::time::Duration;

use bytes::Bytes;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    Cookie, Generation, Incarnation, NodeId, Offset, Placement, PoolId, ProducerId, ReplicaAt,
    SegmentNo, Version,
};
use roundelay::node::redis::RedisNode;
use roundelay::node::{
    Append, Appended, CopiedBlock, Coverage, Filter, Node, Op, Open, Page, Read, Refusal, Reply,
    Role, SegmentOf,
};

use crate::redis_server::RedisServer;

const PRODUCER: ProducerId = ProducerId(5);

fn at() -> ReplicaAt {
    let cookie = Cookie { pool: PoolId(0xfeed), node: NodeId(1), incarnation: Incarnation(1) };
    ReplicaAt { cookie, placement: Placement(9) }
}

fn delayed(block: u32, delay_ms: u32) -> Op {
    let record = Record {
        index: 0,
        state: if delay_ms > 0 { State::Delayed } else { State::Ready },
        client: None,
        ttl_ms: 1_000_000,
        delay_ms,
        envelope: Bytes::from(format!("message {block}")),
    };
    let bytes = Block::of([record]).encode();
    let noted = block.saturating_sub(1);
    Op::Append(Append { at: at(), producer: PRODUCER, block, noted, bytes: bytes.into() })
}

fn append(block: u32) -> Op {
    delayed(block, 0)
}

async fn one(node: &RedisNode, op: Op) -> Reply {
    node.call(vec![op]).await.expect("an answer").remove(0)
}

async fn taken(node: &RedisNode, op: Op) {
    let reply = one(node, op).await;
    assert!(matches!(reply, Reply::Appended(Appended { again: false, .. })), "{reply:?}");
}

async fn connected(server: &RedisServer) -> RedisNode {
    let node = RedisNode::connect(&server.url()).expect("its own URL");
    one(&node, Op::Identity).await;
    node
}

/// A node with an open replica that has these blocks.
async fn written(server: &RedisServer, blocks: u32) -> RedisNode {
    let node = RedisNode::connect(&server.url()).expect("its own URL");
    let Reply::Identity(identity) = one(&node, Op::Identity).await else { panic!("no identity") };
    let admit = Op::Admit { cookie: at().cookie, run_id: identity.run_id };
    assert_eq!(one(&node, admit).await, Reply::Done);
    let of = SegmentOf { register: "q".into(), generation: Generation(1), segment: SegmentNo(1) };
    let open = Op::Open(Open { at: at(), role: Role::Appending, of });
    assert_eq!(one(&node, open).await, Reply::Done);
    for block in 1..=blocks {
        taken(&node, append(block)).await;
    }
    node
}

async fn journal(server: &RedisServer) -> usize {
    server.run(&["STRLEN", "rl:000000000000feed:1:0000000000000009:n"]).await
}

async fn is_stored(server: &RedisServer, block: u32) -> bool {
    let key = format!("rl:000000000000feed:1:0000000000000009:b:0000000000000005:{block}");
    server.run(&["EXISTS", &key]).await
}

async fn page(node: &RedisNode, skip_delayed: bool) -> Page {
    let filter = Filter { skip_delayed, ..Filter::default() };
    let (from, limit, max_bytes) = (Offset::default(), 1000, 1 << 20);
    match one(node, Op::Read(Read { at: at(), from, limit, max_bytes, filter })).await {
        Reply::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

async fn probe(node: &RedisNode) -> Coverage {
    match one(node, Op::Probe { at: at() }).await {
        Reply::Coverage(coverage) => coverage,
        other => panic!("{other:?}"),
    }
}

async fn messages(node: &RedisNode) -> Vec<String> {
    let blocks = page(node, false).await.blocks;
    let entries = blocks.iter().flat_map(|block| &block.entries);
    entries.map(|entry| String::from_utf8_lossy(&entry.envelope).into_owned()).collect()
}

fn expected(blocks: u32) -> Vec<String> {
    (1..=blocks).map(|block| format!("message {block}")).collect()
}

#[tokio::test]
async fn blocks_are_noted_down_and_taken_by_whoever_looks() {
    let server = RedisServer::start().await;
    let node = written(&server, 5).await;
    assert_eq!(journal(&server).await, 1 + 4 * 56, "all but the first are in the journal");
    assert_eq!(messages(&connected(&server).await).await, expected(5));
    assert_eq!(journal(&server).await, 1, "they were taken");
    taken(&node, append(6)).await;
    let coverage = probe(&node).await;
    let producer = &coverage.producers[0];
    assert_eq!((producer.frontier, producer.noted), (6, 5));
}

#[tokio::test]
async fn a_long_run_needs_few_scripts() {
    let server = RedisServer::start().await;
    let node = written(&server, 1).await;
    server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    for block in 2..=400 {
        taken(&node, append(block)).await;
    }
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:calls="));
    let calls = line.and_then(|line| line.split(['=', ',']).nth(1)).map(|calls| calls.parse());
    let calls: u32 = calls.expect("at least one a run").expect("a number");
    // One in 64, and one a second.
    assert!((5..40).contains(&calls), "{calls}");
    assert!(journal(&server).await <= 1 + 64 * 56, "a journal is bounded");
    assert_eq!(messages(&node).await, expected(400));
}

#[tokio::test]
async fn what_was_acked_is_noted_down_too() {
    let server = RedisServer::start().await;
    let node = written(&server, 3).await;
    let note = Op::Note { at: at(), producer: PRODUCER, noted: 3 };
    assert_eq!(one(&node, note.clone()).await, Reply::Done);
    assert_eq!(journal(&server).await, 1 + 3 * 56);
    assert_eq!(probe(&node).await.producers[0].noted, 3);
    let seal = Op::Seal { at: at(), by: ProducerId(8) };
    assert!(matches!(one(&connected(&server).await, seal).await, Reply::Coverage(_)));
    assert_eq!(one(&node, note).await, Reply::Done, "a note is never refused for a seal");
    assert_eq!(journal(&server).await, 0, "a sealed replica has no journal");
}

#[tokio::test]
async fn a_replica_that_others_sealed_refuses_what_follows_and_keeps_nothing_of_it() {
    let server = RedisServer::start().await;
    let node = written(&server, 4).await;
    let seal = Op::Seal { at: at(), by: ProducerId(8) };
    match one(&connected(&server).await, seal).await {
        Reply::Coverage(coverage) => assert_eq!(coverage.producers[0].frontier, 4),
        other => panic!("{other:?}"),
    }
    let (five, six) = (node.call(vec![append(5)]), node.call(vec![append(6)]));
    for reply in [five.await, six.await] {
        assert_eq!(reply.expect("an answer"), [Reply::Refused(Refusal::Sealed)]);
    }
    assert_eq!(messages(&node).await, expected(4));
    assert!(!is_stored(&server, 5).await && !is_stored(&server, 6).await);
    assert_eq!(journal(&server).await, 0);
}

#[tokio::test]
async fn a_replica_that_this_connection_seals_keeps_what_came_before_and_refuses_what_follows() {
    let server = RedisServer::start().await;
    let node = written(&server, 4).await;
    let seal = Op::Seal { at: at(), by: ProducerId(8) };
    let (five, six) = (node.call(vec![append(5)]), node.call(vec![append(6)]));
    let (sealed, seven) = (node.call(vec![seal]), node.call(vec![append(7)]));
    for reply in [five.await, six.await] {
        assert!(matches!(reply.expect("an answer")[..], [Reply::Appended(_)]));
    }
    assert!(matches!(sealed.await.expect("an answer")[..], [Reply::Coverage(_)]));
    assert!(matches!(seven.await.expect("an answer")[..], [Reply::Appended(_)]), "sent before it");
    assert_eq!(one(&node, append(8)).await, Reply::Refused(Refusal::Sealed));
    assert_eq!(messages(&node).await, expected(7));
    assert!(!is_stored(&server, 8).await);
    assert_eq!(journal(&server).await, 0);
}

#[tokio::test]
async fn a_copy_that_is_refused_takes_nothing_from_what_is_noted_down() {
    let server = RedisServer::start().await;
    let node = written(&server, 4).await;
    assert_eq!(journal(&server).await, 1 + 3 * 56);
    let block =
        CopiedBlock { producer: PRODUCER, block: 4, age_ms: 0, bytes: None, marks: Vec::new() };
    let copy = Op::CopyIn { at: at(), version: Version(5), blocks: vec![block] };
    assert_eq!(one(&node, copy).await, Reply::Refused(Refusal::Open));
    assert!(is_stored(&server, 4).await);
    assert_eq!(messages(&node).await, expected(4));
}

#[tokio::test]
async fn a_replica_that_others_removed_is_gone_and_nothing_stays() {
    let server = RedisServer::start().await;
    let node = written(&server, 4).await;
    let wipe = one(&connected(&server).await, Op::Wipe { at: at() }).await;
    assert!(matches!(wipe, Reply::Wiped(_)), "{wipe:?}");
    assert_eq!(one(&node, append(5)).await, Reply::Refused(Refusal::Gone));
    assert_eq!(server.run::<u64>(&["DBSIZE"]).await, 1, "the cookie");
}

#[tokio::test]
async fn a_full_server_refuses_a_run_and_goes_on_with_it_later() {
    let server = RedisServer::start().await;
    let node = written(&server, 3).await;
    server.limit_memory(1).await;
    let (four, five) = (node.call(vec![append(4)]), node.call(vec![append(5)]));
    for reply in [four.await, five.await] {
        assert_eq!(reply.expect("an answer"), [Reply::Refused(Refusal::Full)]);
    }
    server.limit_memory(0).await;
    assert_eq!(one(&node, append(5)).await, Reply::Refused(Refusal::Gap { frontier: 3 }));
    for block in 4..=8 {
        taken(&node, append(block)).await;
    }
    assert_eq!(messages(&node).await, expected(8));
}

#[tokio::test]
async fn what_two_connections_sent_of_one_block_is_taken_once() {
    let server = RedisServer::start().await;
    let node = written(&server, 4).await;
    let other = connected(&server).await;
    // Another connection goes on with the run, as after a lost one whose requests come late.
    taken(&other, append(5)).await;
    taken(&other, append(6)).await;
    taken(&other, append(7)).await;
    taken(&node, append(5)).await;
    taken(&node, append(6)).await;
    assert_eq!(messages(&node).await, expected(7));
    assert_eq!(probe(&node).await.producers[0].frontier, 7);
}

#[tokio::test]
async fn a_noted_block_has_its_age_and_its_delay() {
    let server = RedisServer::start().await;
    let node = written(&server, 2).await;
    taken(&node, delayed(3, 400)).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let shown = page(&node, true).await;
    assert_eq!(shown.blocks.iter().map(|block| block.entries.len()).sum::<usize>(), 2);
    for block in &shown.blocks {
        assert!((140..5_000).contains(&block.age_ms), "{}", block.age_ms);
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(messages(&node).await, expected(3));
}
