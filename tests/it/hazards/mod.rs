//! The fault harness, scaled down: real servers fail while processes post, read and work.
//!
//! One at a time, as each is a dozen processes that are measured. `specs/hazards.md` tells what is
//! done, and the command that does the same at full size.

mod claim_checker;
mod events;
#[path = "../../hazards/mod.rs"]
mod harness;
mod post_checker;
mod stalls;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harness::faults::FaultKind;
use harness::{Hazard, claiming, posting, worker};
use tokio::sync::Mutex;

/// Held by the hazard that runs.
static TURN: Mutex<()> = Mutex::const_new(());

/// No fault may stop everything for longer. What a stall should be is measured at full size; here
/// other tests run beside.
const LONGEST_STALL: Duration = Duration::from_secs(5);
/// The variable that sets the seed, to run a failed one again.
const SEED: &str = "ROUNDELAY_HAZARD_SEED";

fn hazard(kind: FaultKind, copies: usize, messages: u64, name: &str) -> Hazard {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    Hazard {
        kind,
        copies,
        copies_min: 2,
        faults: 3,
        messages,
        gap: Duration::from_millis(3000)..Duration::from_millis(4500),
        settle: true,
        seed: seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        claim_ttl: Duration::from_secs(4),
        log: "roundelay=debug".into(),
        logs: Path::new(env!("CARGO_TARGET_TMPDIR")).join("hazards").join(name),
    }
}

/// Fails with all that one needs to look into it; else takes the logs away.
fn conclude<B: Display>(hazard: &Hazard, name: &str, breaches: &[B]) {
    const SHOWN: usize = 20;
    if breaches.is_empty() {
        std::fs::remove_dir_all(&hazard.logs).ok();
        return;
    }
    let shown: String = breaches.iter().take(SHOWN).map(|breach| format!("\n  {breach}")).collect();
    panic!(
        "{} breaches:{shown}\nwhat was done: {hazard}\nlogs: {}\nagain: {SEED}={} cargo test \
         --test it {name}",
        breaches.len(),
        hazard.logs.display(),
        hazard.seed,
    );
}

async fn posts(kind: FaultKind, copies: usize) {
    let _turn = TURN.lock().await;
    let name = format!("posts-{kind}-{copies}");
    let hazard = hazard(kind, copies, 4000, &name);
    println!("{hazard}");
    let run = posting::run(&hazard, &Arc::default()).await;
    let outcome = run.unwrap_or_else(|error| panic!("{error}\n{hazard}, {:?}", hazard.logs));
    let posting::Posting { acked, refused, listed, stalls, quiet, breaches } = &outcome;
    println!("acked {acked}, refused {refused:?}, listed {listed:?}, quiet {quiet:?}");
    let mut bad: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    for stall in stalls {
        let harness::stalls::Stall { server, at, longest } = stall;
        println!("server {server} at {at:?}: nothing acked for {longest:?}");
        if *longest > LONGEST_STALL {
            bad.push(format!("server {server} at {at:?}: nothing acked for {longest:?}"));
        }
    }
    if *acked < hazard.messages * 9 / 10 {
        bad.push(format!("only {acked} acked, refused {refused:?}"));
    }
    conclude(&hazard, "hazards::posts", &bad);
}

async fn claims(kind: FaultKind, copies: usize) {
    let _turn = TURN.lock().await;
    let name = format!("claims-{kind}-{copies}");
    let hazard = hazard(kind, copies, 3000, &name);
    println!("{hazard}");
    let again = ["--exact", "hazards::a_process_of_workers", "--ignored", "--nocapture"];
    let run = claiming::run(&hazard, &Arc::default(), &again).await;
    let outcome = run.unwrap_or_else(|error| panic!("{error}\n{hazard}, {:?}", hazard.logs));
    let claiming::Claiming { deleted, claims, failed, stalls, quiet, breaches } = &outcome;
    println!("deleted {deleted} in {claims} claims, {failed} calls failed, quiet {quiet:?}");
    println!("{stalls:?}");
    conclude(&hazard, "hazards::claims", breaches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the hazard of claims, no test of its own"]
async fn a_process_of_workers() {
    if let Some(settings) = worker::settings() {
        let shown = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(shown).with_writer(std::io::stderr).init();
        worker::work(settings).await.unwrap();
    }
}

macro_rules! hazards {
    ($($name:ident: $run:ident($kind:ident, $copies:literal);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $run(FaultKind::$kind, $copies).await;
        }
    )*};
}

hazards! {
    posts_survive_kills_with_three_copies: posts(Kill, 3);
    posts_survive_kills_with_two_copies: posts(Kill, 2);
    posts_survive_stops_with_three_copies: posts(Stop, 3);
    posts_survive_stops_with_two_copies: posts(Stop, 2);
    posts_survive_flushes_with_three_copies: posts(Flush, 3);
    posts_survive_flushes_with_two_copies: posts(Flush, 2);
    posts_survive_full_memory_with_three_copies: posts(Memory, 3);
    posts_survive_full_memory_with_two_copies: posts(Memory, 2);
    claims_survive_kills_with_three_copies: claims(Kill, 3);
    claims_survive_kills_with_two_copies: claims(Kill, 2);
    claims_survive_stops_with_three_copies: claims(Stop, 3);
    claims_survive_stops_with_two_copies: claims(Stop, 2);
}
