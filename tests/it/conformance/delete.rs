//! Ending messages.

use roundelay::id::ClaimKey;
use roundelay::node::{DeleteStatus, Guard, Op};

use super::env::Env;
use super::ops::*;

use DeleteStatus::{Absent, Claimed, Ended, NotClaimed};

pub(super) async fn what_is_deleted_has_ended_and_is_absent_then(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b")]]).await;
    let both = [message(1, 0), message(1, 0)];
    assert_eq!(env.delete(at, &both, Guard::Unclaimed).await, [Ended, Absent]);
    assert_eq!(env.bodies(at).await, ["b"]);
    assert_eq!(env.entry(at, message(1, 0)).await, None);
}

pub(super) async fn what_expired_or_never_came_is_absent(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(SHORT_MS)]]).await;
    env.pass_ms(PASSED_MS).await;
    let refs = [message(1, 0), message(1, 1), message(2, 0), message(0, 0)];
    assert_eq!(env.delete(at, &refs, Guard::Always).await, [Absent; 4]);
}

pub(super) async fn an_unclaimed_delete_is_refused_by_a_live_claim(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = pick(&[at], 7, 1);
    brief.ttl_ms = 20_000;
    let fencing = env.picked(Op::Pick(brief)).await.on.expect("something is picked").1;
    assert_eq!(env.delete(at, &[message(1, 0)], Guard::Unclaimed).await, [Claimed]);
    env.renewed(renew(at, 7, fencing, SHORT_MS)).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.delete(at, &[message(1, 0)], Guard::Unclaimed).await, [Ended]);
}

pub(super) async fn a_delete_under_a_claim_needs_that_very_claim(env: &Env) {
    let at = env.ended_with(2).await;
    let fencing = env.pick_rank(at, 7, 1).await;
    let first = [message(1, 0)];
    let other_rank = Guard::ClaimedBy(ClaimKey(7), rank(1, 9));
    assert_eq!(env.delete(at, &first, other_rank).await, [Claimed]);
    let other_key = Guard::ClaimedBy(ClaimKey(8), fencing);
    assert_eq!(env.delete(at, &first, other_key).await, [Claimed]);
    let own = Guard::ClaimedBy(ClaimKey(7), fencing);
    assert_eq!(env.delete(at, &[message(1, 1)], own).await, [NotClaimed]);
    assert_eq!(env.delete(at, &first, own).await, [Ended]);
}

pub(super) async fn a_delete_under_an_expired_claim_is_refused(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = pick(&[at], 7, 1);
    brief.ttl_ms = SHORT_MS;
    let fencing = env.picked(Op::Pick(brief)).await.on.expect("something is picked").1;
    env.pass_ms(PASSED_MS).await;
    let guard = Guard::ClaimedBy(ClaimKey(7), fencing);
    assert_eq!(env.delete(at, &[message(1, 0)], guard).await, [NotClaimed]);
    assert!(env.entry(at, message(1, 0)).await.is_some());
}

pub(super) async fn a_delete_may_be_made_whether_claimed_or_not(env: &Env) {
    let at = env.ended_with(2).await;
    env.pick_rank(at, 7, 1).await;
    let refs = [message(1, 0), message(1, 1)];
    assert_eq!(env.delete(at, &refs, Guard::Always).await, [Ended, Ended]);
}

pub(super) async fn a_delete_tells_how_many_messages_are_left(env: &Env) {
    let at = env.ended_with(3).await;
    let deleted = env.deleted(delete(at, &[message(1, 1)], Guard::Always)).await;
    assert_eq!(deleted.live, 2);
    let deleted = env.deleted(delete(at, &[message(1, 1)], Guard::Always)).await;
    assert_eq!(deleted.live, 2);
}

pub(super) async fn a_delete_before_its_block_leaves_a_tombstone(env: &Env) {
    let (from, to) = (env.ended_with(2).await, env.open_joining().await);
    let guard = Guard::ClaimedBy(ClaimKey(1), rank(1, 1));
    for _ in 0..2 {
        assert_eq!(env.delete(to, &[message(1, 0)], guard).await, [Ended]);
    }
    let held = env.hold(to, 7, rank(1, 1), &[message(1, 0)]).await;
    assert_eq!(held, [roundelay::node::HoldStatus::Ended]);
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    assert_eq!(env.entry(to, message(1, 0)).await, None);
    assert!(env.entry(to, message(1, 1)).await.is_some());
}
