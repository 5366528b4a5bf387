//! What a store counts of its own work, for monitoring.
//!
//! [`Counters`] and [`Calls`] are atomics that the driver raises as it goes; [`Metrics`] is what they
//! are at one moment. Neither asks a node. How many messages there are must be asked for:
//! `driver::census` does so, a bounded part at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::node::Op;
use crate::protocol::turnover::Turnover;

/// Upper bounds of the times of calls, in microseconds: a call takes some 100 µs on one machine, and a
/// node that takes 50 ms is suspect.
const BOUNDS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// What a store has counted since it was opened.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The nodes that the store was given.
    pub nodes: Vec<NodeMetrics>,
    /// Blocks of this process that were acknowledged: stored on enough nodes.
    pub acked_blocks: u64,
    /// The messages in them.
    pub acked_messages: u64,
    /// The bytes of them, once, as they are sent to each node.
    pub acked_bytes: u64,
    /// Blocks that were sent again, to the same or the next segment.
    pub resent_blocks: u64,
    /// Segments that this process opened.
    pub segments_opened: u64,
    /// Segments whose end this process decided.
    pub segments_sealed: u64,
    /// Segments that this process removed: all their messages had ended, or the queue was deleted.
    pub segments_dropped: u64,
    /// Segments that this process had to give up: every node that had them forgot them.
    pub segments_lost: u64,
    /// Messages that this process picked for a claim and that somebody else turned out to hold.
    pub claim_conflicts: u64,
    /// Whether this process is the one that restores copies in the background.
    pub repairs: bool,
    /// Bytes that this process copied because a segment had fewer than `copies_min` copies.
    pub copied_bytes_urgent: u64,
    /// Bytes that it copied otherwise, no faster than `repair_bytes_per_second`.
    pub copied_bytes_paced: u64,
    /// How many messages there were when they were last counted
    /// ([`Store::count_messages`](crate::Store::count_messages)); `None`: they never were.
    pub census: Option<Census>,
}

/// What was counted of one node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeMetrics {
    /// Its address, without credentials.
    pub name: String,
    /// How often it was up and came to be in doubt.
    pub suspicions: u64,
    /// Its calls, of each kind.
    pub calls: Vec<CallMetrics>,
}

/// What was counted of one kind of calls to one node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CallMetrics {
    /// `append`, `read`, `claim`, `delete`, `segment`, `copy`, `register` or `identity`.
    pub kind: &'static str,
    /// Calls without an answer that could be used.
    pub failures: u64,
    /// The time that all the others took together.
    pub total: Duration,
    /// How many of them took longer than the bound before and at most this one; the last bound is
    /// [`Duration::MAX`].
    pub times: Vec<(Duration, u64)>,
}

/// What lies in the queues that this process has met.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Census {
    /// Messages to be had.
    pub active: u64,
    /// Messages held by claims.
    pub claimed: u64,
    /// Messages waiting for their delay.
    pub delayed: u64,
    /// Bytes of the messages to be had, as they are stored, of one copy. The sum with
    /// `claimed_bytes` and `delayed_bytes` is exact; which state has how many is an estimate, as if
    /// all messages of a segment had the same length.
    pub active_bytes: u64,
    /// Bytes of the messages held by claims, likewise.
    pub claimed_bytes: u64,
    /// Bytes of the messages waiting for their delay, likewise.
    pub delayed_bytes: u64,
    /// The age of the oldest message to be had; `None` if there is none.
    pub oldest_unclaimed: Option<Duration>,
    /// Segments that take posts.
    pub segments_open: u64,
    /// Segments that are closed and not lost.
    pub segments_closed: u64,
    /// Segments of which nothing is left.
    pub segments_lost: u64,
    /// Closed segments with fewer full copies than messages should have.
    pub segments_under_replicated: u64,
    /// Segments whose messages have not been counted yet, or could not be: they are left out above.
    pub segments_uncounted: u64,
    /// How long ago the count was that is the oldest among those that went into this.
    pub age: Duration,
}

/// What an operation is about.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Append,
    Read,
    Claim,
    Delete,
    Segment,
    Copy,
    Register,
    Identity,
}

impl Kind {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Append, "append"),
        (Self::Read, "read"),
        (Self::Claim, "claim"),
        (Self::Delete, "delete"),
        (Self::Segment, "segment"),
        (Self::Copy, "copy"),
        (Self::Register, "register"),
        (Self::Identity, "identity"),
    ];

    fn of(op: &Op) -> Self {
        match op {
            Op::Append(_) | Op::Note { .. } => Self::Append,
            Op::Read(_)
            | Op::Get { .. }
            | Op::Probe { .. }
            | Op::ReadClaim { .. }
            | Op::Stats { .. } => Self::Read,
            Op::Pick(_) | Op::Hold(_) | Op::Release { .. } | Op::Renew { .. } => Self::Claim,
            Op::Delete(_) => Self::Delete,
            Op::Open(_)
            | Op::Seal { .. }
            | Op::TellEnd { .. }
            | Op::Fence { .. }
            | Op::Wipe { .. }
            | Op::Due { .. }
            | Op::Defer { .. } => Self::Segment,
            Op::CopyOut { .. } | Op::CopyIn { .. } => Self::Copy,
            Op::Keep { .. }
            | Op::Restore { .. }
            | Op::Activate { .. }
            | Op::Dump { .. }
            | Op::Prepare { .. }
            | Op::Accept(_)
            | Op::ReadRegisters { .. }
            | Op::Changes { .. }
            | Op::ListIndex { .. } => Self::Register,
            Op::Identity | Op::Admit { .. } => Self::Identity,
        }
    }
}

/// The calls to one node.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    suspicions: Count,
    kinds: [CallsOfKind; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct CallsOfKind {
    failures: Count,
    micros: Count,
    /// One for each bound, and one for what is beyond the last.
    times: [Count; BOUNDS_MICROS.len() + 1],
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which counter a call belongs to; its operations are given away before its time is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallKind(Kind);

impl CallKind {
    /// The kind of a call with these operations: that of the first one.
    pub(crate) fn of(ops: &[Op]) -> Self {
        Self(ops.first().map_or(Kind::Identity, Kind::of))
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Kind::ALL.get(self.0 as usize).map_or("", |(_, name)| name)
    }
}

impl Calls {
    pub(crate) fn suspected(&self) {
        self.suspicions.add(1);
    }

    pub(crate) fn answered(&self, kind: CallKind, took: Duration) {
        let Some(calls) = self.kinds.get(kind.0 as usize) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        calls.micros.add(micros);
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = calls.times.get(at) {
            count.add(1);
        }
    }

    pub(crate) fn failed(&self, kind: CallKind) {
        if let Some(calls) = self.kinds.get(kind.0 as usize) {
            calls.failures.add(1);
        }
    }

    pub(crate) fn now(&self, name: &str) -> NodeMetrics {
        let bounds = || {
            let bounds = BOUNDS_MICROS.into_iter().map(Duration::from_micros);
            bounds.chain([Duration::MAX])
        };
        let calls = Kind::ALL.iter().zip(&self.kinds).map(|((_, kind), calls)| CallMetrics {
            kind,
            failures: calls.failures.get(),
            total: Duration::from_micros(calls.micros.get()),
            times: bounds().zip(calls.times.iter().map(Count::get)).collect(),
        });
        let (name, calls) = (name.to_owned(), calls.collect());
        NodeMetrics { name, suspicions: self.suspicions.get(), calls }
    }
}

/// What is counted of no node in particular.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) acked_blocks: Count,
    pub(crate) acked_messages: Count,
    pub(crate) acked_bytes: Count,
    pub(crate) resent_blocks: Count,
    pub(crate) claim_conflicts: Count,
    segments_opened: Count,
    segments_sealed: Count,
    segments_dropped: Count,
    segments_lost: Count,
}

impl Counters {
    pub(crate) fn turned_over(&self, turnover: Turnover) {
        self.segments_opened.add(turnover.opened);
        self.segments_sealed.add(turnover.sealed);
        self.segments_dropped.add(turnover.dropped);
        self.segments_lost.add(turnover.lost);
    }

    pub(crate) fn now(&self, nodes: Vec<NodeMetrics>, census: Option<Census>) -> Metrics {
        Metrics {
            nodes,
            acked_blocks: self.acked_blocks.get(),
            acked_messages: self.acked_messages.get(),
            acked_bytes: self.acked_bytes.get(),
            resent_blocks: self.resent_blocks.get(),
            segments_opened: self.segments_opened.get(),
            segments_sealed: self.segments_sealed.get(),
            segments_dropped: self.segments_dropped.get(),
            segments_lost: self.segments_lost.get(),
            claim_conflicts: self.claim_conflicts.get(),
            repairs: false,
            copied_bytes_urgent: 0,
            copied_bytes_paced: 0,
            census,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_below_their_bounds_and_failures_apart() {
        let calls = Calls::default();
        let kind = CallKind::of(&[Op::Identity]);
        for micros in [0, 100, 101, 1_000_000, 1_000_001] {
            calls.answered(kind, Duration::from_micros(micros));
        }
        calls.failed(kind);
        calls.suspected();
        let now = calls.now("n");
        assert_eq!((now.name.as_str(), now.suspicions), ("n", 1));
        let [.., identity] = &now.calls[..] else { panic!("no calls") };
        assert_eq!((identity.kind, identity.failures), ("identity", 1));
        assert_eq!(identity.total, Duration::from_micros(2_000_202));
        let times: Vec<u64> = identity.times.iter().map(|(_, count)| *count).collect();
        assert_eq!(times, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(identity.times.last().unwrap().0, Duration::MAX);
        assert!(now.calls[..7].iter().all(|calls| calls.total.is_zero()));
    }

    #[test]
    fn each_kind_has_a_place_of_its_own() {
        for (at, (kind, _)) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }
}
