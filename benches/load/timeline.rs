//! What happened when: the calls of a run by tenths of a second.

use std::time::Duration;

use crate::measured::Latencies;

/// One slot of a time line.
pub(crate) const SLOT: Duration = Duration::from_millis(100);
/// Slots of a second.
const SECOND: usize = 10;

/// What happened in one slot.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Messages that were acknowledged in it …
    pub(crate) acked: u64,
    /// … and calls that failed in it, whenever they were meant to start.
    pub(crate) failed: u64,
    /// Latencies of the calls that were meant to start in it.
    pub(crate) latencies: Latencies,
}

/// Slots from the start of the time that is measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeLine {
    pub(crate) slots: Vec<Slot>,
}

/// The second with the longest tail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worst {
    /// When it starts.
    pub(crate) from: Duration,
    pub(crate) p999_ms: f64,
}

impl TimeLine {
    fn slot(&mut self, at: Duration) -> &mut Slot {
        let place = (at.as_nanos() / SLOT.as_nanos()) as usize;
        while self.slots.len() <= place {
            self.slots.push(Slot { acked: 0, failed: 0, latencies: Latencies::new() });
        }
        &mut self.slots[place]
    }

    /// A call that was meant to start and was answered at these times.
    pub(crate) fn answered(&mut self, meant: Duration, ended: Duration, messages: u64) {
        self.slot(ended).acked += messages;
        self.slot(meant).latencies.record(ended.saturating_sub(meant));
    }

    pub(crate) fn failed(&mut self, ended: Duration) {
        self.slot(ended).failed += 1;
    }

    /// Of all seconds that start between these times, at any slot.
    pub(crate) fn worst_second(&self, from: Duration, until: Duration) -> Option<Worst> {
        let place = |at: Duration| (at.as_nanos() / SLOT.as_nanos()) as usize;
        let seconds = self.slots.windows(SECOND).enumerate();
        let within = seconds.filter(|(at, _)| (place(from)..place(until)).contains(at));
        let tails = within.filter_map(|(at, second)| {
            let mut all = Latencies::new();
            for slot in second {
                all.add(&slot.latencies);
            }
            let from = SLOT * u32::try_from(at).ok()?;
            (all.len() > 0).then(|| Worst { from, p999_ms: all.at(0.999) / 1e3 })
        });
        tails.max_by(|one, other| one.p999_ms.total_cmp(&other.p999_ms))
    }
}
