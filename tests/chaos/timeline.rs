//! What happened when: posts by tenths of a second, and how long each fault stalled them.

use std::time::Duration;

/// One slot of a time line.
pub(crate) const SLOT: Duration = Duration::from_millis(100);

/// A post: when it was meant to start, and when it was answered, from the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posted {
    pub(crate) meant: Duration,
    pub(crate) ended: Duration,
    pub(crate) is_acked: bool,
}

/// What happened in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Slot {
    /// Posts that were acknowledged in it …
    pub(crate) acked: u64,
    /// … and that failed in it, whenever they were meant to start.
    pub(crate) failed: u64,
    /// Latencies of the acknowledged posts that were meant to start in it.
    pub(crate) tails: Option<Tails>,
}

/// The middle, the 99th percentile and the longest of some latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tails {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Tails {
    /// `None` if there are none.
    pub(crate) fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(place.max(1) - 1).copied()
        };
        Some(Self { p50: at(0.5)?, p99: at(0.99)?, max: at(1.0)? })
    }
}

/// All posts of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeLine {
    pub(crate) posts: Vec<Posted>,
}

/// How long posts stood still in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stall {
    /// The longest latency of an acknowledged post that was meant to start then.
    pub(crate) post: Duration,
    /// The longest time of which a part lies there without any post acknowledged.
    pub(crate) silence: Duration,
}

impl TimeLine {
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let place = |at: Duration| (at.as_nanos() / SLOT.as_nanos()) as usize;
        let last = self.posts.iter().map(|post| place(post.ended.max(post.meant))).max();
        let mut slots = vec![Slot::default(); last.map_or(0, |last| last + 1)];
        let mut latencies = vec![Vec::new(); slots.len()];
        for post in &self.posts {
            match post.is_acked {
                true => {
                    slots[place(post.ended)].acked += 1;
                    latencies[place(post.meant)].push(post.ended.saturating_sub(post.meant));
                }
                false => slots[place(post.ended)].failed += 1,
            }
        }
        for (slot, latencies) in slots.iter_mut().zip(latencies) {
            slot.tails = Tails::of(latencies);
        }
        slots
    }

    /// Latencies of all that was acknowledged.
    pub(crate) fn tails(&self) -> Tails {
        let acked = self.posts.iter().filter(|post| post.is_acked);
        let latencies = acked.map(|post| post.ended.saturating_sub(post.meant)).collect();
        Tails::of(latencies).unwrap_or_default()
    }

    /// How long posts stood still between moments, of each of which the next one is the end.
    pub(crate) fn stalls(&self, moments: &[Duration]) -> Vec<Stall> {
        let mut stalls = vec![Stall::default(); moments.len()];
        let within = |at: Duration| moments.partition_point(|moment| *moment <= at).checked_sub(1);
        let mut acks = Vec::new();
        for post in self.posts.iter().filter(|post| post.is_acked) {
            acks.push(post.ended);
            let Some(place) = within(post.meant) else { continue };
            let took = post.ended.saturating_sub(post.meant);
            stalls[place].post = stalls[place].post.max(took);
        }
        acks.sort_unstable();
        for pair in acks.windows(2) {
            let first = within(pair[0]).unwrap_or(0);
            let Some(last) = within(pair[1]) else { continue };
            for (place, stall) in stalls.iter_mut().enumerate().take(last + 1).skip(first) {
                if moments[place] < pair[1] {
                    stall.silence = stall.silence.max(pair[1] - pair[0]);
                }
            }
        }
        stalls
    }

    /// The same in the time between two moments, of what began and ended in it.
    pub(crate) fn within(&self, from: Duration, to: Duration) -> Stall {
        let inside = |post: &&Posted| from <= post.meant && post.ended < to;
        let posts = self.posts.iter().filter(inside).copied().collect();
        Self { posts }.stalls(&[Duration::ZERO]).first().copied().unwrap_or_default()
    }
}
