//! Waiting for messages: look, and if there is nothing, look again whenever there is [`news`].
//!
//! A look is what a call without waiting does; waiting adds nothing to what an answer means. Those who
//! wait to list look each for itself, a bounded number at a time. Those who wait to claim stand in
//! line: news lets one of them try, who finds something lets others try too, and who finds nothing
//! goes back into the line, since for the others there is nothing either.
//!
//! [`news`]: super::news

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

use super::{Core, QueueState};
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Outcome};
use crate::queue::{Claim, ClaimOptions, ListOptions, MessagePage};
use crate::signal;

/// Looks of those who wait, at once, in one process: many that wait for one message must not make
/// its nodes slow for the others.
pub(super) const TURNS: usize = 32;
/// Tries to claim of one queue at once.
const TRIES: usize = 4;
/// Nobody waits for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How many looks in vain are free. After them each waits longer than the one before: what happens in
/// the queue is not for this reader.
const FREE_LOOKS: u32 = 8;
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Until when somebody waits, and how often it was in vain.
struct Wait {
    until: Instant,
    in_vain: u32,
}

impl Wait {
    fn new(wait: Duration) -> Self {
        Self { until: Instant::now() + wait.min(LONGEST), in_vain: 0 }
    }

    fn pause(&self) -> Duration {
        let doubled =
            self.in_vain.checked_sub(FREE_LOOKS).map(|times| PAUSE.0 * (1 << times.min(7)));
        doubled.unwrap_or_default().min(PAUSE.1)
    }

    /// Awaits something; none if the time is over before.
    async fn on<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.until, what).await.ok()
    }
}

/// Whether a look that failed is worth another one.
fn passes(error: &Error) -> bool {
    error.is_retryable() && error.outcome() == Outcome::NotApplied
}

/// How long to wait after looks failed.
fn pause_after(failures: u32) -> Duration {
    (PAUSE.0 * (1 << failures.min(7))).min(PAUSE.1)
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the store has been closed")
}

/// Waits for news after the one numbered `seen`, and says which number it has.
async fn next(told: &mut signal::Receiver, seen: u64) -> Result<u64, Error> {
    told.above(seen).await.map_err(|_| ended())
}

impl Core {
    /// A page of messages; an empty one only once `wait` has passed.
    pub(crate) async fn list_waiting(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ListOptions,
        wait: Duration,
    ) -> Result<MessagePage, Error> {
        let mut wait = Wait::new(wait);
        // News that is told already by others' waiting need not be told anew.
        let (mut news, mut seen) = (queue.awaited(), 0);
        if let Some(news) = &news {
            seen = news.told().look();
        }
        // In a box: of ten thousand that wait few look at the same time.
        let mut last = Box::pin(self.list(queue, options)).await?;
        if !last.messages.is_empty() {
            return Ok(last);
        }
        let mut options = options.clone();
        let news = news.take().unwrap_or_else(|| self.news(queue));
        let mut told = news.told();
        let mut failed: Option<Error> = None;
        while last.messages.is_empty() {
            if options.include_claimed && options.include_delayed && options.marker.is_some() {
                // What was passed over is not for this reader, and never will be. Without a marker
                // it must not get one: that would tie it to this life of the queue.
                options.marker.clone_from(&last.marker);
            }
            let moment = match &failed {
                Some(_) => wait.on(sleep(pause_after(wait.in_vain))).await.map(|()| Ok(seen)),
                None => match wait.on(next(&mut told, seen)).await {
                    Some(number) => wait.on(sleep(wait.pause())).await.map(|()| number),
                    None => None,
                },
            };
            let Some(moment) = moment else { return failed.map_or(Ok(last), Err) };
            seen = moment?;
            let Some(turn) = wait.on(self.turns.acquire()).await else {
                return failed.map_or(Ok(last), Err);
            };
            seen = seen.max(told.look());
            failed = None;
            match Box::pin(self.list(queue, &options)).await {
                Ok(page) => last = page,
                Err(error) if passes(&error) => failed = Some(error),
                Err(error) => return Err(error),
            }
            drop(turn);
            wait.in_vain += 1;
        }
        Ok(last)
    }

    /// Claims messages; `None` only once `wait` has passed.
    pub(crate) async fn claim_waiting(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ClaimOptions,
        letters: Option<&DeadLetters>,
        wait: Duration,
    ) -> Result<Option<Claim>, Error> {
        let wait = Wait::new(wait);
        let first = Box::pin(self.claim_kept(queue, options, letters)).await?;
        if first.is_some() {
            return Ok(first);
        }
        let news = self.news(queue);
        let bell = &news.bell;
        let _claimer = Counted::new(&bell.claimers);
        let mut failures = 0;
        loop {
            let Some(turn) = wait.on(bell.tries.acquire()).await else { return Ok(None) };
            let turn = turn.map_err(|_| ended())?;
            let trying = Counted::new(&bell.trying);
            // Given back when it is dropped: a try that was not made to its end is another's.
            match Box::pin(self.claim_kept(queue, options, letters)).await {
                Ok(Some(claim)) => {
                    drop(trying);
                    drop(turn);
                    if bell.trying.load(Ordering::Relaxed) < TRIES
                        && bell.tries.available_permits() < TRIES
                    {
                        bell.tries.add_permits(1);
                    }
                    return Ok(Some(claim));
                }
                Ok(None) => turn.forget(),
                Err(error) if passes(&error) => {
                    failures += 1;
                    if wait.on(sleep(pause_after(failures))).await.is_none() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Claims messages, and gives them back if nobody is there any more to take them.
    pub(crate) async fn claim_kept(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ClaimOptions,
        letters: Option<&DeadLetters>,
    ) -> Result<Option<Claim>, Error> {
        let (core, state, options) = (Arc::clone(self), Arc::clone(queue), options.clone());
        let letters = letters.cloned();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = async move {
            let claimed = match &letters {
                None => core.claim(&state, &options).await,
                Some(letters) => {
                    core.claim_or_move(&state, &options, letters, &letters.queue.state).await
                }
            };
            // A caller that has gone away will never use what was claimed for it.
            if let Err(Ok(Some(claim))) = tell.send(claimed) {
                core.release(&state, &claim.id).await.ok();
            }
        };
        tokio::spawn(work.in_current_span());
        told.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "the operation ended without a result").unknown())
        })
    }
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
