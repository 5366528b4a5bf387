//! Time as an argument: the one place that looks at a clock.
//!
//! Everything else takes a [`Clock`]. It runs on tokio's clock, so a paused runtime (tests, the
//! simulator) stops it too.

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
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
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

/// A duration in whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
