//! The benchmark's command line.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nearhit::load::Until;
use serde::Serialize;

const USAGE: &str = "usage: cargo bench --bench throughput -- [--quick] [--rounds N] [--seconds S] [--rate N] \
                     [--trace FILE] [--only TEXT] [--out DIRECTORY]";

/// What the run may be told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// How often every cell is measured.
    pub(crate) rounds: u32,
    /// How long one cell is measured.
    pub(crate) seconds: f64,
    /// Requests per second where latency is measured under a fixed load.
    pub(crate) rate: u64,
    /// Keys of the rows named "trace", in the order in which they were asked for.
    pub(crate) trace: Option<PathBuf>,
    /// Only rows whose name contains this.
    pub(crate) only: String,
    /// Where the results go.
    #[serde(skip)]
    pub(crate) out: PathBuf,
}

impl Options {
    /// Five rounds show a range; 1.2 seconds hold 120 ticks of the kernel's coarsest CPU clock; 20,000 a second are a
    /// tenth of what one core serves, where a queue is the exception.
    fn default_with(out: PathBuf) -> Self {
        Self {
            rounds: 5,
            seconds: 1.2,
            rate: 20_000,
            trace: None,
            only: String::new(),
            out,
        }
    }

    /// Reads the arguments; of an option given twice the last one counts.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>, out: PathBuf) -> Result<Self, String> {
        let mut options = Self::default_with(out);
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
                "--rate" => options.rate = value(&argument, arguments.next(), &(1..=10_000_000))?,
                "--trace" => options.trace = Some(text(&argument, arguments.next())?.into()),
                "--only" => options.only = text(&argument, arguments.next())?,
                "--out" => options.out = text(&argument, arguments.next())?.into(),
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

    /// What a near-cache that is too small for all keys sees before it is measured: with three million requests of a
    /// million keys it holds what it will. Each round anew, because entries live for a minute only.
    pub(crate) fn warm_up(&self) -> Until {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of at most seven digits"
        )]
        Until::Requests((self.seconds * 3e6).min(3e6) as u64)
    }

    /// The command that makes the same run.
    pub(crate) fn command(&self) -> String {
        let Self {
            rounds, seconds, rate, ..
        } = self;
        let trace = self.trace.as_ref().and_then(|path| path.file_name());
        let trace = trace.map(|name| format!(" --trace {}", name.to_string_lossy()));
        let trace = trace.unwrap_or_default();
        format!("make bench BENCH_ARGS='--rounds {rounds} --seconds {seconds} --rate {rate}{trace}'")
    }
}

fn text(name: &str, text: Option<String>) -> Result<String, String> {
    text.ok_or_else(|| format!("{name} wants a value\n{USAGE}"))
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
