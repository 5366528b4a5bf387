//! Open loop: calls start at a fixed rate, whatever became of earlier ones.
//!
//! Latency counts from the moment at which a call was meant to start. A target that stalls is thus
//! charged for all the calls that the stall held up, as its users would be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::closed::{Window, body};
use crate::measured::Tally;
use crate::target::{Op, Post, Target};
use crate::timeline::TimeLine;
use crate::workload::{What, Workload};

/// Calls under way above which the target is said not to keep up.
const MOST_UNDER_WAY: usize = 50_000;

/// A call that ended.
struct Call {
    op: Op,
    meant: Instant,
    ended: Instant,
    outcome: Result<usize, String>,
}

/// Posts, or makes the calls of a mixed load in turn, at `rate` calls a second.
pub(crate) async fn run(
    target: &Arc<dyn Target>,
    load: &Workload,
    window: Window,
    rate: f64,
) -> Result<Tally, String> {
    if !matches!(load.what, What::Post | What::Mixed) {
        return Err("a fixed rate is for posts and for the mixed load".into());
    }
    if !(rate.is_finite() && rate > 0.0) {
        return Err("the rate must be above zero".into());
    }
    let (sender, mut starts) = mpsc::unbounded_channel();
    let pacer = std::thread::spawn(move || pace(window, rate, &sender));
    let plain = body(load.size, 0);
    let mut calls = JoinSet::new();
    let mut total = Tally { line: Some(TimeLine::default()), ..Tally::new() };
    let mut number = 0;
    while let Some(meant) = starts.recv().await {
        if calls.len() >= MOST_UNDER_WAY {
            return Err(format!("it does not keep up with {rate:.0} calls a second"));
        }
        let (by, op) = (number % load.workers, load.op(number));
        let (queue, messages) = (load.queue(0, number), load.messages);
        number += 1;
        let post = Post { by, queue, body: plain.clone(), messages };
        let target = Arc::clone(target);
        calls.spawn(async move {
            let outcome = match op {
                Op::Post => target.post(post).await.map(|()| messages),
                // Calls that overlap have no place to go on from: each reads from the head.
                Op::List => target.list(queue, None, messages).await.map(|page| page.bodies.len()),
                Op::Take => target.take(by, queue, messages).await,
            };
            Call { op, meant, ended: Instant::now(), outcome }
        });
        while let Some(done) = calls.try_join_next() {
            count(&mut total, load, window, done.map_err(|error| error.to_string())?);
        }
    }
    while let Some(done) = calls.join_next().await {
        count(&mut total, load, window, done.map_err(|error| error.to_string())?);
    }
    pacer.join().map_err(|_| "the pacer died")?;
    Ok(total)
}

/// What was meant to start in the window counts, whenever it ended.
fn count(total: &mut Tally, load: &Workload, window: Window, call: Call) {
    if call.meant < window.from {
        return;
    }
    let (meant, ended) = (call.meant - window.from, call.ended - window.from);
    match call.outcome {
        Ok(messages) => {
            total.messages += messages as u64;
            total.time(ended - meant, (load.what == What::Mixed).then_some(call.op.name()));
            if let Some(line) = &mut total.line {
                line.answered(meant, ended, messages as u64);
            }
        }
        Err(error) => {
            total.fail(error);
            if let Some(line) = &mut total.line {
                line.failed(ended);
            }
        }
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
