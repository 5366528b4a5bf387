//! What only a node in memory can be asked: times too long to wait for, run ids that repeat, and
//! the same end for different ways there.

use std::collections::BTreeSet;
use std::time::Duration;

use roundelay::id::MessageRef;
use roundelay::node::memory::MemoryNode;
use roundelay::node::{Node, Op, Reply};
use roundelay::time::Clock;

use crate::conformance::env::{Env, Memory};
use crate::conformance::ops::{LONG_MS, MANY, pick, post, release};

async fn run_id(node: &MemoryNode) -> String {
    match node.call(vec![Op::Identity]).await.as_deref() {
        Ok([Reply::Identity(identity)]) => identity.run_id.clone(),
        other => panic!("no identity: {other:?}"),
    }
}

#[tokio::test]
async fn run_ids_follow_from_the_seed_and_never_repeat() {
    let nodes = [7, 7, 8].map(|seed| MemoryNode::seeded("m", Clock::starting_at(1), seed));
    let mut drawn = Vec::new();
    for node in &nodes {
        let first = run_id(node).await;
        node.restart_with_data();
        let second = run_id(node).await;
        node.restart_empty();
        drawn.push([first, second, run_id(node).await]);
    }
    assert_eq!(drawn[0], drawn[1]);
    let different: BTreeSet<_> = drawn.iter().flatten().collect();
    assert_eq!(different.len(), 6);
}

#[tokio::test]
async fn a_node_comes_back_as_it_was_and_as_another_run() {
    let node = MemoryNode::seeded("m", Clock::starting_at(1), 7);
    let (first, empty) = (run_id(&node).await, node.snapshot());
    node.restart_with_data();
    let second = run_id(&node).await;
    node.restart_from(&empty);
    let third = run_id(&node).await;
    assert!(first != second && second != third && first != third);
}

#[tokio::test]
async fn a_clock_is_put_forward_for_all_that_hold_it_and_for_no_other() {
    let (clock, jumps) = Clock::jumping(1_000);
    let (same, other) = (clock.clone(), Clock::starting_at(1_000));
    let before = clock.now_ms();
    jumps.forward(5_000);
    assert!(clock.now_ms() >= before + 5_000 && same.now_ms() >= before + 5_000);
    assert!(other.now_ms() < before + 5_000);
}

#[tokio::test]
async fn an_unwritten_replica_is_due_after_ten_minutes() {
    let env = Env::new::<Memory>().await;
    let (open, joining) = (env.open().await, env.open_joining().await);
    env.pass(Duration::from_secs(600) - Duration::from_millis(1)).await;
    assert_eq!(env.due_places().await, []);
    env.pass_ms(1).await;
    assert_eq!(env.due_places().await, [open.placement, joining.placement]);
}

#[tokio::test]
async fn times_are_judged_to_the_millisecond() {
    let env = Env::new::<Memory>().await;
    let at = env.ended(&[&[post("ttl").ttl(1_000), post("delay").delay(1_000)]]).await;
    env.pass_ms(999).await;
    assert_eq!(env.bodies(at).await, ["ttl", "delay"]);
    assert_eq!(env.stats(Op::Stats { at }).await.delayed, 1);
    env.pass_ms(1).await;
    assert_eq!(env.bodies(at).await, ["delay"]);
    let mut brief = pick(&[at], 7, MANY);
    brief.ttl_ms = 1_000;
    assert_eq!(env.picked(Op::Pick(brief)).await.entries.len(), 1);
    env.pass_ms(999).await;
    assert_eq!(env.stats(Op::Stats { at }).await.claimed, 1);
    env.pass_ms(1).await;
    assert_eq!(env.stats(Op::Stats { at }).await.claimed, 0);
}

/// The sets beside the cursor must never lose a message nor give one twice.
#[tokio::test]
async fn picks_releases_and_expiries_at_random_neither_lose_nor_double_a_message() {
    let env = Env::new::<Memory>().await;
    for seed in 0..200 {
        let mut draw = fastrand::Rng::with_seed(seed);
        let posts: Vec<_> = (0..30)
            .map(|_| {
                post("x").delay(draw.u32(..3) * 20).ttl(if draw.bool() { LONG_MS } else { 150 })
            })
            .collect();
        let at = env.ended(&[&posts, &posts]).await;
        for claim in 0..60 {
            let before = available(&env, at).await;
            let mut wanted = pick(&[at], claim, draw.u32(1..6));
            wanted.ttl_ms = draw.u32(1..80);
            let expected: Vec<MessageRef> =
                before.into_iter().take(usize::try_from(wanted.limit).expect("small")).collect();
            let picked = env.picked(Op::Pick(wanted)).await;
            let refs: Vec<MessageRef> = picked.entries.iter().map(|entry| entry.at).collect();
            assert_eq!(refs, expected, "seed {seed}, claim {claim}");
            if draw.bool() {
                let some = refs.get(..draw.usize(..=refs.len()));
                env.done(release(at, claim, if draw.bool() { some } else { None })).await;
            }
            env.pass_ms(draw.u64(..12)).await;
        }
    }
}

/// What a pick may take, by a scan of everything.
async fn available(env: &Env, at: roundelay::id::ReplicaAt) -> Vec<MessageRef> {
    let mut read = crate::conformance::ops::read_of(at, 0, MANY);
    read.filter.skip_claimed = true;
    read.filter.skip_delayed = true;
    crate::conformance::ops::page_refs(&env.page(Op::Read(read)).await)
}
