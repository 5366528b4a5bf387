//! Stalls are measured where they are.

use std::time::Duration;

use super::harness::faults::Fault;
use super::harness::stalls::{median_and_max, quiet, stalls};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fault(began: u64, ended: u64) -> Fault {
    Fault { server: 0, began: ms(began), ended: ms(ended) }
}

#[test]
fn a_gap_that_a_fault_makes_is_that_faults() {
    let acks: Vec<Duration> =
        [0, 10, 60, 100, 310, 320, 400, 410, 530, 600].into_iter().map(ms).collect();
    let faults = [fault(105, 200), fault(405, 450)];
    let found = stalls(&faults, &acks);
    let longest: Vec<Duration> = found.iter().map(|stall| stall.longest).collect();
    assert_eq!(longest, [ms(210), ms(120)]);
    assert_eq!(quiet(&faults, &acks), ms(50));
    assert_eq!(median_and_max(&found), (ms(210), ms(210)));
}

#[test]
fn nothing_acked_is_no_gap() {
    assert_eq!(stalls(&[fault(1, 2)], &[])[0].longest, Duration::ZERO);
    assert_eq!(median_and_max(&[]), (Duration::ZERO, Duration::ZERO));
}
