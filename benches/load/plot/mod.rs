//! Plots of what runs showed: latency by quantile, throughput against posters, and what happened
//! over time.

mod chart;

use std::path::Path;

use chart::{Chart, Series, WIDTH, picture};

use crate::measured::{Measured, median};
use crate::run::Results;
use crate::timeline::{SLOT, Slot};
use crate::workload::Workload;

/// Marks of a time line, at most.
const MARKS: usize = 16;
/// Quantiles of a plot of latencies.
const QUANTILES: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// Writes what these workloads showed into a folder.
pub(crate) fn write(folder: &Path, all: &[(Workload, Vec<Results>)]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(told)?;
    let put =
        |name: String, picture: String| std::fs::write(folder.join(name), picture).map_err(told);
    for (number, (load, results)) in all.iter().enumerate() {
        let number = number + 1;
        put(format!("latency-{number}.svg"), latency(load, results))?;
        for Results { kind, outcome } in results {
            for (turn, run) in outcome.iter().flatten().enumerate() {
                if let Some(picture) = time_line(load, run) {
                    let name = format!("time-{number}-{}-{}.svg", kind.name(), turn + 1);
                    put(name, picture)?;
                }
            }
        }
    }
    if all.len() > 1 {
        put("throughput.svg".into(), throughput(all))?;
    }
    Ok(())
}

/// What was acknowledged and what failed, and how long it took, slot by slot.
fn time_line(load: &Workload, run: &Measured) -> Option<String> {
    let slots = &run.tally.line.as_ref()?.slots;
    // Behind the last start there is nothing but what was late.
    let started = slots.iter().rposition(|slot| slot.latencies.len() > 0 || slot.failed > 0)?;
    let slots = &slots[..=started];
    let seconds = |slot: usize| (SLOT * slot as u32).as_secs_f64();
    let points = |of: &dyn Fn(&Slot) -> Option<f64>| {
        let all = slots.iter().enumerate();
        all.filter_map(|(place, slot)| Some((seconds(place), of(slot)?))).collect::<Vec<_>>()
    };
    let tail = |quantile: f64| {
        points(&|slot: &Slot| {
            let any = slot.latencies.len() > 0;
            any.then(|| slot.latencies.at(quantile))
        })
    };
    let last = seconds(slots.len()).round() as usize;
    let apart = last.div_ceil(MARKS).max(1);
    let marks = || (0..=last).step_by(apart).map(|at| (at as f64, at.to_string())).collect();
    let events = || run.killed.iter().map(|at| (at.as_secs_f64(), "killed".into())).collect();
    let title = load.name();
    let counts = Chart {
        title: &title,
        x_name: "seconds",
        y_name: "messages acknowledged, calls failed: in 100 ms",
        wide: WIDTH,
        marks: marks(),
        is_log: false,
        events: events(),
        series: vec![
            ("acknowledged".into(), points(&|slot: &Slot| Some(slot.acked as f64))),
            ("failed".into(), points(&|slot: &Slot| Some(slot.failed as f64))),
        ],
    };
    let latencies = Chart {
        title: "latency, by when a call was meant to start",
        x_name: "seconds",
        y_name: "microseconds",
        wide: WIDTH,
        marks: marks(),
        is_log: true,
        events: events(),
        series: vec![
            ("p50".into(), tail(0.5)),
            ("p99".into(), tail(0.99)),
            ("max".into(), tail(1.0)),
        ],
    };
    Some(picture(&[counts, latencies]))
}

fn latency(load: &Workload, results: &[Results]) -> String {
    // The middle of the scale is where the tail begins: each step is a tenth of what is above.
    let place = |quantile: f64| -(1.0 - quantile.min(0.999_99)).log10();
    let series = results.iter().filter_map(|results| {
        let runs = results.outcome.as_ref().ok()?;
        let at = |quantile| median(runs.iter().map(|run| run.tally.latencies.at(quantile)));
        Some((results.kind.name(), QUANTILES.map(|q| (place(q), at(q))).to_vec()))
    });
    let marks = [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (1.0, "all")];
    picture(&[Chart {
        title: &load.name(),
        x_name: "calls",
        y_name: "microseconds at most",
        wide: WIDTH,
        marks: marks.iter().map(|&(q, name)| (place(q), name.into())).collect(),
        is_log: true,
        events: Vec::new(),
        series: series.collect(),
    }])
}

fn throughput(all: &[(Workload, Vec<Results>)]) -> String {
    let mut series: Vec<Series> = Vec::new();
    for (place, (_, results)) in all.iter().enumerate() {
        for results in results.iter() {
            let Ok(runs) = &results.outcome else { continue };
            let point = (place as f64, median(runs.iter().map(|run| run.messages_per_second())));
            let name = results.kind.name();
            match series.iter_mut().find(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => series.push((name, vec![point])),
            }
        }
    }
    // If loads differ in nothing else, by posters.
    let only_workers = all.iter().all(|(load, _)| {
        all.first()
            .is_some_and(|(first, _)| Workload { workers: first.workers, ..load.clone() } == *first)
    });
    let marks = all.iter().enumerate().map(|(place, (load, _))| {
        let Workload { workers, queues, size, messages, .. } = load;
        let name = match only_workers {
            true => workers.to_string(),
            false => format!("{workers}/{queues}/{messages}x{size}"),
        };
        (place as f64, name)
    });
    let x_name = if only_workers { "workers" } else { "workers/queues/messages a call x bytes" };
    picture(&[Chart {
        title: "throughput",
        x_name,
        y_name: "messages a second",
        wide: WIDTH,
        marks: marks.collect(),
        is_log: false,
        events: Vec::new(),
        series,
    }])
}
