//! Copies numbers that are kept elsewhere into their metric rows, before the rows are rendered.

use super::figures::{fences, staleness, tracking_connections, tracking_since, tracking_state};
use super::stats::read;
use crate::coherence::Tally;
use crate::config::CacheMode;
use crate::downstream::Shared;
use crate::metrics::{
    ConnectResult, Evicted, FlushReason, InvalidationEffect, InvalidationKind, Label, LoadFigures, Lost, Metrics,
    NodeFigures, Pool, Rejected, ReplicaFigures, ServingMode, TouchResult, Unproved,
};
use crate::time::{self, Instant};
use crate::upstream::Gauges;

/// Fills the rows of cache, invalidations, tracking and upstream connections.
///
/// Clients' rows are counted by the sessions, `ready`, `draining` and `upstream_up` are set by [`super::Prober`], and
/// those about where invalidations come from by the tracking thread.
pub fn sample(shared: &Shared, gauges: &Gauges, metrics: &Metrics, now: Instant) {
    let totals = shared.cache.totals();
    metrics.cache_keys.set_count(totals.keys as u64);
    metrics.cache_entries.set_count(totals.entries as u64);
    metrics.cache_bytes.set_count(totals.bytes);
    metrics.cache_max_bytes.set_count(shared.cache.limits().max_bytes);
    metrics.cache_mode.set_only(match shared.settings.cache_mode() {
        CacheMode::Serve => ServingMode::Serve,
        CacheMode::Shadow => ServingMode::Shadow,
        CacheMode::Off => ServingMode::Off,
    });
    metrics.cache_enabled.set_bool(shared.settings.serves());
    entries(shared.cache.tally(), metrics);
    invalidations(shared.cache.tally(), metrics);
    tracking(shared, metrics, now);
    upstream(shared, gauges, metrics);
    replicas(shared, metrics, now);
    loads(gauges, metrics);
}

fn loads(gauges: &Gauges, metrics: &Metrics) {
    let loads = gauges.census.loads().into_iter().map(|(address, load)| LoadFigures {
        upstream: address.to_string(),
        circuit: load.circuit.number(),
        in_flight: load.in_flight,
    });
    metrics.node.set_loads(loads.collect());
}

fn replicas(shared: &Shared, metrics: &Metrics, now: Instant) {
    let Some(routing) = &shared.routing else { return };
    let groups = routing.groups();
    let replicas = groups.values().flat_map(|routes| &routes.replicas);
    let figures = replicas.map(|node| ReplicaFigures {
        upstream: node.address().to_string(),
        readable: node.objection(routing.rules().max_lag, now).is_none(),
        lag: (node.caught_up() != Instant::ZERO).then(|| now.since(node.caught_up()).as_secs_f64()),
        lag_bytes: node.lag_bytes(),
    });
    metrics.node.set_replicas(figures.collect());
}

fn entries(tally: &Tally, metrics: &Metrics) {
    metrics.cache_inserts.set_total(read(&tally.inserts));
    metrics.cache_compressed.set_total(read(&tally.compressed));
    let saved = read(&tally.compressed_from).saturating_sub(read(&tally.compressed_to));
    metrics.cache_compressed_saved_bytes.set_total(saved);
    for (reason, counter) in [
        (Rejected::Race, &tally.rejected_race),
        (Rejected::TooLarge, &tally.rejected_too_large),
        (Rejected::Error, &tally.rejected_error),
        (Rejected::Ttl, &tally.rejected_ttl),
    ] {
        metrics.cache_rejected.set_total(reason, read(counter));
    }
    for (result, counter) in [
        (TouchResult::Present, &tally.touches_present),
        (TouchResult::Missing, &tally.touches_missing),
        (TouchResult::Refused, &tally.touches_refused),
        (TouchResult::Skipped, &tally.touches_skipped),
    ] {
        metrics.touch.set_total(result, read(counter));
    }
    for (reason, counter) in [
        (Evicted::Capacity, &tally.evicted_capacity),
        (Evicted::Ttl, &tally.evicted_ttl),
        (Evicted::Invalidated, &tally.evicted_invalidated),
        (Evicted::Flush, &tally.evicted_flush),
        (Evicted::TrackingLost, &tally.evicted_tracking_lost),
    ] {
        metrics.cache_evictions.set_total(reason, read(counter));
    }
}

fn invalidations(tally: &Tally, metrics: &Metrics) {
    use InvalidationEffect as Effect;
    use InvalidationKind as Kind;
    for (reason, counter) in [
        (FlushReason::Admin, &tally.flushed_by_admin),
        (FlushReason::Application, &tally.flushed_by_application),
        (FlushReason::Command, &tally.flushed_by_command),
        (FlushReason::Rights, &tally.flushed_by_rights),
        (FlushReason::TrackingLost, &tally.fences),
        (FlushReason::NullPush, &tally.null_pushes),
    ] {
        metrics.cache_flushes.set_total(reason, read(counter));
    }
    // The sum first: its parts can only have grown since, so "absent" is never too large. Too small heals next time.
    let received = read(&tally.invalidated_keys);
    let (removed, raced) = (read(&tally.invalidated_removed), read(&tally.invalidated_raced));
    let absent = received.saturating_sub(removed).saturating_sub(raced);
    for (effect, total) in [
        (Effect::Removed, removed),
        (Effect::Raced, raced),
        (Effect::Absent, absent),
    ] {
        metrics.invalidations.set_total((Kind::Key, effect), total);
    }
    let flushes = read(&tally.null_pushes);
    metrics.invalidations.set_total((Kind::Flush, Effect::Removed), flushes);
}

fn tracking(shared: &Shared, metrics: &Metrics, now: Instant) {
    let totals = shared.accounts.tracking_totals();
    let since = tracking_since(shared).map(|since| time::unix_seconds() - now.since(since).as_secs_f64());
    metrics.node.set(NodeFigures {
        staleness_bound: staleness(shared, now).unwrap_or_default().as_secs_f64(),
        connected: tracking_state(shared) == "connected",
        since: since.unwrap_or_default(),
        incarnations: totals.connects,
        reconnects: totals.reconnects,
    });
    metrics
        .staleness_limit
        .set(shared.cache.limits().max_staleness.as_secs_f64());
    let tally = shared.cache.tally();
    metrics.cache_unproved.set_total(Unproved::Lease, read(&tally.lapsed));
    metrics.cache_unproved.set_total(Unproved::Older, read(&tally.outdated));
    for (reason, total) in fences(tally) {
        metrics.tracking_fences.set_total(reason, total);
    }
}

fn upstream(shared: &Shared, gauges: &Gauges, metrics: &Metrics) {
    let tracking = tracking_connections(shared);
    for (pool, count) in [
        (Pool::Shared, read(&gauges.shared)),
        (Pool::Pinned, read(&gauges.pinned)),
        (Pool::Tracking, tracking),
    ] {
        metrics.upstream_connections.set(pool, count as f64);
    }
    // An attempt under way counts as good, and a total never goes down: it is too high by at most as many attempts as
    // were under way when it was sampled.
    let opened = read(&gauges.opened);
    let failed = read(&gauges.failed);
    let tracked = shared.accounts.tracking_totals().connects;
    metrics
        .upstream_connects
        .set_total(ConnectResult::Ok, opened.saturating_sub(failed).saturating_add(tracked));
    let crowded = read(&gauges.crowded);
    metrics
        .upstream_connects
        .set_total(ConnectResult::Failed, failed.saturating_sub(crowded));
    metrics.upstream_connects.set_total(ConnectResult::Crowded, crowded);
    for (pool, counter) in [Pool::Shared, Pool::Pinned].into_iter().zip(&gauges.delayed) {
        metrics.upstream_connects_delayed.set_total(pool, read(counter));
    }
    for (name, counter) in Gauges::LOST.iter().zip(&gauges.lost) {
        if let Some(reason) = Lost::ALL.iter().find(|reason| reason.value() == *name) {
            metrics.upstream_lost.set_total(*reason, read(counter));
        }
    }
}
