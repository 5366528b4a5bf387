//! The simulator with any number of seeds, as one command:
//!
//! ```text
//! cargo bench --bench simulator -- --seeds 100000
//! cargo bench --bench simulator -- --seed 17 --trace
//! ```
//!
//! What is simulated and what is checked is told in `specs/simulator.md`.

#[path = "../../tests/oracles/mod.rs"]
mod oracles;
#[path = "../../tests/simulator/mod.rs"]
mod simulator;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use oracles::What;
use simulator::plan::Plan;
use simulator::reached::TRANSITIONS;
use simulator::{Outcome, run};

/// Runs the library on simulated nodes, clocks and networks that fail, and checks what clients were told
#[derive(Debug, Parser)]
#[command(name = "simulator")]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Prints everything that clients did and were told
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is known of all seeds that ran.
#[derive(Debug, Default)]
struct Sum {
    failed: Vec<u64>,
    calls: u64,
    fewest_calls: Option<u64>,
    faults: u64,
    fewest_faults: Option<u64>,
    /// How many seeds reached each transition.
    reached: Vec<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let shown = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.from..args.from + args.seeds,
    };
    if let (true, Some(seed)) = (args.trace, args.seed) {
        return trace(seed);
    }
    let bar = bar(seeds.end - seeds.start);
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum { reached: vec![0; TRANSITIONS.len()], ..Sum::default() });
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = attempt(seed);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sum.add(seed, outcome, &bar);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.print(seeds.end - seeds.start);
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a seed; says what broke if the library or the simulator panicked.
fn attempt(seed: u64) -> Result<Outcome, String> {
    std::panic::catch_unwind(|| run(Plan::of(seed), None)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic".to_owned())
    })
}

fn bar(seeds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::stderr_with_hz(5));
    let style =
        ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} seeds, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn trace(seed: u64) -> ExitCode {
    let outcome = run(Plan::of(seed), None);
    println!("{:?}", Plan::of(seed));
    for entry in &outcome.history.entries {
        let line = serde_json::to_string(entry).unwrap_or_else(|error| error.to_string());
        println!("{line}");
    }
    outcome.breaches.iter().for_each(|breach| println!("{breach}"));
    for transition in TRANSITIONS {
        println!("{:>6}  {transition}", outcome.reached.times(transition));
    }
    if outcome.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>, bar: &ProgressBar) {
        let mut complaints = Vec::new();
        match outcome {
            Ok(outcome) => {
                let is_fault =
                    |what: &What| matches!(what, What::Fault { .. } | What::Disturbed { .. });
                let entries = &outcome.history.entries;
                let faults = entries.iter().filter(|entry| is_fault(&entry.what)).count() as u64;
                let others = entries.iter().filter(|entry| {
                    matches!(
                        entry.what,
                        What::Chosen { .. } | What::Census { .. } | What::Quiet | What::Excuse
                    )
                });
                let calls = entries.len() as u64 - faults - others.count() as u64;
                self.calls += calls;
                self.faults += faults;
                self.fewest_calls = Some(self.fewest_calls.map_or(calls, |few| few.min(calls)));
                self.fewest_faults = Some(self.fewest_faults.map_or(faults, |few| few.min(faults)));
                for (count, transition) in self.reached.iter_mut().zip(TRANSITIONS) {
                    *count += u64::from(outcome.reached.times(transition) > 0);
                }
                complaints.extend(outcome.breaches.iter().map(ToString::to_string));
            }
            Err(panic) => complaints.push(panic),
        }
        if complaints.is_empty() {
            return;
        }
        self.failed.push(seed);
        bar.suspend(|| {
            println!("seed {seed} failed: cargo bench --bench simulator -- --seed {seed} --trace");
            complaints.iter().take(5).for_each(|complaint| println!("  {complaint}"));
        });
    }

    fn print(&self, seeds: u64) {
        println!("{seeds} seeds, {} of them failed: {:?}", self.failed.len(), self.failed);
        println!(
            "{} calls (at least {} a seed), {} faults (at least {})",
            self.calls,
            self.fewest_calls.unwrap_or(0),
            self.faults,
            self.fewest_faults.unwrap_or(0)
        );
        for (count, transition) in self.reached.iter().zip(TRANSITIONS) {
            println!("{count:>8}  {transition}");
        }
    }
}
