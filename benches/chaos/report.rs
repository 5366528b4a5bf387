//! What is printed of a run: one screen for people, or all of it as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::chaos::Plan;
use crate::chaos::client::Failure;
use crate::chaos::faults::FaultKind;
use crate::chaos::run::Outcome;
use crate::chaos::timeline::{Slot, Stall, Tails};

/// Breaches that are printed in full; all are counted.
const SHOWN: usize = 12;
/// Columns of the time line.
const COLUMNS: usize = 90;
/// How long before a fault is looked at what the machine does on its own.
const CALM: Duration = Duration::from_secs(1);
/// What a column shows as high as it goes, and how high something is.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Promises, and the oracles that watch over them.
const VERDICTS: [(&str, &[&str]); 10] = [
    ("lost", &["lost", "missing"]),
    ("skipped", &["unseen", "poll_skip", "marker_stability"]),
    ("repeated", &["duplicated", "once"]),
    ("out of order", &["nonmonotonic"]),
    ("phantoms", &["phantom"]),
    ("double claims", &["double_claim", "stale_claim"]),
    ("too early", &["early_delivery"]),
    ("came back", &["resurrection", "ttl_overrun"]),
    ("miscounted", &["stats"]),
    ("unfinished", &["unfinished"]),
];

/// A run and what follows from it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) outcome: Outcome,
    pub(crate) slots: Vec<Slot>,
    /// One for each fault.
    pub(crate) stalls: Vec<Stall>,
    breaches: Vec<String>,
}

/// What faults of one kind came to.
struct Row {
    kind: FaultKind,
    posts: Vec<Duration>,
    silences: Vec<Duration>,
    mended: Vec<Duration>,
    above: usize,
}

impl Report {
    pub(crate) fn of(plan: Plan, outcome: Outcome) -> Self {
        let moments: Vec<Duration> = outcome.faults.iter().map(|fault| fault.began).collect();
        let (slots, stalls) = (outcome.line.slots(), outcome.line.stalls(&moments));
        let breaches = outcome.breaches();
        Self { plan, outcome, slots, stalls, breaches }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.breaches.is_empty()
    }

    pub(crate) fn name(&self) -> String {
        let Plan { servers, services, crews, copies, every, lasts, rate, seed, .. } = &self.plan;
        format!(
            "{:.0} min, {} faults, one each {every:?}, {servers} servers, {copies} copies, \
             {services} services, {crews} processes of workers, {rate:.0} posts a second, seed {seed}",
            lasts.as_secs_f64() / 60.0,
            self.outcome.faults.len(),
        )
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: BTreeMap<FaultKind, Row> = BTreeMap::new();
        for (fault, stall) in self.outcome.faults.iter().zip(&self.stalls) {
            let kind = fault.kind;
            let row = rows.entry(kind).or_insert_with(|| Row {
                kind,
                posts: Vec::new(),
                silences: Vec::new(),
                mended: Vec::new(),
                above: 0,
            });
            row.posts.push(stall.post);
            row.silences.push(stall.silence);
            row.mended.extend(fault.mended.map(|at| at.saturating_sub(fault.ended)));
            row.above += usize::from(kind.aim().is_some_and(|aim| stall.post > aim));
        }
        rows.into_values().collect()
    }

    /// The last moments before each fault, if all was mended then: what the machine does on its own.
    fn calm(&self) -> Vec<Stall> {
        let mut mended = Some(Duration::ZERO);
        let mut calm = Vec::new();
        for fault in &self.outcome.faults {
            let from = fault.began.saturating_sub(CALM);
            if mended.is_some_and(|mended| mended <= from) {
                calm.push(self.outcome.line.within(from, fault.began));
            }
            mended = fault.mended;
        }
        calm
    }

    fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let breaches = || self.outcome.rounds.iter().flat_map(|judged| &judged.breaches);
        let count = |oracles: &[&str]| {
            breaches().filter(|breach| oracles.contains(&breach.oracle)).count() as u64
        };
        let mut all: Vec<_> =
            VERDICTS.iter().map(|(name, oracles)| (*name, count(oracles))).collect();
        let known: u64 = all.iter().map(|(_, count)| count).sum();
        all.push(("otherwise wrong", breaches().count() as u64 - known));
        all.push(("failed for good", self.outcome.failed_for_good()));
        all.push(("not mended", u64::from(self.outcome.stuck.is_some())));
        all
    }

    pub(crate) fn print(&self) -> Result<(), String> {
        let text = self.lines();
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
    }

    fn lines(&self) -> String {
        let mut out = format!("{}\n", self.name());
        self.write_counts(&mut out);
        self.write_faults(&mut out);
        self.write_time_line(&mut out);
        let verdicts: Vec<String> =
            self.verdicts().iter().map(|(name, count)| format!("{count} {name}")).collect();
        let (first, last) = verdicts.split_at(verdicts.len() / 2);
        let _ = writeln!(out, "  {}\n  {}", first.join(" · "), last.join(" · "));
        for breach in self.breaches.iter().take(SHOWN) {
            let _ = writeln!(out, "  ! {breach}");
        }
        if !self.is_kept() {
            let _ = writeln!(
                out,
                "  {} promises broken; logs: {}",
                self.breaches.len(),
                self.plan.logs.display()
            );
        }
        out
    }

    fn write_counts(&self, out: &mut String) {
        let sum = |of: fn(&crate::chaos::round::Judged) -> u64| -> u64 {
            self.outcome.rounds.iter().map(of).sum()
        };
        let failed: u64 = self.outcome.failures.values().sum();
        let Tails { p50, p99, max } = self.outcome.line.tails();
        let _ = writeln!(
            out,
            "  {} messages stored, {} given to readers, {} claims, {} deletes; {} calls judged\n  \
             {failed} posts failed and were to be repeated, {} other calls were\n  \
             posts took {:.1} ms (p50), {:.1} ms (p99), {:.0} ms at most",
            sum(|judged| judged.acked),
            sum(|judged| judged.seen),
            sum(|judged| judged.claims),
            sum(|judged| judged.deletes),
            sum(|judged| judged.calls),
            self.outcome.repeated.values().sum::<u64>(),
            ms(p50),
            ms(p99),
            ms(max),
        );
    }

    fn write_faults(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n            times   longest post, ms     no post at all, ms   aim, ms        mended \
             after, s\n                     median longest    median longest       (above)    median \
             longest"
        );
        let calm = self.calm();
        let [posts, silences] = [
            calm.iter().map(|calm| calm.post).collect::<Vec<_>>(),
            calm.iter().map(|calm| calm.silence).collect(),
        ];
        write_row(out, "(none)", [&posts, &silences], "-", &[]);
        for Row { kind, posts, silences, mended, above } in self.rows() {
            let aim = kind.aim().map_or("-".into(), |aim| format!("{:.0} ({above})", ms(aim)));
            write_row(out, kind.name(), [&posts, &silences], &aim, &mended);
        }
    }

    /// A few lines that show the run from left to right.
    fn write_time_line(&self, out: &mut String) {
        let per_column = self.slots.len().div_ceil(COLUMNS).max(1);
        let columns: Vec<&[Slot]> = self.slots.chunks(per_column).collect();
        let width = crate::chaos::timeline::SLOT * per_column as u32;
        let _ = writeln!(out, "\n  each column: {width:?}");
        let mut faults = vec![0; columns.len()];
        for fault in &self.outcome.faults {
            let column = (fault.began.as_nanos() / width.as_nanos()) as usize;
            if let Some(count) = faults.get_mut(column) {
                *count += 1;
            }
        }
        let digit = |count: u64| match count {
            0 => '·',
            1..=9 => char::from(b'0' + count as u8),
            _ => '+',
        };
        let row = |name: &str, cells: String| format!("  {name:<8}{cells}\n");
        out.push_str(&row("faults", faults.into_iter().map(digit).collect()));
        let acked = |slots: &&[Slot]| slots.iter().map(|slot| slot.acked).sum::<u64>() as f64;
        let most = columns.iter().map(acked).fold(1.0, f64::max);
        out.push_str(&row("acked", columns.iter().map(|c| bar(acked(c) / most)).collect()));
        // Logarithmic: from a millisecond up to some four seconds.
        let tail = |of: fn(&Tails) -> Duration| {
            let longest = move |slots: &&[Slot]| {
                let all = slots.iter().filter_map(|slot| slot.tails.as_ref().map(of));
                bar(ms(all.max().unwrap_or_default()).max(1.0).log2() / 12.0)
            };
            columns.iter().map(longest).collect::<String>()
        };
        out.push_str(&row("p50", tail(|tails| tails.p50)));
        out.push_str(&row("p99", tail(|tails| tails.p99)));
        out.push_str(&row("max", tail(|tails| tails.max)));
        let failed = |slots: &&[Slot]| digit(slots.iter().map(|slot| slot.failed).sum());
        out.push_str(&row("failed", columns.iter().map(failed).collect()));
        out.push_str("          (latencies: a bar of eight is twelve doublings of 1 ms)\n\n");
    }

    pub(crate) fn json(&self) -> Value {
        let faults = self.outcome.faults.iter().zip(&self.stalls).map(|(fault, stall)| {
            json!({
                "kind": fault.kind.to_string(),
                "target": fault.target,
                "began_ms": ms(fault.began),
                "ended_ms": ms(fault.ended),
                "mended_ms": fault.mended.map(ms),
                "longest_post_ms": ms(stall.post),
                "no_post_ms": ms(stall.silence),
                "aim_ms": fault.kind.aim().map(ms),
            })
        });
        let slot = |(place, slot): (usize, &Slot)| {
            let tails = slot.tails.map(|tails| [ms(tails.p50), ms(tails.p99), ms(tails.max)]);
            json!([place as u64 * 100, slot.acked, slot.failed, tails])
        };
        let told = |(failure, times): (&Failure, &u64)| {
            json!({
                "times": times,
                "may_have_happened": failure.may_have_happened,
                "to_be_repeated": failure.is_retryable,
                "error": failure.error,
            })
        };
        let Tails { p50, p99, max } = self.outcome.line.tails();
        json!({
            "run": self.name(),
            "seed": self.plan.seed,
            "copies": self.plan.copies,
            "latency_ms": { "p50": ms(p50), "p99": ms(p99), "max": ms(max) },
            "calm_ms": self.calm().iter().map(|calm| ms(calm.post)).collect::<Vec<_>>(),
            "verdicts": self.verdicts().into_iter().collect::<BTreeMap<_, _>>(),
            "breaches": self.breaches,
            "failed_posts": self.outcome.failures.iter().map(told).collect::<Vec<_>>(),
            "failed_others": self.outcome.repeated.iter().map(told).collect::<Vec<_>>(),
            "admissions_told": self.outcome.admissions,
            "faults": faults.collect::<Vec<_>>(),
            "slots": {
                "are": "[start_ms, acked, failed, [p50_ms, p99_ms, max_ms]]",
                "all": self.slots.iter().enumerate().map(slot).collect::<Vec<_>>(),
            },
            "logs": self.plan.logs,
        })
    }
}

fn write_row(
    out: &mut String,
    name: &str,
    stalls: [&[Duration]; 2],
    aim: &str,
    mended: &[Duration],
) {
    let [post, silence] = stalls.map(|stalls| median_and_max(stalls).unwrap_or_default());
    let mended = median_and_max(mended).map(|both| [both.0, both.1]);
    let mended = mended.map(|both| both.map(|took| format!("{:.1}", took.as_secs_f64())));
    let [median, longest] = mended.unwrap_or_else(|| ["-".into(), "-".into()]);
    let _ = writeln!(
        out,
        "  {name:<10}{:>5}{:>9.0}{:>8.0}{:>10.0}{:>8.0}{aim:>14}{median:>10}{longest:>8}",
        stalls[0].len(),
        ms(post.0),
        ms(post.1),
        ms(silence.0),
        ms(silence.1),
    );
}

/// In milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median_and_max(all: &[Duration]) -> Option<(Duration, Duration)> {
    let mut all = all.to_vec();
    all.sort_unstable();
    Some((*all.get(all.len() / 2)?, *all.last()?))
}

fn bar(share: f64) -> char {
    let height = (share * BARS.len() as f64).ceil() as usize;
    BARS[height.clamp(1, BARS.len()) - 1]
}
