//! Open loop: calls start at a fixed rate, whatever became of earlier ones.
//!
//! Latency counts from the moment at which a call was meant to start. A target that stalls is thus
//! charged for all the calls that the stall held up, as its users would be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::closed::{Window, body};
use crate::measured::Tally;
use crate::target::{Post, Target};
use crate::workload::{What, Workload};

/// Calls under way above which the target is said not to keep up.
const MOST_UNDER_WAY: usize = 50_000;

/// Posts at `rate` calls a second.
pub(crate) async fn run(
    target: &Arc<dyn Target>,
    load: &Workload,
    window: Window,
    rate: f64,
) -> Result<Tally, String> {
    if load.what != What::Post {
        return Err("a fixed rate is for posts".into());
    }
    if !(rate.is_finite() && rate > 0.0) {
        return Err("the rate must be above zero".into());
    }
    let (sender, mut starts) = mpsc::unbounded_channel();
    let pacer = std::thread::spawn(move || pace(window, rate, &sender));
    let under_way = Arc::new(AtomicUsize::new(0));
    let plain = body(load.size, 0);
    let mut calls = JoinSet::new();
    let mut total = Tally::new();
    let mut call = 0;
    while let Some(meant) = starts.recv().await {
        let (target, under_way) = (Arc::clone(target), Arc::clone(&under_way));
        let (by, queue) = (call % load.workers, call % load.queues);
        let post = Post { by, queue, body: plain.clone(), messages: load.messages };
        call += 1;
        if under_way.fetch_add(1, Ordering::Relaxed) >= MOST_UNDER_WAY {
            return Err(format!("it does not keep up with {rate} calls a second"));
        }
        calls.spawn(async move {
            let messages = post.messages as u64;
            let outcome = target.post(post).await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            (meant, Instant::now(), outcome.map(|()| messages))
        });
        while let Some(done) = calls.try_join_next() {
            count(&mut total, window, done.map_err(|error| error.to_string())?);
        }
    }
    while let Some(done) = calls.join_next().await {
        count(&mut total, window, done.map_err(|error| error.to_string())?);
    }
    pacer.join().map_err(|_| "the pacer died")?;
    Ok(total)
}

/// What was meant to start in the window counts, whenever it ended.
fn count(
    total: &mut Tally,
    window: Window,
    (meant, ended, outcome): (Instant, Instant, Result<u64, String>),
) {
    match outcome {
        Ok(messages) if meant >= window.from => {
            total.messages += messages;
            total.latencies.record(ended - meant);
        }
        Ok(_) => {}
        Err(error) => total.fail(error),
    }
}

/// Tells the starts of calls. A thread of its own: the runtime's timers have a grain of a
/// millisecond, and are late when the runtime is busy.
#[expect(clippy::disallowed_methods, reason = "a thread of its own that does nothing but wait")]
fn pace(window: Window, rate: f64, starts: &mpsc::UnboundedSender<Instant>) {
    for call in 0u32.. {
        let meant = window.base + Duration::from_secs_f64(f64::from(call) / rate);
        if meant >= window.until {
            return;
        }
        let wait = meant.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        if starts.send(meant).is_err() {
            return;
        }
    }
}
