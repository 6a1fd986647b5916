//! Samples into rows, Markdown and JSON. A ratio is always taken between two samples of one round.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::machine::Machine;
use super::measure::{Cell, Sample};
use super::options::Options;
use super::script::VALUE_BYTES;
use super::statistics::Spread;
use super::workload::{ServerSees, Workload};

/// Everything a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    options: Options,
    value_bytes: usize,
    rows: Vec<Row>,
    requirements: Vec<Requirement>,
    samples: Vec<Sample>,
}

/// One workload at one pipeline depth, beside the same requests without nearhit.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip)]
    cell: Cell,
    workload: &'static str,
    baseline: &'static str,
    connections: usize,
    pipeline: usize,
    per_second: Spread,
    per_second_direct: Spread,
    /// CPU time per request in microseconds: nearhit, the redis-server behind it, the redis-server of the baseline.
    front_cpu_us: Spread,
    back_cpu_us: Spread,
    direct_cpu_us: Spread,
    /// nearhit's CPU time as a multiple of the baseline's, paired.
    front_ratio: Spread,
    /// nearhit's and the redis-server's CPU time together, as a multiple of the baseline's, paired.
    total_ratio: Spread,
    /// The share of requests that the redis-server did not see.
    hit_ratio: Spread,
    /// Latency, only for one connection.
    latency: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50_us: Spread,
    p50_us_direct: Spread,
    p99_us: Spread,
    p99_us_direct: Spread,
    /// Paired.
    p50_ratio: Spread,
}

/// A promise and whether this run kept it.
#[derive(Debug, Serialize)]
struct Requirement {
    name: &'static str,
    pipeline: usize,
    ratio: Spread,
    pass: bool,
}

impl Report {
    /// Makes the rows from the samples.
    pub(crate) fn new(machine: Machine, options: Options, samples: Vec<Sample>) -> Self {
        let mut cells: Vec<Cell> = Vec::new();
        for sample in &samples {
            if !cells.contains(&sample.cell) {
                cells.push(sample.cell);
            }
        }
        let rows: Vec<Row> = cells.iter().filter_map(|cell| Row::new(*cell, &samples)).collect();
        let requirements = rows.iter().filter_map(Requirement::of).collect();
        Self {
            machine,
            options,
            value_bytes: VALUE_BYTES,
            rows,
            requirements,
            samples,
        }
    }

    /// The report for people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        self.write_markdown(&mut text).unwrap_or_default();
        text
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let Options {
            rounds,
            seconds,
            connections,
        } = self.options;
        writeln!(out, "{}", self.machine.line())?;
        writeln!(
            out,
            "{connections} connections, {VALUE_BYTES}-byte values; medians of {rounds} interleaved rounds of {seconds} s; \
             × direct: CPU of nearhit and redis-server together over CPU of redis-server alone, paired within a round \
             (lowest–highest)\n"
        )?;
        writeln!(
            out,
            "| work | pipeline | direct, k/s | nearhit, k/s | redis-server direct, µs CPU | nearhit, µs CPU | \
             redis-server behind, µs CPU | × direct |"
        )?;
        writeln!(out, "| --- | --: | --: | --: | --: | --: | --: | --: |")?;
        for row in self.rows.iter().filter(|row| row.latency.is_none()) {
            row.write(out)?;
        }
        writeln!(out, "\n| one connection | p50 µs | p99 µs | p50 × direct |")?;
        writeln!(out, "| --- | --: | --: | --: |")?;
        self.write_latencies(out)?;
        writeln!(out)?;
        writeln!(
            out,
            "hits: at least {:.2} % were answered without the redis-server",
            self.least_hit_ratio() * 100.0
        )?;
        for requirement in &self.requirements {
            requirement.write(out)?;
        }
        Ok(())
    }

    /// The baseline first, once, then what is compared with it.
    fn write_latencies(&self, out: &mut String) -> std::fmt::Result {
        let mut baseline = None;
        for row in &self.rows {
            let Some(latency) = &row.latency else { continue };
            if baseline != Some(row.baseline) {
                baseline = Some(row.baseline);
                let (p50, p99) = (latency.p50_us_direct.median, latency.p99_us_direct.median);
                writeln!(out, "| {} | {p50:.1} | {p99:.1} | 1.00 |", row.baseline)?;
            }
            let (p50, p99) = (latency.p50_us.median, latency.p99_us.median);
            let ratio = ratio(latency.p50_ratio);
            writeln!(out, "| {} | {p50:.1} | {p99:.1} | {ratio} |", row.workload)?;
        }
        Ok(())
    }

    /// Over all samples that should be hits.
    fn least_hit_ratio(&self) -> f64 {
        let hits = self
            .rows
            .iter()
            .filter(|row| row.cell.workload.server_sees() == ServerSees::None);
        hits.map(|row| row.hit_ratio.min).fold(1.0, f64::min)
    }

    /// The report for programs, with every sample.
    pub(crate) fn write_json(&self, path: &Path) -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}

impl Row {
    /// The row of a cell; `None` for a baseline.
    fn new(cell: Cell, samples: &[Sample]) -> Option<Self> {
        let baseline = cell.workload.baseline()?;
        let pairs = Pairs::new(cell, baseline, samples);
        Some(Self {
            cell,
            workload: cell.workload.name(),
            baseline: baseline.name(),
            connections: cell.connections,
            pipeline: cell.pipeline,
            per_second: pairs.spread(|(sample, _)| sample.per_second()),
            per_second_direct: pairs.spread(|(_, direct)| direct.per_second()),
            front_cpu_us: pairs.spread(|(sample, _)| sample.front()),
            back_cpu_us: pairs.spread(|(sample, _)| sample.back()),
            direct_cpu_us: pairs.spread(|(_, direct)| direct.front()),
            front_ratio: pairs.spread(|(sample, direct)| sample.front() / direct.front()),
            total_ratio: pairs.spread(|(sample, direct)| (sample.front() + sample.back()) / direct.front()),
            hit_ratio: pairs.spread(|(sample, _)| sample.hit_ratio()),
            latency: cell.is_timed().then(|| Latency::new(&pairs)),
        })
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {} |",
            self.workload,
            self.pipeline,
            self.per_second_direct.median / 1e3,
            self.per_second.median / 1e3,
            self.direct_cpu_us.median,
            self.front_cpu_us.median,
            self.back_cpu_us.median,
            ratio(self.total_ratio),
        )
    }
}

impl Latency {
    fn new(pairs: &Pairs<'_>) -> Self {
        let p50 = |sample: &Sample| sample.p50_us.unwrap_or(f64::NAN);
        let p99 = |sample: &Sample| sample.p99_us.unwrap_or(f64::NAN);
        Self {
            p50_us: pairs.spread(|(sample, _)| p50(sample)),
            p50_us_direct: pairs.spread(|(_, direct)| p50(direct)),
            p99_us: pairs.spread(|(sample, _)| p99(sample)),
            p99_us_direct: pairs.spread(|(_, direct)| p99(direct)),
            p50_ratio: pairs.spread(|(sample, direct)| p50(sample) / p50(direct)),
        }
    }
}

impl Requirement {
    /// What this row promises, if anything.
    fn of(row: &Row) -> Option<Self> {
        (row.cell.workload == Workload::Hit && row.latency.is_none()).then_some(Self {
            name: "a hit costs no more CPU in nearhit than the GET in redis-server",
            pipeline: row.pipeline,
            ratio: row.front_ratio,
            pass: row.front_ratio.median <= 1.0,
        })
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let verdict = if self.pass { "PASS" } else { "FAIL" };
        let (name, pipeline, ratio) = (self.name, self.pipeline, ratio(self.ratio));
        writeln!(out, "{verdict}: {name}, pipeline {pipeline}: × {ratio}")
    }
}

/// A cell's samples, each with its baseline of the same round.
struct Pairs<'a>(Vec<(&'a Sample, &'a Sample)>);

impl<'a> Pairs<'a> {
    fn new(cell: Cell, baseline: Workload, samples: &'a [Sample]) -> Self {
        let direct = Cell {
            workload: baseline,
            ..cell
        };
        let of = |cell| samples.iter().filter(move |sample| sample.cell == cell);
        let pair = |sample: &'a Sample| Some((sample, of(direct).find(|other| other.round == sample.round)?));
        Self(of(cell).filter_map(pair).collect())
    }

    fn spread(&self, number: impl Fn((&Sample, &Sample)) -> f64) -> Spread {
        Spread::of(self.0.iter().copied().map(number))
    }
}

/// A ratio as the tables show it.
fn ratio(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.2} ({min:.2}–{max:.2})")
}
