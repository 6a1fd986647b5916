//! A cell: one kind of work, one way, so many connections, so fast. And what it gave in one round.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::work::{Via, Work};

/// What is measured once in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) via: Via,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many, then all replies, then the next ones.
    Pipeline(usize),
    /// So many a second over all connections, whether replies come or not.
    Rate(u64),
}

impl Cell {
    pub(crate) const fn new(work: Work, via: Via, connections: usize, pipeline: usize) -> Self {
        Self {
            work,
            via,
            connections,
            pace: Pace::Pipeline(pipeline),
        }
    }

    /// The same requests another way.
    pub(crate) fn by(self, via: Via) -> Self {
        Self { via, ..self }
    }

    /// Whether latency is what it is for: one connection that waits for each reply, or requests at a fixed rate.
    pub(crate) fn is_timed(self) -> bool {
        match self.pace {
            Pace::Pipeline(pipeline) => self.connections == 1 && pipeline == 1,
            Pace::Rate(_) => true,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (work, via) = (self.work.name(), self.via.name());
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(
            f,
            "{work}, {via}, {} connection{plural}, {}",
            self.connections, self.pace
        )
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipeline(pipeline) => write!(f, "pipeline {pipeline}"),
            Self::Rate(rate) => write!(f, "{rate} a second"),
        }
    }
}

/// What one cell gave in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    #[serde(skip)]
    pub(crate) cell: Cell,
    pub(crate) name: String,
    pub(crate) round: u32,
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// CPU time of the proxy, or of the redis-server itself where there is none; in-process, of nearhit's workers.
    pub(crate) front_cpu_us: f64,
    /// CPU time of the redis-server behind; zero where there is none.
    pub(crate) back_cpu_us: f64,
    /// Calls that the redis-server counted.
    pub(crate) server_calls: u64,
    /// Latency, where it was measured.
    pub(crate) latency: Option<Latency>,
    #[serde(skip)]
    pub(crate) histogram: Option<Histogram<u64>>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// The latest that a request was sent after it was due.
    pub(crate) sent_late_us: f64,
}

impl Sample {
    /// Answered requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// CPU time per request in microseconds, in front.
    pub(crate) fn front(&self) -> f64 {
        self.front_cpu_us / self.requests as f64
    }

    /// CPU time per request in microseconds, behind.
    pub(crate) fn back(&self) -> f64 {
        self.back_cpu_us / self.requests as f64
    }

    /// The median latency in microseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.latency.map_or(f64::NAN, |latency| latency.p50_us)
    }

    /// The share of the requests that the redis-server did not see.
    pub(crate) fn hit_ratio(&self) -> f64 {
        1.0 - self.server_calls as f64 / self.requests as f64
    }
}
