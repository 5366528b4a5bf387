//! Chaos on real servers, as one command:
//!
//! ```text
//! cargo bench --bench chaos -- --copies 3 --lasts 30m --every 5s --svg chaos.svg
//! ```
//!
//! What it does and how to read what it prints is in `specs/hazards.md`.

#[path = "../../tests/chaos/mod.rs"]
mod chaos;
#[path = "../load/plot/chart.rs"]
mod chart;
#[path = "../../tests/oracles/mod.rs"]
mod oracles;
mod picture;
#[path = "../../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "other tests need more of a server")]
mod redis_server;
mod report;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos::faults::FaultKind;
use chaos::{Plan, Progress, run, worker};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Posts, reads, claims and deletes while servers and services fail; checks that no promise is broken
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Args {
    /// What is done: several with commas, or all
    #[arg(long, default_value = "all", value_delimiter = ',')]
    fault: Vec<String>,
    /// Copies of each message
    #[arg(long, default_value_t = 3)]
    copies: usize,
    /// Redis servers
    #[arg(long, default_value_t = 4)]
    servers: usize,
    /// Service processes
    #[arg(long, default_value_t = 2)]
    services: usize,
    /// Processes of workers
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How long faults happen: seconds, or as 90s, 30m, 2h
    #[arg(long, default_value = "2m", value_parser = duration)]
    lasts: Duration,
    /// From one fault to the next
    #[arg(long, default_value = "5s", value_parser = duration)]
    every: Duration,
    /// Do not wait before a fault until all that the one before did is mended
    #[arg(long)]
    no_settle: bool,
    /// Posts a second
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// After how long new queues are used, and the old ones walked to their ends and judged
    #[arg(long, default_value = "60s", value_parser = duration)]
    round: Duration,
    /// Makes the same messages and the same order of faults again
    #[arg(long)]
    seed: Option<u64>,
    /// What processes log, into the logs that are left
    #[arg(long, default_value = "roundelay=info,roundelay::access=off")]
    log: String,
    /// Where logs are left
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos"))]
    logs: PathBuf,
    /// Write all that was measured, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the time line
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A number with a unit, or of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().find(|(_, c)| c.is_ascii_alphabetic()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no duration"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("{unit:?} is no unit: ms, s, m, h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    let shown = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    let outcome = match worker::settings() {
        Some(settings) => worker::work(settings).await.map(|()| true),
        // Dropped, a run ends its processes.
        None => tokio::select! {
            outcome = go(Args::parse()) => outcome,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all promises were kept.
async fn go(args: Args) -> Result<bool, String> {
    let mut kinds = Vec::new();
    for name in &args.fault {
        match name.as_str() {
            "all" => kinds.extend(FaultKind::ALL),
            name => kinds.push(name.parse()?),
        }
    }
    if args.servers < 2 || args.services == 0 || args.workers == 0 || args.round.is_zero() {
        return Err("at least two servers, a service, a process of workers and a round".into());
    }
    if !(args.rate.is_finite() && args.rate > 0.0) || args.lasts < args.round {
        return Err("the rate must be above zero, and faults last for a round at least".into());
    }
    let plan = Plan {
        servers: args.servers,
        services: args.services,
        crews: args.workers,
        copies: args.copies,
        kinds,
        every: args.every,
        settle: !args.no_settle,
        lasts: args.lasts,
        round: args.round,
        rate: args.rate,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        log: args.log,
        logs: args.logs,
        again: Vec::new(),
    };
    eprintln!("chaos: seed {}, logs in {}", plan.seed, plan.logs.display());
    let progress = Arc::new(Progress::default());
    let shown = tokio::spawn(show(plan.clone(), Arc::clone(&progress)));
    let outcome = run::run(plan.clone(), &progress).await;
    shown.abort();
    let report = report::Report::of(plan, outcome?);
    if let Some(path) = &args.json {
        write(path, &report.json().to_string())?;
    }
    if let Some(path) = &args.svg {
        write(path, &picture::of(&report))?;
    }
    report.print()?;
    Ok(report.is_kept())
}

fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A line that tells how far it is, if somebody watches.
async fn show(plan: Plan, progress: Arc<Progress>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let whole = plan.lasts.as_secs();
    let bar = ProgressBar::with_draw_target(Some(whole), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(bar.elapsed().as_secs().min(whole));
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        bar.set_message(format!(
            "{} faults, {} posts, {} failed, {} calls judged",
            count(&progress.faults),
            count(&progress.acked),
            count(&progress.failed),
            count(&progress.judged),
        ));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
