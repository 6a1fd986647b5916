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

impl Cell {
    const NOTHING: Self = Self {
        at: Instant::ZERO,
        source: Source::PRIMARY,
    };

    /// Notes what the session was told at `now` by `source`, which had caught up with `caught_up`.
    fn note(&mut self, source: Source, caught_up: Instant, now: Instant) {
        // Two sources of two keys that share the cell: neither is known to have what the other said.
        let covered = self.source == source || source == Source::PRIMARY || self.at < caught_up;
        let before = if covered { Instant::ZERO } else { self.at };
        *self = Self {
            at: now.max(before),
            source: if covered { source } else { Source::SEVERAL },
        };
    }

    /// Whether `source`, which has caught up with `caught_up`, has what was seen.
    fn is_in(&self, source: Source, caught_up: Instant) -> bool {
        self.source == source || self.at < caught_up
    }

    fn is_nothing(&self) -> bool {
        self.at == Instant::ZERO
    }
}

/// What one session has seen.
#[derive(Debug)]
pub struct Seen {
    cells: Box<[Cell]>,
    /// It saw something of which nobody knows what.
    any: Cell,
}

impl Default for Seen {
    fn default() -> Self {
        Self::since(Instant::ZERO)
    }
}

impl Seen {
    /// For a session that may have seen anything up to `now`.
    pub fn since(now: Instant) -> Self {
        Self {
            cells: vec![Cell::NOTHING; CELLS].into(),
            any: Cell {
                at: now,
                ..Cell::NOTHING
            },
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
        if let Some(cell) = self.cells.get_mut(place(key)) {
            cell.note(source, caught_up, now);
        }
    }

    /// The session saw something of the primary at `now`, and nobody knows of which key.
    pub fn anything(&mut self, now: Instant) {
        self.any.note(Source::PRIMARY, Instant::ZERO, now);
    }

    /// The same of a replica that had caught up with `caught_up` when it was chosen.
    pub fn anything_at_replica(&mut self, source: Source, caught_up: Instant, now: Instant) {
        self.any.note(source, caught_up, now);
    }

    /// Whether `source`, which has everything that was acknowledged before `caught_up`, has what the session saw of the key.
    pub fn is_in(&self, key: u64, source: Source, caught_up: Instant) -> bool {
        let has = |cell: &Cell| cell.is_in(source, caught_up);
        (self.any.is_nothing() || has(&self.any)) && self.cells.get(place(key)).is_some_and(has)
    }

    /// Whether it has all that the session saw, of whatever key.
    pub fn all_is_in(&self, source: Source, caught_up: Instant) -> bool {
        let mut cells = self.cells.iter().chain([&self.any]);
        cells.all(|cell| cell.is_nothing() || cell.is_in(source, caught_up))
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
    fn what_was_seen_of_unnamed_keys_at_a_replica_is_there_whatever_the_key() {
        let (mut seen, [one, other]) = (Seen::default(), [Source::fresh(), Source::fresh()]);
        seen.anything_at_replica(one, at(5), at(10));
        assert!(seen.all_is_in(one, at(5)), "it said so itself");
        assert!(!seen.is_in(OTHER, other, at(10)) && seen.is_in(OTHER, other, at(11)));
        seen.anything_at_replica(other, at(6), at(12));
        assert!(
            !seen.all_is_in(one, at(12)) && !seen.all_is_in(other, at(12)),
            "both were seen"
        );
        assert!(seen.all_is_in(one, at(13)) && seen.all_is_in(other, at(13)));
    }

    #[test]
    fn all_that_was_seen_is_what_was_seen_of_each_key() {
        let (mut seen, [one, other]) = (Seen::default(), [Source::fresh(), Source::fresh()]);
        assert!(seen.all_is_in(one, at(1)), "nothing was seen");
        seen.at_replica(ONE, one, at(5), at(10));
        assert!(seen.all_is_in(one, at(6)) && !seen.all_is_in(other, at(10)) && seen.all_is_in(other, at(11)));
        seen.at_primary(OTHER, at(20));
        assert!(!seen.all_is_in(one, at(20)) && seen.all_is_in(one, at(21)));
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
