//! The fault harness at full size, as one command:
//!
//! ```text
//! cargo bench --bench hazards -- --fault kill --copies 3 --faults 20 --events 100000
//! ```
//!
//! What it does and how to read what it prints is in `specs/hazards.md`.

#[path = "../../tests/hazards/mod.rs"]
mod harness;
#[path = "../../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "other tests need more of a server")]
mod redis_server;
mod report;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use harness::faults::FaultKind;
use harness::{Hazard, Progress, claiming, posting, worker};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Posts and reads, or claims and deletes, while Redis servers fail; checks that no promise is broken
#[derive(Debug, Parser)]
#[command(name = "hazards")]
struct Args {
    /// What is done to servers: kill, stop, flush, memory; several with commas, or all
    #[arg(long, default_value = "all", value_delimiter = ',')]
    fault: Vec<String>,
    /// Copies of each message; several with commas
    #[arg(long, default_values_t = [3, 2], value_delimiter = ',')]
    copies: Vec<usize>,
    /// Copies below which nothing is acknowledged
    #[arg(long, default_value_t = 2)]
    copies_min: usize,
    /// Faults of one run, one server after another
    #[arg(long, default_value_t = 20)]
    faults: usize,
    /// Events that are posted in one run
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Messages that are claimed in one run
    #[arg(long, default_value_t = 20_000)]
    claimed: u64,
    /// Seconds from one fault to the next, at least; at most it is twice as long
    #[arg(long, default_value_t = 5.0)]
    gap: f64,
    /// What is done meanwhile: posts, claims; both if not given
    #[arg(long, value_delimiter = ',')]
    hazard: Vec<Kind>,
    /// Makes the same events and faults again
    #[arg(long)]
    seed: Option<u64>,
    /// Wait before a fault until all nodes are up
    #[arg(long)]
    settle: bool,
    /// What processes log, into the logs that are left
    #[arg(long, default_value = "roundelay=info")]
    log: String,
    /// Where logs are left
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/hazards"))]
    logs: PathBuf,
    /// Print one JSON value a run, instead of a table
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Posts,
    Claims,
}

#[tokio::main]
async fn main() -> ExitCode {
    let shown = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    if let Some(settings) = worker::settings() {
        return ended(worker::work(settings).await.map(|()| true));
    }
    let args = Args::parse();
    ended(run(&args).await)
}

fn ended(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hazards: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all promises were kept.
async fn run(args: &Args) -> Result<bool, String> {
    let mut kinds = Vec::new();
    for name in &args.fault {
        match name.as_str() {
            "all" => kinds.extend(FaultKind::ALL),
            name => kinds.push(name.parse()?),
        }
    }
    let both = [Kind::Posts, Kind::Claims];
    let wanted = if args.hazard.is_empty() { &both[..] } else { &args.hazard };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut kept = true;
    for hazard in wanted {
        for &kind in &kinds {
            for &copies in &args.copies {
                let name = format!("{hazard:?}-{kind}-{copies}").to_lowercase();
                let row = one(args, *hazard, kind, copies, seed, &args.logs.join(name)).await?;
                kept &= row.breaches.is_empty();
                report::print(&row, args.json)?;
            }
        }
    }
    Ok(kept)
}

async fn one(
    args: &Args,
    what: Kind,
    kind: FaultKind,
    copies: usize,
    seed: u64,
    logs: &Path,
) -> Result<report::Row, String> {
    let gap = Duration::try_from_secs_f64(args.gap).map_err(|error| error.to_string())?;
    let hazard = Hazard {
        kind,
        copies,
        copies_min: args.copies_min,
        faults: args.faults,
        messages: if what == Kind::Posts { args.events } else { args.claimed },
        gap: gap..gap * 2,
        settle: args.settle,
        seed,
        claim_ttl: Duration::from_secs(10),
        log: args.log.clone(),
        logs: logs.to_owned(),
    };
    let progress = Arc::new(Progress::default());
    let shown = tokio::spawn(show(hazard.clone(), Arc::clone(&progress)));
    let row = match what {
        Kind::Posts => {
            posting::run(&hazard, &progress).await.map(|run| report::posts(&hazard, run))
        }
        Kind::Claims => {
            claiming::run(&hazard, &progress, &[]).await.map(|run| report::claims(&hazard, run))
        }
    };
    shown.abort();
    row.map_err(|error| format!("{hazard}: {error}; logs: {}", logs.display()))
}

/// A line that tells how far it is, if somebody watches.
async fn show(hazard: Hazard, progress: Arc<Progress>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let bar = ProgressBar::with_draw_target(
        Some(hazard.faults as u64),
        ProgressDrawTarget::stderr_with_hz(5),
    );
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        bar.set_position(progress.faults.load(Ordering::Relaxed));
        let done = progress.done.load(Ordering::Relaxed);
        bar.set_message(format!("faults ({}), {done} messages", hazard.kind));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
