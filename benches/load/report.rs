//! What is told: tables for people, and one JSON document for programs.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::measured::{Latencies, Measured, median};
use crate::rows::{Bound, Line, Outcome, Side, Verdict};
use crate::run::{Results, Settings};
use crate::timeline::{SLOT, Slot};
use crate::workload::Workload;

/// Commands of a Redis server that are told, those that took longest.
const COMMANDS: usize = 8;

/// The runs of a workload.
pub(crate) fn workload(load: &Workload, results: &[Results]) -> Result<(), String> {
    print(&format!("{}\n{}\n", load.name(), table(results)))
}

/// A row, when it is done.
pub(crate) fn row(outcome: &Outcome) -> Result<(), String> {
    print(&format!("row {}: {}\n{}\n", outcome.number, outcome.title, outcome.detail))
}

/// All rows against what is wanted.
pub(crate) fn rows(done: &[Outcome]) -> Result<(), String> {
    let mut text =
        format!("{:>3}  {:<40} {:>9} {:>9} {:>7}\n", "row", "", "found", "wanted", "aim");
    for outcome in done {
        for line in &outcome.lines {
            text.push_str(&line.told(outcome.number));
        }
    }
    print(&text)
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

impl Line {
    fn told(&self, number: u32) -> String {
        let (wanted, aim) = match &self.bound {
            Some(bound) => (
                bound.told(bound.wanted),
                bound.aim.map_or_else(String::new, |aim| bound.told(aim)),
            ),
            None => (String::new(), String::new()),
        };
        let (found, verdict) = match &self.found {
            Ok(found) => (format!("{found:.2}"), self.verdict().map_or("", word).to_owned()),
            Err(error) => ("-".into(), error.clone()),
        };
        let text =
            format!("{number:>3}  {:<40} {found:>9} {wanted:>9} {aim:>7}  {verdict}", self.what);
        format!("{}\n", text.trim_end())
    }

    fn verdict(&self) -> Option<Verdict> {
        Some(self.bound?.verdict(*self.found.as_ref().ok()?))
    }

    fn json(&self) -> Value {
        let (found, error) = match &self.found {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        json!({
            "what": self.what,
            "found": found,
            "error": error,
            "wanted": self.bound.map(|bound| bound.told(bound.wanted)),
            "aim": self.bound.and_then(|bound| Some(bound.told(bound.aim?))),
            "verdict": self.verdict().map(word),
        })
    }
}

impl Bound {
    fn told(&self, bound: f64) -> String {
        let sign = match self.side {
            Side::AtLeast => "≥",
            Side::AtMost => "≤",
        };
        format!("{sign} {bound}")
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aim => "aim reached",
        Verdict::Reached => "reached",
        Verdict::Missed => "MISSED",
    }
}

/// Targets, one a line, with what else is known of each below it.
pub(crate) fn table(results: &[Results]) -> String {
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
        text.push_str(&parts(last));
        text.push_str(&commands(last));
    }
    text
}

/// The kinds of calls of a mixed load, in one run.
fn parts(run: &Measured) -> String {
    let mut text = String::new();
    for (name, of) in &run.tally.parts {
        let calls = of.len() as f64 / run.seconds.max(f64::MIN_POSITIVE);
        text.push_str(&format!(
            "    {name:<8} {calls:>9.0}/s {:>8.0} {:>9.0} {:>9.0} {:>9.0}\n",
            of.at(0.5),
            of.at(0.99),
            of.at(0.999),
            of.at(1.0),
        ));
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

/// All targets of a workload.
pub(crate) fn targets(results: &[Results]) -> Value {
    json!(results.iter().map(target).collect::<Vec<_>>())
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

fn latencies(of: &Latencies) -> Value {
    json!({
        "p50": of.at(0.5), "p90": of.at(0.9), "p99": of.at(0.99), "p999": of.at(0.999),
        "max": of.at(1.0),
    })
}

/// What happened in each slot, if that was asked for.
fn slots(run: &Measured) -> Value {
    let Some(line) = &run.tally.line else { return Value::Null };
    let of = |slot: &Slot| {
        json!({
            "acked": slot.acked, "failed": slot.failed, "latency_us": latencies(&slot.latencies),
        })
    };
    json!({
        "slot_ms": SLOT.as_millis() as u64,
        "killed_s": run.killed.map(|at| at.as_secs_f64()),
        "slots": line.slots.iter().map(of).collect::<Vec<_>>(),
    })
}

fn run_value(run: &Measured) -> Value {
    let commands: serde_json::Map<String, Value> = run
        .work
        .commands
        .iter()
        .map(|(name, (calls, us))| (name.clone(), json!({ "calls": calls, "us": us })))
        .collect();
    let parts = run.tally.parts.iter().map(|(name, of)| ((*name).to_owned(), latencies(of)));
    let parts: serde_json::Map<String, Value> = parts.collect();
    json!({
        "messages": run.tally.messages,
        "seconds": run.seconds,
        "messages_per_second": run.messages_per_second(),
        "calls": run.tally.latencies.len(),
        "failed": run.tally.failed,
        "failure": run.tally.failure,
        "latency_us": latencies(&run.tally.latencies),
        "latency_us_by_call": parts,
        "time_line": slots(run),
        "cpu_us_a_message": { "client": run.cpu_us().0, "servers": run.cpu_us().1 },
        "commands": commands,
        "bytes": { "in": run.work.bytes.0, "out": run.work.bytes.1 },
    })
}

/// Writes everything into a file: the machine, the settings, and what was run.
pub(crate) fn write(
    file: &Path,
    settings: &Settings,
    rows: &[Outcome],
    workloads: &[(Workload, Vec<Results>)],
) -> Result<(), String> {
    let row = |outcome: &Outcome| {
        json!({
            "row": outcome.number,
            "title": outcome.title,
            "lines": outcome.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "measured": outcome.json,
        })
    };
    let workload = |(load, results): &(Workload, Vec<Results>)| {
        let (name, targets) = (load.name(), targets(results));
        json!({ "workload": name, "targets": targets })
    };
    let document = json!({
        "machine": machine(),
        "settings": {
            "seconds": settings.measured.as_secs_f64(),
            "warm": settings.warm.as_secs_f64(),
            "runs": settings.runs,
            "rate": settings.rate,
            "scale": settings.scale,
        },
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "workloads": workloads.iter().map(workload).collect::<Vec<_>>(),
    });
    let text = format!("{document:#}\n");
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn machine() -> Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model.map(|(_, model)| model),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
