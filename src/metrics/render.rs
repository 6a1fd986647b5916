//! `/metrics`: what the exporter renders, then the families of commands, then the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commands::{CommandTotals, Fold, OTHER_NAME};
use super::family::Row;
use super::label::{Label, Outcome};
use super::latency::LatencySnapshot;
use super::rows::{COMMANDS, DURATION, LATENCY, Metrics, SERVED_AGE};
use super::text::{Text, seconds, sorted};
use super::window::Window;
use super::{process, worker::OTHER};
use crate::time::Instant;

/// What `Content-Type` must say, to the letter: Prometheus 3 refuses a scrape without a known type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histogram's buckets, in nanoseconds and as they are written, in seconds.
const BOUNDS: [(u64, &str); 20] = [
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// The same for the ages of answers: an entry lives for a minute unless the settings say otherwise.
const AGES: [(u64, &str); 13] = [
    (1_000_000, "0.001"),
    (10_000_000, "0.01"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
    (600_000_000_000, "600"),
    (3_600_000_000_000, "3600"),
];

/// The quantiles of the summary, and as they are written.
const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.95, "0.95"), (0.99, "0.99"), (0.999, "0.999")];

impl Metrics {
    /// The full exposition text. Gauges that mirror numbers kept elsewhere are set before this is called.
    ///
    /// Costs some hundred microseconds; it runs on the control thread, never on a worker.
    pub fn render(&self, now: Instant) -> String {
        self.publish();
        let mut text = Text::default();
        CommandFamilies::of(self, now).write(&mut text);
        text.family(&SERVED_AGE);
        write_histogram(&mut text, &SERVED_AGE, &[], &AGES, &self.commands.served_age());
        self.node.write(&mut text);
        self.shadow.write(&mut text);
        if self.process {
            process::write(&mut text);
        }
        sorted(&self.exporter.render()) + &text.finish()
    }
}

/// One series of a histogram's family. The bounds are ascending, in nanoseconds and as they are written.
fn write_histogram(
    text: &mut Text,
    row: &Row,
    labels: &[(&str, &str)],
    bounds: &[(u64, &str)],
    latency: &LatencySnapshot,
) {
    let nanos: Vec<_> = bounds.iter().map(|(nanos, _)| *nanos).collect();
    let mut bucket = |le: &str, count: u64| {
        let all: Vec<_> = labels.iter().copied().chain([("le", le)]).collect();
        text.sample(row.name, "_bucket", &all, count);
    };
    for ((_, le), count) in bounds.iter().zip(latency.cumulative(&nanos)) {
        bucket(le, count);
    }
    bucket("+Inf", latency.count());
    text.sample(row.name, "_sum", labels, seconds(latency.sum()));
    text.sample(row.name, "_count", labels, latency.count());
}

/// Everything about commands, read once, so that the three families agree with each other.
struct CommandFamilies<'a> {
    metrics: &'a Metrics,
    labelled: BTreeSet<u16>,
    totals: Vec<CommandTotals>,
    fold: Fold,
    window: Window,
}

impl<'a> CommandFamilies<'a> {
    fn of(metrics: &'a Metrics, now: Instant) -> Self {
        let commands = &metrics.commands;
        let totals = commands.totals();
        let labelled = commands.labelled(&totals);
        Self {
            metrics,
            labelled,
            totals,
            fold: commands.fold(),
            window: commands.window(now),
        }
    }

    fn write(&self, text: &mut Text) {
        self.write_totals(text);
        self.write_durations(text);
        self.write_latencies(text);
    }

    fn write_totals(&self, text: &mut Text) {
        let mut sums: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
        for totals in &self.totals {
            for outcome in Outcome::ALL {
                *sums.entry((self.label(totals.command), *outcome)).or_default() += totals.of(*outcome);
            }
        }
        text.family(&COMMANDS);
        for ((cmd, outcome), sum) in sums {
            text.sample(
                COMMANDS.name,
                "",
                &[("cmd", cmd), (Outcome::NAME, outcome.value())],
                sum,
            );
        }
    }

    fn write_durations(&self, text: &mut Text) {
        let by_label = merge(self.series(|(command, outcome)| (self.label(command), outcome)));
        text.family(&DURATION);
        for ((cmd, outcome), latency) in by_label {
            let labels = [("cmd", cmd), (Outcome::NAME, outcome.value())];
            write_histogram(text, &DURATION, &labels, &BOUNDS, &latency);
        }
    }

    fn write_latencies(&self, text: &mut Text) {
        let by_label = merge(self.series(|(command, _)| self.label(command)));
        text.family(&LATENCY);
        for (cmd, latency) in by_label {
            let minute = self.window.merged(|(command, _)| self.label(command) == cmd);
            for (q, quantile) in QUANTILES {
                // A quantile of nothing is NaN: that is how Prometheus clients say "no request in this window".
                let value = minute.quantile(q).map_or(f64::NAN, seconds);
                text.sample(LATENCY.name, "", &[("cmd", cmd), ("quantile", quantile)], value);
            }
            text.sample(LATENCY.name, "_sum", &[("cmd", cmd)], seconds(latency.sum()));
            text.sample(LATENCY.name, "_count", &[("cmd", cmd)], latency.count());
        }
    }

    fn series<K>(&self, key: impl Fn((u16, Outcome)) -> K) -> impl Iterator<Item = (K, &Arc<LatencySnapshot>)> {
        self.fold.iter().map(move |(series, latency)| (key(*series), latency))
    }

    /// The `cmd` label of a command.
    fn label(&self, command: u16) -> &str {
        let own = command != OTHER && self.labelled.contains(&command);
        if own {
            self.metrics.commands.name(command)
        } else {
            OTHER_NAME
        }
    }
}

/// Adds up the distributions that share a key.
fn merge<'a, K: Ord>(series: impl Iterator<Item = (K, &'a Arc<LatencySnapshot>)>) -> BTreeMap<K, LatencySnapshot> {
    let mut merged: BTreeMap<K, LatencySnapshot> = BTreeMap::new();
    series.for_each(|(key, latency)| merged.entry(key).or_default().merge(latency));
    merged
}
