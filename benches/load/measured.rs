//! What one run showed.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::timeline::TimeLine;

/// Latencies are kept in this unit, to three digits …
const UNIT_NS: u128 = 100;
/// … up to a minute.
const MOST: u64 = 600_000_000;

/// Latencies of calls.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u32>);

impl Latencies {
    pub(crate) fn new() -> Self {
        // The bounds are constants that the library takes.
        let histogram = Histogram::new_with_bounds(1, MOST, 3);
        Self(histogram.expect("constant bounds"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let units = u64::try_from(took.as_nanos() / UNIT_NS).unwrap_or(MOST);
        self.0.saturating_record(units.max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // The same bounds everywhere.
        self.0.add(&other.0).expect("constant bounds");
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 10.0
    }
}

/// What workers counted.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) failed: u64,
    /// The first failure, in words.
    pub(crate) failure: Option<String>,
    pub(crate) latencies: Latencies,
    /// The same by what was called, if that was more than one thing.
    pub(crate) parts: BTreeMap<&'static str, Latencies>,
    /// What was called over time, if that was asked for.
    pub(crate) line: Option<TimeLine>,
    /// When the last call that counts was answered.
    pub(crate) last: Option<Instant>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            messages: 0,
            failed: 0,
            failure: None,
            latencies: Latencies::new(),
            parts: BTreeMap::new(),
            line: None,
            last: None,
        }
    }

    /// Counts the latency of a call; of a mixed load with its name.
    pub(crate) fn time(&mut self, took: Duration, part: Option<&'static str>) {
        self.latencies.record(took);
        if let Some(part) = part {
            self.parts.entry(part).or_insert_with(Latencies::new).record(took);
        }
    }

    pub(crate) fn fail(&mut self, error: String) {
        self.failed += 1;
        self.failure.get_or_insert(error);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.latencies.add(&other.latencies);
        for (part, latencies) in &other.parts {
            self.parts.entry(part).or_insert_with(Latencies::new).add(latencies);
        }
        self.line = self.line.take().or(other.line);
        self.last = self.last.max(other.last);
    }
}

/// What Redis servers did, as they tell it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// Calls and microseconds by command.
    pub(crate) commands: BTreeMap<String, (u64, u64)>,
    /// Bytes that came in, and that went out.
    pub(crate) bytes: (u64, u64),
}

/// One run of one target.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) seconds: f64,
    /// Processor time of this process, and of the servers' processes together, in microseconds.
    pub(crate) client_us: u64,
    pub(crate) servers_us: u64,
    /// What the Redis servers did, all together, if that was asked for.
    pub(crate) work: Work,
    /// When one of its servers was killed, from the start of what is measured.
    pub(crate) killed: Option<Duration>,
}

impl Measured {
    pub(crate) fn messages_per_second(&self) -> f64 {
        self.tally.messages as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Processor time a message, client and servers, in microseconds.
    pub(crate) fn cpu_us(&self) -> (f64, f64) {
        let messages = self.tally.messages.max(1) as f64;
        (self.client_us as f64 / messages, self.servers_us as f64 / messages)
    }
}

/// The middle one; of an even number the mean of both.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        all if all.len() % 2 == 1 => all[middle],
        all => (all[middle - 1] + all[middle]) / 2.0,
    }
}
