//! Time as an argument: the one place that looks at a clock.
//!
//! Everything else takes a [`Clock`]. It runs on tokio's clock, so a paused runtime (tests, the
//! simulator) stops it too.

use std::fmt;
use std::sync::Arc;
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
        Self { inner: Arc::new(Start { wall_ms, at: tokio::time::Instant::now() }) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.wall_ms.saturating_add(millis(self.inner.at.elapsed()))
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
