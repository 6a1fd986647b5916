//! Copies numbers that are kept elsewhere into their metric rows, before the rows are rendered.

use std::sync::atomic::Ordering;

use super::figures::{staleness, tracking_connections};
use super::stats::read;
use crate::coherence::Tally;
use crate::downstream::Shared;
use crate::metrics::{
    ConnectResult, Evicted, FlushReason, InvalidationEffect, InvalidationKind, InvalidationSource, Label, Lost,
    Metrics, Pool, Rejected,
};
use crate::time::Instant;
use crate::upstream::Gauges;

/// Fills the rows of cache, invalidations, tracking and upstream connections.
///
/// Clients' rows are counted by the sessions, `ready`, `draining` and `upstream_up` are set by [`super::Prober`], and
/// `invalidation_source` once at the start.
pub fn sample(shared: &Shared, gauges: &Gauges, metrics: &Metrics, now: Instant) {
    let totals = shared.cache.totals();
    metrics.cache_keys.set_count(totals.keys as u64);
    metrics.cache_entries.set_count(totals.entries as u64);
    metrics.cache_bytes.set_count(totals.bytes);
    metrics.cache_max_bytes.set_count(shared.cache.limits().max_bytes);
    metrics.cache_enabled.set_bool(shared.settings.caching);
    entries(shared.cache.tally(), metrics);
    invalidations(shared.cache.tally(), metrics);
    tracking(shared, metrics, now);
    upstream(shared, gauges, metrics);
}

fn entries(tally: &Tally, metrics: &Metrics) {
    metrics.cache_inserts.set_total(read(&tally.inserts));
    for (reason, counter) in [
        (Rejected::Race, &tally.rejected_race),
        (Rejected::TooLarge, &tally.rejected_too_large),
        (Rejected::Error, &tally.rejected_error),
        (Rejected::Ttl, &tally.rejected_ttl),
    ] {
        metrics.cache_rejected.set_total(reason, read(counter));
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
        (FlushReason::Flushall, &tally.flushed_by_command),
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
    let status = shared.tracking.as_ref().map(|tracking| tracking.status());
    let connected = status.is_some_and(|status| status.connected.load(Ordering::Relaxed));
    metrics.tracking_connected.set_bool(connected);
    if let Some(status) = status {
        metrics.tracking_reconnects.set_total(read(&status.reconnects));
    }
    // 0 while nothing is answered from memory: then no answer is older than its request.
    let bound = staleness(shared, now).unwrap_or_default();
    metrics.staleness_bound.set(bound.as_secs_f64());
}

fn upstream(shared: &Shared, gauges: &Gauges, metrics: &Metrics) {
    let redirects = metrics.invalidation_source.get(InvalidationSource::Redirect) > 0.0;
    let source = if redirects {
        InvalidationSource::Redirect
    } else {
        InvalidationSource::Tracking
    };
    let tracking = tracking_connections(shared, source);
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
    let tracked = shared
        .tracking
        .as_ref()
        .map_or(0, |tracking| read(&tracking.status().connects));
    metrics
        .upstream_connects
        .set_total(ConnectResult::Ok, opened.saturating_sub(failed).saturating_add(tracked));
    metrics.upstream_connects.set_total(ConnectResult::Failed, failed);
    for (name, counter) in Gauges::LOST.iter().zip(&gauges.lost) {
        if let Some(reason) = Lost::ALL.iter().find(|reason| reason.value() == *name) {
            metrics.upstream_lost.set_total(*reason, read(counter));
        }
    }
}
