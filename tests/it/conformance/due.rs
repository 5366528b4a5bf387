//! Which replicas somebody should look at, and their removal.

use roundelay::id::Placement;
use roundelay::node::{Guard, Op, Refusal, Role};

use super::env::Env;
use super::ops::*;

fn nothing() -> [Placement; 0] {
    []
}

pub(super) async fn an_open_replica_with_messages_is_not_due_when_they_expire(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a").ttl(SHORT_MS)]).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.due_places().await, nothing());
}

pub(super) async fn an_open_replica_with_messages_can_be_deferred(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a")]).await;
    env.done(Op::Defer { at, after_ms: 0 }).await;
    assert_eq!(env.due_places().await, [at.placement]);
    env.append(at, 2, &[post("b")]).await;
    assert_eq!(env.due_places().await, [at.placement]);
}

pub(super) async fn a_replica_never_written_to_is_not_due_at_once(env: &Env) {
    env.open().await;
    env.open_joining().await;
    let sealed = env.open().await;
    env.done(tell_end(sealed, &[])).await;
    env.pass_ms(20).await;
    assert_eq!(env.due_places().await, nothing());
}

pub(super) async fn a_sealed_replica_is_due_when_its_last_message_has_expired(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(SHORT_MS), post("b").ttl(SHORT_MS / 2)]]).await;
    assert_eq!(env.due_places().await, nothing());
    env.pass_ms(PASSED_MS).await;
    let due = env.due(Op::Due { cookie: env.cookie, limit: 9 }).await;
    assert_eq!(due.replicas, [(at.placement, segment())]);
}

pub(super) async fn a_sealed_replica_is_due_at_once_when_nothing_is_left(env: &Env) {
    let at = env.ended_with(2).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    assert_eq!(env.due_places().await, nothing());
    env.delete(at, &[message(1, 1)], Guard::Always).await;
    assert_eq!(env.due_places().await, [at.placement]);
}

pub(super) async fn an_end_that_leaves_nothing_makes_a_replica_due(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a")]).await;
    env.done(tell_end(at, &[])).await;
    assert_eq!(env.due_places().await, [at.placement]);
}

pub(super) async fn an_extended_life_counts(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(SHORT_MS)]]).await;
    env.pick_rank(at, 7, 1).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.due_places().await, nothing());
}

pub(super) async fn a_deferred_replica_is_not_named_until_then(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(SHORT_MS)]]).await;
    env.pass_ms(PASSED_MS).await;
    env.done(Op::Defer { at, after_ms: 3_600_000 }).await;
    assert_eq!(env.due_places().await, nothing());
    env.done(Op::Defer { at, after_ms: 20 }).await;
    env.pass_ms(40).await;
    assert_eq!(env.due_places().await, [at.placement]);
}

pub(super) async fn what_is_due_earliest_is_named_first(env: &Env) {
    let later = env.ended_with(1).await;
    let first = env.ended_with(1).await;
    env.delete(first, &[message(1, 0)], Guard::Always).await;
    env.pass_ms(20).await;
    env.delete(later, &[message(1, 0)], Guard::Always).await;
    assert_eq!(env.due_places().await, [first.placement, later.placement]);
    let one = env.due(Op::Due { cookie: env.cookie, limit: 1 }).await;
    assert_eq!(one.replicas, [(first.placement, segment())]);
}

pub(super) async fn a_replica_filled_with_ended_blocks_only_is_due(env: &Env) {
    let from = env.ended_with(1).await;
    env.delete(from, &[message(1, 0)], Guard::Always).await;
    let to = env.open_joining().await;
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    let mut due = env.due_places().await;
    due.sort_unstable();
    assert_eq!(due, [from.placement, to.placement]);
}

pub(super) async fn a_wiped_replica_is_gone_and_not_due(env: &Env) {
    let at = env.ended_with(1).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    assert!(env.wiped(Op::Wipe { at }).await.done);
    assert_eq!(env.refused(Op::Probe { at }).await, Refusal::Gone);
    assert_eq!(env.due_places().await, nothing());
}

pub(super) async fn a_replica_that_never_was_is_wiped(env: &Env) {
    assert!(env.wiped(Op::Wipe { at: env.fresh() }).await.done);
}

pub(super) async fn a_wipe_removes_at_most_512_blocks_a_call(env: &Env) {
    let at = env.open().await;
    let one = block(&[post("x")]);
    for number in 1..=1_030 {
        env.appended(append(at, A, number, one.clone())).await;
    }
    assert!(!env.wiped(Op::Wipe { at }).await.done);
    assert_eq!(env.refused(read(at, 0, 1)).await, Refusal::Gone);
    assert_eq!(env.refused(open(at, Role::Appending)).await, Refusal::Exists);
    assert!(!env.wiped(Op::Wipe { at }).await.done);
    assert!(env.wiped(Op::Wipe { at }).await.done);
    assert!(env.wiped(Op::Wipe { at }).await.done);
}
