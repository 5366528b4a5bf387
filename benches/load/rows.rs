//! The table of what is wanted: Roundelay against others, row by row.

use crate::measured::{Measured, median};
use crate::progress::Progress;
use crate::run::{self, Results, Settings};
use crate::target::Kind;
use crate::workload::{What, Workload};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Messages a second: more is better.
    Throughput,
    /// The median latency: less is better.
    Latency,
}

/// One target to compare with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Against {
    pub(crate) kind: Kind,
    /// The ratio to it that is wanted …
    pub(crate) wanted: f64,
    /// … and the one that is aimed at.
    pub(crate) aim: Option<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) number: u32,
    pub(crate) load: Workload,
    pub(crate) ours: Kind,
    pub(crate) measure: Measure,
    pub(crate) against: Vec<Against>,
}

/// A row with its runs.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) row: Row,
    /// Ours first.
    pub(crate) results: Vec<Results>,
}

/// How a ratio compares with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Aim,
    Reached,
    Missed,
}

impl Row {
    /// Runs that it takes.
    pub(crate) fn turns(&self, runs: usize) -> usize {
        (1 + self.against.len()) * runs
    }
}

impl Measure {
    /// Messages a second, or microseconds.
    pub(crate) fn of(self, runs: &[Measured]) -> f64 {
        match self {
            Self::Throughput => median(runs.iter().map(Measured::messages_per_second)),
            Self::Latency => median(runs.iter().map(|run| run.tally.latencies.at(0.5))),
        }
    }

    pub(crate) fn verdict(self, ratio: f64, against: &Against) -> Verdict {
        let reaches = |bound: f64| match self {
            Self::Throughput => ratio >= bound,
            Self::Latency => ratio <= bound,
        };
        if against.aim.is_some_and(reaches) {
            Verdict::Aim
        } else if reaches(against.wanted) {
            Verdict::Reached
        } else {
            Verdict::Missed
        }
    }
}

pub(crate) async fn run(
    row: &Row,
    settings: &Settings,
    progress: &Progress,
) -> Result<Outcome, String> {
    let mut kinds = vec![row.ours];
    kinds.extend(row.against.iter().map(|against| against.kind));
    let results = run::interleaved(&kinds, &row.load, settings, progress).await?;
    Ok(Outcome { row: row.clone(), results })
}

/// The rows of these numbers.
pub(crate) fn chosen(numbers: &[u32]) -> Result<Vec<Row>, String> {
    let all = all();
    numbers
        .iter()
        .map(|number| {
            let known = all.iter().find(|row| row.number == *number).cloned();
            known.ok_or_else(|| format!("there is no row {number}"))
        })
        .collect()
}

fn post(workers: usize, queues: usize, size: usize, messages: usize) -> Workload {
    Workload { what: What::Post, workers, queues, size, messages, backlog: 0 }
}

fn at_least(kind: Kind, wanted: f64, aim: Option<f64>) -> Against {
    Against { kind, wanted, aim }
}

fn all() -> Vec<Row> {
    let row = |number, load, measure, against| {
        let ours = if number == 9 { Kind::Http } else { Kind::Redis };
        Row { number, load, ours, measure, against }
    };
    let list = Workload {
        what: What::List,
        workers: 4,
        queues: 1,
        size: 1024,
        messages: 100,
        backlog: 50_000,
    };
    let take = Workload {
        what: What::Take,
        workers: 16,
        queues: 1,
        size: 1024,
        messages: 20,
        backlog: 200_000,
    };
    use Measure::{Latency, Throughput};
    vec![
        row(
            1,
            post(64, 1, 1024, 1),
            Throughput,
            vec![
                at_least(Kind::Raw, 2.2, Some(3.0)),
                at_least(Kind::Blob, 0.6, None),
                at_least(Kind::Nats, 3.0, None),
                at_least(Kind::Rabbitmq, 12.0, None),
            ],
        ),
        row(2, post(256, 1, 100, 1), Throughput, vec![at_least(Kind::Raw, 6.0, Some(9.0))]),
        row(3, post(64, 100, 1024, 1), Throughput, vec![at_least(Kind::Raw, 0.8, Some(1.2))]),
        row(4, post(1, 1, 1024, 1), Latency, vec![at_least(Kind::Raw, 1.5, Some(1.15))]),
        row(5, post(8, 1, 1024, 100), Throughput, vec![at_least(Kind::Set, 0.55, Some(0.75))]),
        row(
            6,
            take,
            Throughput,
            vec![at_least(Kind::Nats, 1.5, Some(3.0)), at_least(Kind::Rabbitmq, 8.0, None)],
        ),
        row(7, list, Throughput, vec![at_least(Kind::Raw, 0.8, Some(1.5))]),
        row(9, post(64, 1, 256, 1), Throughput, vec![at_least(Kind::Zaqar, 15.0, Some(25.0))]),
    ]
}
