//! What is printed of a run: a few lines for people, or one JSON value.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::faults::FaultKind;
use crate::harness::stalls::{Stall, median_and_max};
use crate::harness::{Hazard, claiming::Claiming, posting::Posting};

/// Breaches that are printed in full; all are counted.
const SHOWN: usize = 20;
/// What a stall should stay below, beyond the time after which a silent node is suspected.
const AIM_MS: u64 = 250;
const SUSPECT_AFTER_MS: u64 = 50;

/// One run.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    kind: FaultKind,
    seed: u64,
    logs: PathBuf,
    counts: Vec<(&'static str, u64)>,
    stalls: Vec<Stall>,
    quiet: Duration,
    /// Posts have an aim, deletes have none.
    aim_ms: Option<u64>,
    pub(crate) breaches: Vec<String>,
}

pub(crate) fn posts(hazard: &Hazard, run: Posting) -> Row {
    let mut counts = vec![
        ("acked", run.acked),
        ("refused, not applied", run.refused.0),
        ("refused, unknown", run.refused.1),
    ];
    let again = run.listed.iter().map(|(_, _, again)| again).sum();
    counts.push(("listed by all readers", run.listed.iter().map(|(_, n, _)| *n as u64).sum()));
    counts.push(("lists that failed and were repeated", again));
    let aim_ms = match hazard.kind {
        FaultKind::Stop => AIM_MS + SUSPECT_AFTER_MS,
        FaultKind::Kill | FaultKind::Flush | FaultKind::Memory => AIM_MS,
    };
    Row {
        what: format!("posts, {hazard}"),
        kind: hazard.kind,
        seed: hazard.seed,
        logs: hazard.logs.clone(),
        counts,
        stalls: run.stalls,
        quiet: run.quiet,
        aim_ms: Some(aim_ms),
        breaches: run.breaches.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn claims(hazard: &Hazard, run: Claiming) -> Row {
    Row {
        what: format!("claims, {hazard}"),
        kind: hazard.kind,
        seed: hazard.seed,
        logs: hazard.logs.clone(),
        counts: vec![
            ("deleted", run.deleted),
            ("claims", run.claims),
            ("calls that failed", run.failed),
        ],
        stalls: run.stalls,
        quiet: run.quiet,
        aim_ms: None,
        breaches: run.breaches.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn print(row: &Row, as_json: bool) -> Result<(), String> {
    let text = if as_json { format!("{}\n", row.json()) } else { row.lines() };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let (median, max) = median_and_max(&self.stalls);
        let stalls = self.stalls.iter().map(|stall| {
            json!({ "server": stall.server, "at_ms": ms(stall.at), "stall_ms": ms(stall.longest) })
        });
        let counts: serde_json::Map<String, serde_json::Value> =
            self.counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        json!({
            "run": self.what,
            "fault": self.kind.to_string(),
            "seed": self.seed,
            "counts": counts,
            "stall_median_ms": ms(median),
            "stall_max_ms": ms(max),
            "stall_aim_ms": self.aim_ms,
            "quiet_ms": ms(self.quiet),
            "stalls": stalls.collect::<Vec<_>>(),
            "breaches": self.breaches,
            "logs": self.logs,
        })
    }

    fn lines(&self) -> String {
        let (median, max) = median_and_max(&self.stalls);
        let mut text = format!("{}\n", self.what);
        for (name, count) in &self.counts {
            text.push_str(&format!("  {count:>8}  {name}\n"));
        }
        let aim = self.aim_ms.map_or(String::new(), |aim| {
            let over = self.stalls.iter().filter(|stall| ms(stall.longest) > aim).count();
            format!("; aim {aim} ms, {over} of {} above it", self.stalls.len())
        });
        text.push_str(&format!(
            "  {:>5} ms  median stall, {} ms the longest{aim}\n  {:>5} ms  longest gap before the \
             first fault\n",
            ms(median),
            ms(max),
            ms(self.quiet)
        ));
        let all: Vec<String> = self.stalls.iter().map(|s| ms(s.longest).to_string()).collect();
        text.push_str(&format!("            each: {}\n", all.join(" ")));
        text.push_str(&format!("  {:>8}  promises broken\n", self.breaches.len()));
        for breach in self.breaches.iter().take(SHOWN) {
            text.push_str(&format!("            {breach}\n"));
        }
        if !self.breaches.is_empty() {
            text.push_str(&format!("            logs: {}\n", self.logs.display()));
        }
        text
    }
}
