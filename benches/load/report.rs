//! What is printed: tables for people, or JSON, one value a line.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::measured::{Measured, median};
use crate::rows::{Measure, Outcome, Verdict};
use crate::run::Results;
use crate::workload::Workload;

/// Commands of a Redis server that are told, those that took longest.
const COMMANDS: usize = 8;

/// The runs of a workload.
pub(crate) fn workload(load: &Workload, results: &[Results], as_json: bool) -> Result<(), String> {
    if as_json {
        let targets: Vec<Value> = results.iter().map(target).collect();
        return print(&format!("{}\n", json!({ "workload": load.name(), "targets": targets })));
    }
    print(&format!("{}\n{}\n", load.name(), table(results)))
}

/// The runs of a row, when they are done.
pub(crate) fn row(outcome: &Outcome, as_json: bool) -> Result<(), String> {
    if as_json {
        return print(&format!("{}\n", row_value(outcome)));
    }
    let Outcome { row, results } = outcome;
    print(&format!("row {}: {}\n{}\n", row.number, row.load.name(), table(results)))
}

/// All rows against what is wanted.
pub(crate) fn rows(done: &[Outcome], as_json: bool) -> Result<(), String> {
    if as_json {
        return Ok(());
    }
    let head =
        format!("{:>3}  {:<10} {:>9} {:>9} {:>7}  ", "row", "against", "ratio", "wanted", "aim");
    let mut text = format!("{head}\n");
    for outcome in done {
        for line in ratios(outcome) {
            text.push_str(&line.told(outcome.row.number, outcome.row.measure));
        }
    }
    print(&text)
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// One comparison.
struct Ratio {
    against: String,
    wanted: f64,
    aim: Option<f64>,
    found: Result<(f64, Verdict), String>,
}

fn ratios(outcome: &Outcome) -> Vec<Ratio> {
    let Outcome { row, results } = outcome;
    let value = |results: Option<&Results>| match results.map(|results| &results.outcome) {
        Some(Ok(runs)) if !runs.is_empty() => Ok(row.measure.of(runs)),
        Some(Err(error)) => Err(error.clone()),
        _ => Err("not run".into()),
    };
    let ours = value(results.first());
    let others = row.against.iter().zip(results.iter().skip(1));
    others
        .map(|(against, theirs)| {
            let found = ours.clone().and_then(|ours| {
                let ratio = ours / value(Some(theirs))?;
                Ok((ratio, row.measure.verdict(ratio, against)))
            });
            Ratio { against: against.kind.name(), wanted: against.wanted, aim: against.aim, found }
        })
        .collect()
}

impl Ratio {
    fn told(&self, number: u32, measure: Measure) -> String {
        let sign = match measure {
            Measure::Throughput => "≥",
            Measure::Latency => "≤",
        };
        let aim = self.aim.map_or_else(String::new, |aim| format!("{sign} {aim}"));
        let wanted = format!("{sign} {}", self.wanted);
        let (ratio, verdict) = match &self.found {
            Ok((ratio, verdict)) => (format!("{ratio:.2}"), word(*verdict).to_owned()),
            Err(error) => ("-".into(), error.clone()),
        };
        let against = &self.against;
        format!("{number:>3}  {against:<10} {ratio:>9} {wanted:>9} {aim:>7}  {verdict}\n")
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aim => "aim reached",
        Verdict::Reached => "reached",
        Verdict::Missed => "MISSED",
    }
}

fn table(results: &[Results]) -> String {
    let mut text = format!(
        "  {:<10} {:>11} {:>9} {:>9} {:>9} {:>9}  {:>8} {:>8}  {}\n",
        "target",
        "messages/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "client",
        "servers",
        "runs"
    );
    for Results { kind, outcome } in results {
        match outcome {
            Ok(runs) => text.push_str(&line(&kind.name(), runs)),
            Err(error) => text.push_str(&format!("  {error}\n")),
        }
    }
    text
}

fn middle(runs: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    median(runs.iter().map(of))
}

fn line(name: &str, runs: &[Measured]) -> String {
    let at = |quantile| middle(runs, |run| run.tally.latencies.at(quantile));
    let each: Vec<String> =
        runs.iter().map(|run| format!("{:.0}", run.messages_per_second())).collect();
    let mut text = format!(
        "  {name:<10} {:>11.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0}  {:>8.2} {:>8.2}  {}\n",
        middle(runs, Measured::messages_per_second),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        middle(runs, |run| run.cpu_us().0),
        middle(runs, |run| run.cpu_us().1),
        each.join(" ")
    );
    let failed: u64 = runs.iter().map(|run| run.tally.failed).sum();
    if failed > 0 {
        let why = runs.iter().find_map(|run| run.tally.failure.clone()).unwrap_or_default();
        text.push_str(&format!("  {:<10} {failed} calls failed: {why}\n", ""));
    }
    if let Some(last) = runs.last() {
        text.push_str(&commands(last));
    }
    text
}

/// What the servers did for each message.
fn commands(run: &Measured) -> String {
    let mut all: Vec<(&String, &(u64, u64))> = run.work.commands.iter().collect();
    all.sort_by_key(|(_, (_, us))| std::cmp::Reverse(*us));
    let messages = run.tally.messages.max(1) as f64;
    let mut text = String::new();
    if run.work.bytes != (0, 0) {
        let (read, written) = run.work.bytes;
        text.push_str(&format!(
            "    bytes a message, all servers together: {:.0} in, {:.0} out\n",
            read as f64 / messages,
            written as f64 / messages
        ));
    }
    for (name, (calls, us)) in all.into_iter().take(COMMANDS) {
        let (calls, us) = (*calls as f64, *us as f64);
        text.push_str(&format!(
            "    {name:<16} {:>9.4} calls a message {:>8.2} us a call {:>8.2} us a message\n",
            calls / messages,
            us / calls.max(1.0),
            us / messages
        ));
    }
    text
}

fn target(results: &Results) -> Value {
    match &results.outcome {
        Ok(runs) => json!({
            "target": results.kind.name(),
            "messages_per_second": middle(runs, Measured::messages_per_second),
            "runs": runs.iter().map(run_value).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "target": results.kind.name(), "error": error }),
    }
}

fn run_value(run: &Measured) -> Value {
    let at = |quantile| run.tally.latencies.at(quantile);
    let commands: serde_json::Map<String, Value> = run
        .work
        .commands
        .iter()
        .map(|(name, (calls, us))| (name.clone(), json!({ "calls": calls, "us": us })))
        .collect();
    json!({
        "messages_per_second": run.messages_per_second(),
        "calls": run.tally.latencies.len(),
        "failed": run.tally.failed,
        "failure": run.tally.failure,
        "latency_us": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0),
        },
        "cpu_us_a_message": { "client": run.cpu_us().0, "servers": run.cpu_us().1 },
        "commands": commands,
        "bytes": { "in": run.work.bytes.0, "out": run.work.bytes.1 },
    })
}

fn row_value(outcome: &Outcome) -> Value {
    let ratios: Vec<Value> = ratios(outcome)
        .into_iter()
        .map(|Ratio { against, wanted, aim, found }| match found {
            Ok((ratio, verdict)) => json!({
                "against": against, "wanted": wanted, "aim": aim, "ratio": ratio,
                "verdict": word(verdict),
            }),
            Err(error) => json!({ "against": against, "wanted": wanted, "error": error }),
        })
        .collect();
    json!({
        "row": outcome.row.number,
        "workload": outcome.row.load.name(),
        "ratios": ratios,
        "targets": outcome.results.iter().map(target).collect::<Vec<_>>(),
    })
}
