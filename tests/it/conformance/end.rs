//! Sealing, the told end, versions, and what each state of a replica allows.

use roundelay::id::{ClaimKey, ProducerId, ReplicaAt, Version};
use roundelay::node::{Guard, HoldStatus, Op, Refusal, Sealed};

use super::env::Env;
use super::ops::*;

async fn sealed(env: &Env, at: ReplicaAt) -> Sealed {
    env.coverage(Op::Probe { at }).await.sealed.expect("it is sealed")
}

async fn version(env: &Env, at: ReplicaAt) -> Version {
    env.coverage(Op::Probe { at }).await.version
}

/// Ops that need the end, but for `Pick`, whose refusals stand elsewhere.
fn needing_the_end(at: ReplicaAt, version: Version) -> [Op; 3] {
    let refs = vec![message(1, 0)];
    let mut hold = hold(at, 1, rank(version.0, 1), &refs);
    hold.version = version;
    let claim = ClaimKey(1);
    let fencing = hold.fencing;
    [
        Op::Hold(hold),
        Op::Delete(roundelay::node::Delete { at, version, refs, guard: Guard::Always }),
        Op::Renew { at, version, claim, fencing, ttl_ms: 1, grace_ms: 0 },
    ]
}

async fn pick_refusal(env: &Env, at: ReplicaAt, version: Version) -> Refusal {
    let mut pick = pick(&[at], 1, 1);
    pick.version = version;
    let mut picked = env.picked(Op::Pick(pick)).await;
    assert_eq!((picked.on, picked.refused.len()), (None, 1));
    picked.refused.remove(0).1
}

pub(super) async fn the_first_sealer_is_remembered(env: &Env) {
    let at = env.open().await;
    assert_eq!(env.coverage(Op::Seal { at, by: A }).await.sealed.map(|sealed| sealed.by), Some(A));
    env.pass_ms(20).await;
    let again = env.coverage(Op::Seal { at, by: B }).await.sealed.expect("it is sealed");
    assert_eq!(again.by, A);
    env.assert_age(again.age_ms, 20);
}

pub(super) async fn a_joining_replica_is_sealed_by_nobody_at_its_opening(env: &Env) {
    let at = env.open_joining().await;
    env.pass_ms(20).await;
    let sealed = sealed(env, at).await;
    assert_eq!(sealed.by, ProducerId(0));
    env.assert_age(sealed.age_ms, 20);
}

pub(super) async fn telling_the_end_seals_an_open_replica(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.done(tell_end(at, &[(A, 1)])).await;
    let coverage = env.coverage(Op::Probe { at }).await;
    assert_eq!(coverage.sealed.map(|sealed| sealed.by), Some(ProducerId(0)));
    assert!(coverage.end_told);
}

pub(super) async fn telling_the_end_keeps_the_first_sealer(env: &Env) {
    let at = env.open().await;
    assert!(!env.coverage(Op::Seal { at, by: B }).await.end_told);
    env.done(tell_end(at, &[])).await;
    assert_eq!(sealed(env, at).await.by, B);
}

pub(super) async fn an_end_that_is_not_covered_is_a_gap_and_changes_nothing(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.appended(append(at, B, 1, block(&[post("b")]))).await;
    env.appended(append(at, B, 2, block(&[post("b")]))).await;
    let before = env.coverage(Op::Probe { at }).await;
    let end = frontier(&[(A, 3), (B, 4), (ProducerId(1), 0)]);
    let told = Op::TellEnd { at, version: V2, end };
    assert_eq!(env.refused(told).await, Refusal::Gap { frontier: 1 });
    assert_eq!(env.coverage(Op::Probe { at }).await, before);
}

pub(super) async fn blocks_above_the_end_cease_to_exist(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.append(at, 2, &[post("two")]).await;
    env.appended(append(at, B, 1, block(&[post("b1")]))).await;
    env.done(tell_end(at, &[(A, 1)])).await;
    assert_eq!(env.bodies(at).await, ["one"]);
    assert_eq!(env.entry(at, message(2, 0)).await, None);
    let coverage = env.coverage(Op::Probe { at }).await;
    assert_eq!(coverage.frontier(), frontier(&[(A, 1)]));
    assert_eq!(coverage.arrived, 3);
}

pub(super) async fn an_end_lowers_notes(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.append(at, 2, &[post("two")]).await;
    env.done(Op::Note { at, producer: A, noted: 2 }).await;
    env.done(tell_end(at, &[(A, 1)])).await;
    assert_eq!(env.coverage(Op::Probe { at }).await.producers[0].noted, 1);
}

pub(super) async fn an_end_may_be_told_again_with_a_lower_one_but_no_higher(env: &Env) {
    let at = env.ended(&[&[post("one")], &[post("two")], &[post("three")]]).await;
    env.done(tell_end(at, &[(A, 2)])).await;
    env.done(tell_end(at, &[(A, 2)])).await;
    assert_eq!(env.bodies(at).await, ["one", "two"]);
    let higher = env.refused(tell_end(at, &[(A, 3)])).await;
    assert_eq!(higher, Refusal::Gap { frontier: 2 });
}

pub(super) async fn a_block_that_a_lower_end_made_the_newest_is_not_compared(env: &Env) {
    let at = env.ended(&[&[post("one")], &[post("two")]]).await;
    env.done(tell_end(at, &[(A, 1)])).await;
    assert!(env.append(at, 1, &[post("eins")]).await.again);
    assert_eq!(env.refused(append(at, A, 2, block(&[post("two")]))).await, Refusal::Sealed);
}

pub(super) async fn what_needs_a_seal_is_refused_on_an_open_replica(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    for op in needing_the_end(at, V1) {
        assert_eq!(env.refused(op).await, Refusal::Open);
    }
    assert_eq!(pick_refusal(env, at, V1).await, Refusal::Open);
    let copies = Op::CopyIn { at, version: V1, blocks: Vec::new() };
    assert_eq!(env.refused(copies).await, Refusal::Open);
    let copy = Op::CopyOut { at, from: 0, max_bytes: 9 };
    assert_eq!(env.refused(copy).await, Refusal::Open);
    assert_eq!(env.refused(read_claim(at, 1, rank(1, 1))).await, Refusal::Open);
}

pub(super) async fn what_needs_the_end_is_refused_before_it_is_told(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    env.coverage(Op::Seal { at, by: A }).await;
    for op in needing_the_end(at, V1) {
        assert_eq!(env.refused(op).await, Refusal::EndUnknown);
    }
    assert_eq!(pick_refusal(env, at, V1).await, Refusal::EndUnknown);
    assert_eq!(env.refused(Op::Stats { at }).await, Refusal::EndUnknown);
    assert_eq!(env.refused(read_claim(at, 1, rank(1, 1))).await, Refusal::NoClaim);
    assert_eq!(env.copies(at).await.len(), 1);
}

pub(super) async fn stats_work_on_an_open_replica(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("one")]).await;
    assert_eq!(env.stats(Op::Stats { at }).await.active, 1);
}

pub(super) async fn a_joining_replica_takes_holds_deletes_and_renewals(env: &Env) {
    let at = env.open_joining().await;
    let held = env.hold(at, 1, rank(1, 1), &[message(1, 0)]).await;
    assert_eq!(held, [HoldStatus::Held]);
    env.renewed(renew(at, 1, rank(1, 1), LONG_MS)).await;
    env.delete(at, &[message(1, 1)], Guard::Always).await;
    assert_eq!(pick_refusal(env, at, V1).await, Refusal::EndUnknown);
    assert_eq!(env.refused(Op::Stats { at }).await, Refusal::EndUnknown);
}

pub(super) async fn a_lower_version_is_stale_and_a_higher_one_raises_it(env: &Env) {
    let at = env.ended_with(1).await;
    env.done(Op::Fence { at, version: Version(5) }).await;
    let stale = Refusal::Stale { version: Version(5) };
    for op in needing_the_end(at, Version(4)) {
        assert_eq!(env.refused(op).await, stale);
    }
    assert_eq!(pick_refusal(env, at, Version(4)).await, stale);
    assert_eq!(env.refused(Op::Fence { at, version: Version(4) }).await, stale);
    let end = Op::TellEnd { at, version: Version(4), end: frontier(&[(A, 1)]) };
    assert_eq!(env.refused(end).await, stale);
    let mut later = hold(at, 1, rank(6, 1), &[message(1, 0)]);
    later.version = Version(6);
    env.held(Op::Hold(later)).await;
    assert_eq!(version(env, at).await, Version(6));
}

pub(super) async fn a_release_is_never_stale(env: &Env) {
    let at = env.ended_with(1).await;
    env.pick_rank(at, 1, 1).await;
    env.done(Op::Fence { at, version: Version(5) }).await;
    env.done(release(at, 1, None)).await;
    let entry = env.entry(at, message(1, 0)).await.expect("it is there");
    assert_eq!(entry.claim, None);
}

pub(super) async fn the_state_is_checked_before_the_version(env: &Env) {
    let at = env.open().await;
    env.done(Op::Fence { at, version: Version(5) }).await;
    assert_eq!(pick_refusal(env, at, V1).await, Refusal::Open);
    env.coverage(Op::Seal { at, by: A }).await;
    assert_eq!(pick_refusal(env, at, V1).await, Refusal::EndUnknown);
}

pub(super) async fn a_refused_renewal_raises_no_version(env: &Env) {
    let at = env.ended_with(1).await;
    let renewal = &needing_the_end(at, Version(9))[2];
    assert_eq!(env.refused(renewal.clone()).await, Refusal::NoClaim);
    assert_eq!(version(env, at).await, V1);
}
