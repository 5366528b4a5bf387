//! Time as an argument: the one place that looks at a clock.
//!
//! Everything else takes a [`Clock`]. It runs on tokio's clock, so a paused runtime (tests, the
//! simulator) stops it too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that tells milliseconds since the Unix epoch and never runs backwards.
///
/// It reads the wall clock once, when it is made, and then follows tokio's monotonic clock.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Start>,
}

#[derive(Debug)]
struct Start {
    wall_ms: u64,
    at: tokio::time::Instant,
    /// How far the clock was put forward; of one that may be.
    ahead_ms: Option<Arc<AtomicU64>>,
}

/// Puts a clock forward: for tests of clocks that jump.
#[derive(Debug, Clone)]
pub struct Jumps(Arc<AtomicU64>);

impl Jumps {
    /// The clock is so much further from now on, for all that hold it.
    pub fn forward(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn system() -> Self {
        Self::starting_at(wall_ms())
    }

    /// A clock that starts at `wall_ms` milliseconds since the epoch: for tests.
    #[must_use]
    pub fn starting_at(wall_ms: u64) -> Self {
        Self::with(wall_ms, None)
    }

    /// The same clock, which is put forward by the [`Jumps`]: for tests. Clocks that jump by different
    /// amounts differ by that.
    #[must_use]
    pub fn jumping(wall_ms: u64) -> (Self, Jumps) {
        let ahead_ms = Arc::new(AtomicU64::new(0));
        (Self::with(wall_ms, Some(Arc::clone(&ahead_ms))), Jumps(ahead_ms))
    }

    fn with(wall_ms: u64, ahead_ms: Option<Arc<AtomicU64>>) -> Self {
        Self { inner: Arc::new(Start { wall_ms, at: tokio::time::Instant::now(), ahead_ms }) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let ahead = self.inner.ahead_ms.as_ref().map_or(0, |ms| ms.load(Ordering::Relaxed));
        self.inner.wall_ms.saturating_add(millis(self.inner.at.elapsed())).saturating_add(ahead)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// The time of day, read anew each time: for what ends at a date that somebody else has set. It may
/// jump when the system's clock is set; intervals are measured with a [`Clock`].
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(wall_ms)
    }

    /// One that is told by `now_ms`, in milliseconds since the Unix epoch: for tests.
    #[must_use]
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
fn wall_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
