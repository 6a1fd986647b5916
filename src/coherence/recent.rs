//! What happened to names lately, as far as it is remembered: for people who ask why a key is not served. Nothing is
//! decided by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

/// Names a table remembers, at most: 8 bytes each. Chosen, not measured.
pub(super) const NAMES: usize = 4096;

/// A cell: the upper bits of a hash, what happened, and when in milliseconds. Milliseconds last for a year, and of two
/// names that share a cell one in 2²⁵ is taken for the other.
const WHEN: u64 = (1 << 35) - 1;
const WHAT: u64 = 0b1111;

/// Something that can be remembered in four bits; zero means nothing.
pub(super) trait Event: Copy + 'static {
    const ALL: &'static [Self];
    /// Its place in `ALL`.
    fn place(self) -> u64;
}

/// The last thing that happened to each of some names: a later name takes the place of an earlier one. Updates race
/// without harm, so all accesses are relaxed.
pub(super) struct Recent<E> {
    cells: Box<[AtomicU64]>,
    event: std::marker::PhantomData<E>,
}

impl<E: Event> Recent<E> {
    pub(super) fn new(names: usize) -> Self {
        Self {
            cells: std::iter::repeat_with(AtomicU64::default).take(names.max(1)).collect(),
            event: std::marker::PhantomData,
        }
    }

    /// It happened at `now` to the name with this hash.
    pub(super) fn note(&self, hash: u64, event: E, now: Instant) {
        if let Some(cell) = self.cell(hash) {
            let what = (event.place() + 1) & WHAT;
            cell.store(tag(hash) | what << 35 | millis(now), Ordering::Relaxed);
        }
    }

    /// What happened last to the name with this hash, and how long ago.
    pub(super) fn recall(&self, hash: u64, now: Instant) -> Option<(E, Duration)> {
        let held = self.cell(hash)?.load(Ordering::Relaxed);
        if held & !(WHEN | WHAT << 35) != tag(hash) {
            return None;
        }
        let what = ((held >> 35) & WHAT).checked_sub(1)?;
        let event = E::ALL.get(usize::try_from(what).ok()?)?;
        let ago = millis(now).saturating_sub(held & WHEN);
        Some((*event, Duration::from_millis(ago)))
    }

    fn cell(&self, hash: u64) -> Option<&AtomicU64> {
        let index = hash % self.cells.len() as u64;
        self.cells.get(usize::try_from(index).ok()?)
    }
}

fn tag(hash: u64) -> u64 {
    hash & !(WHEN | WHAT << 35)
}

fn millis(now: Instant) -> u64 {
    (now.as_nanos() / 1_000_000) & WHEN
}

#[cfg(test)]
mod tests {
    use super::super::inspect::Dropped;
    use super::*;

    fn second(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn the_last_thing_that_happened_to_a_name_is_remembered() {
        let recent = Recent::new(16);
        let hash = 0xabcd_ef01_2345_6789;
        assert_eq!(recent.recall(hash, second(1)), None);
        recent.note(hash, Dropped::Push, second(1));
        recent.note(hash, Dropped::Admin, second(3));
        assert_eq!(
            recent.recall(hash, second(8)),
            Some((Dropped::Admin, Duration::from_secs(5)))
        );
        assert_eq!(
            recent.recall(!hash & !15 | 9, second(8)),
            None,
            "another name in the same cell"
        );
    }

    #[test]
    fn no_hash_is_taken_for_a_cell_that_is_empty() {
        let recent = Recent::<Dropped>::new(1);
        assert_eq!(recent.recall(0, second(1)), None);
        recent.note(0, Dropped::Write, Instant::ZERO);
        assert_eq!(
            recent.recall(0, second(1)),
            Some((Dropped::Write, Duration::from_secs(1)))
        );
    }
}
