//! Names that are written about as often as they are read: fetching them for the cache costs the server more than it
//! saves. A fetch is three commands and an invalidation; a read that is passed on is one.
//!
//! ```text
//! killed, and served nobody since it was fetched ─→ strike; from the third on it is barred, each time for twice as long
//! killed, and served somebody ───────────────────→ all strikes forgotten
//! barred for long enough ─→ fetched once more: whether it earns that decides
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buckets::Buckets;
use crate::time::Instant;

/// Strikes before a name is barred: a write between two reads may be chance once or twice.
const STRIKES: u64 = 3;
/// Strikes that count. The last bar is as long as 2¹⁰ first ones.
const MOST_STRIKES: u64 = STRIKES + 10;
/// The first bar, and the longest: how late a name that is only read from now on is cached again. Chosen, not measured.
const FIRST_BAR: Duration = Duration::from_millis(50);
const LONGEST_BAR: Duration = Duration::from_secs(30);

/// A cell: the upper bits of a hash, strikes, and when the last one was, in units of 8 milliseconds. 24 bits of them last
/// for 37 hours; a name that comes back later may be barred once for nothing.
const TAG: u64 = !0 << 32;
const WHEN: u64 = (1 << 24) - 1;
const UNIT: u64 = 8;

/// A fixed table of names that were fetched in vain lately. Only names with strikes stand in it; of a full bucket the one
/// with the fewest gives way. Updates race without harm, so all accesses are relaxed.
pub struct WriteHot(Buckets);

impl WriteHot {
    /// A table of `cells` (rounded up to a power of two, at least one bucket; 8 bytes each).
    pub fn new(cells: usize) -> Self {
        Self(Buckets::new(cells))
    }

    /// The name with this hash was written. `earned`: what was fetched for it had served somebody.
    pub fn written(&self, hash: u64, earned: bool, now: Instant) {
        let Some(bucket) = self.0.of(hash) else { return };
        if let Some(cell) = find(bucket, hash) {
            let strikes = strikes(cell.load(Ordering::Relaxed));
            let next = match earned {
                true => 0,
                false => pack(hash, (strikes + 1).min(MOST_STRIKES), now),
            };
            cell.store(next, Ordering::Relaxed);
        } else if !earned && let Some(fewest) = bucket.iter().min_by_key(|cell| strikes(cell.load(Ordering::Relaxed))) {
            fewest.store(pack(hash, 1, now), Ordering::Relaxed);
        }
    }

    /// Whether a fetch of the name with this hash would be in vain, going by the last ones.
    pub fn bars(&self, hash: u64, now: Instant) -> bool {
        let held = self.0.of(hash).and_then(|bucket| find(bucket, hash));
        let Some(held) = held.map(|cell| cell.load(Ordering::Relaxed)) else {
            return false;
        };
        let Some(more) = strikes(held).checked_sub(STRIKES) else {
            return false;
        };
        let bar = FIRST_BAR.saturating_mul(1 << more.min(16)).min(LONGEST_BAR);
        let passed = units(now).wrapping_sub(held & WHEN) & WHEN;
        u128::from(passed * UNIT) < bar.as_millis()
    }
}

fn find(bucket: &[AtomicU64], hash: u64) -> Option<&AtomicU64> {
    let is_of = |cell: &&AtomicU64| {
        let held = cell.load(Ordering::Relaxed);
        held & TAG == hash & TAG && strikes(held) > 0
    };
    bucket.iter().find(is_of)
}

/// Zero: the cell is empty.
fn strikes(held: u64) -> u64 {
    (held & !TAG) >> 24
}

fn pack(hash: u64, strikes: u64, now: Instant) -> u64 {
    hash & TAG | strikes << 24 | units(now)
}

fn units(now: Instant) -> u64 {
    (now.as_nanos() / 1_000_000 / UNIT) & WHEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 0xabcd_0000_0000_0003;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn a_name_is_barred_when_it_was_fetched_in_vain_three_times_in_a_row() {
        let hot = WriteHot::new(64);
        for _ in 0..2 {
            hot.written(HASH, false, at(0));
            assert!(!hot.bars(HASH, at(0)));
        }
        hot.written(HASH, false, at(0));
        assert!(hot.bars(HASH, at(0)) && hot.bars(HASH, at(40)));
        assert!(!hot.bars(HASH, at(60)), "its bar is over");
        assert!(!hot.bars(HASH ^ (1 << 60), at(0)), "another name of its bucket");
    }

    #[test]
    fn each_further_fetch_in_vain_bars_it_for_twice_as_long_up_to_half_a_minute() {
        let hot = WriteHot::new(64);
        (0..3).for_each(|_| hot.written(HASH, false, at(0)));
        let bar = |hot: &WriteHot| (0..).step_by(10).find(|&millis| !hot.bars(HASH, at(millis))).unwrap();
        let first = bar(&hot);
        hot.written(HASH, false, at(0));
        assert!(bar(&hot).abs_diff(2 * first) <= 20);
        (0..100).for_each(|_| hot.written(HASH, false, at(0)));
        assert!((29_900..=30_100).contains(&bar(&hot)), "{}", bar(&hot));
    }

    #[test]
    fn a_fetch_that_served_somebody_clears_the_name() {
        let hot = WriteHot::new(64);
        (0..8).for_each(|_| hot.written(HASH, false, at(0)));
        hot.written(HASH, true, at(10));
        assert!(!hot.bars(HASH, at(10)));
        hot.written(HASH, false, at(10));
        assert!(!hot.bars(HASH, at(10)), "it begins anew");
    }

    #[test]
    fn of_a_full_bucket_the_name_with_the_fewest_strikes_gives_way() {
        let hot = WriteHot::new(1);
        let names: Vec<u64> = (1..=9).map(|number| number << 40).collect();
        for name in &names[..8] {
            (0..3).for_each(|_| hot.written(*name, false, at(0)));
        }
        hot.written(names[0], true, at(0));
        hot.written(names[8], false, at(0));
        let barred: Vec<bool> = names.iter().map(|name| hot.bars(*name, at(0))).collect();
        assert_eq!(barred, [false, true, true, true, true, true, true, true, false]);
    }
}
