//! Hit ratio over the size of the cache: a small plot for each trace, side by side.

use crate::caches::NAMES;
use crate::plot;
use crate::table::Point;

/// Columns that are drawn: more lines than these nobody can tell apart.
const DRAWN: [&str; 5] = ["worth", "lru", "s3fifo", "quick_cache", "moka"];
const COLUMNS: usize = 4;
const WIDTH: f64 = 210.0;
const HEIGHT: f64 = 150.0;
const TOP: f64 = 60.0;

/// All points of one table.
pub(crate) fn draw(title: &str, points: &[Point]) -> String {
    let traces: Vec<&[Point]> = points.chunk_by(|one, next| one.trace == next.trace).collect();
    let rows = traces.len().div_ceil(COLUMNS);
    let mut svg = plot::open(title, TOP + rows as f64 * HEIGHT);
    plot::legend(&mut svg, &DRAWN, 42.0);
    for (at, trace) in traces.iter().enumerate() {
        let corner = (
            8.0 + (at % COLUMNS) as f64 * WIDTH,
            TOP + (at / COLUMNS) as f64 * HEIGHT,
        );
        panel(&mut svg, corner, trace);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, (left, top): (f64, f64), points: &[Point]) {
    let (from, to) = (left + 30.0, left + WIDTH - 14.0);
    let (upper, lower) = (top + 22.0, top + HEIGHT - 24.0);
    let x = |at: usize| from + (to - from) * at as f64 / (points.len().max(2) - 1) as f64;
    let y = |ratio: f64| lower - ratio / 100.0 * (lower - upper);
    if let Some(first) = points.first() {
        plot::text(svg, (from, top + 12.0), "start", &first.trace);
    }
    for ratio in [0.0, 50.0, 100.0] {
        plot::rule(svg, (from, y(ratio)), (to, y(ratio)));
        plot::text(svg, (from - 4.0, y(ratio) + 4.0), "end", &format!("{ratio:.0}"));
    }
    for (at, point) in points.iter().enumerate() {
        plot::text(svg, (x(at), lower + 16.0), "middle", &format!("{} %", point.share / 10));
    }
    for (series, name) in DRAWN.iter().enumerate() {
        let column = NAMES.iter().position(|column| column == name).unwrap_or_default();
        let line: Vec<(f64, f64)> = points
            .iter()
            .enumerate()
            .map(|(at, point)| (x(at), y(point.ratios[column])))
            .collect();
        plot::line(svg, series, &line);
    }
}
