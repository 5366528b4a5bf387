//! Copying replicas, and merging their state.

use roundelay::block::Block;
use roundelay::id::{ClaimKey, ReplicaAt};
use roundelay::node::{CopiedBlock, CopiedMark, Guard, Op, Refusal};

use super::env::Env;
use super::ops::*;

async fn copy(env: &Env, from: ReplicaAt, to: ReplicaAt) {
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
}

/// The first block of `A` with one mark on its first message.
fn marked(bytes: bytes::Bytes, mark: CopiedMark) -> CopiedBlock {
    CopiedBlock { producer: A, block: 1, age_ms: 0, bytes: Some(bytes), marks: vec![mark] }
}

fn mark(claim: u64, count: u32, times: u32, left_ms: Option<u64>) -> CopiedMark {
    let (claim, fencing) = (ClaimKey(claim), rank(1, count));
    let ttl_ms = if left_ms.is_some() { LONG_MS } else { 0 };
    CopiedMark { index: 0, claim, fencing, times, left_ms, ttl_ms }
}

async fn merge(env: &Env, at: ReplicaAt, mark: CopiedMark) {
    let blocks = vec![marked(block(&[post("body")]), mark)];
    env.coverage(Op::CopyIn { at, version: V1, blocks }).await;
}

async fn claim_of(env: &Env, at: ReplicaAt) -> (Option<u64>, u32) {
    let entry = env.entry(at, message(1, 0)).await.expect("it is there");
    (entry.claim.map(|(key, _)| key.0), entry.times)
}

pub(super) async fn a_copy_has_the_same_messages_under_its_own_ordinals(env: &Env) {
    let (from, to) = (env.open().await, env.open_joining().await);
    env.appended(append(from, B, 1, block(&[post("b1")]))).await;
    env.append(from, 1, &[post("a1").ttl(77_000).delay(55_000).client("me")]).await;
    env.coverage(Op::Seal { at: from, by: A }).await;
    env.pass_ms(20).await;
    let mut blocks = env.copies(from).await;
    blocks.reverse();
    let coverage = env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 1), (B, 1)]));
    assert_eq!((coverage.arrived, coverage.end_told), (2, false));
    assert_eq!(env.bodies(to).await, ["a1", "b1"]);
    let entry = env.entry(to, message(1, 0)).await.expect("it is there");
    assert_eq!((entry.ttl_ms, entry.delay_ms), (77_000, 55_000));
    assert_eq!(entry.client.as_ref().map(|client| client.as_str()), Some("me"));
    env.assert_age(entry.age_ms, 20);
}

pub(super) async fn copied_bytes_are_counted_as_they_arrive(env: &Env) {
    let (from, to) = (env.ended_with(2).await, env.open_joining().await);
    let blocks = env.copies(from).await;
    let bytes = blocks[0].bytes.as_ref().map_or(0, bytes::Bytes::len);
    let coverage = env.coverage(Op::CopyIn { at: to, version: V1, blocks: blocks.clone() }).await;
    assert_eq!(coverage.bytes, u64::try_from(bytes).expect("small"));
    assert_eq!(
        env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await.bytes,
        coverage.bytes
    );
}

pub(super) async fn a_batch_ends_at_its_bytes_and_goes_on_from_next(env: &Env) {
    let at = env.ended(&[&[post("a")], &[post("b")], &[post("c")]]).await;
    let first = env.batch(Op::CopyOut { at, from: 0, max_bytes: 0 }).await;
    assert_eq!((first.blocks.len(), first.next, first.done), (1, 1, false));
    let rest = env.batch(Op::CopyOut { at, from: 1, max_bytes: u32::MAX }).await;
    assert_eq!((rest.blocks.len(), rest.next, rest.done), (2, 3, true));
    let none = env.batch(Op::CopyOut { at, from: 3, max_bytes: u32::MAX }).await;
    assert_eq!((none.blocks.len(), none.next, none.done), (0, 3, true));
}

pub(super) async fn a_batch_has_at_most_1024_blocks(env: &Env) {
    let at = env.open().await;
    let one = block(&[post("x")]);
    for number in 1..=1_025 {
        env.appended(append(at, A, number, one.clone())).await;
    }
    env.coverage(Op::Seal { at, by: A }).await;
    let batch = env.batch(Op::CopyOut { at, from: 0, max_bytes: u32::MAX }).await;
    assert_eq!((batch.blocks.len(), batch.next, batch.done), (1_024, 1_024, false));
}

pub(super) async fn a_block_whose_messages_all_ended_travels_without_bytes(env: &Env) {
    let from = env.ended(&[&[post("a")], &[post("b").ttl(SHORT_MS)], &[post("c")]]).await;
    env.delete(from, &[message(1, 0)], Guard::Always).await;
    env.pass_ms(PASSED_MS).await;
    let blocks = env.copies(from).await;
    let with_bytes: Vec<bool> = blocks.iter().map(|block| block.bytes.is_some()).collect();
    assert_eq!(with_bytes, [false, false, true]);
    let to = env.open_joining().await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    let page = env.page(read(to, 0, MANY)).await;
    let counts: Vec<(u16, u16)> =
        page.blocks.iter().map(|block| (block.count, block.passed)).collect();
    assert_eq!(counts, [(0, 0), (0, 0), (1, 1)]);
    assert_eq!(page_bodies(&page), ["c"]);
}

pub(super) async fn ended_messages_of_a_block_do_not_travel(env: &Env) {
    let (from, to) = (env.ended(&[&[post("a"), post("b")]]).await, env.open_joining().await);
    env.delete(from, &[message(1, 0)], Guard::Always).await;
    let blocks = env.copies(from).await;
    let bytes = blocks[0].bytes.clone().expect("one message is left");
    let stored = Block::decode(&bytes).expect("it is a block");
    assert_eq!((stored.sent, stored.records.len(), stored.records[0].index), (2, 1, 1));
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    assert_eq!(env.bodies(to).await, ["b"]);
    assert_eq!(page_refs(&env.page(read(to, 0, 9)).await), [message(1, 1)]);
}

pub(super) async fn a_claim_travels_with_its_time_left(env: &Env) {
    let (from, to) = (env.ended_with(1).await, env.open_joining().await);
    let fencing = env.pick_rank(from, 7, 1).await;
    env.pass_ms(20).await;
    copy(env, from, to).await;
    let claim = env.claim(read_claim(to, 7, fencing)).await;
    assert_eq!((claim.ttl_ms, claim.entries.len()), (LONG_MS / 10, 1));
    env.assert_age(claim.age_ms, 20);
}

pub(super) async fn a_released_or_expired_mark_travels_without_time(env: &Env) {
    let from = env.ended_with(3).await;
    let mut brief = pick(&[from], 7, 1);
    brief.ttl_ms = SHORT_MS;
    env.picked(Op::Pick(brief)).await;
    env.pick_rank(from, 8, 1).await;
    env.done(release(from, 8, None)).await;
    env.pass_ms(PASSED_MS).await;
    let marks = env.copies(from).await.remove(0).marks;
    let told: Vec<_> = marks.iter().map(|mark| (mark.claim.0, mark.left_ms)).collect();
    assert_eq!(told, [(7, None), (8, None)]);
    assert_eq!((marks[0].ttl_ms, marks[0].times, marks[1].fencing), (0, 1, rank(1, 2)));
}

/// Its source may have been dropped since.
pub(super) async fn a_copy_of_an_older_version_is_refused(env: &Env) {
    let from = env.ended_with(1).await;
    let to = env.open_joining().await;
    env.done(Op::Fence { at: to, version: V2 }).await;
    let blocks = env.copies(from).await;
    let old = Op::CopyIn { at: to, version: V1, blocks: blocks.clone() };
    assert_eq!(env.refused(old).await, Refusal::Stale { version: V2 });
    assert_eq!(env.bodies(to).await, [""; 0]);
    let newer = roundelay::id::Version(3);
    env.coverage(Op::CopyIn { at: to, version: newer, blocks }).await;
    assert_eq!(
        env.refused(Op::Fence { at: to, version: V2 }).await,
        Refusal::Stale { version: newer }
    );
}

pub(super) async fn a_copy_above_the_told_end_is_passed_over(env: &Env) {
    let from = env.ended(&[&[post("a")], &[post("b")], &[post("c")]]).await;
    let to = env.open_joining().await;
    copy(env, from, to).await;
    env.done(tell_end(to, &[(A, 1)])).await;
    copy(env, from, to).await;
    assert_eq!(env.bodies(to).await, ["a"]);
    let coverage = env.coverage(Op::Probe { at: to }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 1)]));
    // Nor is it left behind: a batch that is taken ends as it does.
    assert!(env.wiped(Op::Wipe { at: to }).await.done);
}

pub(super) async fn a_copy_that_leaves_a_gap_is_refused_whole(env: &Env) {
    let from = env.ended(&[&[post("a")], &[post("b")], &[post("c")]]).await;
    let to = env.open_joining().await;
    let mut blocks = env.copies(from).await;
    blocks.remove(1);
    let refused = env.refused(Op::CopyIn { at: to, version: V1, blocks }).await;
    assert_eq!(refused, Refusal::Gap { frontier: 0 });
    assert_eq!(env.coverage(Op::Probe { at: to }).await.arrived, 0);
}

pub(super) async fn a_copy_for_which_there_is_no_memory_is_refused_whole(env: &Env) {
    let (from, to) = (env.ended_with(3).await, env.open_joining().await);
    let blocks = env.copies(from).await;
    env.server.fill_memory(true).await;
    let refused = env.refused(Op::CopyIn { at: to, version: V1, blocks }).await;
    assert_eq!(refused, Refusal::Full);
    assert_eq!(env.coverage(Op::Probe { at: to }).await.arrived, 0);
    env.server.fill_memory(false).await;
}

pub(super) async fn a_copied_block_is_not_compared(env: &Env) {
    let (from, to) = (env.ended_with(1).await, env.open_joining().await);
    copy(env, from, to).await;
    assert!(env.append(to, 1, &[post("other")]).await.again);
}

pub(super) async fn merged_messages_end_if_they_ended_on_either_side(env: &Env) {
    let posts = [post("a"), post("b"), post("c").ttl(SHORT_MS), post("d")];
    let (from, to) = (env.ended(&[&posts]).await, env.open_joining().await);
    copy(env, from, to).await;
    env.delete(from, &[message(1, 0)], Guard::Always).await;
    env.delete(to, &[message(1, 1)], Guard::Always).await;
    env.pass_ms(PASSED_MS).await;
    copy(env, from, to).await;
    assert_eq!(env.bodies(to).await, ["d"]);
}

pub(super) async fn a_block_without_bytes_ends_all_its_messages(env: &Env) {
    let (from, to) = (env.ended_with(1).await, env.open_joining().await);
    copy(env, from, to).await;
    env.delete(from, &[message(1, 0)], Guard::Always).await;
    copy(env, from, to).await;
    assert_eq!(env.entry(to, message(1, 0)).await, None);
}

pub(super) async fn an_expired_message_does_not_come_back_by_a_copy(env: &Env) {
    let at = env.ended(&[&[post("body").ttl(SHORT_MS)]]).await;
    env.pass_ms(PASSED_MS).await;
    merge(env, at, mark(7, 1, 1, None)).await;
    assert_eq!(env.entry(at, message(1, 0)).await, None);
}

pub(super) async fn of_two_lives_the_longer_one_stays(env: &Env) {
    let at = env.ended(&[&[post("body").ttl(50_000)]]).await;
    merge(env, at, mark(7, 1, 1, None)).await;
    assert_eq!(env.entry(at, message(1, 0)).await.expect("it is there").ttl_ms, LONG_MS);
    let shorter = marked(block(&[post("body").ttl(60_000)]), mark(7, 1, 1, None));
    env.coverage(Op::CopyIn { at, version: V1, blocks: vec![shorter] }).await;
    assert_eq!(env.entry(at, message(1, 0)).await.expect("it is there").ttl_ms, LONG_MS);
}

pub(super) async fn of_two_marks_the_higher_rank_stays(env: &Env) {
    let at = env.ended_with(1).await;
    env.hold(at, 7, rank(1, 5), &[message(1, 0)]).await;
    merge(env, at, mark(8, 4, 9, Some(30_000))).await;
    assert_eq!(claim_of(env, at).await, (Some(7), 9));
    merge(env, at, mark(9, 6, 2, Some(30_000))).await;
    assert_eq!(claim_of(env, at).await, (Some(9), 9));
    let renewed = env.renewed(renew(at, 9, rank(1, 6), LONG_MS)).await;
    assert_eq!(renewed.messages, 1);
}

pub(super) async fn a_released_mark_of_a_higher_rank_frees_a_message(env: &Env) {
    let at = env.ended_with(1).await;
    env.pick_rank(at, 7, 1).await;
    merge(env, at, mark(8, 5, 2, None)).await;
    assert_eq!(claim_of(env, at).await, (None, 2));
    assert_eq!(env.pick(at, 9, 1).await.entries.len(), 1);
}

pub(super) async fn of_two_marks_of_the_same_rank_the_one_with_more_time_stays(env: &Env) {
    let at = env.ended_with(1).await;
    let fencing = env.pick_rank(at, 7, 1).await;
    merge(env, at, mark(7, 1, 1, Some(500_000))).await;
    let claim = env.claim(read_claim(at, 7, fencing)).await;
    assert_eq!(claim.ttl_ms, LONG_MS);
    env.assert_age(claim.age_ms, 100_000);
    merge(env, at, mark(7, 1, 1, Some(9))).await;
    merge(env, at, mark(7, 1, 1, None)).await;
    assert_eq!(claim_of(env, at).await, (Some(7), 1));
    env.done(release(at, 7, None)).await;
    merge(env, at, mark(7, 1, 1, Some(500_000))).await;
    assert_eq!(claim_of(env, at).await, (Some(7), 1));
}
