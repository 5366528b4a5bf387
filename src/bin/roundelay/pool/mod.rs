//! `roundelay pool`: the nodes and how they do; nodes that come and go; whether copies agree.
//!
//! `status`: [`status`]; `init`, `add`, `drain`, `remove`: [`change`]; `verify`, `doctor`: [`check`].

mod change;
mod check;
mod progress;
mod status;

use clap::Subcommand;

use crate::failure::Failure;
use crate::settings::Settings;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a pool of the given nodes, or say that they are one
    Init(Output),
    /// Print the nodes and how they and the copies are; fails unless all is well
    Status(status::Args),
    /// Add a node to the pool; running services connect to it by themselves
    Add(change::Add),
    /// Move everything off a node, and say how far that is
    Drain(change::Drain),
    /// Take a node out of the pool for good, and say what that costs
    Remove(change::Remove),
    /// Compare the copies of every segment, and say which disagree
    Verify(Output),
    /// Look at each node's settings, version, memory and clock, and say what mends them
    Doctor(Output),
}

/// How results are printed
#[derive(Debug, Clone, Copy, clap::Args)]
struct Output {
    /// As lines of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    match args.action {
        Action::Init(output) => change::init(settings, output).await,
        Action::Status(args) => status::run(settings, args).await,
        Action::Add(args) => change::add(settings, args).await,
        Action::Drain(args) => change::drain(settings, args).await,
        Action::Remove(args) => change::remove(settings, args).await,
        Action::Verify(output) => check::verify(settings, output).await,
        Action::Doctor(output) => check::doctor(settings, output).await,
    }
}
