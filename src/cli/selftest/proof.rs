//! What the instances did, as their metrics say: a run without hits, shared fetches, races and lapses proves nothing.

use super::servers::Instance;
use serde::Serialize;

/// Counted by instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Answered from memory.
    pub(super) hits: u64,
    /// Answered by a fetch that another request had started.
    pub(super) joins: u64,
    /// Fetches that were forbidden to store their reply, because the key changed meanwhile.
    pub(super) raced: u64,
    /// Reads that found an entry which was not served for want of a proof of life within the bound.
    pub(super) lapsed: u64,
    /// Entries dropped because their key changed.
    pub(super) invalidated: u64,
    /// Reads that replicas were asked.
    pub(super) at_replicas: u64,
    /// Panics caught; always a bug.
    pub(super) panics: u64,
}

impl Counts {
    /// Reads a page of metrics.
    fn read(page: &str) -> Self {
        let mut counts = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value = whole(value);
            let is = |name: &str, label: &str| series.starts_with(name) && series.contains(label);
            let requests = "nearhit_cache_requests_total";
            let unproved = "nearhit_cache_unproved_total";
            if is(requests, "=\"hit\"") || is(requests, "=\"negative_hit\"") {
                counts.hits += value;
            } else if is(requests, "=\"coalesced\"") {
                counts.joins += value;
            } else if is("nearhit_invalidations_total", "=\"raced\"") {
                counts.raced += value;
            } else if is("nearhit_invalidations_total", "=\"removed\"") {
                counts.invalidated += value;
            } else if is(unproved, "=\"lease\"") {
                counts.lapsed += value;
            } else if is("nearhit_reads_routed_total", "=\"replica\"") {
                counts.at_replicas += value;
            } else if is("nearhit_panics_total", "") {
                counts.panics += value;
            }
        }
        counts
    }

    fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            joins: self.joins + other.joins,
            raced: self.raced + other.raced,
            lapsed: self.lapsed + other.lapsed,
            invalidated: self.invalidated + other.invalidated,
            at_replicas: self.at_replicas + other.at_replicas,
            panics: self.panics + other.panics,
        }
    }
}

/// A counter's value; the page may write it as a fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count below 2^53, and `as` saturates"
)]
fn whole(value: &str) -> u64 {
    value
        .parse()
        .unwrap_or_else(|_| value.parse::<f64>().map_or(0, |value| value as u64))
}

/// What all instances counted, those included that were killed.
#[derive(Debug)]
pub(super) struct Proof {
    /// By instance: what its earlier processes counted.
    kept: Vec<Counts>,
}

impl Proof {
    pub(super) fn new(instances: usize) -> Self {
        Self {
            kept: vec![Counts::default(); instances],
        }
    }

    /// Adds what an instance has counted so far, because it will be killed.
    pub(super) async fn keep(&mut self, index: usize, instance: &Instance) {
        let Ok(page) = instance.metrics().await else { return };
        if let Some(kept) = self.kept.get_mut(index) {
            *kept = kept.plus(Counts::read(&page));
        }
    }

    /// What all have counted until now.
    pub(super) async fn total(&self, instances: &[Instance]) -> Counts {
        let mut total = self.kept.iter().fold(Counts::default(), |sum, kept| sum.plus(*kept));
        for instance in instances {
            if let Ok(page) = instance.metrics().await {
                total = total.plus(Counts::read(&page));
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_by_its_labels() {
        let page = "# HELP nearhit_cache_requests_total x\n\
            nearhit_cache_requests_total{result=\"hit\"} 5\nnearhit_cache_requests_total{result=\"negative_hit\"} 2\n\
            nearhit_cache_requests_total{result=\"miss\"} 9\nnearhit_cache_requests_total{result=\"coalesced\"} 3\n\
            nearhit_invalidations_total{kind=\"key\",effect=\"raced\"} 4\n\
            nearhit_invalidations_total{kind=\"key\",effect=\"removed\"} 8\n\
            nearhit_cache_unproved_total{reason=\"lease\"} 7\nnearhit_cache_unproved_total{reason=\"older\"} 6\n\
            nearhit_reads_routed_total{to=\"replica\",reason=\"setting\"} 11\n\
            nearhit_reads_routed_total{to=\"primary\",reason=\"seen\"} 12\nnearhit_panics_total 0\n";
        let counts = Counts::read(page);
        let expected = Counts {
            hits: 7,
            joins: 3,
            raced: 4,
            lapsed: 7,
            invalidated: 8,
            at_replicas: 11,
            panics: 0,
        };
        assert_eq!(counts, expected);
    }
}
