//! The command `roundelay`: the Zaqar v2 service, and tools that work on a pool directly.
//!
//! One file a subcommand; [`settings`] brings flags, environment and configuration file together,
//! [`failure`] says how a run ends, [`lines`] writes JSON lines.

mod auth;
mod claim;
mod failure;
mod lines;
mod list;
mod pool;
mod post;
mod queue;
mod retry;
mod serve;
mod settings;
mod tls;
mod traces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::settings::StoreArgs;

/// A replicated message-queue store over plain Redis servers
#[derive(Debug, Parser)]
#[command(name = "roundelay", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the Zaqar v2 HTTP API
    Serve(serve::Args),
    /// Post JSON lines from standard input; prints the id of each message once it is stored
    Post(post::Args),
    /// Print messages as JSON lines, oldest first
    List(list::Args),
    /// Claim messages and print them
    Claim(claim::Args),
    /// Create, delete, list and look at queues
    Queue(queue::Args),
    /// Look after the pool: its nodes, and whether copies are whole
    Pool(pool::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let settings = cli.store.settings()?;
    let (collector, detail) = match &cli.command {
        Command::Serve(args) => (
            args.otlp_endpoint.as_ref().or(settings.otlp_endpoint.as_ref()),
            args.otlp_detail.or(settings.otlp_detail),
        ),
        _ => (None, None),
    };
    let detail = detail.unwrap_or_default();
    let traces = traces::start(&settings.log, collector.map(String::as_str), detail)?;
    let ended = match cli.command {
        Command::Serve(args) => serve::run(settings, args).await,
        Command::Post(args) => post::run(&settings, args).await,
        Command::List(args) => list::run(&settings, args).await,
        Command::Claim(args) => claim::run(&settings, args).await,
        Command::Queue(args) => queue::run(&settings, args).await,
        Command::Pool(args) => pool::run(&settings, args).await,
    };
    traces.end().await;
    ended
}
