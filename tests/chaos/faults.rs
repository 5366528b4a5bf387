//! What is done to servers and processes, and when: one fault after another at fixed intervals, each
//! kind as often as the others, never the same server twice in a row, drawn from a seed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use super::run::Stage;
use super::settle::Witness;

/// What comes before the first fault.
const QUIET: Duration = Duration::from_secs(2);
/// How long after a fault is mended the next one may come, if they do not come at fixed intervals.
const BREATH: Duration = Duration::from_millis(200);
/// What a slow server's wire takes for each piece, in milliseconds.
const SLOW_MS: std::ops::Range<u64> = 5..40;
/// What a stall should stay below, and how long a silent node is waited for, in milliseconds.
const AIM_MS: u64 = 250;
const SUSPECT_AFTER_MS: u64 = 50;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// A server is killed (SIGKILL), and started again empty after a while.
    Kill,
    /// The same, and started again at once.
    Restart,
    /// Killed, and started again with what it journalled, but for the end.
    Truncate,
    /// Emptied (FLUSHALL).
    Flush,
    /// Its memory limit is reached for a while.
    Fill,
    /// Stopped (SIGSTOP) for a while.
    Pause,
    /// Cut off in both directions for a while.
    Cut,
    /// It hears nothing for a while; its answers arrive.
    Deaf,
    /// It is heard by nobody for a while, and does what it is asked.
    Mute,
    /// Its connections break, and new ones are refused for a while.
    Refuse,
    /// It is slow for a while.
    Slow,
    /// A service is killed, and started again after a while.
    Service,
    /// A service is stopped (SIGSTOP) for a while.
    Freeze,
    /// A process of workers is killed, and started again after a while.
    Worker,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Kill,
        Self::Restart,
        Self::Truncate,
        Self::Flush,
        Self::Fill,
        Self::Pause,
        Self::Cut,
        Self::Deaf,
        Self::Mute,
        Self::Refuse,
        Self::Slow,
        Self::Service,
        Self::Freeze,
        Self::Worker,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Truncate => "truncate",
            Self::Flush => "flush",
            Self::Fill => "fill",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::Refuse => "refuse",
            Self::Slow => "slow",
            Self::Service => "service",
            Self::Freeze => "freeze",
            Self::Worker => "worker",
        }
    }

    /// Whether a server forgets by it, or may have.
    pub(super) fn forgets(self) -> bool {
        matches!(self, Self::Kill | Self::Restart | Self::Truncate | Self::Flush)
    }

    /// Whether it is done to a server.
    fn is_of_server(self) -> bool {
        !matches!(self, Self::Service | Self::Freeze | Self::Worker)
    }

    /// What the longest stall of posts should stay below, where there is an aim.
    pub(crate) fn aim(self) -> Option<Duration> {
        let ms = match self {
            Self::Pause | Self::Cut | Self::Deaf | Self::Mute => AIM_MS + SUSPECT_AFTER_MS,
            // Whoever posts at a service that stands still waits for it.
            Self::Freeze | Self::Slow => return None,
            _ => AIM_MS,
        };
        Some(Duration::from_millis(ms))
    }

    fn lasts(self, rng: &mut Rng) -> Duration {
        let ms = match self {
            Self::Restart | Self::Flush => 0..1,
            Self::Kill => 200..2000,
            Self::Truncate | Self::Service | Self::Worker => 100..1000,
            Self::Fill | Self::Slow => 1000..2000,
            Self::Pause | Self::Freeze => 500..2000,
            Self::Cut | Self::Deaf | Self::Mute | Self::Refuse => 200..2000,
        };
        Duration::from_millis(rng.u64(ms))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("{name:?} is no fault: {}", all.join(", "))
        })
    }
}

/// A fault that was; times count from the beginning of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Which server, service or process of workers, from 1.
    pub(crate) target: usize,
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    /// When all that it did was mended, if that was waited for.
    pub(crate) mended: Option<Duration>,
}

/// Which faults come, endlessly.
#[derive(Debug)]
struct Draw {
    kinds: Vec<FaultKind>,
    left: Vec<FaultKind>,
    last: usize,
    rng: Rng,
}

impl Draw {
    fn next(&mut self, stage: &Stage) -> (FaultKind, usize, Duration) {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.left);
        }
        let kind = self.left.pop().unwrap_or(FaultKind::Kill);
        let target = match kind {
            FaultKind::Service | FaultKind::Freeze => self.rng.usize(..stage.services.len()),
            FaultKind::Worker => self.rng.usize(..stage.crews.len()),
            _ => {
                let servers = stage.servers.len();
                self.last = (self.last + self.rng.usize(1..servers)) % servers;
                self.last
            }
        };
        (kind, target, kind.lasts(&mut self.rng))
    }
}

/// Makes faults happen until the run's time is over, or until what one did is not mended: why, too.
pub(super) async fn carry_out(
    stage: Arc<Stage>,
    witness: Witness,
) -> Result<(Vec<Fault>, Option<String>), String> {
    let plan = &stage.plan;
    let rng = Rng::with_seed(plan.seed);
    let mut draw = Draw { kinds: plan.kinds.clone(), left: Vec::new(), last: 0, rng };
    let mut faults = Vec::new();
    let mut next = stage.origin.at + QUIET;
    let until = stage.origin.at + plan.lasts;
    while !plan.kinds.is_empty() {
        let (kind, target, lasts) = draw.next(&stage);
        if next >= until {
            break;
        }
        if kind == FaultKind::Truncate {
            stage.servers[target].begin_journal().await?;
        }
        sleep_until(next).await;
        let before = witness.look(target);
        let began = stage.origin.at.elapsed();
        inflict(&stage, kind, target, lasts, &mut draw.rng).await?;
        let ended = stage.origin.at.elapsed();
        stage.progress.faults.fetch_add(1, Ordering::Relaxed);
        let mut fault = Fault { kind, target: target + 1, began, ended, mended: None };
        if plan.settle {
            let forgot = kind.is_of_server() && kind.forgets();
            let forgot = forgot.then_some((target, before));
            if let Err(missing) = witness.mended(forgot, &stage).await {
                let stuck = format!("{kind} of {} at {began:.1?}: {missing}", fault.target);
                faults.push(fault);
                return Ok((faults, Some(stuck)));
            }
            fault.mended = Some(stage.origin.at.elapsed());
        }
        faults.push(fault);
        next = (next + plan.every).max(Instant::now() + BREATH);
    }
    sleep_until(until).await;
    Ok((faults, None))
}

async fn inflict(
    stage: &Stage,
    kind: FaultKind,
    target: usize,
    lasts: Duration,
    rng: &mut Rng,
) -> Result<(), String> {
    let server = || &stage.servers[target];
    let breaks = rng.bool();
    let slow = Duration::from_millis(rng.u64(SLOW_MS));
    match kind {
        FaultKind::Kill | FaultKind::Restart => server().kill(lasts).await,
        FaultKind::Truncate => {
            server().truncate(lasts, rng).await?;
            server().end_journal().await;
        }
        FaultKind::Flush => server().flush().await,
        FaultKind::Fill => server().fill(lasts).await,
        FaultKind::Pause => server().pause(lasts).await,
        FaultKind::Cut => {
            let cut = |wire: &mut super::proxy::Wire| {
                wire.holds_requests = true;
                wire.holds_answers = true;
            };
            server().wire(cut, lasts, breaks).await;
        }
        FaultKind::Deaf => server().wire(|wire| wire.holds_requests = true, lasts, breaks).await,
        FaultKind::Mute => server().wire(|wire| wire.holds_answers = true, lasts, breaks).await,
        FaultKind::Refuse => server().wire(|wire| wire.refuses = true, lasts, false).await,
        FaultKind::Slow => server().wire(|wire| wire.delay = slow, lasts, breaks).await,
        FaultKind::Service => {
            let service = &stage.services[target];
            service.kill();
            sleep(lasts).await;
            service.start_again().await?;
        }
        FaultKind::Freeze => {
            let service = &stage.services[target];
            service.freeze(true)?;
            sleep(lasts).await;
            service.freeze(false)?;
        }
        FaultKind::Worker => stage.crews[target].kill(lasts).await?,
    }
    Ok(())
}
