//! Marking the messages that were picked elsewhere.

use roundelay::node::{Guard, HoldStatus, Op, Refusal};

use super::env::Env;
use super::ops::*;

use HoldStatus::{Ended, Held, Outranked};

const M0: fn() -> roundelay::id::MessageRef = || message(1, 0);

pub(super) async fn a_hold_marks_what_nobody_marked(env: &Env) {
    let at = env.ended_with(2).await;
    let each = env.hold(at, 7, rank(1, 5), &[message(1, 1), M0()]).await;
    assert_eq!(each, [Held, Held]);
    let entry = env.entry(at, M0()).await.expect("it is there");
    assert_eq!((entry.claim.map(|(_, rank)| rank), entry.times), (Some(rank(1, 5)), 1));
    let claim = env.claim(read_claim(at, 7, rank(1, 5))).await;
    assert_eq!(claim.entries.len(), 2);
}

pub(super) async fn what_ended_expired_or_never_came_cannot_be_held(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b").ttl(SHORT_MS)]]).await;
    env.delete(at, &[M0()], Guard::Always).await;
    env.pass_ms(PASSED_MS).await;
    let refs = [M0(), message(1, 1), message(1, 2), message(2, 0), message(0, 0)];
    assert_eq!(env.hold(at, 7, rank(1, 1), &refs).await, [Ended; 5]);
}

pub(super) async fn nothing_held_records_no_claim(env: &Env) {
    let at = env.ended_with(1).await;
    assert_eq!(env.hold(at, 7, rank(1, 1), &[message(1, 9)]).await, [Ended]);
    assert_eq!(env.refused(read_claim(at, 7, rank(1, 1))).await, Refusal::NoClaim);
}

pub(super) async fn holding_again_restarts_the_time_but_does_not_count(env: &Env) {
    let at = env.ended_with(1).await;
    let mut again = hold(at, 7, rank(1, 1), &[M0()]);
    env.held(Op::Hold(again.clone())).await;
    env.pass_ms(20).await;
    again.ttl_ms = LONG_MS / 2;
    assert_eq!(env.held(Op::Hold(again)).await.each, [Held]);
    let claim = env.claim(read_claim(at, 7, rank(1, 1))).await;
    assert_eq!((claim.ttl_ms, claim.entries[0].times), (LONG_MS / 2, 1));
    env.assert_age(claim.age_ms, 0);
}

pub(super) async fn holding_an_expired_claim_again_revives_it(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = hold(at, 7, rank(1, 1), &[M0()]);
    brief.ttl_ms = SHORT_MS;
    env.held(Op::Hold(brief)).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.hold(at, 7, rank(1, 1), &[M0()]).await, [Held]);
    let entry = env.entry(at, M0()).await.expect("it is there");
    assert_eq!((entry.claim.is_some(), entry.times), (true, 1));
}

pub(super) async fn a_live_claim_outranks_a_higher_rank(env: &Env) {
    let at = env.ended_with(1).await;
    env.hold(at, 7, rank(1, 1), &[M0()]).await;
    assert_eq!(env.hold(at, 8, rank(2, 9), &[M0()]).await, [Outranked]);
    let entry = env.entry(at, M0()).await.expect("it is there");
    assert_eq!(entry.claim.map(|(key, _)| key.0), Some(7));
}

pub(super) async fn an_expired_claim_outranks_the_same_and_lower_ranks_only(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = hold(at, 7, rank(1, 5), &[M0()]);
    brief.ttl_ms = SHORT_MS;
    env.held(Op::Hold(brief)).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.hold(at, 8, rank(1, 4), &[M0()]).await, [Outranked]);
    assert_eq!(env.hold(at, 8, rank(1, 5), &[M0()]).await, [Outranked]);
    assert_eq!(env.hold(at, 8, rank(1, 6), &[M0()]).await, [Held]);
    assert_eq!(env.entry(at, M0()).await.expect("it is there").times, 2);
}

pub(super) async fn the_version_comes_before_the_count_in_a_rank(env: &Env) {
    let at = env.ended_with(1).await;
    env.hold(at, 7, rank(1, 500), &[M0()]).await;
    env.done(release(at, 7, None)).await;
    assert_eq!(env.hold(at, 8, rank(2, 1), &[M0()]).await, [Held]);
}

pub(super) async fn a_late_hold_does_not_take_back_a_release(env: &Env) {
    let at = env.ended_with(1).await;
    env.hold(at, 7, rank(1, 1), &[M0()]).await;
    env.done(release(at, 7, None)).await;
    assert_eq!(env.hold(at, 7, rank(1, 1), &[M0()]).await, [Outranked]);
    assert_eq!(env.refused(read_claim(at, 7, rank(1, 1))).await, Refusal::NoClaim);
}

pub(super) async fn each_message_of_a_hold_is_judged_alone(env: &Env) {
    let at = env.ended_with(3).await;
    env.hold(at, 7, rank(1, 1), &[message(1, 1)]).await;
    env.delete(at, &[message(1, 2)], Guard::Always).await;
    let refs = [M0(), message(1, 1), message(1, 2), M0()];
    let each = env.hold(at, 8, rank(1, 2), &refs).await;
    assert_eq!(each, [Held, Outranked, Ended, Held]);
    assert_eq!(env.entry(at, M0()).await.expect("it is there").times, 1);
}

pub(super) async fn a_held_message_outlives_the_claim_by_the_grace(env: &Env) {
    let at = env.ended(&[&[post("a").ttl(50_000)]]).await;
    let mut longer = hold(at, 7, rank(1, 1), &[M0()]);
    (longer.ttl_ms, longer.grace_ms) = (60_000, 5_000);
    env.held(Op::Hold(longer)).await;
    let entry = env.entry(at, M0()).await.expect("it is there");
    env.assert_age(u64::from(entry.ttl_ms), 65_000);
}

pub(super) async fn a_key_recorded_under_another_rank_lets_its_earlier_messages_go(env: &Env) {
    let at = env.ended_with(2).await;
    env.hold(at, 7, rank(1, 1), &[M0()]).await;
    env.hold(at, 7, rank(1, 2), &[message(1, 1)]).await;
    assert_eq!(env.entry(at, M0()).await.expect("it is there").claim, None);
    assert_eq!(env.refused(read_claim(at, 7, rank(1, 1))).await, Refusal::NoClaim);
    assert_eq!(env.pick(at, 8, MANY).await.entries.len(), 1);
}

pub(super) async fn a_joining_replica_remembers_holds_of_unknown_blocks(env: &Env) {
    let (from, to) = (env.ended_with(2).await, env.open_joining().await);
    assert_eq!(env.hold(to, 7, rank(1, 3), &[M0()]).await, [Held]);
    assert_eq!(env.hold(to, 7, rank(1, 3), &[M0()]).await, [Held]);
    assert_eq!(env.hold(to, 8, rank(1, 4), &[M0()]).await, [Outranked]);
    assert_eq!(env.renewed(renew(to, 7, rank(1, 3), LONG_MS)).await.messages, 0);
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    let entry = env.entry(to, M0()).await.expect("it is there");
    assert_eq!((entry.claim.map(|(_, rank)| rank), entry.times), (Some(rank(1, 3)), 1));
    assert_eq!(env.renewed(renew(to, 7, rank(1, 3), LONG_MS)).await.messages, 1);
}

pub(super) async fn a_remembered_hold_keeps_its_message_alive(env: &Env) {
    let from = env.ended(&[&[post("a").ttl(50_000)]]).await;
    let to = env.open_joining().await;
    let mut longer = hold(to, 7, rank(1, 1), &[M0()]);
    (longer.ttl_ms, longer.grace_ms) = (60_000, 5_000);
    env.held(Op::Hold(longer)).await;
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    let entry = env.entry(to, M0()).await.expect("it is there");
    // Counted from its arrival here, which is later by the time that the copy was on its way.
    assert!((60_000..=70_000).contains(&entry.ttl_ms), "{}", entry.ttl_ms);
}

pub(super) async fn a_remembered_hold_can_be_released_before_its_block_comes(env: &Env) {
    let (from, to) = (env.ended_with(1).await, env.open_joining().await);
    env.hold(to, 7, rank(1, 3), &[M0()]).await;
    env.done(release(to, 7, None)).await;
    assert_eq!(env.hold(to, 8, rank(1, 3), &[M0()]).await, [Outranked]);
    let blocks = env.copies(from).await;
    env.coverage(Op::CopyIn { at: to, version: V1, blocks }).await;
    let entry = env.entry(to, M0()).await.expect("it is there");
    assert_eq!((entry.claim, entry.times), (None, 1));
}

pub(super) async fn a_replica_that_knows_its_end_remembers_nothing(env: &Env) {
    let to = env.open_joining().await;
    env.done(tell_end(to, &[])).await;
    assert_eq!(env.hold(to, 7, rank(1, 3), &[M0()]).await, [Ended]);
}
