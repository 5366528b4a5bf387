//! Picking messages for a claim.

use roundelay::id::{ClaimKey, Version};
use roundelay::node::{Guard, Op, Refusal};

use super::env::Env;
use super::ops::*;

pub(super) async fn a_pick_marks_the_first_messages_by_arrival(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b")], &[post("c"), post("d")]]).await;
    let picked = env.pick(at, 7, 3).await;
    assert_eq!(picked.on, Some((at.placement, rank(1, 1))));
    assert_eq!(entry_bodies(&picked.entries), ["a", "b", "c"]);
    for entry in &picked.entries {
        assert_eq!((entry.claim, entry.times), (Some((ClaimKey(7), rank(1, 1))), 1));
    }
    assert_eq!(picked.refused, []);
    assert_eq!(entry_bodies(&env.pick(at, 8, 3).await.entries), ["d"]);
}

pub(super) async fn a_pick_passes_over_what_is_ended_expired_delayed_or_held(env: &Env) {
    let posts = [
        post("deleted"),
        post("expired").ttl(SHORT_MS),
        post("held"),
        post("delayed").delay(LONG_MS / 2),
        post("late").delay(SHORT_MS),
        post("free"),
    ];
    let at = env.ended(&[&posts]).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    env.hold(at, 1, rank(1, 1), &[message(1, 2)]).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(entry_bodies(&env.pick(at, 2, MANY).await.entries), ["late", "free"]);
}

pub(super) async fn a_message_can_be_picked_once_its_delay_has_passed(env: &Env) {
    let at = env.ended(&[&[post("a").delay(SHORT_MS), post("b"), post("c")]]).await;
    assert_eq!(entry_bodies(&env.pick(at, 1, 1).await.entries), ["b"]);
    env.pass_ms(PASSED_MS).await;
    assert_eq!(entry_bodies(&env.pick(at, 2, MANY).await.entries), ["a", "c"]);
}

pub(super) async fn a_repeated_pick_returns_the_same_messages_and_rank(env: &Env) {
    let at = env.ended_with(5).await;
    let first = env.pick(at, 7, 3).await;
    let again = env.pick(at, 7, 1).await;
    assert_eq!(again.on, first.on);
    let places = |picked: &roundelay::node::Picked| -> Vec<_> {
        picked.entries.iter().map(|entry| (entry.at, entry.times)).collect()
    };
    assert_eq!(places(&again), places(&first));
    assert_eq!(env.pick_rank(at, 8, 1).await, rank(1, 2));
}

pub(super) async fn a_repeated_pick_leaves_out_what_was_deleted_or_released(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b"), post("c")]]).await;
    env.pick_rank(at, 7, 3).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    env.done(release(at, 7, Some(&[message(1, 1)]))).await;
    assert_eq!(entry_bodies(&env.pick(at, 7, 3).await.entries), ["c"]);
    env.delete(at, &[message(1, 2)], Guard::Always).await;
    let emptied = env.pick(at, 7, 3).await;
    assert_eq!((emptied.on, emptied.entries), (Some((at.placement, rank(1, 1))), vec![]));
}

pub(super) async fn a_repeated_pick_finds_its_claim_on_a_later_replica(env: &Env) {
    let (first, second) = (env.ended_with(1).await, env.ended_with(1).await);
    env.pick_rank(second, 7, 1).await;
    let picked = env.picked(Op::Pick(pick(&[first, second], 7, 1))).await;
    assert_eq!(picked.on, Some((second.placement, rank(1, 1))));
}

pub(super) async fn a_pick_takes_from_the_first_replica_that_has_some(env: &Env) {
    let (empty, full, other) =
        (env.ended_with(0).await, env.ended_with(1).await, env.ended_with(1).await);
    let on = [empty, full, other];
    let picked = env.picked(Op::Pick(pick(&on, 1, MANY))).await;
    assert_eq!(picked.on.map(|(placement, _)| placement), Some(full.placement));
    assert_eq!(picked.entries.len(), 1);
}

pub(super) async fn a_pick_names_the_replicas_refused_on_the_way(env: &Env) {
    let (absent, open, full) = (env.fresh(), env.open().await, env.ended_with(1).await);
    let on = [absent, open, full, env.fresh()];
    let picked = env.picked(Op::Pick(pick(&on, 1, 1))).await;
    assert_eq!(picked.on.map(|(placement, _)| placement), Some(full.placement));
    let refused = [(absent.placement, Refusal::Gone), (open.placement, Refusal::Open)];
    assert_eq!(picked.refused, refused);
}

pub(super) async fn a_pick_that_finds_nothing_changes_nothing(env: &Env) {
    let at = env.ended_with(0).await;
    let mut pick = pick(&[at], 1, 1);
    pick.version = Version(9);
    let picked = env.picked(Op::Pick(pick)).await;
    assert_eq!((picked.on, picked.entries.len(), picked.refused.len()), (None, 0, 0));
    assert_eq!(env.coverage(Op::Probe { at }).await.version, V1);
    assert_eq!(env.refused(read_claim(at, 1, rank(9, 1))).await, Refusal::NoClaim);
}

pub(super) async fn a_picks_rank_is_the_requests_version_and_the_replicas_count(env: &Env) {
    let at = env.ended_with(3).await;
    assert_eq!(env.pick_rank(at, 1, 1).await, rank(1, 1));
    assert_eq!(env.pick_rank(at, 2, 1).await, rank(1, 2));
    let mut later = pick(&[at], 3, 1);
    later.version = Version(4);
    let picked = env.picked(Op::Pick(later)).await;
    assert_eq!(picked.on, Some((at.placement, rank(4, 3))));
    assert_eq!(env.coverage(Op::Probe { at }).await.version, Version(4));
}

pub(super) async fn a_pick_stops_before_a_message_that_is_too_much(env: &Env) {
    let at = env.ended(&[&[post("aaaa"), post("bbbb"), post("c")]]).await;
    let mut small = pick(&[at], 1, MANY);
    small.max_bytes = 7;
    let picked = env.picked(Op::Pick(small.clone())).await;
    assert_eq!(entry_bodies(&picked.entries), ["aaaa"]);
    (small.claim, small.max_bytes) = (ClaimKey(2), 1);
    let picked = env.picked(Op::Pick(small)).await;
    assert_eq!(entry_bodies(&picked.entries), ["bbbb"]);
}

pub(super) async fn a_marked_message_outlives_its_claim_by_the_grace(env: &Env) {
    let at = env
        .ended(&[&[post("brief").ttl(50_000), post("long"), post("in between").ttl(63_000)]])
        .await;
    env.pass_ms(10).await;
    let mut pick = pick(&[at], 1, 3);
    (pick.ttl_ms, pick.grace_ms) = (60_000, 7_000);
    let picked = env.picked(Op::Pick(pick)).await;
    env.assert_age(u64::from(picked.entries[0].ttl_ms), 67_010);
    assert_eq!(picked.entries[1].ttl_ms, LONG_MS);
    assert_eq!(picked.entries[2].ttl_ms, 63_000, "it does not expire before the claim");
    let entry = env.entry(at, message(1, 0)).await.expect("it is there");
    assert_eq!(entry.ttl_ms, picked.entries[0].ttl_ms);
}

pub(super) async fn an_expired_claims_messages_can_be_picked_again(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b")]]).await;
    let mut brief = pick(&[at], 1, 1);
    brief.ttl_ms = SHORT_MS;
    env.picked(Op::Pick(brief)).await;
    env.pass_ms(PASSED_MS).await;
    let entry = env.entry(at, message(1, 0)).await.expect("it is there");
    assert_eq!((entry.claim, entry.times), (None, 1));
    let picked = env.pick(at, 2, MANY).await;
    assert_eq!(entry_bodies(&picked.entries), ["a", "b"]);
    assert_eq!(picked.entries[0].times, 2);
    assert_eq!(picked.on.map(|(_, rank)| rank), Some(rank(1, 2)));
}

pub(super) async fn an_expired_claims_key_can_pick_anew(env: &Env) {
    let at = env.ended_with(1).await;
    let mut brief = pick(&[at], 1, 1);
    brief.ttl_ms = SHORT_MS;
    env.picked(Op::Pick(brief)).await;
    env.pass_ms(PASSED_MS).await;
    assert_eq!(env.pick_rank(at, 1, 1).await, rank(1, 2));
}

pub(super) async fn released_messages_are_picked_before_later_ones(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b"), post("c")]]).await;
    env.pick_rank(at, 1, 2).await;
    env.done(release(at, 1, Some(&[message(1, 1)]))).await;
    assert_eq!(entry_bodies(&env.pick(at, 2, MANY).await.entries), ["b", "c"]);
    env.done(release(at, 1, None)).await;
    assert_eq!(entry_bodies(&env.pick(at, 3, MANY).await.entries), ["a"]);
}
