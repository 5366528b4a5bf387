//! What only a real server can do: be misconfigured, restarted, emptied, full, stopped, closed.

use std::time::Duration;

use bytes::Bytes;
use roundelay::ErrorKind;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    Cookie, Generation, Incarnation, NodeId, Placement, PoolId, ProducerId, ReplicaAt, SegmentNo,
};
use roundelay::node::redis::RedisNode;
use roundelay::node::{
    Append, Appended, Identity, Node, NodeError, Op, Open, Refusal, Reply, Role, SegmentOf,
};

use crate::redis_server::RedisServer;

fn cookie() -> Cookie {
    Cookie { pool: PoolId(0xfeed), node: NodeId(1), incarnation: Incarnation(1) }
}

pub(crate) fn at() -> ReplicaAt {
    ReplicaAt { cookie: cookie(), placement: Placement(9) }
}

fn open() -> Op {
    let of = SegmentOf { register: "q".into(), generation: Generation(1), segment: SegmentNo(1) };
    Op::Open(Open { at: at(), role: Role::Appending, of })
}

pub(crate) fn append(block: u32, len: usize) -> Op {
    let record = Record {
        index: 0,
        state: State::Ready,
        client: None,
        ttl_ms: 1_000_000,
        delay_ms: 0,
        envelope: Bytes::from(vec![7; len]),
    };
    let bytes = Block::of([record]).encode();
    Op::Append(Append { at: at(), producer: ProducerId(5), block, noted: 0, bytes: bytes.into() })
}

pub(crate) async fn one(node: &RedisNode, op: Op) -> Result<Reply, NodeError> {
    Ok(node.call(vec![op]).await?.remove(0))
}

async fn identity(node: &RedisNode) -> Identity {
    match one(node, Op::Identity).await.expect("an answer") {
        Reply::Identity(identity) => identity,
        other => panic!("{other:?}"),
    }
}

async fn admitted(server: &RedisServer) -> RedisNode {
    let node = RedisNode::connect(&server.url()).expect("its own URL");
    let run_id = identity(&node).await.run_id;
    let admit = Op::Admit { cookie: cookie(), run_id };
    assert_eq!(one(&node, admit).await, Ok(Reply::Done));
    node
}

/// A node with an open replica of one block.
pub(crate) async fn written(server: &RedisServer) -> RedisNode {
    let node = admitted(server).await;
    let replies = node.call(vec![open(), append(1, 100)]).await.expect("answers");
    assert!(matches!(replies[1], Reply::Appended(Appended { again: false, .. })));
    node
}

fn reason(result: Result<Reply, NodeError>) -> String {
    match result {
        Err(NodeError::Unreached { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_evicts_is_named_with_what_mends_it_and_not_used() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let node = RedisNode::connect(&server.url()).unwrap();
    let found = identity(&node).await.unsafe_settings;
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].setting, &*found[0].found), ("maxmemory-policy", "allkeys-lru"));
    assert!(found[0].mend.starts_with("redis-cli -s /"), "{}", found[0].mend);
    assert!(found[0].mend.ends_with("config set maxmemory-policy noeviction"));
    assert!(reason(one(&node, open()).await).contains("maxmemory-policy = allkeys-lru"));
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    assert_eq!(identity(&node).await.unsafe_settings, []);
    let refused = one(&node, open()).await.unwrap();
    assert_eq!(refused, Reply::Refused(Refusal::Stranger { found: None }), "it is used now");
}

#[tokio::test]
async fn a_replica_of_another_server_is_not_used() {
    let server = RedisServer::start_with(&["--replicaof", "127.0.0.1 1"]).await;
    let node = RedisNode::connect(&server.url()).unwrap();
    let found = identity(&node).await.unsafe_settings;
    assert_eq!((&*found[0].setting, &*found[0].found), ("replicaof", "127.0.0.1:1"));
    assert!(reason(one(&node, open()).await).contains("replicaof no one"));
}

#[tokio::test]
async fn only_a_server_that_syncs_every_write_is_durable() {
    let server = RedisServer::start().await;
    assert!(!identity(&RedisNode::connect(&server.url()).unwrap()).await.durable);
    let synced = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = RedisServer::start_with(&synced).await;
    assert!(!identity(&RedisNode::connect(&server.url()).unwrap()).await.durable);
    let whole = [&synced[..], &["--aof-load-truncated", "no"]].concat();
    let server = RedisServer::start_with(&whole).await;
    assert!(identity(&RedisNode::connect(&server.url()).unwrap()).await.durable);
    let node = written(&server).await;
    server.kill();
    server.start_again().await;
    let again = one(&node, append(1, 100)).await.unwrap();
    assert!(matches!(again, Reply::Appended(Appended { again: true, .. })), "{again:?}");
}

#[tokio::test]
async fn a_restarted_server_with_its_data_is_a_stranger() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.save().await;
    server.kill();
    server.start_again().await;
    let found = Some(cookie());
    let refused = one(&node, append(2, 100)).await.unwrap();
    assert_eq!(refused, Reply::Refused(Refusal::Stranger { found }));
    let keys: u64 = server.run(&["DBSIZE"]).await;
    assert_eq!(
        keys, 7,
        "cookie, due, numbers, index, ordinals, block, journal: nothing of what was refused"
    );
}

#[tokio::test]
async fn a_flushed_server_is_a_stranger() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.flush_all().await;
    let refused = one(&node, append(2, 100)).await.unwrap();
    assert_eq!(refused, Reply::Refused(Refusal::Stranger { found: None }));
    assert_eq!(server.run::<u64>(&["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn a_server_that_lost_the_scripts_is_looked_at_anew() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.run::<()>(&["SCRIPT", "FLUSH"]).await;
    let lost = one(&node, Op::Probe { at: at() }).await;
    assert!(matches!(lost, Err(NodeError::Broken { .. })), "{lost:?}");
    assert!(matches!(one(&node, Op::Probe { at: at() }).await, Ok(Reply::Coverage(_))));
}

#[tokio::test]
async fn nothing_stays_of_blocks_that_a_full_server_refused() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    let before: u64 = server.run(&["DBSIZE"]).await;
    server.limit_memory(1).await;
    let replies = node.call(vec![append(2, 100), append(3, 100)]).await.unwrap();
    assert_eq!(replies, vec![Reply::Refused(Refusal::Full); 2]);
    assert_eq!(server.run::<u64>(&["DBSIZE"]).await, before);
    let seal = Op::Seal { at: at(), by: ProducerId(5) };
    assert!(matches!(one(&node, seal).await, Ok(Reply::Coverage(_))), "it can still be sealed");
}

#[tokio::test]
async fn what_a_stopped_server_was_sent_is_applied_when_it_goes_on() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.pause();
    let pending = node.call(vec![append(2, 100)]);
    let early = tokio::time::timeout(Duration::from_millis(100), pending).await;
    assert!(early.is_err(), "no answer, and the caller has left");
    server.resume();
    let next = one(&node, append(3, 100)).await.unwrap();
    assert!(matches!(next, Reply::Appended(Appended { again: false, .. })), "{next:?}");
}

#[tokio::test]
async fn a_stopped_server_is_given_up_in_time_and_the_call_unknown() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.pause();
    // One whose caller reads the answer, and one for which the lane's task does.
    let both = tokio::time::timeout(
        Duration::from_secs(5),
        futures_util::future::join(one(&node, append(2, 100)), one(&node, append(3, 100))),
    );
    let (first, second) = both.await.expect("given up in time");
    for given_up in [first, second] {
        assert!(matches!(given_up, Err(NodeError::Unknown { .. })), "{given_up:?}");
    }
    server.resume();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let again = loop {
        match one(&node, append(2, 100)).await {
            Ok(reply) => break reply,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(again, Reply::Appended(Appended { again: true, .. })), "{again:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unreached_and_found_again() {
    let server = RedisServer::start().await;
    let node = written(&server).await;
    server.kill();
    // The end of an idle connection is seen before anything is sent.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..3 {
        let down = one(&node, Op::Probe { at: at() }).await;
        assert!(matches!(down, Err(NodeError::Unreached { .. })), "{down:?}");
    }
    server.start_again().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stranger = one(&node, Op::Probe { at: at() }).await.unwrap();
    assert_eq!(stranger, Reply::Refused(Refusal::Stranger { found: None }));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    let url = |query: &str| format!("{}?{query}", server.url());
    let wrong = RedisNode::connect(&url("pass=hunter2")).unwrap();
    let said = reason(one(&wrong, Op::Identity).await);
    assert!(said.contains("WRONGPASS") || said.contains("password"), "{said}");
    assert!(!format!("{said}{wrong:?}{}", wrong.name()).contains("hunter2"));
    let none = RedisNode::connect(&server.url()).unwrap();
    let said = reason(one(&none, Op::Identity).await);
    assert!(said.contains("NOAUTH"), "{said}");
    let right = RedisNode::connect(&url("pass=right")).unwrap();
    assert!(!identity(&right).await.run_id.is_empty());
}

#[tokio::test]
async fn a_closed_port_is_unreached_and_said_so() {
    // Bound and closed again: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = RedisNode::connect(&format!("redis://user:secret@{free}/3")).unwrap();
    assert_eq!(node.name(), format!("redis://{free}/3"));
    let said = reason(one(&node, Op::Identity).await).to_lowercase();
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_without_showing_it() {
    for url in [
        "",
        "http://h",
        "redis://:secret@",
        "redis://:secret@h/x",
        "rediss://h?ca=/no/file",
        "redis://:secret@h?ca=/etc/hosts",
    ] {
        let error = RedisNode::connect(url).map(|_| ()).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
