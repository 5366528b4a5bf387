//! How long a node usually takes, over the last seconds.

/// Four buckets to every doubling, from a microsecond to about a minute.
const BUCKETS: usize = 104;
/// How long answers are remembered, at least; at most twice that.
const WINDOW_MS: u64 = 10_000;

/// A window over the times that a node took to answer.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    recent: [u32; BUCKETS],
    before: [u32; BUCKETS],
    since_ms: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { recent: [0; BUCKETS], before: [0; BUCKETS], since_ms: 0 }
    }
}

impl Latency {
    /// Takes in one answer.
    pub(crate) fn took(&mut self, micros: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.since_ms);
        if passed >= WINDOW_MS {
            self.before = if passed < 2 * WINDOW_MS { self.recent } else { [0; BUCKETS] };
            self.recent = [0; BUCKETS];
            self.since_ms = now_ms;
        }
        if let Some(count) = self.recent.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
        }
    }

    /// What 99.9 % of the answers took at most, in microseconds. Of few answers the worst ones are
    /// left out, so that one hiccup is no habit.
    pub(crate) fn p999_micros(&self) -> u64 {
        let counts = || self.recent.iter().zip(&self.before).map(|(a, b)| u64::from(a + b));
        let total: u64 = counts().sum();
        let mut outliers = (total / 1000).max((total / 4).min(3));
        for (index, count) in counts().enumerate().rev() {
            if count > outliers {
                return upper(index);
            }
            outliers -= count;
        }
        0
    }
}

fn bucket(micros: u64) -> usize {
    let micros = micros.max(1);
    let doublings = micros.ilog2();
    let quarter = if doublings >= 2 { (micros >> (doublings - 2)) & 3 } else { 0 };
    let index = (u64::from(doublings) << 2) + quarter;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The first time beyond a bucket.
fn upper(index: usize) -> u64 {
    let (doublings, quarter) = (index / 4, index % 4);
    let (doublings, quarter) = (doublings as u32, quarter as u64);
    if doublings < 2 { 1 << (doublings + 1) } else { (quarter + 5) << (doublings - 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_lies_close_above_what_was_usual() {
        let mut latency = Latency::default();
        assert_eq!(latency.p999_micros(), 0);
        (0..10_000).for_each(|_| latency.took(1_000, 5));
        let usual = latency.p999_micros();
        assert!((1_000..=1_280).contains(&usual), "{usual}");
    }

    #[test]
    fn one_hiccup_is_no_habit_but_the_only_answer_counts() {
        let mut latency = Latency::default();
        latency.took(80_000, 0);
        assert!(latency.p999_micros() >= 80_000);
        let mut latency = Latency::default();
        (0..20).for_each(|_| latency.took(1_000, 0));
        latency.took(900_000, 0);
        assert!(latency.p999_micros() < 2_000);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut latency = Latency::default();
        (0..10).for_each(|_| latency.took(500_000, 0));
        (0..10).for_each(|_| latency.took(1_000, 30_000));
        assert!(latency.p999_micros() < 2_000);
    }

    #[test]
    fn every_time_lies_below_the_end_of_its_bucket() {
        for micros in (0..1_000).chain([1 << 20, (1 << 24) + 77]) {
            assert!(upper(bucket(micros)) > micros, "{micros}");
        }
    }
}
