//! Releasing, renewing and reading claims.

use roundelay::id::ClaimKey;
use roundelay::node::{DeleteStatus, Guard, Op, Refusal};

use super::env::Env;
use super::ops::*;

pub(super) async fn some_messages_of_a_claim_can_be_released(env: &Env) {
    let at = env.ended_with(3).await;
    let fencing = env.pick_rank(at, 7, 3).await;
    let refs = [message(1, 1), message(9, 0)];
    env.done(release(at, 7, Some(&refs))).await;
    env.done(release(at, 7, Some(&refs))).await;
    let entry = env.entry(at, message(1, 1)).await.expect("it is there");
    assert_eq!((entry.claim, entry.times), (None, 1));
    assert_eq!(env.claim(read_claim(at, 7, fencing)).await.entries.len(), 2);
}

pub(super) async fn releasing_all_ends_the_claim(env: &Env) {
    let at = env.ended_with(2).await;
    let fencing = env.pick_rank(at, 7, 2).await;
    env.done(release(at, 7, None)).await;
    assert_eq!(env.refused(read_claim(at, 7, fencing)).await, Refusal::NoClaim);
    assert_eq!(env.refused(renew(at, 7, fencing, 1)).await, Refusal::NoClaim);
    assert_eq!(env.stats(Op::Stats { at }).await.active, 2);
    env.done(release(at, 7, None)).await;
}

pub(super) async fn a_release_does_not_touch_other_claims(env: &Env) {
    let at = env.ended_with(2).await;
    env.pick_rank(at, 7, 1).await;
    env.pick_rank(at, 8, 1).await;
    env.done(release(at, 7, Some(&[message(1, 0), message(1, 1)]))).await;
    let entry = env.entry(at, message(1, 1)).await.expect("it is there");
    assert_eq!(entry.claim.map(|(key, _)| key), Some(ClaimKey(8)));
}

pub(super) async fn a_renewal_restarts_the_claim(env: &Env) {
    let at = env.ended_with(2).await;
    let mut brief = pick(&[at], 7, 2);
    brief.ttl_ms = 5_000;
    let fencing = env.picked(Op::Pick(brief)).await.on.expect("something is picked").1;
    env.pass_ms(20).await;
    assert_eq!(env.renewed(renew(at, 7, fencing, 90_000)).await.messages, 2);
    let claim = env.claim(read_claim(at, 7, fencing)).await;
    assert_eq!(claim.ttl_ms, 90_000);
    env.assert_age(claim.age_ms, 0);
}

pub(super) async fn a_renewal_can_shorten_a_claim(env: &Env) {
    let at = env.ended_with(1).await;
    let fencing = env.pick_rank(at, 7, 1).await;
    env.renewed(renew(at, 7, fencing, SHORT_MS)).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.refused(renew(at, 7, fencing, SHORT_MS)).await, Refusal::NoClaim);
    assert_eq!(env.pick(at, 8, 1).await.entries.len(), 1);
}

pub(super) async fn a_renewal_keeps_messages_alive(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(50_000)]]).await;
    let mut brief = pick(&[at], 7, 1);
    brief.ttl_ms = 10_000;
    let fencing = env.picked(Op::Pick(brief)).await.on.expect("something is picked").1;
    assert_eq!(env.entry(at, message(1, 0)).await.expect("it is there").ttl_ms, 50_000);
    let claim = ClaimKey(7);
    env.renewed(Op::Renew { at, version: V1, claim, fencing, ttl_ms: 60_000, grace_ms: 3_000 })
        .await;
    let entry = env.entry(at, message(1, 0)).await.expect("it is there");
    env.assert_age(u64::from(entry.ttl_ms), 63_000);
}

pub(super) async fn a_renewal_counts_what_has_not_ended(env: &Env) {
    let at = env.ended_with(3).await;
    let fencing = env.pick_rank(at, 7, 3).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    assert_eq!(env.renewed(renew(at, 7, fencing, LONG_MS)).await.messages, 2);
}

pub(super) async fn a_claim_is_its_key_and_its_rank(env: &Env) {
    let at = env.ended_with(1).await;
    let fencing = env.pick_rank(at, 7, 1).await;
    let other = rank(fencing.version.0, fencing.count + 1);
    assert_eq!(env.refused(renew(at, 7, other, 1)).await, Refusal::NoClaim);
    assert_eq!(env.refused(read_claim(at, 7, other)).await, Refusal::NoClaim);
    assert_eq!(env.refused(read_claim(at, 8, fencing)).await, Refusal::NoClaim);
}

pub(super) async fn an_expired_claim_is_none(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = pick(&[at], 7, 1);
    brief.ttl_ms = SHORT_MS;
    let fencing = env.picked(Op::Pick(brief)).await.on.expect("something is picked").1;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.refused(renew(at, 7, fencing, 1)).await, Refusal::NoClaim);
    assert_eq!(env.refused(read_claim(at, 7, fencing)).await, Refusal::NoClaim);
    assert_eq!(env.stats(Op::Stats { at }).await.claimed, 0);
}

pub(super) async fn a_claim_is_read_by_arrival(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b")], &[post("c")]]).await;
    env.hold(at, 7, rank(1, 1), &[message(2, 0), message(1, 1), message(1, 0)]).await;
    env.pass_ms(20).await;
    let claim = env.claim(read_claim(at, 7, rank(1, 1))).await;
    assert_eq!(entry_bodies(&claim.entries), ["a", "b", "c"]);
    assert_eq!(claim.ttl_ms, LONG_MS / 10);
    env.assert_age(claim.age_ms, 20);
}

pub(super) async fn a_claim_whose_messages_were_all_deleted_is_still_there(env: &Env) {
    let at = env.ended_with(1).await;
    let fencing = env.pick_rank(at, 7, 1).await;
    let guard = Guard::ClaimedBy(ClaimKey(7), fencing);
    assert_eq!(env.delete(at, &[message(1, 0)], guard).await, [DeleteStatus::Ended]);
    assert_eq!(env.claim(read_claim(at, 7, fencing)).await.entries, []);
    assert_eq!(env.renewed(renew(at, 7, fencing, LONG_MS)).await.messages, 0);
}
