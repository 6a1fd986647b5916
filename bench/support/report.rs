//! Samples into rows. A ratio is always taken between two samples of one round.

use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::cell::{Cell, Latency, Sample};
use super::fairness::Mode;
use super::machine::Machine;
use super::options::Options;
use super::rows::{Aim, Figure, Row};
use super::scaling::Scaled;
use super::statistics::Spread;
use super::work::Via;

/// Everything a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The other proxies and their versions.
    pub(crate) peers: String,
    pub(crate) command: String,
    pub(crate) options: Options,
    pub(crate) lines: Vec<Line>,
    pub(crate) server: Vec<Mode>,
    /// Reads from replicas.
    pub(crate) scaling: Vec<Scaled>,
    pub(crate) curves: Vec<Curve>,
    samples: Vec<Sample>,
}

/// One row of the table, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) cell: Cell,
    pub(crate) what: String,
    pub(crate) baseline: String,
    pub(crate) per_second: Spread,
    pub(crate) per_second_baseline: Spread,
    /// CPU time per request in microseconds: the proxy, the redis-server behind it, the baseline.
    pub(crate) front_cpu_us: Spread,
    pub(crate) back_cpu_us: Spread,
    pub(crate) baseline_cpu_us: Spread,
    /// Proxy's and redis-server's CPU time together, as a multiple of the baseline's, paired.
    pub(crate) total_ratio: Spread,
    pub(crate) p50_ratio: Spread,
    /// The share of requests that the redis-server did not see.
    pub(crate) hit_ratio: Spread,
    /// Medians over the rounds.
    pub(crate) latency: Option<Latency>,
    pub(crate) baseline_latency: Option<Latency>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// An aim, and what it came to.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) aim: String,
    #[serde(skip)]
    pub(crate) figure: Figure,
    pub(crate) measured: Spread,
    pub(crate) met: bool,
}

/// Latency by percentile, all rounds together.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// Share of the requests, and the microseconds within which they were answered.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Report {
    pub(crate) fn new(machine: Machine, peers: String, options: Options, rows: &[Row], samples: Vec<Sample>) -> Self {
        Self {
            command: options.command(),
            lines: rows.iter().filter_map(|row| Line::new(row, &samples)).collect(),
            curves: curves(rows, &samples),
            server: Vec::new(),
            scaling: Vec::new(),
            machine,
            peers,
            options,
            samples,
        }
    }

    /// Adds what a near-cache costs the server.
    pub(crate) fn with_server(mut self, modes: Vec<Mode>) -> Self {
        self.server = modes;
        self
    }

    /// Adds what reading from replicas takes off the master.
    pub(crate) fn with_scaling(mut self, ways: Vec<Scaled>) -> Self {
        self.scaling = ways;
        self
    }

    /// The report for programs, with every sample.
    pub(crate) fn write_json(&self, path: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}

impl Line {
    fn new(row: &Row, samples: &[Sample]) -> Option<Self> {
        let pairs = Pairs::new(row, samples)?;
        let (name, cell) = (row.name, row.cell);
        let verdicts = row.aims.iter().map(|aim| Verdict::new(*aim, &pairs)).collect();
        Some(Self {
            name,
            cell,
            what: cell.to_string(),
            baseline: row.baseline.to_string(),
            per_second: pairs.spread(|(sample, _)| sample.per_second()),
            per_second_baseline: pairs.spread(|(_, base)| base.per_second()),
            front_cpu_us: pairs.spread(|(sample, _)| sample.front()),
            back_cpu_us: pairs.spread(|(sample, _)| sample.back()),
            baseline_cpu_us: pairs.spread(|(_, base)| base.front()),
            total_ratio: pairs.figure(Figure::Total),
            p50_ratio: pairs.figure(Figure::P50),
            hit_ratio: pairs.spread(|(sample, _)| sample.hit_ratio()),
            latency: pairs.latency(|(sample, _)| sample.latency),
            baseline_latency: pairs.latency(|(_, base)| base.latency),
            verdicts,
        })
    }
}

impl Verdict {
    fn new(aim: Aim, pairs: &Pairs<'_>) -> Self {
        let measured = pairs.figure(aim.figure);
        let (sign, unit) = match aim.figure {
            Figure::Total => ("≤", "× CPU"),
            Figure::Back => ("≤", "× CPU of redis-server"),
            Figure::P50 => ("≤", "× p50"),
            Figure::PerCore => ("≥", "M/s per core"),
            Figure::Scale => ("≥", "× one thread, by CPU"),
        };
        Self {
            aim: format!("{sign} {:.2} {unit}", aim.wanted),
            figure: aim.figure,
            met: aim.is_met(measured.median),
            measured,
        }
    }
}

/// A row's samples, each with its baseline of the same round. Never empty.
struct Pairs<'a>(Vec<(&'a Sample, &'a Sample)>);

impl<'a> Pairs<'a> {
    fn new(row: &Row, samples: &'a [Sample]) -> Option<Self> {
        let of = |cell: Cell| samples.iter().filter(move |sample| sample.cell == cell);
        let pair = |sample: &'a Sample| Some((sample, of(row.baseline).find(|base| base.round == sample.round)?));
        let pairs: Vec<_> = of(row.cell).filter_map(pair).collect();
        (!pairs.is_empty()).then_some(Self(pairs))
    }

    fn spread(&self, number: impl Fn((&Sample, &Sample)) -> f64) -> Spread {
        Spread::of(self.0.iter().copied().map(number))
    }

    fn figure(&self, figure: Figure) -> Spread {
        self.spread(|(sample, base)| match figure {
            Figure::Total => (sample.front() + sample.back()) / base.front(),
            Figure::Back => sample.back() / base.front(),
            Figure::P50 => sample.p50() / base.p50(),
            Figure::PerCore => 1.0 / sample.front(),
            Figure::Scale => 2.0 * base.front() / sample.front(),
        })
    }

    fn latency(&self, of: impl Fn((&Sample, &Sample)) -> Option<Latency>) -> Option<Latency> {
        let all: Vec<Latency> = self.0.iter().copied().filter_map(of).collect();
        let median = |number: fn(&Latency) -> f64| Spread::of(all.iter().map(number)).median;
        (!all.is_empty()).then(|| Latency {
            p50_us: median(|latency| latency.p50_us),
            p90_us: median(|latency| latency.p90_us),
            p99_us: median(|latency| latency.p99_us),
            p999_us: median(|latency| latency.p999_us),
            max_us: median(|latency| latency.max_us),
            sent_late_us: median(|latency| latency.sent_late_us),
        })
    }
}

/// Of the cells with a fixed rate.
fn curves(rows: &[Row], samples: &[Sample]) -> Vec<Curve> {
    let mut cells: Vec<Cell> = Vec::new();
    for cell in rows.iter().flat_map(|row| [row.baseline, row.cell]) {
        let fixed = matches!(cell.pace, super::cell::Pace::Rate(_));
        if fixed && !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    cells.into_iter().filter_map(|cell| curve(cell, samples)).collect()
}

fn curve(cell: Cell, samples: &[Sample]) -> Option<Curve> {
    let mut all: Option<Histogram<u64>> = None;
    for histogram in samples
        .iter()
        .filter(|sample| sample.cell == cell)
        .filter_map(|sample| sample.histogram.as_ref())
    {
        match &mut all {
            // All have the same bounds.
            Some(all) => all.add(histogram).ok()?,
            None => all = Some(histogram.clone()),
        }
    }
    let all = all?;
    // A percentile that fewer than ten requests lie above says little.
    let most = 1.0 - 10.0 / all.len() as f64;
    let mut points = Vec::new();
    let mut missing = 1.0_f64;
    while 1.0 - missing <= most {
        let share = 1.0 - missing;
        points.push((share, all.value_at_quantile(share) as f64 / 1e3));
        missing *= 0.8;
    }
    let name = match cell.via {
        Via::CacheOff => "passed on",
        via => via.name(),
    };
    Some(Curve { name, points })
}
