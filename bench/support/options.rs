//! The benchmark's command line.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

const USAGE: &str = "usage: cargo bench --bench throughput -- [--quick] [--rounds N] [--seconds S] [--connections N]";

/// What the run may be told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// How often every cell is measured.
    pub(crate) rounds: u32,
    /// How long one cell is measured.
    pub(crate) seconds: f64,
    /// Connections that send at once, at least two; the latency cells have one.
    pub(crate) connections: usize,
}

impl Options {
    /// Five rounds show a range; two seconds hold 200 ticks of the kernel's coarsest CPU clock; 50 connections are what
    /// redis-benchmark opens.
    const DEFAULT: Self = Self {
        rounds: 5,
        seconds: 2.0,
        connections: 50,
    };

    /// Reads the arguments; of an option given twice the last one counts.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::DEFAULT;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // cargo says this to every benchmark.
                "--bench" => {}
                "--quick" => {
                    options.rounds = 3;
                    options.seconds = 0.5;
                }
                "--rounds" => options.rounds = value(&argument, arguments.next(), &(1..=1000))?,
                "--seconds" => options.seconds = value(&argument, arguments.next(), &(0.1..=600.0))?,
                "--connections" => options.connections = value(&argument, arguments.next(), &(2..=10_000))?,
                _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// How long one cell is measured.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long a cell runs before it is measured: connections are accepted, buffers grown, branch predictors taught.
    pub(crate) fn lead_in(&self) -> Duration {
        Duration::from_secs_f64((self.seconds / 5.0).min(0.2))
    }
}

fn value<T: FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    text: Option<String>,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    text.and_then(|text| text.parse().ok())
        .filter(|value| range.contains(value))
        .ok_or_else(|| {
            format!(
                "{name} wants a number from {} to {}\n{USAGE}",
                range.start(),
                range.end()
            )
        })
}
