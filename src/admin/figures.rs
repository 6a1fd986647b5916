//! The numbers that `PROXY STATS`, INFO and the metrics page have in common, each defined once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::downstream::Shared;
use crate::metrics::{CacheResult, InvalidationSource, Metrics};
use crate::time::Instant;
use crate::upstream::Gauges;

/// What became of all cacheable requests since the start. `hits + misses + bypassed` is how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Answered from memory.
    pub(super) hits: u64,
    /// Of the hits: the key does not exist.
    pub(super) negative_hits: u64,
    /// Answered by a fetch for the near-cache.
    pub(super) misses: u64,
    /// Of the misses: the fetch had been started by another request.
    pub(super) coalesced: u64,
    /// Passed on without a fetch for the near-cache: a first read, a policy, a stream that is down.
    pub(super) bypassed: u64,
}

impl Answers {
    pub(super) fn read(metrics: &Metrics) -> Self {
        let of = |result| metrics.cache_requests(result);
        let (negative_hits, coalesced) = (of(CacheResult::NegativeHit), of(CacheResult::Coalesced));
        Self {
            hits: of(CacheResult::Hit).saturating_add(negative_hits),
            negative_hits,
            misses: of(CacheResult::Miss).saturating_add(coalesced),
            coalesced,
            bypassed: of(CacheResult::Bypass),
        }
    }

    /// The share of all cacheable requests that was answered from memory; 0 before there were any. What was passed by
    /// counts against it: the server had to answer that, too.
    pub(super) fn hit_ratio(&self) -> f64 {
        let all = self.hits.saturating_add(self.misses).saturating_add(self.bypassed);
        if all == 0 { 0.0 } else { self.hits as f64 / all as f64 }
    }
}

/// How the tracked connection stands, in one word.
pub(super) fn tracking_state(shared: &Shared) -> &'static str {
    let Some(tracking) = &shared.tracking else { return "off" };
    let status = tracking.status();
    match (
        status.connected.load(Ordering::Relaxed),
        status.connects.load(Ordering::Relaxed),
    ) {
        (true, _) => "connected",
        (false, 0) => "connecting",
        (false, _) => "lost",
    }
}

/// How old an answer from memory can be at most; `None` while nothing may be answered from memory.
pub(super) fn staleness(shared: &Shared, now: Instant) -> Option<Duration> {
    let stream = shared.cache.origin().stream();
    let fresh = stream.fresh();
    let age = now.since(fresh);
    let proved = stream.is_live() && fresh > Instant::ZERO && age <= shared.cache.limits().max_staleness;
    (shared.settings.caching && proved).then_some(age)
}

/// Connections of the tracking thread now: with `redirect` there is one to fill and one to listen.
pub(super) fn tracking_connections(shared: &Shared, source: InvalidationSource) -> u64 {
    match tracking_state(shared) {
        "connected" if source == InvalidationSource::Redirect => 2,
        "connected" => 1,
        _ => 0,
    }
}

/// Whether the server answered when it was asked last, about a second ago.
pub(super) fn is_reachable(gauges: &Gauges) -> bool {
    // Relaxed: nothing else is read because of it.
    gauges.reachable.load(Ordering::Relaxed)
}
