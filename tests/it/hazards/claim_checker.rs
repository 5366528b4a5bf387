//! The checker of claims fires: made-up logs in which a promise is broken.

use super::harness::claim_checker::{Breach, check};
use super::harness::worker::{Answer, Entry};

/// Claim `claim` on message `m`, asked for at `asked`, given 10 ms later, live for 1000.
fn granted(claim: &str, asked: u64) -> Entry {
    Entry::Granted {
        worker: 1,
        claim: claim.into(),
        asked,
        given: asked + 10,
        ttl: 1000,
        ids: vec!["m".into()],
    }
}

fn delete(claim: &str, began: u64, answer: Answer) -> Entry {
    let (claim, id, ended) = (claim.into(), "m".into(), began + 10);
    Entry::Delete { worker: 1, claim, id, began, ended, answer }
}

fn breaches(entries: &[Entry]) -> Vec<Breach> {
    check(&["m".into()], entries)
}

#[test]
fn a_claim_and_a_delete_break_nothing() {
    assert_eq!(breaches(&[granted("a", 0), delete("a", 500, Answer::Deleted)]), []);
}

#[test]
fn two_claims_that_are_live_at_once_are_noticed() {
    let entries = [granted("b", 900), granted("a", 0), delete("b", 950, Answer::Deleted)];
    let claims = ["a".into(), "b".into()];
    assert_eq!(breaches(&entries), [Breach::Twice { id: "m".into(), claims, at: 910 }]);
}

#[test]
fn a_claim_after_another_has_expired_is_right() {
    let entries = [
        granted("a", 0),
        granted("b", 995),
        delete("a", 1001, Answer::NotHeld),
        delete("b", 1100, Answer::Deleted),
    ];
    assert_eq!(breaches(&entries), []);
}

#[test]
fn a_message_that_comes_back_is_noticed() {
    let entries = [granted("a", 0), delete("a", 500, Answer::Deleted), granted("b", 5000)];
    assert!(matches!(breaches(&entries)[..], [Breach::CameBack { deleted: 510, .. }]));
}

#[test]
fn two_deletes_that_found_it_are_noticed() {
    let entries =
        [granted("a", 0), delete("a", 500, Answer::Deleted), delete("a", 600, Answer::Deleted)];
    let twice = Breach::DeletedTwice { id: "m".into(), times: 2 };
    assert_eq!(breaches(&entries), [twice]);
}

#[test]
fn a_message_that_nobody_deleted_is_noticed() {
    assert_eq!(breaches(&[]), [Breach::NeverDeleted { id: "m".into() }]);
    let vanished = breaches(&[granted("a", 0), delete("a", 500, Answer::Absent)]);
    assert!(matches!(vanished[..], [Breach::NeverDeleted { .. }, Breach::Vanished { .. }]));
    let failed = [granted("a", 0), delete("a", 500, Answer::Failed(String::new()))];
    assert!(matches!(breaches(&failed)[..], [Breach::NeverDeleted { .. }]));
}

#[test]
fn an_unknown_delete_explains_that_it_is_gone() {
    let unknown = delete("a", 400, Answer::Unknown(String::new()));
    for after in [Answer::Absent, Answer::NotHeld, Answer::Deleted] {
        assert_eq!(breaches(&[granted("a", 0), unknown.clone(), delete("a", 500, after)]), []);
    }
    assert_eq!(breaches(&[granted("a", 0), unknown]), []);
}

#[test]
fn a_live_claim_that_loses_a_message_is_noticed() {
    let entries = [
        granted("a", 0),
        delete("a", 500, Answer::NotHeld),
        granted("b", 2000),
        delete("b", 2100, Answer::Deleted),
    ];
    assert!(matches!(breaches(&entries)[..], [Breach::Withdrawn { early_ms: 490, .. }]));
}

#[test]
fn a_message_that_was_never_posted_is_noticed() {
    let found = check(&[], &[granted("a", 0)]);
    assert_eq!(found, [Breach::Phantom { id: "m".into(), claim: "a".into() }]);
}
