//! Stalls are measured where they are.

use std::time::Duration;

use super::harness::timeline::{Posted, Stall, Tails, TimeLine};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn line(posts: &[(u64, u64, bool)]) -> TimeLine {
    let posted = |&(meant, ended, is_acked): &(u64, u64, bool)| Posted {
        meant: ms(meant),
        ended: ms(ended),
        is_acked,
    };
    TimeLine { posts: posts.iter().map(posted).collect() }
}

#[test]
fn slots_count_answers_when_they_come_and_latencies_when_posts_were_meant() {
    let slots = line(&[(10, 20, true), (90, 250, true), (95, 120, false)]).slots();
    let counts: Vec<_> = slots.iter().map(|slot| (slot.acked, slot.failed)).collect();
    assert_eq!(counts, [(1, 0), (0, 1), (1, 0)]);
    let tails = Tails { p50: ms(10), p99: ms(160), max: ms(160) };
    assert_eq!(slots[0].tails, Some(tails));
    assert_eq!(slots[1].tails, None);
}

#[test]
fn a_stall_is_charged_to_the_fault_in_which_its_posts_were_meant() {
    let line = line(&[(0, 5, true), (100, 105, true), (200, 450, true), (300, 460, true)]);
    let stalls = line.stalls(&[ms(150), ms(455)]);
    assert_eq!(stalls[0], Stall { post: ms(250), silence: ms(345) });
    assert_eq!(stalls[1], Stall { post: ms(0), silence: ms(10) });
    assert_eq!(line.within(ms(0), ms(150)), Stall { post: ms(5), silence: ms(100) });
    assert_eq!(line.within(ms(50), ms(150)), Stall { post: ms(5), silence: ms(0) });
}

#[test]
fn nothing_posted_is_no_stall() {
    assert_eq!(TimeLine::default().stalls(&[ms(1)]), [Stall::default()]);
    assert_eq!(TimeLine::default().slots(), []);
}
