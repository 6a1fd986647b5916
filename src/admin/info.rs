//! The `# Proxy` section of INFO. Every name begins with `proxy_`, so that programs which read INFO as one flat list
//! never take a line of ours for one of the server's.

use std::fmt::Write as _;

use super::console::Console;
use super::figures::{Answers, source, staleness, tracking_connections, tracking_state};
use super::reply::micros;
use super::stats::read;
use crate::downstream::Shared;
use crate::metrics::{CommandMetrics, InvalidationSource, Label, Metrics, Refusal};
use crate::time::Instant;

/// Commands whose latencies are shown: the busiest ones of the last minute. Chosen, so that the section stays short.
const SHOWN_COMMANDS: usize = 8;

/// The section, header included; every line ends in CRLF.
///
/// `hits + misses + bypassed` is the number of cacheable requests: answered from memory (a key known not to exist
/// included), answered by a fetch for the cache, passed on without one. `hit_ratio` is `hits` over all of them.
pub(super) fn section(console: &Console, shared: &Shared, now: Instant) -> String {
    let mut section = Section("# Proxy\r\n".to_owned());
    who(&mut section, console, now);
    connections(&mut section, console, shared);
    cache(&mut section, shared, now);
    latencies(&mut section, &shared.metrics.commands, now);
    section.0
}

fn who(section: &mut Section, console: &Console, now: Instant) {
    section.line("name", "nearhit");
    section.line("version", env!("CARGO_PKG_VERSION"));
    if let Some(revision) = &console.facts.revision {
        section.line("git_sha1", revision);
    }
    section.line("mode", "standalone");
    section.line("uptime_in_seconds", now.since(console.facts.started).as_secs());
}

fn connections(section: &mut Section, console: &Console, shared: &Shared) {
    let up = super::figures::is_reachable(&console.gauges);
    let pinned = read(&console.gauges.pinned);
    let connections = read(&console.gauges.shared)
        .saturating_add(pinned)
        .saturating_add(tracking_connections(shared));
    section.line("connected_clients", shared.peers.len());
    section.line("upstream", &console.facts.upstream);
    section.line("upstream_state", if up { "up" } else { "down" });
    section.line("upstream_connections", connections);
    section.line("pinned_connections", pinned);
}

fn cache(section: &mut Section, shared: &Shared, now: Instant) {
    let answers = Answers::read(&shared.metrics);
    let (totals, tally) = (shared.cache.totals(), shared.cache.tally());
    section.line("cache_enabled", u8::from(shared.settings.serves()));
    section.line("cache_mode", shared.settings.cache_mode());
    section.line("cache_keys", totals.keys);
    section.line("cache_entries", totals.entries);
    section.line("cache_bytes", totals.bytes);
    section.line("cache_max_bytes", shared.cache.limits().max_bytes);
    section.line("cache_hits", answers.hits);
    section.line("cache_negative_hits", answers.negative_hits);
    section.line("cache_misses", answers.misses);
    section.line("cache_coalesced", answers.coalesced);
    section.line("cache_bypassed", answers.bypassed);
    section.line("cache_hit_ratio", format_args!("{:.4}", answers.hit_ratio()));
    section.line("invalidations_received", read(&tally.invalidated_keys));
    section.line("invalidation_source", source(&shared.metrics).value());
    let refused = refused(&shared.metrics);
    if !refused.is_empty() {
        section.line("invalidation_refused", refused);
    }
    section.line("tracking_state", tracking_state(shared));
    let bound = staleness(shared, now).map_or("none".to_owned(), |bound| bound.as_millis().to_string());
    section.line("staleness_bound_ms", bound);
    section.line("staleness_limit_ms", shared.cache.limits().max_staleness.as_millis());
    section.line("tracking_lost", read(&tally.fences));
}

/// What was tried instead, and why it did not work: `tracking=denied,redirect=denied`.
fn refused(metrics: &Metrics) -> String {
    let pairs = InvalidationSource::ALL
        .iter()
        .flat_map(|source| Refusal::ALL.iter().map(|why| (*source, *why)));
    let held = pairs.filter(|pair| metrics.invalidation_refused.get(*pair) > 0.0);
    let words: Vec<_> = held
        .map(|(source, why)| format!("{}={}", source.value(), why.value()))
        .collect();
    words.join(",")
}

fn latencies(section: &mut Section, commands: &CommandMetrics, now: Instant) {
    let window = commands.window(now);
    let percentiles = |number| window.of_command(number).percentiles().map(|of| (number, of));
    let mut busiest: Vec<_> = window.commands().into_iter().filter_map(percentiles).collect();
    busiest.sort_by_key(|(_, of)| std::cmp::Reverse(of.count));
    for (number, of) in busiest.into_iter().take(SHOWN_COMMANDS) {
        let [p50, p95, p99, p999] = [of.p50, of.p95, of.p99, of.p999].map(micros);
        section.line(
            &format!("latency_usec_{}", commands.name(number)),
            format_args!("p50={p50:.1},p95={p95:.1},p99={p99:.1},p99.9={p999:.1}"),
        );
    }
}

struct Section(String);

impl Section {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _infallible = write!(self.0, "proxy_{name}:{value}\r\n");
    }
}
