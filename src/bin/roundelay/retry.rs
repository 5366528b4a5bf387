//! Trying again what certainly has not happened.

use std::future::Future;
use std::time::Duration;

use roundelay::{Error, Outcome};
use tokio::time::{Instant, sleep};

/// How long calls are repeated where no flag says so.
pub(crate) const USUAL: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Repeats `call` for as long as `patience` while it fails for a passing reason and without effect.
///
/// A call that may have taken effect is never repeated: that could do it twice.
pub(crate) async fn retry<T, F>(patience: Duration, mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let harmless = error.outcome() == Outcome::NotApplied && error.is_retryable();
        // Half of the wait is random, so that callers which failed together do not return together.
        let pause = wait.mul_f64(0.5 + fastrand::f64() / 2.0).max(hint(&error));
        if !harmless || began.elapsed() + pause > patience {
            return Err(error);
        }
        tracing::info!(%error, "trying again in {pause:?}");
        sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn hint(error: &Error) -> Duration {
    error.retry_after().unwrap_or_default().min(LONGEST_WAIT)
}
