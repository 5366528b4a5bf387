//! Requests that wait for messages, until they have some, their time is over, the client goes away
//! (then they are dropped), or the service stops.

use std::time::Duration;

use tokio::sync::watch;

use super::params::Query;
use super::routes::Call;

/// Whether a request asks to wait.
pub(super) fn is_wanted(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.contains("wait="))
        && matches!(Query::parse(query).integer("wait"), Ok(Some(1..)))
}

/// Ends when the service is told to stop. `serve` gives it to each request.
#[derive(Debug, Clone)]
pub(super) struct Stopping(pub(super) watch::Receiver<()>);

impl Stopping {
    async fn stopped(mut self) {
        // Also if whoever would say so is not there any more.
        drop(self.0.changed().await);
    }
}

/// Does something for which up to `wait` may be waited; none if the service was told to stop first.
pub(super) async fn unless_stopping<T, F: Future<Output = T>>(
    call: &Call,
    wait: Duration,
    work: impl FnOnce(Duration) -> F,
) -> Option<T> {
    let stopping = call.stopping.clone().filter(|_| !wait.is_zero());
    let Some(stopping) = stopping else { return Some(work(wait).await) };
    // Two boxes: what a request is does not grow by what it may wait for.
    tokio::select! {
        biased;
        done = Box::pin(work(wait)) => Some(done),
        () = stopping.stopped() => None,
    }
}
