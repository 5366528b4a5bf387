//! Chaos on real servers: services and workers in processes of their own, clients that write down
//! what they asked and were told, one fault after another, and the simulator's oracles.
//!
//! Used twice: for a few seconds by `tests/it/chaos.rs`, and at length by `benches/chaos`. What is
//! done and how to read what comes out is in `specs/hazards.md`.

pub(crate) mod client;
pub(crate) mod crew;
pub(crate) mod deleters;
pub(crate) mod events;
pub(crate) mod faults;
pub(crate) mod posters;
pub(crate) mod proxy;
pub(crate) mod readers;
pub(crate) mod round;
pub(crate) mod run;
pub(crate) mod servers;
pub(crate) mod services;
pub(crate) mod settle;
pub(crate) mod timeline;
pub(crate) mod worker;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use roundelay::time::Clock;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use faults::FaultKind;

/// What one run is to do. The same seed gives the same messages and the same order of faults.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    pub(crate) services: usize,
    /// Processes of workers.
    pub(crate) crews: usize,
    pub(crate) copies: usize,
    /// What is done, each as often as the others.
    pub(crate) kinds: Vec<FaultKind>,
    /// From the beginning of one fault to that of the next, at least.
    pub(crate) every: Duration,
    /// Whether a fault waits until all that the one before did is mended.
    pub(crate) settle: bool,
    /// How long faults happen.
    pub(crate) lasts: Duration,
    /// How long a round posts before it is walked to its end and judged.
    pub(crate) round: Duration,
    /// Posts a second, of all posters together.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    /// What processes log.
    pub(crate) log: String,
    /// Where logs are left.
    pub(crate) logs: PathBuf,
    /// How this executable is started to be a process of workers.
    pub(crate) again: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) acked: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) judged: AtomicU64,
}

/// The beginning of a run, from which all its times count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) at: Instant,
    /// The same by the clock that other processes have too.
    pub(crate) epoch_ms: u64,
}

impl Origin {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), epoch_ms: Clock::system().now_ms() }
    }

    /// Milliseconds since then.
    pub(crate) fn ms(&self) -> u64 {
        self.ms_of(Instant::now())
    }

    pub(crate) fn ms_of(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.at).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Runs a task and ends it when it is dropped.
#[derive(Debug)]
struct Attended<T>(JoinHandle<T>);

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
