//! The checker of posts fires: made-up logs in which a promise is broken.

use std::time::Duration;

use super::harness::events::Origin;
use super::harness::post_checker::{Breach, check};
use super::harness::posters::{Acked, Posted, Refused};
use super::harness::readers::{Seen, Walk};

fn id(event: Origin) -> String {
    format!("{}-{}", event.producer, event.seq)
}

fn event(producer: u64, seq: u64) -> Origin {
    Origin { producer, seq }
}

/// Two producers of five events each, all acked.
fn posted() -> Vec<Posted> {
    let acked = |producer, seq| Acked { seq, id: id(event(producer, seq)), at: Duration::ZERO };
    let posted = |producer| Posted {
        producer,
        sent: 5,
        acked: (1..=5).map(|seq| acked(producer, seq)).collect(),
        ..Posted::default()
    };
    vec![posted(1), posted(2)]
}

fn seen(event: Origin) -> Seen {
    Seen { id: id(event), event: Some((event, true)) }
}

fn walk() -> Walk {
    let seen = (1..=5).flat_map(|seq| [seen(event(1, seq)), seen(event(2, seq))]).collect();
    Walk { name: "reader".into(), seen, ..Walk::default() }
}

/// Makes event 3 of producer 1 refused instead of acked.
fn refuse(posted: &mut [Posted], unknown: bool) {
    posted[0].acked.remove(2);
    let at = Duration::ZERO;
    posted[0].refused.push(Refused { seq: 3, error: String::new(), unknown, at });
}

#[test]
fn a_faultless_walk_breaks_nothing() {
    assert_eq!(check(&posted(), &[walk(), walk()]), []);
}

#[test]
fn a_lost_message_is_noticed() {
    let mut walk = walk();
    walk.seen.remove(4);
    let lost = Breach::Lost { reader: "reader".into(), event: event(1, 3), id: "1-3".into() };
    assert_eq!(check(&posted(), &[walk]), [lost]);
}

#[test]
fn a_repeat_is_noticed_even_at_the_end() {
    let mut walk = walk();
    walk.seen.push(seen(event(2, 1)));
    let reader = "reader".into();
    let repeated = Breach::Repeated { reader, event: event(2, 1), times: 2 };
    assert_eq!(check(&posted(), &[walk]), [repeated]);
}

#[test]
fn wrong_order_is_noticed_for_one_producer_and_allowed_between_two() {
    let mut apart = walk();
    apart.seen.swap(0, 1);
    assert_eq!(check(&posted(), &[apart]), []);
    let mut swapped = walk();
    swapped.seen.swap(2, 4);
    let reader = "reader".into();
    let disordered = Breach::Disordered { reader, event: event(1, 2), behind: 3 };
    assert_eq!(check(&posted(), &[swapped]), [disordered]);
}

#[test]
fn what_was_never_sent_or_was_changed_is_a_phantom() {
    for event in [None, Some((event(1, 6), true)), Some((event(3, 1), true))] {
        let mut walk = walk();
        walk.seen.push(Seen { id: "x".into(), event });
        let phantom = Breach::Phantom { reader: "reader".into(), id: "x".into() };
        assert_eq!(check(&posted(), &[walk]), [phantom]);
    }
    let mut changed = walk();
    changed.seen[0].event = Some((event(1, 1), false));
    let breaches = check(&posted(), &[changed]);
    assert!(matches!(breaches[..], [Breach::Phantom { .. }, Breach::Lost { .. }]));
}

#[test]
fn another_id_than_was_acked_is_noticed() {
    let mut walk = walk();
    walk.seen[0].id = "x".into();
    assert!(matches!(check(&posted(), &[walk])[..], [Breach::Renamed { .. }]));
}

#[test]
fn what_nobody_knows_of_may_be_there_once_for_all_or_for_nobody() {
    let mut posted = posted();
    refuse(&mut posted, true);
    let mut without = walk();
    without.seen.remove(4);
    assert_eq!(check(&posted, &[walk(), walk()]), []);
    assert_eq!(check(&posted, &[without.clone(), without.clone()]), []);
    assert!(matches!(check(&posted, &[walk(), without])[..], [Breach::Disagreed { .. }]));
    let mut twice = walk();
    twice.seen.push(seen(event(1, 3)));
    assert!(matches!(check(&posted, &[twice])[..], [Breach::Repeated { .. }]));
}

#[test]
fn what_was_not_applied_must_not_be_there() {
    let mut posted = posted();
    refuse(&mut posted, false);
    assert!(matches!(check(&posted, &[walk()])[..], [Breach::NotApplied { .. }]));
}

#[test]
fn a_line_of_which_nothing_was_said_is_noticed() {
    let mut posted = posted();
    posted[0].acked.remove(2);
    let unaccounted = Breach::Unaccounted { event: event(1, 3), times: 0 };
    assert_eq!(check(&posted, &[walk()]), [unaccounted]);
}
