//! Latency arrays: how long requests took, to 3.2 % of the value, without samples and without locks.
//!
//! ```text
//! nanoseconds   0 1 2 … 31 │ 32 … 63 │ 64 66 … 126 │ 128 132 … 252 │ …  up to 2^44 (4.9 hours), then saturated
//! bucket        0 1 2 … 31 │ 32 … 63 │ 64 65 …  95 │  96  97 … 127 │ …  1279
//! ```
//!
//! Five bits of mantissa: every power of two is cut into 32 equal buckets, so a bucket is never wider than 1/32 of its
//! values. A value is reported as the upper edge of its bucket: what is printed as p99 was really not exceeded by 99 %.
//! One array is 10 KiB; recording is two loads and two stores.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets a power of two is cut into, as bits: 1/32 = 3.125 % is the largest error.
const MANTISSA_BITS: u32 = 5;
/// Buckets a power of two is cut into.
const PER_OCTAVE: usize = 1 << MANTISSA_BITS;
/// Buckets of one array.
pub const BUCKETS: usize = 40 * PER_OCTAVE;
/// The largest value told apart; longer ones are counted as this one (4.9 hours).
pub const MAX_NANOS: u64 = (1 << 44) - 1;

/// One latency distribution, written by one thread and read by any.
///
/// Invariant: a single thread writes. Writing is a relaxed load and a relaxed store, not a locked `fetch_add` (which
/// costs five times as much and orders nothing we need); a second writer would lose counts, and nothing worse.
#[derive(Debug)]
pub struct LatencyArray {
    /// Relaxed: each cell only grows, and a reader needs no order between cells.
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds in total; wraps after 584 years of waiting.
    sum: AtomicU64,
}

impl Default for LatencyArray {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl LatencyArray {
    /// Counts one request that took `nanos`.
    #[inline]
    pub fn record(&self, nanos: u64) {
        self.record_n(nanos, 1);
    }

    /// Counts `n` requests that took `nanos` each: a batch shares one reading of the clock.
    #[inline]
    pub fn record_n(&self, nanos: u64, n: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            add_single_writer(bucket, n);
        }
        add_single_writer(&self.sum, nanos.wrapping_mul(n));
    }

    /// What was recorded until now.
    pub fn snapshot(&self) -> LatencySnapshot {
        let mut snapshot = LatencySnapshot::default();
        self.add_to(&mut snapshot);
        snapshot
    }

    /// Adds what was recorded until now to `snapshot`: how arrays of several workers are folded.
    pub fn add_to(&self, snapshot: &mut LatencySnapshot) {
        // The sum is read first: requests that arrive meanwhile are then counted without their time, never the reverse.
        snapshot.sum = snapshot.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            if count > 0 {
                snapshot.add(index, count);
            }
        }
    }
}

/// Adds to a cell that only this thread writes. Relaxed: the value is all there is to see.
#[inline]
pub(super) fn add_single_writer(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// A distribution at one moment, or the difference of two moments.
///
/// Invariant: `counts` has at most [`BUCKETS`] elements and does not end with a zero; `count` is their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySnapshot {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
}

impl LatencySnapshot {
    /// How many requests.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Nanoseconds in total.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds another distribution to this one.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was recorded since `earlier`, which must be a snapshot of the same arrays.
    #[must_use]
    pub fn minus(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let mut counts: Vec<u64> = self
            .counts
            .iter()
            .zip(before)
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        counts.truncate(counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        let count = counts.iter().fold(0_u64, |all, count| all.saturating_add(*count));
        Self {
            counts,
            count,
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The latency in nanoseconds that a share `q` of the requests did not exceed; `None` when there were none.
    ///
    /// At least the exact value and at most 3.2 % above it; `q` outside `0.0..=1.0` is taken as the nearest end.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = rank_of(q, self.count)?;
        let mut seen = 0_u64;
        for (index, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return Some(upper_edge(index));
            }
        }
        None
    }

    /// For each bound, how many requests took at most that long. The bounds are ascending, in nanoseconds.
    ///
    /// A bucket that straddles a bound counts as above it: the answer may be pessimistic by 3.2 % of the bound, and is
    /// never flattering.
    pub fn cumulative(&self, bounds: &[u64]) -> Vec<u64> {
        let mut buckets = self.counts.iter().enumerate().peekable();
        let mut seen = 0_u64;
        let mut within = |bound: u64| {
            while let Some((_, count)) = buckets.next_if(|(index, _)| upper_edge(*index) <= bound) {
                seen = seen.saturating_add(*count);
            }
            seen
        };
        bounds.iter().map(|bound| within(*bound)).collect()
    }

    fn add(&mut self, index: usize, count: u64) {
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        if let Some(cell) = self.counts.get_mut(index) {
            *cell = cell.saturating_add(count);
            self.count = self.count.saturating_add(count);
        }
    }
}

/// The bucket that holds `nanos`. `v | 32` makes the first two octaves share one line without a branch.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the result is below BUCKETS: the value was capped above"
)]
const fn bucket_of(nanos: u64) -> usize {
    let value = if nanos < MAX_NANOS { nanos } else { MAX_NANOS };
    let shift = (value | PER_OCTAVE as u64).ilog2() - MANTISSA_BITS;
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// The largest value in bucket `index`.
const fn upper_edge(index: usize) -> u64 {
    if index < 2 * PER_OCTAVE {
        return index as u64;
    }
    let shift = index / PER_OCTAVE - 1;
    let mantissa = (index % PER_OCTAVE + PER_OCTAVE) as u64;
    ((mantissa + 1) << shift) - 1
}

/// Which of `count` requests, in ascending order and counted from one, stands at quantile `q`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank is between 1 and count; beyond 2^53 requests it is off by less than the buckets are"
)]
fn rank_of(q: f64, count: u64) -> Option<u64> {
    (count > 0).then(|| ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recorded(values: &[u64]) -> LatencySnapshot {
        let array = LatencyArray::default();
        values.iter().for_each(|value| array.record(*value));
        array.snapshot()
    }

    /// Latencies as they come: spread evenly over the orders of magnitude from 1 ns to an hour.
    fn latency() -> impl Strategy<Value = u64> {
        (0_u32..42, any::<u64>()).prop_map(|(bits, low)| (1 << bits) | (low & ((1 << bits) - 1)))
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS {
            let edge = upper_edge(index);
            assert_eq!(bucket_of(edge), index);
            assert_eq!(bucket_of(edge + 1), (index + 1).min(BUCKETS - 1));
        }
    }

    #[test]
    fn a_value_beyond_the_last_bucket_saturates() {
        const { assert!(MAX_NANOS > 3_600_000_000_000, "an hour must fit") }
        assert_eq!(recorded(&[u64::MAX / 2]).quantile(1.0), Some(MAX_NANOS));
    }

    #[test]
    fn an_empty_distribution_has_no_quantile() {
        assert_eq!(LatencySnapshot::default().quantile(0.5), None);
    }

    #[test]
    fn a_quantile_outside_zero_to_one_is_the_nearest_end() {
        let snapshot = recorded(&[1, 2, 3]);
        assert_eq!((snapshot.quantile(-1.0), snapshot.quantile(7.0)), (Some(1), Some(3)));
        assert_eq!(snapshot.quantile(f64::NAN), Some(1));
    }

    #[test]
    fn a_batch_counts_as_that_many_requests() {
        let array = LatencyArray::default();
        array.record_n(1_000, 16);
        let snapshot = array.snapshot();
        assert_eq!((snapshot.count(), snapshot.sum()), (16, 16_000));
    }

    #[test]
    fn a_request_counts_within_a_bound_only_when_its_whole_bucket_does() {
        let snapshot = recorded(&[63, 64, 65, 66, 1_000_000]);
        assert_eq!(
            snapshot.cumulative(&[10, 63, 64, 65, 1_000, u64::MAX]),
            [0, 1, 1, 3, 4, 5]
        );
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_exact_one_nor_above_by_more_than_a_thirty_second(
            mut values in prop::collection::vec(latency(), 1..400), q in 0.0_f64..=1.0,
        ) {
            let estimate = recorded(&values).quantile(q).unwrap();
            values.sort_unstable();
            let exact = values[usize::try_from(rank_of(q, values.len() as u64).unwrap()).unwrap() - 1];
            prop_assert!(estimate >= exact, "{estimate} < {exact}");
            prop_assert!(estimate - exact <= exact / 32, "{estimate} is too far above {exact}");
        }

        #[test]
        fn merging_two_workers_is_the_same_as_one_worker_that_saw_all(
            left in prop::collection::vec(latency(), 0..50), right in prop::collection::vec(latency(), 0..50),
        ) {
            let mut merged = recorded(&left);
            merged.merge(&recorded(&right));
            prop_assert_eq!(merged, recorded(&[left, right].concat()));
        }

        #[test]
        fn a_window_is_what_was_recorded_between_two_snapshots(
            before in prop::collection::vec(latency(), 0..50), within in prop::collection::vec(latency(), 0..50),
        ) {
            let all = recorded(&[before.clone(), within.clone()].concat());
            prop_assert_eq!(all.minus(&recorded(&before)), recorded(&within));
        }
    }
}
