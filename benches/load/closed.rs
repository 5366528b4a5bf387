//! Closed loop: each worker makes its next call when the last one was answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::measured::Tally;
use crate::target::{Cursor, Op, Post, Target};
use crate::workload::{READERS, What, Workload};

/// Failures after which a worker gives up: the target does not work.
const MOST_FAILURES: u64 = 20;
/// How long a reader that has seen everything waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The time that counts, on a clock that starts at `base`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) base: Instant,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Window {
    pub(crate) fn new(warm: Duration, measured: Duration) -> Self {
        let base = Instant::now();
        Self { base, from: base + warm, until: base + warm + measured }
    }

    /// Whether what ended now counts.
    fn counts(&self, now: Instant) -> bool {
        now >= self.from && now <= self.until
    }
}

/// Starts the workers of a load; each gives what it counted.
pub(crate) fn start(target: &Arc<dyn Target>, load: &Workload, window: Window) -> JoinSet<Tally> {
    let mut workers = JoinSet::new();
    let mut spawn = |what: What, by: usize| {
        let worker = Worker {
            target: Arc::clone(target),
            load: load.clone(),
            by,
            window,
            tally: Tally::new(),
        };
        workers.spawn(worker.run(what));
    };
    for by in 0..load.workers {
        spawn(load.what, by);
    }
    if load.what == What::Fanout {
        for by in 0..READERS {
            spawn(What::List, by);
        }
    }
    workers
}

struct Worker {
    target: Arc<dyn Target>,
    load: Workload,
    by: usize,
    window: Window,
    tally: Tally,
}

impl Worker {
    async fn run(mut self, what: What) -> Tally {
        match what {
            What::Post | What::Fanout => self.post(what).await,
            What::List if self.load.what == What::Fanout => self.follow().await,
            What::List => self.list().await,
            What::Take => self.take().await,
            What::Mixed => self.mix().await,
        }
        self.tally
    }

    fn queue(&self, call: usize) -> usize {
        self.load.queue(self.by, call)
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.window.until || self.tally.failed >= MOST_FAILURES
    }

    async fn post(&mut self, what: What) {
        let plain = body(self.load.size, 0);
        // The next call begins when the last one ends: the clock is read once a call.
        let mut start = Instant::now();
        for call in 0.. {
            let body = match what {
                What::Fanout => body(self.load.size, nanos(self.window.base, start)),
                _ => plain.clone(),
            };
            let (by, queue, messages) = (self.by, self.queue(call), self.load.messages);
            let outcome = self.target.post(Post { by, queue, body, messages }).await;
            start = match (what, outcome) {
                // Of a fan-out, what readers see is counted.
                (What::Fanout, Ok(())) => Instant::now(),
                (_, outcome) => self.note(start, outcome.map(|()| messages), None),
            };
            if self.is_over(start) {
                return;
            }
        }
    }

    /// Counts a call that has ended just now; tells when that was.
    fn note(
        &mut self,
        start: Instant,
        outcome: Result<usize, String>,
        part: Option<Op>,
    ) -> Instant {
        let now = Instant::now();
        match outcome {
            Ok(messages) if self.window.counts(now) => {
                self.tally.messages += messages as u64;
                self.tally.time(now - start, part.map(Op::name));
                self.tally.last = Some(now);
            }
            Ok(_) => {}
            Err(error) => self.tally.fail(error),
        }
        now
    }

    /// Walks from the first message to the last, again and again.
    async fn list(&mut self) {
        let queue = self.by % self.load.queues;
        let mut cursor: Option<Cursor> = None;
        let mut start = Instant::now();
        loop {
            let page = self.page(queue, &mut cursor).await;
            start = self.note(start, page, None);
            if self.is_over(start) {
                return;
            }
        }
    }

    /// The next page; behind the last one the first again.
    async fn page(&self, queue: usize, cursor: &mut Option<Cursor>) -> Result<usize, String> {
        let page = self.target.list(queue, cursor.take(), self.load.messages).await?;
        if page.bodies.len() == self.load.messages {
            *cursor = page.cursor;
        }
        Ok(page.bodies.len())
    }

    /// Posts, lists and takes in turn, each worker in a phase of its own.
    async fn mix(&mut self) {
        let plain = body(self.load.size, 0);
        // A cursor belongs to one queue.
        let listed = self.by % self.load.queues;
        let mut cursor: Option<Cursor> = None;
        let mut start = Instant::now();
        for call in self.by.. {
            let op = self.load.op(call);
            let (by, queue, messages) = (self.by, self.queue(call), self.load.messages);
            let outcome = match op {
                Op::Post => {
                    let post = Post { by, queue, body: plain.clone(), messages };
                    self.target.post(post).await.map(|()| messages)
                }
                Op::List => self.page(listed, &mut cursor).await,
                Op::Take => self.target.take(by, queue, messages).await,
            };
            start = self.note(start, outcome, Some(op));
            if self.is_over(start) {
                return;
            }
        }
    }

    /// Follows posters; each message's body tells when its post started.
    async fn follow(&mut self) {
        let queue = self.by % self.load.queues;
        let mut cursor: Option<Cursor> = None;
        while !self.is_over(Instant::now()) {
            match self.target.list(queue, cursor.clone(), 100).await {
                Ok(page) => {
                    let now = Instant::now();
                    if self.window.counts(now) {
                        self.tally.messages += page.bodies.len() as u64;
                        for body in &page.bodies {
                            let posted = self.window.base + posted(body);
                            self.tally.time(now.saturating_duration_since(posted), None);
                        }
                    }
                    if page.bodies.is_empty() {
                        sleep(LOOK_AGAIN).await;
                    }
                    cursor = page.cursor;
                }
                Err(error) => self.tally.fail(error),
            }
        }
    }

    /// Takes until there is nothing left.
    async fn take(&mut self) {
        let queue = self.by % self.load.queues;
        let mut start = Instant::now();
        loop {
            let taken = self.target.take(self.by, queue, self.load.messages).await;
            if matches!(taken, Ok(0)) {
                return;
            }
            start = self.note(start, taken, None);
            if self.is_over(start) {
                return;
            }
        }
    }
}

fn nanos(base: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(base).as_nanos()).unwrap_or(u64::MAX)
}

/// A body of this size that starts with a number, in hexadecimal.
pub(crate) fn body(size: usize, number: u64) -> Bytes {
    let mut body = BytesMut::with_capacity(size.max(16));
    body.put_slice(format!("{number:016x}").as_bytes());
    body.resize(size.max(16), b'x');
    body.freeze()
}

fn posted(body: &Bytes) -> Duration {
    let number = body.get(..16).and_then(|number| std::str::from_utf8(number).ok());
    let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
    Duration::from_nanos(number.unwrap_or(0))
}
