//! Rows that compare Roundelay with others under one load.

use super::{Bound, Line, Outcome, Side};
use crate::measured::{Measured, median};
use crate::progress::Progress;
use crate::report;
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
    kind: Kind,
    /// The ratio to it that is wanted …
    wanted: f64,
    /// … and the one that is aimed at.
    aim: Option<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub(super) number: u32,
    load: Workload,
    ours: Kind,
    measure: Measure,
    against: Vec<Against>,
}

impl Comparison {
    /// Runs that it takes.
    pub(super) fn turns(&self, runs: usize) -> usize {
        (1 + self.against.len()) * runs
    }

    pub(super) async fn run(
        &self,
        settings: &Settings,
        progress: &Progress,
    ) -> Result<Outcome, String> {
        let mut kinds = vec![self.ours];
        kinds.extend(self.against.iter().map(|against| against.kind));
        let results = run::interleaved(&kinds, &self.load, settings, progress).await;
        let mut outcome = Outcome::new(self.number, &self.load.name());
        outcome.detail = report::table(&results);
        outcome.lines = self.lines(&results);
        outcome.json = report::targets(&results);
        outcome.runs.push((self.load.clone(), results));
        Ok(outcome)
    }

    fn lines(&self, results: &[Results]) -> Vec<Line> {
        let value = |results: Option<&Results>| match results.map(|results| &results.outcome) {
            Some(Ok(runs)) if !runs.is_empty() => Ok(self.measure.of(runs)),
            Some(Err(error)) => Err(error.clone()),
            _ => Err("not run".into()),
        };
        let ours = value(results.first());
        let others = self.against.iter().zip(results.iter().skip(1));
        let line = |(against, theirs): (&Against, &Results)| Line {
            what: format!("{} {}", self.measure.name(), against.kind.name()),
            found: ours.clone().and_then(|ours| Ok(ours / value(Some(theirs))?)),
            bound: Some(Bound {
                side: self.measure.side(),
                wanted: against.wanted,
                aim: against.aim,
            }),
        };
        others.map(line).collect()
    }
}

impl Measure {
    /// Messages a second, or microseconds.
    fn of(self, runs: &[Measured]) -> f64 {
        match self {
            Self::Throughput => median(runs.iter().map(Measured::messages_per_second)),
            Self::Latency => median(runs.iter().map(|run| run.tally.latencies.at(0.5))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "messages/s, times",
            Self::Latency => "p50, times",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::Throughput => Side::AtLeast,
            Self::Latency => Side::AtMost,
        }
    }
}

fn post(workers: usize, queues: usize, size: usize, messages: usize) -> Workload {
    Workload { what: What::Post, workers, queues, size, messages, backlog: 0 }
}

fn at_least(kind: Kind, wanted: f64, aim: Option<f64>) -> Against {
    Against { kind, wanted, aim }
}

/// The rows of this kind.
pub(super) fn all() -> Vec<Comparison> {
    let row = |number, load, measure, against| {
        let ours = if number == 9 { Kind::Http } else { Kind::Redis };
        Comparison { number, load, ours, measure, against }
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
            vec![
                at_least(Kind::Nats, 1.5, Some(3.0)),
                at_least(Kind::Rabbitmq, 8.0, None),
                at_least(Kind::RabbitmqGet, 8.0, None),
            ],
        ),
        row(7, list, Throughput, vec![at_least(Kind::Raw, 0.8, Some(1.5))]),
        row(9, post(64, 1, 256, 1), Throughput, vec![at_least(Kind::Zaqar, 15.0, Some(25.0))]),
    ]
}
