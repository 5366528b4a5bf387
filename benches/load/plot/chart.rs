//! Charts as SVG: lines in a frame, with a logarithmic scale where that tells more.

use std::fmt::Write as _;

/// How wide a chart usually is.
pub(super) const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Room for the numbers and names around the frame.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 7] =
    ["#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#c2255c", "#5f3dc4", "#495057"];

/// A name and its points.
pub(super) type Series = (String, Vec<(f64, f64)>);

/// One plot: where things are on it.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    /// Pixels from left to right.
    pub(super) wide: f64,
    /// Marks of the horizontal axis, in its own unit, with their names.
    pub(super) marks: Vec<(f64, String)>,
    /// Whether the vertical axis is logarithmic; else it starts at zero.
    pub(super) is_log: bool,
    /// Moments that are drawn as upright lines, with what happened then.
    pub(super) events: Vec<(f64, String)>,
    pub(super) series: Vec<Series>,
}

/// One picture of these charts, from top to bottom.
pub(super) fn picture(charts: &[Chart]) -> String {
    let high = HEIGHT * charts.len() as f64;
    let wide = charts.iter().map(|chart| chart.wide).fold(0.0, f64::max);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}\" height=\"{high}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (above, chart) in charts.iter().enumerate() {
        out.push_str(&chart.draw(above));
    }
    out + "</svg>\n"
}

impl Chart<'_> {
    /// Draws itself into a picture, below what is above it.
    fn draw(&self, above: usize) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let highest = points().map(|point| self.scaled(point.1)).fold(1.0, f64::max);
        let lowest = match self.is_log {
            true => points().map(|point| self.scaled(point.1)).fold(highest, f64::min).floor(),
            false => 0.0,
        };
        let places = points().map(|point| point.0).chain(self.marks.iter().map(|mark| mark.0));
        let right = places.fold(1.0, f64::max);
        let (wide, high) = (self.wide - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |value: f64| LEFT + wide * value / right;
        let y = |scaled: f64| {
            TOP + high * (1.0 - (scaled - lowest) / (highest - lowest).max(f64::MIN_POSITIVE))
        };
        let mut out = format!(
            "<g transform=\"translate(0 {})\">\n\
             <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{wide}\" height=\"{high}\" fill=\"none\" \
             stroke=\"#adb5bd\"/>\n",
            HEIGHT * above as f64
        );
        let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
            );
        };
        text(self.wide / 2.0, TOP / 2.0, "middle", self.title);
        text(LEFT + wide / 2.0, HEIGHT - 10.0, "middle", self.x_name);
        text(8.0, TOP - 8.0, "start", self.y_name);
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
            text(self.wide - RIGHT + 8.0, TOP + 16.0 * (number as f64 + 1.0), "start", &words);
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
        for (at, name) in &self.events {
            let at = x(*at);
            let bottom = TOP + high;
            let _ = writeln!(
                out,
                "<path d=\"M {at:.1} {TOP} V {bottom}\" stroke=\"#868e96\" \
                 stroke-dasharray=\"4 3\"/>\n\
                 <text transform=\"translate({:.1} {:.1}) rotate(-90)\" font-size=\"10\" \
                 text-anchor=\"end\" fill=\"#868e96\">{name}</text>",
                at - 2.0,
                TOP + 4.0
            );
        }
        out + "</g>\n"
    }

    fn scaled(&self, value: f64) -> f64 {
        if self.is_log { value.max(1.0).log10() } else { value }
    }
}
