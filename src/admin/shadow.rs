//! SHADOW: what shadow mode found.

use super::console::Call;
use super::reply::{Answer, Map};
use crate::downstream::Shared;
use crate::metrics::{Label, ShadowLookup, ShadowTotals, ShadowVerdict};
use crate::resp::Value;

/// Everything, and the same by policy.
pub(super) fn shadow(call: &Call<'_>) -> Result<Value, String> {
    let policies = call.shared.metrics.shadow.totals();
    let by_policy = policies
        .iter()
        .fold(Map::default(), |map, of| map.with(&*of.policy, figures(of)));
    Ok(Map::default()
        .with("mode", call.shared.settings.cache_mode().name())
        .with("total", totals(call.shared))
        .with("policies", by_policy)
        .into_value())
}

/// The figures of all policies together.
pub(super) fn totals(shared: &Shared) -> Map {
    let mut policies = shared.metrics.shadow.totals().into_iter();
    let Some(mut sum) = policies.next() else {
        return Map::default();
    };
    policies.for_each(|of| sum.add(&of));
    figures(&sum)
}

/// `hits + misses + coalesced + bypassed` is the number of cacheable requests, and `hit_ratio` is `hits` over that, as it
/// would stand in STATS if memory had answered. `stale_ratio` is `late + stale` over all that was compared.
fn figures(of: &ShadowTotals) -> Map {
    let map = Map::default()
        .with("hits", of.looked(ShadowLookup::Hit))
        .with("misses", of.looked(ShadowLookup::Miss))
        .with("coalesced", of.looked(ShadowLookup::Coalesced))
        .with("bypassed", of.looked(ShadowLookup::Bypass))
        .with("hit_ratio", of.hit_ratio());
    let verdicts = ShadowVerdict::ALL.iter();
    verdicts
        .fold(map, |map, &verdict| map.with(verdict.value(), of.compared(verdict)))
        .with("stale_ratio", of.stale_ratio())
}
