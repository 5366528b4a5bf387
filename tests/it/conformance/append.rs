//! Taking blocks.

use roundelay::id::{ProducerId, ReplicaAt};
use roundelay::node::{Append, Op, Refusal};

use super::env::Env;
use super::ops::*;

async fn noted(env: &Env, at: ReplicaAt) -> u32 {
    env.coverage(Op::Probe { at }).await.producers[0].noted
}

fn noting(at: ReplicaAt, block: u32, noted: u32) -> Op {
    let bytes = super::ops::block(&[post("x")]);
    Op::Append(Append { at, producer: A, block, noted, bytes: bytes.into() })
}

pub(super) async fn a_producers_next_block_is_taken(env: &Env) {
    let at = env.open().await;
    assert!(!env.append(at, 1, &[post("one")]).await.again);
    assert!(!env.append(at, 2, &[post("two")]).await.again);
    assert_eq!(env.bodies(at).await, ["one", "two"]);
    let coverage = env.coverage(Op::Probe { at }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 2)]));
    assert_eq!((coverage.arrived, coverage.sealed), (2, None));
}

pub(super) async fn append_below_the_next_block_is_taken_as_done(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    let before = env.append(at, 2, &[post("two")]).await;
    for number in [1, 2] {
        let posts = [post(if number == 1 { "one" } else { "two" })];
        let again = env.append(at, number, &posts).await;
        assert!(again.again);
        assert_eq!(again.bytes, before.bytes);
    }
    assert_eq!(env.bodies(at).await, ["one", "two"]);
}

pub(super) async fn a_block_taken_before_is_taken_as_done_when_sealed(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.coverage(Op::Seal { at, by: B }).await;
    assert!(env.append(at, 1, &[post("one")]).await.again);
}

pub(super) async fn the_newest_block_with_other_bytes_is_a_conflict(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    let other = append(at, A, 1, block(&[post("eins")]));
    assert_eq!(env.refused(other).await, Refusal::Conflict);
    assert_eq!(env.bodies(at).await, ["one"]);
}

pub(super) async fn an_older_block_is_not_compared(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.append(at, 2, &[post("two")]).await;
    assert!(env.append(at, 1, &[post("eins")]).await.again);
}

pub(super) async fn a_block_beyond_the_next_is_a_gap(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    let third = append(at, A, 3, block(&[post("three")]));
    assert_eq!(env.refused(third).await, Refusal::Gap { frontier: 1 });
    let second = append(at, B, 2, block(&[post("two")]));
    assert_eq!(env.refused(second).await, Refusal::Gap { frontier: 0 });
    let coverage = env.coverage(Op::Probe { at }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 1)]));
}

pub(super) async fn each_producer_has_its_own_blocks(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a1")]).await;
    env.appended(append(at, B, 1, block(&[post("b1")]))).await;
    env.append(at, 2, &[post("a2")]).await;
    assert_eq!(env.bodies(at).await, ["a1", "b1", "a2"]);
    let coverage = env.coverage(Op::Probe { at }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 2), (B, 1)]));
}

pub(super) async fn a_sealed_replica_takes_no_block_whatever_its_number(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.coverage(Op::Seal { at, by: B }).await;
    for number in [2, 5] {
        let next = append(at, A, number, block(&[post("next")]));
        assert_eq!(env.refused(next).await, Refusal::Sealed);
    }
}

pub(super) async fn a_joining_replica_takes_no_block(env: &Env) {
    let at = env.open_joining().await;
    let first = append(at, A, 1, block(&[post("one")]));
    assert_eq!(env.refused(first).await, Refusal::Sealed);
}

pub(super) async fn a_49th_producer_is_refused(env: &Env) {
    let at = env.open().await;
    let bytes = block(&[post("x")]);
    for producer in 1..=48 {
        env.appended(append(at, ProducerId(producer), 1, bytes.clone())).await;
    }
    let more = |number| append(at, ProducerId(49), number, bytes.clone());
    assert_eq!(env.refused(more(1)).await, Refusal::TooManyProducers);
    assert_eq!(env.refused(more(2)).await, Refusal::TooManyProducers);
    env.appended(append(at, ProducerId(48), 2, bytes.clone())).await;
}

pub(super) async fn nothing_stays_of_a_block_for_which_there_is_no_memory(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    let before = env.coverage(Op::Probe { at }).await;
    env.server.fill_memory(true).await;
    let second = append(at, A, 2, block(&[post("two")]));
    assert_eq!(env.refused(second.clone()).await, Refusal::Full);
    assert_eq!(env.coverage(Op::Probe { at }).await, before);
    env.server.fill_memory(false).await;
    assert!(!env.appended(second).await.again);
    assert_eq!(env.bodies(at).await, ["one", "two"]);
}

pub(super) async fn a_full_node_still_answers_and_deletes(env: &Env) {
    let at = env.ended_with(2).await;
    env.server.fill_memory(true).await;
    assert_eq!(env.bodies(at).await.len(), 2);
    let rank = env.pick_rank(at, 1, 1).await;
    let guard = roundelay::node::Guard::ClaimedBy(roundelay::id::ClaimKey(1), rank);
    let ended = env.delete(at, &[message(1, 0)], guard).await;
    assert_eq!(ended, [roundelay::node::DeleteStatus::Ended]);
    env.server.fill_memory(false).await;
}

pub(super) async fn a_block_notes_what_was_acked_and_notes_never_fall(env: &Env) {
    let at = env.open().await;
    for (number, acked, then) in [(1, 0, 0), (2, 1, 1), (3, 0, 1), (4, 3, 3)] {
        env.appended(noting(at, number, acked)).await;
        assert_eq!(noted(env, at).await, then);
    }
}

pub(super) async fn a_note_is_never_above_the_frontier(env: &Env) {
    let at = env.open().await;
    env.appended(noting(at, 1, 9)).await;
    assert_eq!(noted(env, at).await, 1);
    env.done(Op::Note { at, producer: A, noted: 7 }).await;
    assert_eq!(noted(env, at).await, 1);
}

pub(super) async fn a_block_taken_as_done_notes_too(env: &Env) {
    let at = env.open().await;
    env.appended(noting(at, 1, 0)).await;
    assert!(env.appended(noting(at, 1, 1)).await.again);
    assert_eq!(noted(env, at).await, 1);
}

pub(super) async fn a_note_alone_is_taken_open_and_sealed(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.append(at, 2, &[post("two")]).await;
    env.done(Op::Note { at, producer: A, noted: 1 }).await;
    assert_eq!(noted(env, at).await, 1);
    env.coverage(Op::Seal { at, by: B }).await;
    env.done(Op::Note { at, producer: A, noted: 2 }).await;
    assert_eq!(noted(env, at).await, 2);
}

pub(super) async fn a_note_of_an_unknown_producer_changes_nothing(env: &Env) {
    let at = env.open().await;
    env.done(Op::Note { at, producer: B, noted: 2 }).await;
    assert_eq!(env.coverage(Op::Probe { at }).await.producers, []);
}

pub(super) async fn bytes_count_the_blocks_as_they_arrived_and_never_fall(env: &Env) {
    let at = env.open().await;
    let posts = [vec![post("one")], vec![post("a longer one"); 3]];
    let sizes = posts.each_ref().map(|posts| u64::try_from(block(posts).len()).expect("small"));
    assert_eq!(env.append(at, 1, &posts[0]).await.bytes, sizes[0]);
    assert_eq!(env.append(at, 2, &posts[1]).await.bytes, sizes[0] + sizes[1]);
    env.done(tell_end(at, &[(A, 1)])).await;
    env.delete(at, &[message(1, 0)], roundelay::node::Guard::Always).await;
    assert_eq!(env.coverage(Op::Probe { at }).await.bytes, sizes[0] + sizes[1]);
}

pub(super) async fn what_is_no_block_holds_no_message(env: &Env) {
    let at = env.open().await;
    env.appended(append(at, A, 1, "no block".into())).await;
    env.append(at, 2, &[post("two")]).await;
    let page = env.page(read(at, 0, MANY)).await;
    assert_eq!(page.blocks.iter().map(|block| block.count).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(page_bodies(&page), ["two"]);
}
