//! The time line as a picture: what was acknowledged and what failed, and how long posts took, in
//! each tenth of a second, with the faults marked.

use std::time::Duration;

use crate::chaos::timeline::{SLOT, Slot, Tails};
use crate::chart::{Chart, WIDTH, picture};
use crate::report::{Report, ms};

/// Marks of the time, at most.
const MARKS: usize = 30;
/// Pixels of one slot.
const SLOT_WIDE: f64 = 0.6;

pub(crate) fn of(report: &Report) -> String {
    let slots = &report.slots;
    let seconds = |slot: usize| (SLOT * slot as u32).as_secs_f64();
    let points = |of: &dyn Fn(&Slot) -> Option<f64>| {
        let all = slots.iter().enumerate();
        all.filter_map(|(place, slot)| Some((seconds(place), of(slot)?))).collect::<Vec<_>>()
    };
    let tail = |of: fn(&Tails) -> Duration| points(&|slot| slot.tails.map(|tails| ms(of(&tails))));
    let last = seconds(slots.len()).round() as usize;
    let apart = last.div_ceil(MARKS).max(1);
    let marks = || (0..=last).step_by(apart).map(|at| (at as f64, at.to_string())).collect();
    let events = || {
        let faults = report.outcome.faults.iter();
        faults.map(|fault| (fault.began.as_secs_f64(), fault.kind.to_string())).collect()
    };
    let wide = (slots.len() as f64 * SLOT_WIDE).max(WIDTH);
    let title = report.name();
    let counts = Chart {
        title: &title,
        x_name: "seconds",
        y_name: "posts acknowledged, posts failed: in 100 ms",
        wide,
        marks: marks(),
        is_log: false,
        events: events(),
        series: vec![
            ("acknowledged".into(), points(&|slot| Some(slot.acked as f64))),
            ("failed".into(), points(&|slot| Some(slot.failed as f64))),
        ],
    };
    let latencies = Chart {
        title: "latency of posts, by when they were meant to start; lines: faults",
        x_name: "seconds",
        y_name: "milliseconds",
        wide,
        marks: marks(),
        is_log: true,
        events: events(),
        series: vec![
            ("p50".into(), tail(|tails| tails.p50)),
            ("p99".into(), tail(|tails| tails.p99)),
            ("max".into(), tail(|tails| tails.max)),
        ],
    };
    picture(&[counts, latencies])
}
