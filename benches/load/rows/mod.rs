//! The table of what is wanted, row by row.

mod compare;
mod failover;
mod growth;
mod space;

use serde_json::{Value, json};

use crate::progress::Progress;
use crate::run::{Results, Settings};
use crate::workload::Workload;

/// A row that can be run.
#[derive(Debug)]
pub(crate) enum Row {
    Compare(compare::Comparison),
    Space,
    Growth,
    Failover,
}

/// Which way a bound goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    AtLeast,
    AtMost,
}

/// What is wanted of a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) side: Side,
    pub(crate) wanted: f64,
    /// What is aimed at beyond.
    pub(crate) aim: Option<f64>,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// What the number is, with its unit.
    pub(crate) what: String,
    /// Why there is none, if there is none.
    pub(crate) found: Result<f64, String>,
    /// `None`: it is told, and nothing is wanted of it.
    pub(crate) bound: Option<Bound>,
}

/// A row that was run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) number: u32,
    pub(crate) title: String,
    /// All that was measured, as text …
    pub(crate) detail: String,
    /// … and as JSON.
    pub(crate) json: Value,
    pub(crate) lines: Vec<Line>,
    /// What can be drawn.
    pub(crate) runs: Vec<(Workload, Vec<Results>)>,
}

/// How a number compares with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Aim,
    Reached,
    Missed,
}

impl Bound {
    fn at_most(wanted: f64, aim: Option<f64>) -> Option<Self> {
        Some(Self { side: Side::AtMost, wanted, aim })
    }

    pub(crate) fn verdict(&self, found: f64) -> Verdict {
        let reaches = |bound: f64| match self.side {
            Side::AtLeast => found >= bound,
            Side::AtMost => found <= bound,
        };
        if self.aim.is_some_and(reaches) {
            Verdict::Aim
        } else if reaches(self.wanted) {
            Verdict::Reached
        } else {
            Verdict::Missed
        }
    }
}

impl Outcome {
    fn new(number: u32, title: &str) -> Self {
        Self {
            number,
            title: title.into(),
            detail: String::new(),
            json: json!({}),
            lines: Vec::new(),
            runs: Vec::new(),
        }
    }
}

impl Row {
    fn number(&self) -> u32 {
        match self {
            Self::Compare(row) => row.number,
            Self::Space => 8,
            Self::Growth => 10,
            Self::Failover => 11,
        }
    }

    /// Steps that it takes.
    pub(crate) fn turns(&self, settings: &Settings) -> usize {
        match self {
            Self::Compare(row) => row.turns(settings.runs),
            Self::Space => space::TURNS,
            Self::Growth => growth::turns(),
            Self::Failover => failover::turns(settings),
        }
    }

    /// Runs it. What does not work is told as a line, so that the other rows are run all the same.
    pub(crate) async fn run(&self, settings: &Settings, progress: &Progress) -> Outcome {
        let outcome = match self {
            Self::Compare(row) => row.run(settings, progress).await,
            Self::Space => space::run(settings, progress).await,
            Self::Growth => growth::run(settings, progress).await,
            Self::Failover => failover::run(settings, progress).await,
        };
        outcome.unwrap_or_else(|error| {
            let failed = Line { what: "-".into(), found: Err(error.clone()), bound: None };
            let mut outcome = Outcome::new(self.number(), "failed");
            outcome.detail = format!("  {error}\n");
            outcome.lines.push(failed);
            outcome
        })
    }
}

/// The rows of these numbers, in order.
pub(crate) fn chosen(numbers: &[u32]) -> Result<Vec<Row>, String> {
    let mut all: Vec<Row> = compare::all().into_iter().map(Row::Compare).collect();
    all.extend([Row::Space, Row::Growth, Row::Failover]);
    all.sort_by_key(Row::number);
    if let Some(unknown) = numbers.iter().find(|number| !all.iter().any(|r| r.number() == **number))
    {
        return Err(format!("there is no row {unknown}"));
    }
    all.retain(|row| numbers.contains(&row.number()));
    Ok(all)
}
