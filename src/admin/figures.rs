//! The numbers that `PROXY STATS`, INFO and the metrics page have in common, each defined once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::stats::read;
use crate::coherence::Tally;
use crate::downstream::{Partition, Shared};
use crate::metrics::{CacheResult, FenceReason, InvalidationSource, Label, Metrics};
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
    let own = shared.accounts.own();
    if !own.caches() {
        return "off";
    }
    if !own.is_authenticated() {
        // Nothing is read for strangers. Those who have said who they are have streams of their own.
        return match shared.accounts.tracked() {
            0 => "connecting",
            _ => "connected",
        };
    }
    // What is worst of all nodes: of a cluster whose nodes are not known yet, nothing is connected.
    let states: Vec<_> = own.partitions().iter().map(tracking).collect();
    let worst = ["connecting", "lost", "connected"];
    worst
        .into_iter()
        .find(|state| states.contains(state))
        .unwrap_or("connecting")
}

/// How one tracked connection stands.
pub(super) fn tracking(partition: &Partition) -> &'static str {
    let status = partition.tracking.status();
    match (
        partition.tracking.is_connected(),
        status.connects.load(Ordering::Relaxed),
    ) {
        (true, _) => "connected",
        (false, 0) => "connecting",
        (false, _) => "lost",
    }
}

/// How long ago an answer from memory that is given now can have been outdated, at most: what the worst of the streams
/// has proved over which answers are given. `None` while none are.
pub(super) fn staleness(shared: &Shared, now: Instant) -> Option<Duration> {
    let age = |partition: Partition| {
        let stream = partition.origin.stream();
        if stream.reach().by_age {
            return stream.is_live().then_some(stream.reach().longest);
        }
        let fresh = stream.fresh();
        let age = now.since(fresh);
        let serves = stream.is_live() && fresh > Instant::ZERO && age <= shared.cache.limits().max_staleness;
        serves.then_some(age)
    };
    let partitions = shared.accounts.partitions().into_iter();
    partitions.filter_map(age).max().filter(|_| shared.settings.serves())
}

/// Since when all tracked connections that are up have been; `None` while none is.
pub(super) fn tracking_since(shared: &Shared) -> Option<Instant> {
    let up = |partition: &Partition| partition.tracking.is_connected();
    let partitions = shared.accounts.partitions().into_iter();
    partitions
        .filter(up)
        .map(|partition| Instant::from_nanos(partition.tracking.status().since.load(Ordering::Relaxed)))
        .max()
}

/// How often tracked connections were given up, by reason.
pub(super) fn fences(tally: &Tally) -> impl Iterator<Item = (FenceReason, u64)> {
    // The sum first: its parts can only have grown since, so "connection" is never too large. Too small heals next time.
    let all = read(&tally.fences);
    let told = |reason: &FenceReason| tally.fenced.get(*reason);
    // What has no other reason was lost.
    let lost = all.saturating_sub(FenceReason::ALL.iter().map(told).sum());
    FenceReason::ALL.iter().map(move |&reason| match reason {
        FenceReason::Connection => (reason, lost),
        _ => (reason, told(&reason)),
    })
}

/// How invalidations come to nearhit's own user, or did last.
pub(super) fn source(metrics: &Metrics) -> InvalidationSource {
    let is_it = |source: &&InvalidationSource| metrics.invalidation_source.get(**source) > 0.0;
    let found = InvalidationSource::ALL.iter().find(is_it);
    found.copied().unwrap_or(InvalidationSource::Off)
}

/// Connections of the tracking thread now: for each user one to fill, and one to listen where that is another one.
pub(super) fn tracking_connections(shared: &Shared) -> u64 {
    let each = match source(&shared.metrics) {
        InvalidationSource::Redirect | InvalidationSource::Broadcast | InvalidationSource::Keyspace => 2,
        _ => 1,
    };
    each * shared.accounts.tracked()
}

/// Whether the server answered when it was asked last, about a second ago.
pub(super) fn is_reachable(gauges: &Gauges) -> bool {
    // Relaxed: nothing else is read because of it.
    gauges.reachable.load(Ordering::Relaxed)
}
