//! Keys seen lately: a fixed table of hashes with the time they were last seen. It answers "is this the second read
//! within the window" and "was this reply too large a moment ago" without a lock and without growing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

/// The half of a cell that holds a time.
const MILLIS: u64 = 0xffff_ffff;
/// By how many milliseconds two threads' idea of now may differ. Chosen, not measured.
const CLOCK_SKEW: u64 = 1000;

/// A direct-mapped table of recently seen key hashes.
///
/// A cell holds the upper half of one hash and the millisecond it was last seen; a colliding key overwrites it, which
/// only makes a key look newer than it is. Updates race without harm, so all accesses are relaxed.
pub struct RecentKeys {
    cells: Box<[AtomicU64]>,
    window: Duration,
}

impl RecentKeys {
    /// A table of `cells` (rounded up to a power of two; 8 bytes each) that forgets after `window`.
    pub fn new(cells: usize, window: Duration) -> Self {
        let cells = cells.max(1).next_power_of_two();
        Self {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            window,
        }
    }

    /// Notes that `hash` was seen now; true when it had been seen within the window before.
    pub fn see(&self, hash: u64, now: Instant) -> bool {
        let known = self.knows(hash, now);
        if let Some(cell) = self.cell(hash) {
            cell.store(pack(hash, now), Ordering::Relaxed);
        }
        known
    }

    /// Whether `hash` was seen within the window.
    pub fn knows(&self, hash: u64, now: Instant) -> bool {
        let Some(cell) = self.cell(hash) else { return false };
        let held = cell.load(Ordering::Relaxed);
        let age = millis(now).wrapping_sub(held & MILLIS) & MILLIS;
        // Seen "later" than now: another thread read its clock a moment after this one.
        let age = if age > MILLIS - CLOCK_SKEW { 0 } else { age };
        held != 0 && held >> 32 == hash >> 32 && u128::from(age) <= self.window.as_millis()
    }

    fn cell(&self, hash: u64) -> Option<&AtomicU64> {
        // The mask keeps the low bits only, which is what a direct-mapped table wants.
        let mask = self.cells.len() as u64 - 1;
        usize::try_from(hash & mask)
            .ok()
            .and_then(|index| self.cells.get(index))
    }
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
}
