//! The fault harness: real servers, real processes, real faults, and checkers that believe only
//! what was acknowledged.
//!
//! Used twice: scaled down by `tests/it/hazards.rs`, and in full by `benches/hazards`. What is done
//! and how to read what comes out is in `specs/hazards.md`. The checkers know nothing of the
//! protocol: they compare what callers were told with what callers found (Q1 to Q5, Q7, Q8), and
//! `stalls` measures how long nobody was told anything (Q10).

pub(crate) mod claim_checker;
pub(crate) mod claiming;
pub(crate) mod events;
pub(crate) mod faults;
pub(crate) mod post_checker;
pub(crate) mod posters;
pub(crate) mod posting;
pub(crate) mod readers;
pub(crate) mod stalls;
pub(crate) mod worker;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roundelay::{Project, Queue, QueueName, Store};

use faults::FaultKind;

/// Servers of a run, all without persistence.
pub(crate) const SERVERS: usize = 3;
const QUEUE: &str = "hazards";

/// What one run is to do. The same seed gives the same events and the same schedule of faults.
#[derive(Debug, Clone)]
pub(crate) struct Hazard {
    pub(crate) kind: FaultKind,
    pub(crate) copies: usize,
    pub(crate) copies_min: usize,
    pub(crate) faults: usize,
    pub(crate) messages: u64,
    /// From the beginning of one fault to that of the next.
    pub(crate) gap: Range<Duration>,
    /// Whether the next fault waits until all nodes are up again.
    pub(crate) settle: bool,
    pub(crate) seed: u64,
    /// How long nobody else gets what a worker claimed.
    pub(crate) claim_ttl: Duration,
    /// What processes log on standard error, which is kept.
    pub(crate) log: String,
    /// Where logs are left.
    pub(crate) logs: PathBuf,
}

/// How far a run is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Messages acked, or deleted.
    pub(crate) done: AtomicU64,
    /// Faults that are over.
    pub(crate) faults: AtomicU64,
}

impl Progress {
    fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Hazard {
    /// A store of its own, as another process would have it.
    async fn store(&self, nodes: &[String]) -> Result<Store, String> {
        let builder = Store::builder().copies(self.copies).copies_min(self.copies_min);
        let builder = nodes.iter().fold(builder, |builder, url| builder.node(url));
        builder.open().await.map_err(|error| format!("the store does not open: {error:?}"))
    }

    /// The schedule and the pace: messages are spread over all faults.
    fn pace(&self, workers: u64, schedule: &faults::Schedule) -> Duration {
        let each = (self.messages / workers).max(1);
        schedule.length().div_f64(each as f64)
    }

    /// Leaves a log behind.
    fn leave(&self, name: &str, lines: impl IntoIterator<Item = String>) -> Result<(), String> {
        let path = self.logs.join(name);
        let text: String = lines.into_iter().flat_map(|line| [line, "\n".into()]).collect();
        std::fs::create_dir_all(&self.logs)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, copies, copies_min, faults, messages, seed, .. } = self;
        write!(
            f,
            "{faults} x {kind}, {copies} copies (at least {copies_min}), {messages} messages, \
             seed {seed}"
        )
    }
}

fn queue(store: &Store) -> Queue {
    let project = Project::new("").expect("the empty project");
    store.queue(&project, &QueueName::new(QUEUE).expect("a valid name"))
}

/// The errors that a participant met, counted by what they say.
#[derive(Debug, Default, Clone)]
pub(crate) struct Complaints(std::collections::BTreeMap<String, u64>);

impl Complaints {
    fn note(&mut self, what: impl fmt::Display) {
        *self.0.entry(what.to_string()).or_default() += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(what, times)| format!("{times} x {what}"))
    }
}

/// Runs a task and ends it when it is dropped.
struct Attended<T>(tokio::task::JoinHandle<T>);

impl<T: Send + 'static> Attended<T> {
    fn spawn(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    async fn end(mut self) -> Result<T, String> {
        (&mut self.0).await.map_err(|error| format!("a part of the harness failed: {error}"))
    }
}

impl<T> Drop for Attended<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Shared = Arc<Progress>;
