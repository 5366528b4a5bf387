//! What is done to servers, and when: one fault after another, never the same server twice in a
//! row, at moments drawn from a seed.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use roundelay::Store;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Hazard, SERVERS, Shared};
use crate::redis_server::RedisServer;

/// What comes before the first fault and after the last one.
const QUIET: Duration = Duration::from_millis(1500);
/// How long a stopped server stands still.
const STOPPED: Duration = Duration::from_secs(2);
/// What a full server can still take, in bytes.
const ROOM: u64 = 128 * 1024;
/// How long all nodes may need to be up again, where that is waited for.
const UP_AGAIN: Duration = Duration::from_secs(10);

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Killed (SIGKILL), and started again empty after a while.
    Kill,
    /// Stopped (SIGSTOP) for two seconds, and continued.
    Stop,
    /// Emptied (FLUSHALL).
    Flush,
    /// Its memory limit is reached for a while.
    Memory,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Flush, Self::Memory];

    fn lasts(self, rng: &mut Rng) -> Duration {
        let ms = |range: Range<u64>, rng: &mut Rng| Duration::from_millis(rng.u64(range));
        match self {
            Self::Kill => ms(200..2000, rng),
            Self::Stop => STOPPED,
            Self::Flush => Duration::ZERO,
            Self::Memory => ms(1500..3000, rng),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Flush => "flush",
            Self::Memory => "memory",
        })
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.to_string() == name);
        known.ok_or_else(|| format!("{name:?} is no fault: kill, stop, flush, memory"))
    }
}

/// A fault that is to come.
#[derive(Debug, Clone, Copy)]
struct Planned {
    server: usize,
    at: Duration,
    lasts: Duration,
}

/// A fault that was; times count from the beginning of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) server: usize,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
}

/// The faults of a run, in order.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    kind: FaultKind,
    planned: Vec<Planned>,
    settle: bool,
}

impl Schedule {
    pub(crate) fn of(hazard: &Hazard) -> Self {
        let mut rng = Rng::with_seed(hazard.seed);
        let mut at = QUIET;
        let mut last = rng.usize(..SERVERS);
        let mut planned = Vec::new();
        for _ in 0..hazard.faults {
            let server = (last + rng.usize(1..SERVERS)) % SERVERS;
            let lasts = hazard.kind.lasts(&mut rng);
            planned.push(Planned { server, at, lasts });
            let Range { start, end } = hazard.gap;
            let gap = start + (end - start).mul_f64(rng.f64());
            // One at a time: more than one server down is more than is promised.
            at += gap.max(lasts + Duration::from_millis(500));
            last = server;
        }
        Self { kind: hazard.kind, planned, settle: hazard.settle }
    }

    /// From the beginning of the run to its end, if nothing is waited for.
    pub(crate) fn length(&self) -> Duration {
        self.planned.last().map_or(Duration::ZERO, |last| last.at + last.lasts) + QUIET
    }

    /// Makes the faults happen; `witness` is asked whether nodes are up again.
    pub(crate) async fn carry_out(
        self,
        servers: Arc<Vec<RedisServer>>,
        witness: Store,
        origin: Instant,
        progress: Shared,
    ) -> Result<Vec<Fault>, String> {
        let mut late = Duration::ZERO;
        let mut faults = Vec::new();
        for Planned { server, at, lasts } in self.planned {
            sleep_until(origin + at + late).await;
            let began = origin.elapsed();
            inflict(self.kind, &servers[server], lasts).await;
            faults.push(Fault { server, began, ended: origin.elapsed() });
            progress.faults.fetch_add(1, Ordering::Relaxed);
            if self.settle {
                let since = Instant::now();
                all_up(&witness).await?;
                late += since.elapsed();
            }
        }
        sleep(QUIET).await;
        Ok(faults)
    }
}

async fn inflict(kind: FaultKind, server: &RedisServer, lasts: Duration) {
    match kind {
        FaultKind::Kill => {
            server.kill();
            sleep(lasts).await;
            server.start_again().await;
        }
        FaultKind::Stop => {
            server.pause();
            sleep(lasts).await;
            server.resume();
        }
        FaultKind::Flush => server.flush_all().await,
        FaultKind::Memory => {
            let info: String = server.run(&["INFO", "memory"]).await;
            let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
            let used: u64 = used.and_then(|used| used.trim().parse().ok()).unwrap_or(1);
            server.limit_memory(used + ROOM).await;
            sleep(lasts).await;
            server.limit_memory(0).await;
        }
    }
}

/// Waits until every node is up, as this store sees it.
async fn all_up(store: &Store) -> Result<(), String> {
    let deadline = Instant::now() + UP_AGAIN;
    loop {
        let status = store.status();
        if status.nodes.len() == SERVERS && status.nodes.iter().all(|node| node.health == "up") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not all nodes came up again within {UP_AGAIN:?}: {status:?}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
