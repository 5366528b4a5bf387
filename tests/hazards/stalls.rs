//! How long nobody was told anything: per fault, the longest time without an acked line.

use std::time::Duration;

use super::faults::Fault;

/// The longest silence of one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) server: usize,
    /// When the fault began, from the beginning of the run.
    pub(crate) at: Duration,
    pub(crate) longest: Duration,
}

/// For each fault the longest gap between two acks, from the fault's beginning to that of the next
/// (so that the server's return is measured too). `acks` need not be in order.
pub(crate) fn stalls(faults: &[Fault], acks: &[Duration]) -> Vec<Stall> {
    let mut acks = acks.to_vec();
    acks.sort_unstable();
    let ends = faults.iter().skip(1).map(|fault| fault.began);
    let ends = ends.chain([Duration::MAX]);
    let stall = |(fault, end): (&Fault, Duration)| Stall {
        server: fault.server,
        at: fault.began,
        longest: longest(&acks, fault.began, end),
    };
    faults.iter().zip(ends).map(stall).collect()
}

/// The longest gap before the first fault: what the machine does on its own.
pub(crate) fn quiet(faults: &[Fault], acks: &[Duration]) -> Duration {
    let mut acks = acks.to_vec();
    acks.sort_unstable();
    let first = faults.first().map_or(Duration::MAX, |fault| fault.began);
    let before: Vec<Duration> = acks.into_iter().take_while(|at| *at < first).collect();
    longest(&before, Duration::ZERO, Duration::MAX)
}

/// The longest gap of which a part lies between the two.
fn longest(acks: &[Duration], from: Duration, to: Duration) -> Duration {
    let gaps = acks.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The middle one, and the longest.
pub(crate) fn median_and_max(stalls: &[Stall]) -> (Duration, Duration) {
    let mut all: Vec<Duration> = stalls.iter().map(|stall| stall.longest).collect();
    all.sort_unstable();
    let median = all.get(all.len() / 2).copied().unwrap_or_default();
    (median, all.last().copied().unwrap_or_default())
}
