//! The rows of the table: a cell beside the same requests without a proxy, and what is aimed at.

use super::cell::{Cell, Pace};
use super::work::{Via, Work};

/// What a row is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// CPU of proxy and redis-server together, as a multiple of the baseline's.
    Total,
    /// CPU of the redis-server behind, as a multiple of the baseline's.
    Back,
    /// The median latency, as a multiple of the baseline's.
    P50,
    /// Millions of requests per second of CPU that the workers used.
    PerCore,
    /// Requests per second of CPU on two workers together, as a multiple of one worker's: what there would be with
    /// cores for everybody.
    Scale,
}

/// What a figure should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Aim {
    pub(crate) figure: Figure,
    pub(crate) wanted: f64,
}

impl Aim {
    const fn new(figure: Figure, wanted: f64) -> Self {
        Self { figure, wanted }
    }

    /// Whether less is better.
    pub(crate) fn is_limit(self) -> bool {
        matches!(self.figure, Figure::Total | Figure::Back | Figure::P50)
    }

    /// Whether this figure is what was aimed at.
    pub(crate) fn is_met(self, figure: f64) -> bool {
        if self.is_limit() {
            figure <= self.wanted
        } else {
            figure >= self.wanted
        }
    }
}

/// One line of a table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) cell: Cell,
    pub(crate) baseline: Cell,
    /// None for the proxies of others.
    pub(crate) aims: Vec<Aim>,
}

/// Connections that redis-benchmark opens.
const MANY: usize = 50;
/// Connections of a fleet.
const CROWD: usize = 1000;

fn row(name: &'static str, cell: Cell, aims: &[(Figure, f64)]) -> Row {
    Row {
        name,
        cell,
        baseline: cell.by(Via::Direct),
        aims: aims.iter().map(|(figure, wanted)| Aim::new(*figure, *wanted)).collect(),
    }
}

/// All rows, in the order of the table; those with the same baseline stand together.
pub(crate) fn rows(rate: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pipeline, aims) in [(1, AIMS_P1), (16, AIMS_P16)] {
        rows.extend(small_values(pipeline, &aims));
    }
    rows.extend(larger_values());
    rows.extend(latencies(rate));
    rows.extend(in_process());
    rows
}

/// What is aimed at with 50 connections: hit, hit over a Unix socket, passed on, SET, Zipf in all, Zipf behind.
const AIMS_P1: [f64; 6] = [0.95, 0.50, 1.20, 1.25, 1.0, 0.35];
const AIMS_P16: [f64; 6] = [0.65, 0.40, 1.40, 1.50, 0.9, 0.35];

fn small_values(pipeline: usize, aims: &[f64; 6]) -> Vec<Row> {
    use Figure::{Back, Total};
    let [hit, unix, passed, set, zipf, zipf_back] = *aims;
    let cell = |work, via| Cell::new(work, via, MANY, pipeline);
    vec![
        row("hit", cell(Work::Hot, Via::Cached), &[(Total, hit)]),
        row("hit, unix socket", cell(Work::Hot, Via::CachedUnix), &[(Total, unix)]),
        row(
            "redis-server itself, unix socket",
            cell(Work::Hot, Via::DirectUnix),
            &[],
        ),
        row(
            "passed on, near-cache off",
            cell(Work::Hot, Via::CacheOff),
            &[(Total, passed)],
        ),
        row("passed on, twemproxy", cell(Work::Hot, Via::Twemproxy), &[]),
        row("passed on, HAProxy", cell(Work::Hot, Via::Haproxy), &[]),
        row(
            "passed on, miss",
            cell(Work::InTurn, Via::NeverAdmitted),
            &[(Total, passed)],
        ),
        row("SET", cell(Work::Set, Via::Cached), &[(Total, set)]),
        row("SET, twemproxy", cell(Work::Set, Via::Twemproxy), &[]),
        row(
            "Zipf 10:1, 64 MiB near-cache",
            cell(Work::Zipf, Via::SmallCache),
            &[(Total, zipf), (Back, zipf_back)],
        ),
        row("trace, 64 MiB near-cache", cell(Work::Trace, Via::SmallCache), &[]),
    ]
}

fn larger_values() -> Vec<Row> {
    use Figure::Total;
    vec![
        row(
            "hit, 16 KiB",
            Cell::new(Work::Kib16, Via::Cached, MANY, 1),
            &[(Total, 0.85)],
        ),
        row(
            "hit, 1 MiB",
            Cell::new(Work::Mib1, Via::Cached, MANY, 1),
            &[(Total, 0.95)],
        ),
        row(
            "hit, 1,000 connections",
            Cell::new(Work::Hot, Via::Cached, CROWD, 1),
            &[(Total, 0.80)],
        ),
    ]
}

fn latencies(rate: u64) -> Vec<Row> {
    use Figure::P50;
    let alone = |via| Cell::new(Work::Hot, via, 1, 1);
    let at_rate = |via| Cell {
        pace: Pace::Rate(rate),
        ..Cell::new(Work::Hot, via, MANY, 1)
    };
    vec![
        row("one connection, hit", alone(Via::Cached), &[(P50, 1.0)]),
        row("one connection, unix socket", alone(Via::CachedUnix), &[]),
        row(
            "one connection, redis-server itself, unix socket",
            alone(Via::DirectUnix),
            &[],
        ),
        row("one connection, passed on", alone(Via::CacheOff), &[(P50, 2.15)]),
        row("fixed rate, hit", at_rate(Via::Cached), &[]),
        row("fixed rate, unix socket", at_rate(Via::CachedUnix), &[]),
        row("fixed rate, passed on", at_rate(Via::CacheOff), &[]),
        row("fixed rate, twemproxy", at_rate(Via::Twemproxy), &[]),
        row("fixed rate, HAProxy", at_rate(Via::Haproxy), &[]),
    ]
}

fn in_process() -> Vec<Row> {
    let cell = |threads| Cell::new(Work::Hot, Via::InProcess(threads), MANY, 16);
    let one = Row {
        name: "in-process hit, one thread",
        cell: cell(1),
        baseline: cell(1).by(Via::Direct),
        aims: vec![Aim::new(Figure::PerCore, 2.0)],
    };
    let two = Row {
        name: "in-process hit, two threads",
        cell: cell(2),
        baseline: cell(1),
        aims: vec![Aim::new(Figure::Scale, 1.8)],
    };
    vec![one, two]
}

/// What one round measures, in this order: a baseline stands before what is compared with it.
pub(crate) fn cells(rows: &[Row]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for cell in rows.iter().flat_map(|row| [row.baseline, row.cell]) {
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    cells
}
