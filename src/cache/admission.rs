//! Keys seen lately: a fixed table of hashes with the time they were last seen. It answers "is this the second read
//! within the window" and "was this reply too large a moment ago" without a lock and without growing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::buckets::Buckets;
use crate::time::Instant;

/// The half of a cell that holds a time.
const MILLIS: u64 = 0xffff_ffff;
/// By how many milliseconds two threads' idea of now may differ. Chosen, not measured.
const CLOCK_SKEW: u64 = 1000;

/// A table of recently seen key hashes.
///
/// A cell holds the upper half of one hash and the millisecond it was last seen. The lower half chooses a bucket of
/// eight cells, in which a new key takes the place of the one seen longest ago. One cell a bucket would not do: two hot
/// keys that meet there drive each other out at every read, and neither is ever known. Updates race without harm (a key
/// may stand there twice or be forgotten), so all accesses are relaxed.
pub struct RecentKeys {
    buckets: Buckets,
    window: Duration,
}

impl RecentKeys {
    /// A table of `cells` (rounded up to a power of two, at least one bucket; 8 bytes each) that forgets after `window`.
    pub fn new(cells: usize, window: Duration) -> Self {
        Self {
            buckets: Buckets::new(cells),
            window,
        }
    }

    /// The hash of one command's read of a key, where not all reads of it are alike: a hash that is large as a whole has
    /// fields that are not. The factor is 2⁶⁴ divided by the golden ratio, which spreads small numbers over all bits.
    pub fn of_read(key: u64, command: u16) -> u64 {
        key ^ u64::from(command).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Notes that `hash` was seen now; true when it had been seen within the window before.
    pub fn see(&self, hash: u64, now: Instant) -> bool {
        let Some(bucket) = self.buckets.of(hash) else {
            return false;
        };
        let (mut place, mut oldest) = (None, 0);
        for cell in bucket {
            let held = cell.load(Ordering::Relaxed);
            if is_of(held, hash) {
                cell.store(pack(hash, now), Ordering::Relaxed);
                return self.is_recent(held, now);
            }
            let age = if held == 0 { u64::MAX } else { age(held, now) };
            if place.is_none() || age > oldest {
                (place, oldest) = (Some(cell), age);
            }
        }
        if let Some(cell) = place {
            cell.store(pack(hash, now), Ordering::Relaxed);
        }
        false
    }

    /// Whether `hash` was seen within the window.
    pub fn knows(&self, hash: u64, now: Instant) -> bool {
        self.buckets.of(hash).is_some_and(|bucket| {
            let mut held = bucket.iter().map(|cell| cell.load(Ordering::Relaxed));
            held.any(|held| is_of(held, hash) && self.is_recent(held, now))
        })
    }

    fn is_recent(&self, held: u64, now: Instant) -> bool {
        u128::from(age(held, now)) <= self.window.as_millis()
    }
}

/// Whether a cell's content is about this hash.
fn is_of(held: u64, hash: u64) -> bool {
    held != 0 && held >> 32 == hash >> 32
}

/// Milliseconds since what a cell holds was seen.
fn age(held: u64, now: Instant) -> u64 {
    let age = millis(now).wrapping_sub(held & MILLIS) & MILLIS;
    // Seen "later" than now: another thread read its clock a moment after this one.
    if age > MILLIS - CLOCK_SKEW { 0 } else { age }
}

fn pack(hash: u64, now: Instant) -> u64 {
    // Never zero: zero means empty.
    (hash >> 32) << 32 | millis(now).max(1)
}

fn millis(now: Instant) -> u64 {
    (now.as_nanos() / 1_000_000) & MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_second_sight_within_the_window_is_known() {
        let recent = RecentKeys::new(16, Duration::from_secs(1));
        let hash = 0xabcd_0000_0000_0003;
        assert!(!recent.see(hash, Instant::from_nanos(SECOND)));
        assert!(recent.see(hash, Instant::from_nanos(SECOND + SECOND / 2)));
        assert!(!recent.see(hash, Instant::from_nanos(3 * SECOND)));
    }

    #[test]
    fn a_key_seen_by_a_thread_whose_clock_is_a_moment_ahead_is_known() {
        let recent = RecentKeys::new(16, Duration::from_secs(1));
        recent.see(7, Instant::from_nanos(SECOND));
        assert!(recent.knows(7, Instant::from_nanos(SECOND - 1_000_000)));
    }

    #[test]
    fn a_colliding_key_is_another_key() {
        let recent = RecentKeys::new(16, Duration::from_secs(1));
        recent.see(0x1_0000_0000_0003, Instant::from_nanos(SECOND));
        assert!(!recent.knows(0x2_0000_0000_0003, Instant::from_nanos(SECOND)));
    }

    #[test]
    fn keys_that_are_read_in_turn_do_not_drive_each_other_out() {
        let recent = RecentKeys::new(65_536, Duration::from_secs(60));
        // SplitMix64's finalizer: as even as the hashes of names are.
        let hash = |key: u64| {
            let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            key ^ (key >> 31)
        };
        let pass = |at: u64| {
            let now = Instant::from_nanos(at * SECOND);
            (1..=10_000).filter(|&key| recent.see(hash(key), now)).count()
        };
        assert_eq!((pass(1), pass(2), pass(3)), (0, 10_000, 10_000));
    }

    #[test]
    fn the_key_seen_longest_ago_makes_room() {
        let recent = RecentKeys::new(1, Duration::from_secs(60));
        let keys = |range: std::ops::RangeInclusive<u64>| range.map(|key| key << 32);
        for (at, key) in keys(1..=8).enumerate() {
            recent.see(key, Instant::from_nanos((at as u64 + 1) * SECOND));
        }
        recent.see(1 << 32, Instant::from_nanos(9 * SECOND));
        recent.see(9 << 32, Instant::from_nanos(10 * SECOND));
        let known: Vec<_> = keys(1..=9)
            .map(|key| recent.knows(key, Instant::from_nanos(11 * SECOND)))
            .collect();
        assert_eq!(known, [true, false, true, true, true, true, true, true, true]);
    }
}
