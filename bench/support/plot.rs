//! Plots as SVG, written by hand: bars, and curves of latency by percentile.

use std::fmt::Write;

/// Told apart also by who sees no red or no green (Okabe and Ito, "Color universal design", 2008).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"];
const WIDTH: f64 = 860.0;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";

/// A group of bars: what they are about, and their lengths, one for each series.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) lengths: Vec<f64>,
}

/// Horizontal bars. `stacked` puts those of one group behind one another, otherwise they stand below one another.
pub(crate) fn bars(title: &str, unit: &str, series: &[&str], groups: &[Group], stacked: bool) -> String {
    const LEFT: f64 = 300.0;
    const TOP: f64 = 60.0;
    let height_of = |group: &Group| {
        if stacked {
            14.0
        } else {
            10.0 * group.lengths.len() as f64
        }
    };
    let longest = groups.iter().map(|group| match stacked {
        true => group.lengths.iter().sum(),
        false => group.lengths.iter().copied().fold(0.0, f64::max),
    });
    let scale = (WIDTH - LEFT - 70.0) / longest.fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + groups.iter().map(|group| height_of(group) + 8.0).sum::<f64>() + 10.0;
    let mut svg = open(title, height);
    legend(&mut svg, series, 42.0);
    let mut y = TOP;
    for group in groups {
        let middle = y + height_of(group) / 2.0 + 4.0;
        text(&mut svg, (LEFT - 8.0, middle), "end", &group.name);
        let mut x = LEFT;
        for (at, length) in group.lengths.iter().enumerate() {
            let (top, bar) = if stacked {
                (y, 14.0)
            } else {
                (y + 10.0 * at as f64, 9.0)
            };
            let (width, colour) = (length * scale, COLOURS[at % COLOURS.len()]);
            push(
                &mut svg,
                format_args!(
                    "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{bar}\" fill=\"{colour}\"/>"
                ),
            );
            if stacked {
                x += width;
            } else {
                let end = (LEFT + width + 4.0, top + 9.0);
                text(&mut svg, end, "start", &short(*length));
            }
        }
        if stacked {
            let all = group.lengths.iter().sum();
            text(&mut svg, (x + 4.0, middle), "start", &format!("{} {unit}", short(all)));
        }
        y += height_of(group) + 8.0;
    }
    svg + "</svg>\n"
}

/// A line of a plot: its name, and points of (share of requests, microseconds).
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: &'a [(f64, f64)],
}

/// Latency by percentile: both axes logarithmic, the right half of the plot is the slowest in a hundred.
pub(crate) fn curves(title: &str, lines: &[Line<'_>]) -> String {
    let (left, right, top, bottom): (f64, f64, f64, f64) = (70.0, 840.0, 60.0, 420.0);
    let points = || lines.iter().flat_map(|line| line.points);
    let nines = points().map(|(share, _)| -(1.0 - share).log10()).fold(1.0, f64::max);
    let (low, high) = points().fold((f64::MAX, 1.0_f64), |(low, high), (_, us)| {
        (low.min(*us), high.max(*us))
    });
    let (low, high) = (low.max(1.0).log10().floor(), high.log10().ceil());
    let x = |share: f64| left - (1.0 - share).log10() / nines * (right - left);
    let y = |us: f64| bottom - (us.max(1.0).log10() - low) / (high - low).max(1.0) * (bottom - top);
    let mut svg = open(title, bottom + 40.0);
    let names: Vec<&str> = lines.iter().map(|line| line.name).collect();
    legend(&mut svg, &names, 42.0);
    for (share, name) in [
        (0.0, "fastest"),
        (0.5, "p50"),
        (0.9, "p90"),
        (0.99, "p99"),
        (0.999, "p99.9"),
        (0.9999, "p99.99"),
    ] {
        if x(share) <= right + 1.0 {
            rule(&mut svg, (x(share), top), (x(share), bottom));
            text(&mut svg, (x(share), bottom + 18.0), "middle", name);
        }
    }
    let mut power = low;
    while power <= high {
        let us = 10_f64.powf(power);
        rule(&mut svg, (left, y(us)), (right, y(us)));
        text(&mut svg, (left - 6.0, y(us) + 4.0), "end", &format!("{us} µs"));
        power += 1.0;
    }
    for (at, line) in lines.iter().enumerate() {
        let points: Vec<_> = line.points.iter().map(|(share, us)| (x(*share), y(*us))).collect();
        self::line(&mut svg, at, &points);
    }
    svg + "</svg>\n"
}

/// The line of the series with this number.
pub(crate) fn line(svg: &mut String, series: usize, points: &[(f64, f64)]) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (colour, path) = (COLOURS[series % COLOURS.len()], path.join(" "));
    push(
        svg,
        format_args!("<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{path}\"/>"),
    );
}

pub(crate) fn open(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" {FONT}>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    push(
        &mut svg,
        format_args!(
            "<text x=\"12\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            escape(title)
        ),
    );
    svg
}

pub(crate) fn legend(svg: &mut String, names: &[&str], y: f64) {
    let mut x = 12.0;
    for (at, name) in names.iter().enumerate() {
        let (top, colour) = (y - 9.0, COLOURS[at % COLOURS.len()]);
        push(
            svg,
            format_args!("<rect x=\"{x:.0}\" y=\"{top:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"),
        );
        text(svg, (x + 14.0, y), "start", name);
        x += 30.0 + 6.6 * name.chars().count() as f64;
    }
}

pub(crate) fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    push(
        svg,
        format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            from.0, from.1, to.0, to.1
        ),
    );
}

pub(crate) fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    push(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(words)
        ),
    );
}

fn push(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(svg, "{line}").unwrap_or_default();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Three digits at most, without a tail of zeros.
fn short(number: f64) -> String {
    if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}
