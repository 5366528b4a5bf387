//! How fast copies are made that nobody waits for, and how much was copied.

use std::sync::Mutex;

use tokio::time::{Instant, sleep_until};

use super::locked;
use crate::metrics::Count;

/// Whether somebody waits for a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// The segment has fewer than `copies_min` replicas: as fast as nodes can.
    AtOnce,
    /// The segment is safe enough: no more bytes a second than is set.
    Paced,
}

/// What this process copies.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the bytes that were let pass are used up.
    paid_until: Mutex<Option<Instant>>,
    /// Bytes copied at once, and at a pace.
    pub(crate) at_once: Count,
    pub(crate) paced: Count,
}

impl Pace {
    /// Waits until so many more bytes may be copied; `per_second` 0: no limit.
    pub(crate) async fn take(&self, speed: Speed, bytes: u64, per_second: u64) {
        let count = match speed {
            Speed::AtOnce => &self.at_once,
            Speed::Paced => &self.paced,
        };
        count.add(bytes);
        if speed == Speed::AtOnce || per_second == 0 {
            return;
        }
        let now = Instant::now();
        let micros = bytes.saturating_mul(1_000_000) / per_second;
        let start = {
            let mut paid_until = locked(&self.paid_until);
            let start = paid_until.map_or(now, |until| until.max(now));
            *paid_until = Some(start + std::time::Duration::from_micros(micros));
            start
        };
        sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_bytes_a_second_pass_and_what_is_urgent_does_not_wait() {
        let (pace, start) = (Pace::default(), Instant::now());
        for _ in 0..5 {
            pace.take(Speed::Paced, 500, 1_000).await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2), "the first one waits for nothing");
        pace.take(Speed::AtOnce, 1_000_000, 1_000).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        pace.take(Speed::Paced, 500, 1_000).await;
        assert!(start.elapsed().is_zero(), "time that passed is not owed");
        pace.take(Speed::Paced, 1 << 40, 0).await;
        assert!(start.elapsed().is_zero(), "0: no limit");
    }
}
