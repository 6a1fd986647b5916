//! What the master had acknowledged at which time, as offsets of its replication stream: so a replica's offset tells what it
//! has.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::time::Instant;

/// Looks that are kept: at one every 5 to 100 ms, of the last 5 to 100 seconds. What lacks more is behind, however much.
const KEPT: usize = 1024;

/// Which history a stream of replicated commands is, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    /// `master_replid`: the same on the master and on those that follow it.
    pub(super) history: String,
    /// Bytes of the stream.
    pub(super) bytes: u64,
}

/// Looks at the master, the newest last.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<VecDeque<(Instant, Offset)>>);

/// What a replica has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Has {
    /// Everything the master had acknowledged at this time; [`Instant::ZERO`]: nothing that is known.
    pub(super) caught_up: Instant,
    /// Bytes it lacks of what the master had when it was asked last.
    pub(super) lacks: u64,
}

impl History {
    /// The master, asked at `at`, was there. What it had acknowledged before that it had counted.
    pub(super) fn note(&self, at: Instant, offset: Offset) {
        let mut looks = self.0.lock();
        if looks.back().is_some_and(|(_, last)| last.history != offset.history) {
            looks.clear();
        }
        // While nothing is written, the newest look is as good as all of them.
        let same = |(_, one): &(Instant, Offset), (_, two): &(Instant, Offset)| one.bytes == two.bytes;
        if looks.len() >= 2 && looks.back().is_some_and(|last| last.1.bytes == offset.bytes) {
            let before = looks.len() - 2;
            if let (Some(one), Some(two)) = (looks.get(before), looks.back())
                && same(one, two)
            {
                looks.pop_back();
            }
        }
        if looks.len() == KEPT {
            looks.pop_front();
        }
        looks.push_back((at, offset));
    }

    /// What a node has whose offset is this; `None`: it does not follow the master.
    pub(super) fn has(&self, offset: &Offset) -> Option<Has> {
        let looks = self.0.lock();
        let (_, newest) = looks.back().filter(|(_, newest)| newest.history == offset.history)?;
        let covered = looks.iter().rev().find(|(_, look)| look.bytes <= offset.bytes);
        Some(Has {
            caught_up: covered.map_or(Instant::ZERO, |(at, _)| *at),
            lacks: newest.bytes.saturating_sub(offset.bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(history: &str, bytes: u64) -> Offset {
        Offset {
            history: history.into(),
            bytes,
        }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_replica_has_what_the_master_had_at_the_last_offset_it_has_reached() {
        let history = History::default();
        assert_eq!(history.has(&offset("a", 5)), None);
        for (when, bytes) in [(10, 100), (20, 200), (30, 200), (40, 200), (50, 300)] {
            history.note(at(when), offset("a", bytes));
        }
        let has = |bytes| history.has(&offset("a", bytes)).map(|has| (has.caught_up, has.lacks));
        assert_eq!(has(99), Some((Instant::ZERO, 201)));
        assert_eq!(has(100), Some((at(10), 200)));
        assert_eq!(has(250), Some((at(40), 50)));
        assert_eq!(has(301), Some((at(50), 0)));
        assert_eq!(history.has(&offset("b", 300)), None, "another history");
    }

    #[test]
    fn offsets_of_another_history_are_not_compared() {
        let history = History::default();
        history.note(at(10), offset("a", 100));
        history.note(at(20), offset("b", 50));
        assert_eq!(history.has(&offset("a", 100)), None);
        assert_eq!(history.has(&offset("b", 50)).map(|has| has.caught_up), Some(at(20)));
    }

    #[test]
    fn a_master_that_rests_does_not_push_out_what_is_known() {
        let history = History::default();
        history.note(at(1), offset("a", 100));
        (2..5000).for_each(|when| history.note(at(when), offset("a", 200)));
        assert_eq!(history.has(&offset("a", 150)).map(|has| has.caught_up), Some(at(1)));
        assert_eq!(history.has(&offset("a", 200)).map(|has| has.caught_up), Some(at(4999)));
        (0..5000).for_each(|when| history.note(at(5000 + when), offset("a", 201 + when)));
        assert_eq!(history.0.lock().len(), KEPT);
    }
}
