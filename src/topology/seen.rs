//! What one session has seen, and of which node, so that no later read of it is answered by one that lacks it.

use super::node::Source;
use crate::time::Instant;

/// Cells of the table. Keys share them: a session may be taken to have seen more than it has. 4 KiB a session that reads.
const CELLS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// What was seen was true at this time at the latest.
    at: Instant,
    /// Who said so.
    source: Source,
}

/// What one session has seen.
#[derive(Debug)]
pub struct Seen {
    cells: Box<[Cell]>,
    /// It saw something of which nobody knows what.
    all: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self::since(Instant::ZERO)
    }
}

impl Seen {
    /// For a session that may have seen anything up to `now`.
    pub fn since(now: Instant) -> Self {
        let nothing = Cell {
            at: Instant::ZERO,
            source: Source::PRIMARY,
        };
        Self {
            cells: vec![nothing; CELLS].into(),
            all: now,
        }
    }
}

fn place(key: u64) -> usize {
    usize::try_from(key >> 24).unwrap_or_default() % CELLS
}

impl Seen {
    /// The session read the key at the primary, or from memory; `now` is not earlier than what it read.
    pub fn at_primary(&mut self, key: u64, now: Instant) {
        self.note(key, Source::PRIMARY, Instant::ZERO, now);
    }

    /// The session read the key of a replica that had caught up with `caught_up` when it was chosen.
    pub fn at_replica(&mut self, key: u64, source: Source, caught_up: Instant, now: Instant) {
        self.note(key, source, caught_up, now);
    }

    fn note(&mut self, key: u64, source: Source, caught_up: Instant, now: Instant) {
        let Some(cell) = self.cells.get_mut(place(key)) else {
            return;
        };
        // Two sources of two keys that share the cell: neither is known to have what the other said.
        let covered = cell.source == source || source == Source::PRIMARY || cell.at < caught_up;
        let before = if covered { Instant::ZERO } else { cell.at };
        *cell = Cell {
            at: now.max(before),
            source: if covered { source } else { Source::SEVERAL },
        };
    }

    /// The session saw something at `now`, and nobody knows of which key.
    pub fn anything(&mut self, now: Instant) {
        self.all = self.all.max(now);
    }

    /// Whether `source`, which has everything that was acknowledged before `caught_up`, has what the session saw of the key.
    pub fn is_in(&self, key: u64, source: Source, caught_up: Instant) -> bool {
        let same = |cell: &Cell| cell.source == source || cell.at < caught_up;
        (self.all == Instant::ZERO || self.all < caught_up) && self.cells.get(place(key)).is_some_and(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// Keys in different cells.
    const ONE: u64 = 1 << 24;
    const OTHER: u64 = 2 << 24;

    #[test]
    fn what_was_read_of_the_primary_must_have_reached_the_replica() {
        let (mut seen, replica) = (Seen::default(), Source::fresh());
        assert!(seen.is_in(ONE, replica, at(1)));
        seen.at_primary(ONE, at(10));
        assert!(!seen.is_in(ONE, replica, at(10)) && seen.is_in(ONE, replica, at(11)));
        assert!(seen.is_in(OTHER, replica, at(1)), "of another key nothing was seen");
        seen.anything(at(20));
        assert!(!seen.is_in(OTHER, replica, at(20)) && seen.is_in(OTHER, replica, at(21)));
    }

    #[test]
    fn a_replica_has_what_it_said_itself_and_another_one_may_not() {
        let (mut seen, [one, other]) = (Seen::default(), [Source::fresh(), Source::fresh()]);
        seen.at_replica(ONE, one, at(5), at(10));
        assert!(seen.is_in(ONE, one, at(5)));
        assert!(!seen.is_in(ONE, other, at(9)) && seen.is_in(ONE, other, at(11)));
    }

    #[test]
    fn two_keys_in_one_cell_are_both_kept_true() {
        let (mut seen, [one, other]) = (Seen::default(), [Source::fresh(), Source::fresh()]);
        let same_cell = ONE | 7;
        seen.at_replica(ONE, one, at(5), at(10));
        seen.at_replica(same_cell, other, at(6), at(12));
        assert!(!seen.is_in(ONE, one, at(5)) && !seen.is_in(ONE, other, at(6)));
        assert!(seen.is_in(ONE, one, at(13)) && seen.is_in(ONE, other, at(13)));
        seen.at_replica(ONE, one, at(13), at(14));
        assert!(seen.is_in(ONE, one, at(5)), "it had caught up with all that was seen");
    }

    #[test]
    fn what_is_read_of_the_primary_after_a_replica_is_newer() {
        let (mut seen, one) = (Seen::default(), Source::fresh());
        seen.at_replica(ONE, one, at(5), at(10));
        seen.at_primary(ONE, at(11));
        assert!(!seen.is_in(ONE, one, at(10)));
    }
}
