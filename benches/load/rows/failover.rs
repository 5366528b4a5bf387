//! Row 11: a server is killed while posts come in at half of the highest rate that was measured.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Bound, Line, Outcome};
use crate::measured::{Measured, median};
use crate::progress::Progress;
use crate::report;
use crate::run::{self, Results, Settings};
use crate::target::Kind;
use crate::timeline::Worst;
use crate::workload::{What, Workload};

/// Seconds around the fault, at least.
const AT_LEAST: Duration = Duration::from_secs(8);
/// What comes before a fault and is still told apart from it: a second that ends with it.
const SECOND: Duration = Duration::from_secs(1);

const TITLE: &str = "a server killed at half load: 64 posters, 1 queue, 1 of 1024 B a call";

pub(super) fn turns(settings: &Settings) -> usize {
    2 * settings.runs
}

pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Outcome, String> {
    let load =
        Workload { what: What::Post, workers: 64, queues: 1, size: 1024, messages: 1, backlog: 0 };
    let kind = Kind::Redis;
    if let Some(missing) = kind.missing() {
        return Err(missing);
    }
    let closed = Settings { rate: None, kill: false, ..settings.clone() };
    let (mut highest, mut runs) = (Vec::new(), Vec::new());
    for turn in 1..=settings.runs {
        progress.say(&format!("highest rate, run {turn}"));
        highest.push(run::one(kind, &load, &closed).await?.messages_per_second());
        progress.step();
        let rate = median(highest.iter().copied()) / 2.0;
        progress.say(&format!("a server killed at {rate:.0} posts/s, run {turn}"));
        let open = Settings {
            rate: Some(rate),
            kill: true,
            commands: false,
            measured: settings.measured.max(AT_LEAST),
            ..settings.clone()
        };
        runs.push(run::one(kind, &load, &open).await?);
        progress.step();
    }
    Ok(outcome(load, &highest, runs))
}

fn outcome(load: Workload, highest: &[f64], runs: Vec<Measured>) -> Outcome {
    let quiet: Vec<Worst> = runs.iter().filter_map(before).collect();
    let worst: Vec<Worst> = runs.iter().filter_map(behind).collect();
    let failed: u64 = runs.iter().map(|run| run.tally.failed).sum();
    let tails = |all: &[Worst]| all.iter().map(|worst| worst.p999_ms).collect::<Vec<_>>();
    let mut outcome = Outcome::new(11, TITLE);
    outcome.lines = vec![
        Line {
            what: "p99.9 of the worst second, ms".into(),
            found: Ok(median(tails(&worst))),
            bound: Bound::at_most(100.0, Some(50.0)),
        },
        Line {
            what: "the same before the fault, ms".into(),
            found: Ok(median(tails(&quiet))),
            bound: None,
        },
        Line {
            what: "failed posts, all runs".into(),
            found: Ok(failed as f64),
            bound: Bound::at_most(0.0, None),
        },
    ];
    let results = vec![Results { kind: Kind::Redis, outcome: Ok(runs) }];
    outcome.detail = format!(
        "  highest rates, posts/s: {}\n  \
         p99.9 of the worst second of each run, ms: {} (before: {})\n{}",
        told(highest),
        told(&tails(&worst)),
        told(&tails(&quiet)),
        report::table(&results)
    );
    outcome.json = json!({
        "highest_per_second": highest,
        "worst_second": worst.iter().map(value).collect::<Vec<_>>(),
        "worst_second_before": quiet.iter().map(value).collect::<Vec<_>>(),
        "failed": failed,
        "targets": report::targets(&results),
    });
    outcome.runs.push((load, results));
    outcome
}

/// The worst second that ended before the fault.
fn before(run: &Measured) -> Option<Worst> {
    let until = run.killed?.saturating_sub(SECOND);
    run.tally.line.as_ref()?.worst_second(Duration::ZERO, until)
}

/// The worst second that holds the fault, or comes behind it.
fn behind(run: &Measured) -> Option<Worst> {
    let from = run.killed?.saturating_sub(SECOND);
    run.tally.line.as_ref()?.worst_second(from, Duration::MAX)
}

fn value(worst: &Worst) -> Value {
    json!({ "from_s": worst.from.as_secs_f64(), "p999_ms": worst.p999_ms })
}

fn told(numbers: &[f64]) -> String {
    numbers.iter().map(|number| format!("{number:.1}")).collect::<Vec<_>>().join(" ")
}
