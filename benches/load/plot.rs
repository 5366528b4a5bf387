//! Plots as SVG: lines in a frame, with a logarithmic scale where that tells more.

use std::fmt::Write as _;
use std::path::Path;

use crate::measured::median;
use crate::run::Results;
use crate::workload::Workload;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Room for the numbers and names around the frame.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 7] =
    ["#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#c2255c", "#5f3dc4", "#495057"];
/// Quantiles of a plot of latencies.
const QUANTILES: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// A name and its points.
type Series = (String, Vec<(f64, f64)>);

/// One plot: where things are on it.
struct Chart<'a> {
    title: &'a str,
    x_name: &'a str,
    y_name: &'a str,
    /// Marks of the horizontal axis, in its own unit, with their names.
    marks: Vec<(f64, String)>,
    /// Whether the vertical axis is logarithmic; else it starts at zero.
    is_log: bool,
    series: Vec<Series>,
}

/// Writes what these workloads showed into a folder.
pub(crate) fn write(folder: &Path, all: &[(Workload, &Vec<Results>)]) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for (number, (load, results)) in all.iter().enumerate() {
        let path = folder.join(format!("latency-{}.svg", number + 1));
        std::fs::write(path, latency(load, results)).map_err(|error| error.to_string())?;
    }
    if all.len() > 1 {
        let path = folder.join("throughput.svg");
        std::fs::write(path, throughput(all)).map_err(|error| error.to_string())?;
    }
    Ok(())
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
    Chart {
        title: &load.name(),
        x_name: "calls",
        y_name: "microseconds at most",
        marks: marks.iter().map(|&(q, name)| (place(q), name.into())).collect(),
        is_log: true,
        series: series.collect(),
    }
    .svg()
}

fn throughput(all: &[(Workload, &Vec<Results>)]) -> String {
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
    let marks = all.iter().enumerate().map(|(place, (load, _))| {
        let Workload { workers, queues, size, messages, .. } = load;
        (place as f64, format!("{workers}/{queues}/{messages}x{size}"))
    });
    Chart {
        title: "messages a second",
        x_name: "workers/queues/messages a call x bytes",
        y_name: "messages a second",
        marks: marks.collect(),
        is_log: false,
        series,
    }
    .svg()
}

impl Chart<'_> {
    fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let highest = points().map(|point| self.scaled(point.1)).fold(1.0, f64::max);
        let lowest = match self.is_log {
            true => points().map(|point| self.scaled(point.1)).fold(highest, f64::min).floor(),
            false => 0.0,
        };
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |value: f64| LEFT + wide * value / right;
        let y = |scaled: f64| {
            TOP + high * (1.0 - (scaled - lowest) / (highest - lowest).max(f64::MIN_POSITIVE))
        };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{wide}\" height=\"{high}\" fill=\"none\" \
             stroke=\"#adb5bd\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
            );
        };
        text(WIDTH / 2.0, TOP / 2.0, "middle", self.title);
        text(LEFT + wide / 2.0, HEIGHT - 10.0, "middle", self.x_name);
        text(LEFT, TOP - 6.0, "middle", self.y_name);
        for (place, name) in &self.marks {
            text(x(*place), HEIGHT - BOTTOM + 16.0, "middle", name);
        }
        for step in 0..=4 {
            let scaled = lowest + (highest - lowest) * f64::from(step) / 4.0;
            let value = if self.is_log { 10f64.powf(scaled) } else { scaled };
            text(LEFT - 6.0, y(scaled) + 4.0, "end", &format!("{value:.0}"));
        }
        for (number, (name, _)) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let words = format!("<tspan fill=\"{colour}\">{name}</tspan>");
            text(WIDTH - RIGHT + 8.0, TOP + 16.0 * (number as f64 + 1.0), "start", &words);
        }
        for (number, (_, points)) in self.series.iter().enumerate() {
            let line: Vec<String> = points
                .iter()
                .map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(self.scaled(value))))
                .collect();
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>",
                COLOURS[number % COLOURS.len()],
                line.join(" ")
            );
        }
        out + "</svg>\n"
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.is_log { value.max(1.0).log10() } else { value }
    }
}
