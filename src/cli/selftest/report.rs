//! What a run says at its end: for people, and as JSON for machines.

use super::faults::{ALL, Marks, Reach};
use super::findings::Findings;
use super::modes;
use super::options::Options;
use super::proof::Counts;
use super::topology::Topology;
use nearhit::metrics::LatencySnapshot;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Of 100 reads, how many must have been answered from memory: fewer hits hardly test a cache.
const LEAST_HIT_SHARE: u64 = 5;
/// After so many stalls a lease must have lapsed.
const ENOUGH_STALLS: u64 = 4;
/// Writes that must have reached somebody's memory.
const LEAST_INVALIDATED: u64 = 100;

/// Everything a finished run knows.
pub(super) struct Report<'a> {
    pub(super) options: &'a Options,
    pub(super) took: Duration,
    pub(super) findings: &'a Findings,
    pub(super) marks: &'a Marks,
    pub(super) counts: Counts,
    /// Replies compared after the run, or why that could not be done.
    pub(super) compared: Result<u64, String>,
}

impl Report<'_> {
    /// Why the run proves too little, if it does.
    pub(super) fn weaknesses(&self) -> Vec<String> {
        let Counts {
            hits,
            joins,
            raced,
            lapsed,
            invalidated,
            at_replicas,
            ..
        } = self.counts;
        let reads = self.findings.reads.load(Ordering::Relaxed);
        let checked = self.findings.checked();
        let mut weak = Vec::new();
        let mut too_few = |few: bool, what: String| weak.extend(few.then_some(what));
        let wanted = self.options.operations.unwrap_or(1);
        too_few(
            checked < wanted,
            format!("{checked} operations checked, {wanted} wanted"),
        );
        // Without a cache replicas are all there is to check; more reads than otherwise go there.
        let reads_replicas = self.options.topology.reads_replicas();
        let caches = !reads_replicas || modes::caches(self.options.mode.as_deref());
        let least = reads * LEAST_HIT_SHARE / 100;
        too_few(caches && hits < least.max(1), format!("{hits} hits of {reads} reads"));
        too_few(caches && joins == 0, "no read joined another one's fetch".to_owned());
        let told = caches && modes::tells(self.options.mode.as_deref());
        too_few(told && raced == 0, "no fetch met an invalidation of its key".to_owned());
        too_few(
            told && invalidated < LEAST_INVALIDATED,
            format!("{invalidated} entries were invalidated"),
        );
        let stalls = ALL.iter().zip(self.marks.counts()).filter(|(row, _)| {
            let stalls = row.1.starts_with("stall") || row.1.ends_with("-stop");
            stalls && row.2 != Reach::Replica
        });
        // Some are shorter than a lease.
        let stalled = stalls.map(|(_, made)| made).sum::<u64>() >= ENOUGH_STALLS;
        too_few(
            caches && stalled && lapsed == 0,
            "no lease lapsed although connections stalled".to_owned(),
        );
        // Before a cluster, what has not changed lately is in memory, and the rest is asked of primaries.
        let at_all = reads_replicas && !(caches && self.options.topology == Topology::Cluster);
        too_few(at_all && at_replicas == 0, "no replica was read from".to_owned());
        let why = self.compared.as_ref().err().map_or("", String::as_str);
        too_few(
            self.replies_compared() == 0,
            format!("nothing was compared after the run {why}"),
        );
        weak
    }

    fn replies_compared(&self) -> u64 {
        *self.compared.as_ref().unwrap_or(&0)
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let options = self.options;
        line(
            &mut text,
            &format!(
                "nearhit selftest: seed {}, {:.1} s, {} instances, {} clients, topology {}",
                options.seed,
                self.took.as_secs_f64(),
                options.instances,
                options.clients,
                options.topology.name(),
            ),
        );
        self.operations(&mut text);
        self.staleness(&mut text);
        self.faults(&mut text);
        for (error, count) in self.findings.errors() {
            line(&mut text, &format!("  error replies  {error} {count}"));
        }
        let (violations, stories) = self.findings.violations();
        for story in &stories {
            line(&mut text, &format!("\nVIOLATION of {story}"));
        }
        for (broken, count) in &violations {
            line(&mut text, &format!("  violated {count} times: {}", broken.describe()));
        }
        for weakness in self.weaknesses() {
            line(&mut text, &format!("  tested too little: {weakness}"));
        }
        if violations.is_empty() {
            line(&mut text, "no violation");
        }
        text
    }

    fn operations(&self, text: &mut String) {
        let Findings {
            reads,
            stale_reads,
            writes,
            unknown_writes,
            lost_connections,
            stuck,
            ..
        } = self.findings;
        let [reads, stale, writes, unknown, lost, stuck] =
            [reads, stale_reads, writes, unknown_writes, lost_connections, stuck]
                .map(|count| count.load(Ordering::Relaxed));
        line(
            text,
            &format!(
                "  checked        {} operations: {reads} reads, {writes} writes",
                reads + writes
            ),
        );
        line(
            text,
            &format!(
                "  afterwards     {} replies compared with the server's",
                self.replies_compared()
            ),
        );
        line(
            text,
            &format!("  stale reads    {stale}, within the bound unless told below"),
        );
        line(
            text,
            &format!(
                "  unknown        {unknown} writes, of {lost} connections lost with requests under way; {stuck} never answered"
            ),
        );
        let Counts {
            hits,
            joins,
            raced,
            lapsed,
            invalidated,
            at_replicas,
            panics,
        } = self.counts;
        line(
            text,
            &format!(
                "  instances      {hits} hits, {joins} joins, {raced} killed flights, {lapsed} reads without lease or stream, \
                 {invalidated} entries invalidated, {at_replicas} reads at replicas, {panics} panics"
            ),
        );
    }

    fn staleness(&self, text: &mut String) {
        let late = self.findings.lateness();
        line(
            text,
            "  how late writes were seen (ms)       writes      p50      p99    p99.9      max",
        );
        line(text, &row("all", &late.all));
        line(text, &row("while no fault was on", &late.calm));
    }

    fn faults(&self, text: &mut String) {
        let late = self.findings.lateness();
        let rows = ALL.iter().zip(self.marks.counts()).zip(&late.by_fault);
        let made: Vec<_> = rows.filter(|((_, made), _)| *made > 0).collect();
        for ((fault, made), late) in &made {
            line(text, &row(&format!("{} × {made}", fault.1), late));
        }
        line(text, &format!("  faults         {} kinds", made.len()));
        for (fault, why) in self.marks.skipped() {
            line(text, &format!("  not made       {fault}: {why}"));
        }
    }

    /// The report for machines.
    pub(super) fn json(&self) -> Value {
        let (violations, stories) = self.findings.violations();
        let late = self.findings.lateness();
        let counts = self.marks.counts();
        let faults: serde_json::Map<String, Value> = ALL
            .iter()
            .zip(counts)
            .zip(&late.by_fault)
            .filter(|((_, made), _)| *made > 0)
            .map(|((fault, made), late)| (fault.1.to_owned(), json!({ "made": made, "late": quantiles(late) })))
            .collect();
        let violated: serde_json::Map<String, Value> = violations
            .iter()
            .map(|(broken, count)| (broken.describe().to_owned(), json!(count)))
            .collect();
        json!({
            "seed": self.options.seed,
            "topology": self.options.topology.name(),
            "seconds": self.took.as_secs_f64(),
            "bound_ms": (self.options.bound + self.options.topology.lag()).as_secs_f64() * 1000.0,
            "checked": self.findings.checked(),
            "reads": self.findings.reads.load(Ordering::Relaxed),
            "writes": self.findings.writes.load(Ordering::Relaxed),
            "stale_reads": self.findings.stale_reads.load(Ordering::Relaxed),
            "unknown_writes": self.findings.unknown_writes.load(Ordering::Relaxed),
            "compared": self.replies_compared(),
            "instances": self.counts,
            "late": { "all": quantiles(&late.all), "calm": quantiles(&late.calm) },
            "faults": faults,
            "skipped": self.marks.skipped(),
            "errors": self.findings.errors(),
            "violations": violated,
            "histories": stories,
            "tested_too_little": self.weaknesses(),
        })
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

#[allow(clippy::cast_precision_loss, reason = "to be printed")]
fn millis(late: &LatencySnapshot, quantile: f64) -> f64 {
    late.quantile(quantile).unwrap_or(0) as f64 / 1e6
}

fn row(name: &str, late: &LatencySnapshot) -> String {
    let values = QUANTILES.map(|(_, quantile)| format!("{:>8.3}", millis(late, quantile)));
    format!("    {name:<34} {:>8} {}", late.count(), values.join(" "))
}

fn quantiles(late: &LatencySnapshot) -> Value {
    let mut values = serde_json::Map::new();
    values.insert("writes".to_owned(), json!(late.count()));
    for (name, quantile) in QUANTILES {
        values.insert(format!("{name}_ms"), json!(millis(late, quantile)));
    }
    Value::Object(values)
}
