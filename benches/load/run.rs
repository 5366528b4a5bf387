//! Runs: a target is started, filled, warmed up, measured, and ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::closed::{self, Window, body};
use crate::measured::{Measured, Tally, Work};
use crate::progress::Progress;
use crate::target::{Kind, Post, Target};
use crate::workload::{FILLING, What, Workload};
use crate::{open, processes};

/// Calls that fill a queue at the same time.
const FILLERS: usize = 8;
/// Claims are measured until nothing is left; no longer than this.
const LONGEST_TAKE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) measured: Duration,
    pub(crate) warm: Duration,
    pub(crate) runs: usize,
    pub(crate) rate: Option<f64>,
    /// Whether a server is killed in the middle of the time that is measured.
    pub(crate) kill: bool,
    pub(crate) commands: bool,
    /// What sizes of queues and stores are divided by.
    pub(crate) scale: usize,
}

/// What became of one target's runs.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) kind: Kind,
    pub(crate) outcome: Result<Vec<Measured>, String>,
}

/// Runs targets in turns: A B A B A B.
pub(crate) async fn interleaved(
    kinds: &[Kind],
    load: &Workload,
    settings: &Settings,
    progress: &Progress,
) -> Vec<Results> {
    let mut all: Vec<Results> = kinds
        .iter()
        .map(|&kind| Results { kind, outcome: kind.missing().map_or(Ok(Vec::new()), Err) })
        .collect();
    for turn in 1..=settings.runs {
        for Results { kind, outcome } in &mut all {
            progress.say(&format!("{}: {}, run {turn}", load.name(), kind.name()));
            if let Ok(runs) = outcome {
                match one(*kind, load, settings).await {
                    Ok(run) => runs.push(run),
                    Err(error) => *outcome = Err(format!("{}: {error}", kind.name())),
                }
            }
            progress.step();
        }
    }
    all
}

/// One run of one target.
pub(crate) async fn one(
    kind: Kind,
    load: &Workload,
    settings: &Settings,
) -> Result<Measured, String> {
    let target: Arc<dyn Target> = kind.start(load.queues).await?.into();
    if let Some(op) = load.what.ops().iter().find(|op| !target.offers(**op)) {
        return Err(format!("{}: not measured on this target", op.name()));
    }
    if load.what.needs_backlog() {
        fill(&target, load).await?;
    }
    let mut servers = target.processes();
    servers.extend(processes::of(target.redis()).await);
    let (warm, measured) = match load.what {
        What::Take => (Duration::ZERO, LONGEST_TAKE),
        _ => (settings.warm, settings.measured),
    };
    let window = Window::new(warm, measured);
    let load_now = load.clone();
    let on = Arc::clone(&target);
    let rate = settings.rate;
    let work = tokio::spawn(async move {
        match rate {
            Some(rate) => open::run(&on, &load_now, window, rate).await,
            None => closed_loop(closed::start(&on, &load_now, window)).await,
        }
    });
    sleep_until(window.from).await;
    if settings.commands {
        for server in target.redis() {
            server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
        }
    }
    let before = Used::now(&servers);
    let (mut work, mut killed) = (work, None);
    if settings.kill {
        sleep_until(window.from + measured / 2).await;
        killed = Some(Instant::now() - window.from);
        target.kill_one()?;
    }
    let early = tokio::select! {
        done = &mut work => Some(done),
        () = sleep_until(window.until) => None,
    };
    let (client_us, servers_us) = Used::now(&servers).since(&before);
    let work_done =
        if settings.commands { work_of(target.as_ref()).await } else { Work::default() };
    let tally = match early {
        Some(done) => done,
        None => work.await,
    };
    let tally = tally.map_err(|error| error.to_string())??;
    target.close().await;
    if tally.latencies.len() == 0 {
        return Err(tally.failure.unwrap_or_else(|| "not one call was answered in time".into()));
    }
    // Looks for more than there is are not work: claims end with the last message.
    let until = match (load.what, tally.last) {
        (What::Take, Some(last)) => last,
        _ => window.until,
    };
    let seconds = (until - window.from).as_secs_f64();
    Ok(Measured { tally, seconds, client_us, servers_us, work: work_done, killed })
}

/// Processor time used so far.
struct Used {
    client: u64,
    servers: Vec<u64>,
}

impl Used {
    fn now(servers: &[u32]) -> Self {
        Self {
            client: processes::used_us(std::process::id()),
            servers: servers.iter().map(|&process| processes::used_us(process)).collect(),
        }
    }

    /// By the client and by all servers since then; one that has ended does not count.
    fn since(&self, before: &Self) -> (u64, u64) {
        let servers = self.servers.iter().zip(&before.servers);
        let servers = servers.map(|(now, then)| now.saturating_sub(*then)).sum();
        (self.client.saturating_sub(before.client), servers)
    }
}

async fn closed_loop(mut workers: JoinSet<Tally>) -> Result<Tally, String> {
    let mut total = Tally::new();
    while let Some(tally) = workers.join_next().await {
        total.add(tally.map_err(|error| error.to_string())?);
    }
    Ok(total)
}

/// Posts the backlog, spread over the queues.
async fn fill(target: &Arc<dyn Target>, load: &Workload) -> Result<(), String> {
    let calls = load.backlog.div_ceil(FILLING);
    let plain = body(load.size, 0);
    let mut fillers = JoinSet::new();
    for by in 0..FILLERS {
        let (target, plain, queues) = (Arc::clone(target), plain.clone(), load.queues);
        fillers.spawn(async move {
            for call in (by..calls).step_by(FILLERS) {
                let (queue, body) = (call % queues, plain.clone());
                target.post(Post { by, queue, body, messages: FILLING }).await?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(done) = fillers.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// What all its Redis servers did since their statistics were reset.
async fn work_of(target: &dyn Target) -> Work {
    let mut work = Work::default();
    for server in target.redis() {
        let info: String = server.run(&["INFO", "commandstats"]).await;
        for line in info.lines() {
            let Some((name, fields)) =
                line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':'))
            else {
                continue;
            };
            let of = |field: &str| number(fields.split(','), field);
            let entry = work.commands.entry(name.into()).or_default();
            entry.0 += of("calls=");
            entry.1 += of("usec=");
        }
        let info: String = server.run(&["INFO", "stats"]).await;
        work.bytes.0 += number(info.lines(), "total_net_input_bytes:");
        work.bytes.1 += number(info.lines(), "total_net_output_bytes:");
    }
    work
}

fn number<'a>(mut fields: impl Iterator<Item = &'a str>, name: &str) -> u64 {
    let value = fields.find_map(|field| field.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
