//! The load harness: Roundelay and its peers under the same load, on this machine.
//!
//! ```text
//! cargo bench --bench load -- --rows 1,2,3                     # the table of what is wanted
//! cargo bench --bench load -- --target redis,raw --workers 64  # any workload on any targets
//! cargo bench --bench load -- --target redis --rate 20000      # fixed rate: latency under load
//! cargo bench --bench load -- --help                           # everything else
//! ```
//!
//! Targets (`targets/`) are started by the harness, fresh for each run, and all acknowledge a post
//! when three copies of it exist:
//!
//! | name | what |
//! | --- | --- |
//! | `redis` | Roundelay on three Redis servers |
//! | `embedded` | Roundelay on three nodes in this process's memory |
//! | `http` | `roundelay serve` on three Redis servers, with an HTTP client of this harness |
//! | `raw` | one `XADD` a message to each of three Redis servers, by the same client library |
//! | `blob` | the same bytes, gathered into blocks: one `XADD` a block to each |
//! | `set` | one `SET` a call to a fresh key on each: bytes and nothing else |
//! | `wait` | one `XADD` and `WAIT 2` on a server with two replicas |
//! | `nats` | NATS JetStream, three servers, streams in memory with three replicas |
//! | `rabbitmq` | RabbitMQ, three nodes, quorum queues (feature `rabbitmq`) |
//! | `rabbitmq-get` | the same, each message asked for when it is claimed |
//! | `zaqar` | Zaqar on one Redis server, with the same HTTP client: no copies at all |
//!
//! A program that is not installed is said in the output, never left out in silence.
//!
//! Closed loop (`closed`): each worker makes its next call when the last one was answered. Open
//! loop (`open`, with `--rate`): calls start at a fixed rate whatever happens, and latency counts
//! from when a call was meant to start, so that a stall is not hidden by the calls that it held up.
//! Comparisons are interleaved (A B A B A B) and told as ratios of medians. What was measured, and
//! what it means, is in `specs/performance.md`.

mod closed;
mod measured;
mod open;
mod plot;
mod processes;
mod progress;
#[path = "../../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;
#[path = "../../tests/it/space.rs"]
mod replica_space;
mod report;
mod rows;
mod run;
mod target;
mod targets;
mod timeline;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::progress::Progress;
use crate::rows::Outcome;
use crate::run::{Results, Settings};
use crate::target::Kind;
use crate::workload::{What, Workload};

/// Puts Roundelay and its peers under load and compares them
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Args {
    /// Rows of the table of what is wanted: 1 to 11, with commas
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u32>,
    /// What to put under load, with commas
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Kind::Redis, Kind::Raw])]
    target: Vec<Kind>,
    /// What is done
    #[arg(long, value_enum, default_value_t = What::Post)]
    workload: What,
    /// Posters, readers or claimers at the same time; several with commas
    #[arg(long, value_delimiter = ',', default_values_t = [64])]
    workers: Vec<usize>,
    /// Queues that they share; several with commas
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    queues: Vec<usize>,
    /// Bytes of a message; several with commas
    #[arg(long, value_delimiter = ',', default_values_t = [1024])]
    size: Vec<usize>,
    /// Messages of one call; several with commas
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    messages: Vec<usize>,
    /// Messages that are there before lists and claims start
    #[arg(long, default_value_t = 50_000)]
    backlog: usize,
    /// Calls a second, started whether or not earlier ones were answered; else as fast as they go
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds that are measured in one run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before them that are not
    #[arg(long, default_value_t = 0.7)]
    warm: f64,
    /// Runs of each target, interleaved
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Threads of the client; default: as many as there are cores
    #[arg(long)]
    threads: Option<usize>,
    /// Tell what the Redis servers did: time by command
    #[arg(long, conflicts_with = "kill")]
    commands: bool,
    /// Kill a server in the middle of each run; with --rate
    #[arg(long, requires = "rate")]
    kill: bool,
    /// Divide the sizes of rows 8 and 10, for a quick look
    #[arg(long, default_value_t = 1)]
    scale: usize,
    /// Write all that was measured into this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write plots (SVG) into this folder: latency by quantile, throughput by workload, and with
    /// --rate or row 11 what happened when
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let shown = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        builder.worker_threads(threads.max(1));
    }
    let outcome = match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(unless_interrupted(go(&args))),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Servers run in process groups of their own, which a terminal's interrupt does not reach: they
/// end with what is dropped here.
async fn unless_interrupted(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    }
}

async fn go(args: &Args) -> Result<(), String> {
    let seconds = |given| Duration::try_from_secs_f64(given).map_err(|error| error.to_string());
    let settings = Settings {
        measured: seconds(args.seconds)?,
        warm: seconds(args.warm)?,
        runs: args.runs.max(1),
        rate: args.rate,
        kill: args.kill,
        commands: args.commands,
        scale: args.scale.max(1),
    };
    let (rows, workloads) = match args.rows.as_slice() {
        [] => (Vec::new(), run_workloads(args, &settings).await?),
        numbers => (run_rows(numbers, &settings).await?, Vec::new()),
    };
    if let Some(file) = &args.json {
        report::write(file, &settings, &rows, &workloads)?;
    }
    if let Some(folder) = &args.plots {
        let runs = rows.into_iter().flat_map(|outcome| outcome.runs);
        plot::write(folder, &runs.chain(workloads).collect::<Vec<_>>())?;
    }
    Ok(())
}

async fn run_rows(numbers: &[u32], settings: &Settings) -> Result<Vec<Outcome>, String> {
    let rows = rows::chosen(numbers)?;
    let progress = Progress::new(rows.iter().map(|row| row.turns(settings)).sum());
    let mut done = Vec::new();
    for row in &rows {
        let outcome = row.run(settings, &progress).await;
        progress.aside(|| report::row(&outcome))?;
        done.push(outcome);
    }
    progress.end();
    report::rows(&done)?;
    Ok(done)
}

async fn run_workloads(
    args: &Args,
    settings: &Settings,
) -> Result<Vec<(Workload, Vec<Results>)>, String> {
    let workloads = workloads(args);
    let progress = Progress::new(workloads.len() * args.target.len() * settings.runs);
    let mut done = Vec::new();
    for workload in workloads {
        let results = run::interleaved(&args.target, &workload, settings, &progress).await;
        progress.aside(|| report::workload(&workload, &results))?;
        done.push((workload, results));
    }
    progress.end();
    Ok(done)
}

/// All combinations of what was given.
fn workloads(args: &Args) -> Vec<Workload> {
    let mut all = Vec::new();
    for &workers in &args.workers {
        for &queues in &args.queues {
            for &size in &args.size {
                for &messages in &args.messages {
                    let (what, backlog) = (args.workload, args.backlog);
                    let load = Workload { what, workers, queues, size, messages, backlog };
                    all.push(load.in_range());
                }
            }
        }
    }
    all
}
