//! Chaos for half a minute: real servers, services and workers fail, and no promise is broken.
//!
//! `specs/hazards.md` tells what is done, and the command that does the same at length.

mod events;
mod forgetful;
#[path = "../../chaos/mod.rs"]
mod harness;
mod timeline;
mod wires;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harness::faults::FaultKind;
use harness::run::Outcome;
use harness::{Plan, run, worker};
use tokio::sync::Mutex;

/// Held by the run that is under way: each is a dozen processes.
static TURN: Mutex<()> = Mutex::const_new(());
/// The variable that sets the seed, to run a failed one again.
const SEED: &str = "ROUNDELAY_CHAOS_SEED";
/// Nothing may stall posts for longer. What a stall should be is measured at length; here other tests
/// run beside.
const LONGEST_STALL: Duration = Duration::from_secs(5);

fn plan(name: &str, copies: usize, kinds: &[FaultKind]) -> Plan {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let again = ["--exact", "chaos::a_process_of_workers", "--ignored", "--nocapture"];
    Plan {
        servers: 4,
        services: 2,
        crews: 2,
        copies,
        kinds: kinds.to_vec(),
        every: Duration::from_secs(1),
        settle: true,
        lasts: Duration::from_secs(12),
        round: Duration::from_secs(12),
        rate: 100.0,
        seed: seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        log: "roundelay=info,roundelay::access=off".into(),
        logs: Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos").join(name),
        again: again.map(String::from).to_vec(),
    }
}

/// Runs it, and fails with all that one needs to look into it; else takes the logs away.
async fn kept(name: &str, plan: Plan) -> Outcome {
    const SHOWN: usize = 20;
    let _turn = TURN.lock().await;
    let (seed, logs) = (plan.seed, plan.logs.clone());
    let again =
        format!("logs: {}\nagain: {SEED}={seed} cargo test --test it {name}", logs.display());
    let outcome = run::run(plan, &Arc::default()).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}\n{again}"));
    let mut breaches = outcome.breaches();
    let moments: Vec<Duration> = outcome.faults.iter().map(|fault| fault.began).collect();
    for (fault, stall) in outcome.faults.iter().zip(outcome.line.stalls(&moments)) {
        let (kind, lasted) = (fault.kind, fault.ended - fault.began);
        println!("{fault:?}, {lasted:?}, aim {:?}: {stall:?}", kind.aim());
        if stall.silence > LONGEST_STALL {
            breaches.push(format!("{fault:?}: {stall:?}"));
        }
    }
    println!(
        "{:?}, {} told of, {} calls failed for good of {:?}\n{again}",
        outcome.line.tails(),
        outcome.admissions,
        outcome.failed_for_good(),
        outcome.failures
    );
    if !breaches.is_empty() {
        let shown: Vec<_> = breaches.iter().take(SHOWN).map(|breach| breach.as_str()).collect();
        panic!("{} promises broken:\n  {}\n{again}", breaches.len(), shown.join("\n  "));
    }
    std::fs::remove_dir_all(logs).ok();
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of workers, no test of its own"]
async fn a_process_of_workers() {
    if let Some(settings) = worker::settings() {
        let shown = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
        worker::work(settings).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_promise_is_broken_by_chaos_with_three_copies() {
    let plan = plan("three", 3, &FaultKind::ALL);
    let outcome = kept("no_promise_is_broken_by_chaos_with_three_copies", plan).await;
    assert!(outcome.faults.len() >= 3, "{:?}", outcome.faults);
    assert!(outcome.rounds.iter().all(|judged| judged.acked > 500 && judged.seen > 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_promise_is_broken_by_chaos_with_two_copies() {
    let plan = plan("two", 2, &FaultKind::ALL);
    let outcome = kept("no_promise_is_broken_by_chaos_with_two_copies", plan).await;
    assert!(outcome.faults.len() >= 3, "{:?}", outcome.faults);
}
