//! What a run found: for people, and as JSON for machines.

use super::options::Options;
use hdrhistogram::Histogram;
use nearhit::config::UpstreamUrl;
use nearhit::load::{Done, Order, Pace};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Beyond this the generator itself was late often enough to be seen in the figures. Chosen.
const LATE: Duration = Duration::from_millis(1);
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// One way to the server, and its rounds: what was done, and the share that came from memory.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) url: UpstreamUrl,
    pub(super) rounds: Vec<(Done, Option<f64>)>,
}

impl Way {
    pub(super) fn new(name: &'static str, url: UpstreamUrl) -> Self {
        Self {
            name,
            url,
            rounds: Vec::new(),
        }
    }

    fn per_second(&self) -> Vec<f64> {
        let each = self.rounds.iter();
        each.map(|(done, _)| done.requests() as f64 / done.elapsed.as_secs_f64())
            .collect()
    }

    /// The median latency of each round, in microseconds.
    fn p50(&self) -> Vec<f64> {
        let each = self.rounds.iter();
        each.map(|(done, _)| micros(done.latency.value_at_quantile(0.5)))
            .collect()
    }

    /// All rounds together.
    fn latency(&self) -> Option<Histogram<u64>> {
        let mut rounds = self.rounds.iter().map(|(done, _)| &done.latency);
        let mut all = rounds.next()?.clone();
        for round in rounds {
            // All have the same bounds.
            all.add(round).ok()?;
        }
        Some(all)
    }

    fn memory_share(&self) -> Option<f64> {
        let shares: Option<Vec<f64>> = self.rounds.iter().map(|(_, share)| *share).collect();
        shares
            .filter(|shares| !shares.is_empty())
            .map(|shares| middle(shares).1)
    }
}

/// Everything a finished run knows.
#[derive(Debug)]
pub(super) struct Report {
    what: String,
    open: bool,
    ways: Vec<Way>,
}

impl Report {
    pub(super) fn new(options: &Options, ways: Vec<Way>) -> Self {
        Self {
            what: what(options),
            open: matches!(options.pace, Pace::Open { .. }),
            ways,
        }
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}\n", self.what)?;
        write!(out, "{:10} {:>12}", "", "requests/s")?;
        for (name, _) in PERCENTILES {
            write!(out, " {name:>10}")?;
        }
        writeln!(out, " {:>10}  from memory", "max")?;
        for way in &self.ways {
            way_line(out, way)?;
        }
        if let [direct, through] = self.ways.as_slice() {
            let (ratio, p50) = (
                ratios(through.per_second(), direct.per_second()),
                ratios(through.p50(), direct.p50()),
            );
            writeln!(out, "{:10} {:>12.2} {:>10.2}", "× direct", ratio.1, p50.1)?;
            let ((least, _, most), (least50, _, most50)) = (ratio, p50);
            writeln!(
                out,
                "\n× direct within each round: requests/s {least:.2} to {most:.2}, p50 {least50:.2} to {most50:.2}"
            )?;
        }
        for way in &self.ways {
            writeln!(out, "{}: {}", way.name, way.url)?;
        }
        self.notes(out)
    }

    /// What a reader must know about the latencies.
    fn notes(&self, out: &mut String) -> std::fmt::Result {
        if !self.open {
            return writeln!(
                out,
                "Requests were sent when replies came: latencies leave out whoever would have come while the server was \
                 slow. --rate counts them."
            );
        }
        let rounds = self.ways.iter().flat_map(|way| &way.rounds);
        let late = rounds.map(|(done, _)| done.late).max().unwrap_or_default();
        if late > LATE {
            writeln!(
                out,
                "Some requests were sent up to {late:.1?} after they were due: the load itself was short of CPU, or the \
                 rate is too high."
            )?;
        }
        Ok(())
    }

    /// The report for programs.
    pub(super) fn json(&self) -> Value {
        let ways: Vec<Value> = self.ways.iter().map(way_json).collect();
        json!({ "what": self.what, "ways": ways })
    }
}

fn way_line(out: &mut String, way: &Way) -> std::fmt::Result {
    let (_, per_second, _) = middle(way.per_second());
    write!(out, "{:10} {per_second:>12.0}", way.name)?;
    let Some(latency) = way.latency() else {
        return writeln!(out);
    };
    for (_, share) in PERCENTILES {
        write!(out, " {:>10}", readable(latency.value_at_quantile(share)))?;
    }
    let memory = way
        .memory_share()
        .map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
    writeln!(out, " {:>10}  {memory}", readable(latency.max()))
}

fn way_json(way: &Way) -> Value {
    let rounds = way.rounds.iter().map(|(done, share)| {
        let mut latency: serde_json::Map<String, Value> = PERCENTILES
            .into_iter()
            .map(|(name, share)| (name.to_owned(), json!(micros(done.latency.value_at_quantile(share)))))
            .collect();
        latency.insert("max".to_owned(), json!(micros(done.latency.max())));
        json!({
            "gets": done.gets,
            "sets": done.sets,
            "seconds": done.elapsed.as_secs_f64(),
            "latency_us": latency,
            "sent_late_us": done.late.as_secs_f64() * 1e6,
            "from_memory": share,
        })
    });
    json!({ "name": way.name, "url": way.url.to_string(), "rounds": rounds.collect::<Vec<_>>() })
}

/// What was asked of both.
fn what(options: &Options) -> String {
    let order = match &options.order {
        Order::Uniform | Order::InTurn => "all alike".to_owned(),
        Order::Zipf(exponent) => format!("by Zipf's law with {exponent}"),
        Order::Trace(_) => "in the order of a trace".to_owned(),
    };
    let pace = match options.pace {
        Pace::Closed { pipeline } => format!("pipeline {pipeline}"),
        Pace::Open { rate } => format!("{rate} requests a second"),
    };
    let Options {
        keys,
        value_bytes,
        connections,
        rounds,
        ..
    } = options;
    let (reads, writes, seconds) = (100 - options.sets / 10, options.sets / 10, options.seconds.as_secs());
    format!(
        "{keys} keys of {value_bytes} bytes, {order}, GET {reads} : SET {writes}; {connections} connections, {pace}; \
         {rounds} rounds of {seconds} s, one way after the other"
    )
}

/// Ratios of the same round: least, median, most.
fn ratios(of: Vec<f64>, to: Vec<f64>) -> (f64, f64, f64) {
    middle(of.into_iter().zip(to).map(|(of, to)| of / to).collect())
}

fn middle(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
    let last = numbers.len().saturating_sub(1);
    (at(0), f64::midpoint(at(last / 2), at(last.div_ceil(2))), at(last))
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// Three digits and a unit.
fn readable(nanos: u64) -> String {
    let micros = micros(nanos);
    match micros {
        ..100.0 => format!("{micros:.1} µs"),
        ..10_000.0 => format!("{micros:.0} µs"),
        ..1_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        assert_eq!(ratios(vec![2.0, 30.0, 8.0], vec![1.0, 10.0, 2.0]), (2.0, 3.0, 4.0));
    }

    #[test]
    fn times_are_readable() {
        let all = [1_500, 250_000, 25_000_000, 2_500_000_000].map(readable);
        assert_eq!(all, ["1.5 µs", "250 µs", "25.0 ms", "2.50 s"]);
    }
}
