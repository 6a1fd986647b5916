//! What one client has seen and done, and which answers it may get: the invariants that can be checked from outside.
//!
//! - I1 validity: the key had the value.
//! - I2 staleness: it had it at some time since `invoked - BOUND`; one of the client's own connection
//!   since `invoked`, and none at all when it had expired by then.
//! - I3 own writes: not before what the client has written; not behind a write that it asked for later.
//! - I4 monotonic reads: not before what the client has seen.
//! - I5 visibility: not before a write through the proxy that was acknowledged to anybody.
//! - I1b: values that were read together were current together. I7: no update is lost.

use super::redis::{PerKey, Redis, State};
use super::{Asked, BOUND, Source};
use crate::time::Instant;

/// What one client has seen and done.
#[derive(Default)]
pub(super) struct Witness {
    /// The newest state of every key that the client has seen or made.
    seen: PerKey<usize>,
    /// Of these: made.
    made: PerKey<usize>,
    /// Places in the client's order of commands that were not answered yet, oldest first.
    unanswered: Vec<u64>,
    /// Its executed writes: place in the client's order, key, and the state it made.
    writes: Vec<(u64, usize, usize)>,
    /// Its reads: place in the client's order, key, and the newest state it can have been.
    reads: Vec<(u64, usize, usize)>,
}

impl Witness {
    /// The client asked for something.
    pub(super) fn asks(&mut self, issue: u64) {
        self.unanswered.push(issue);
    }

    /// It was answered, or will not be. What lies before everything that is still asked for cannot matter any more.
    pub(super) fn is_answered(&mut self, issue: u64) {
        self.unanswered.retain(|&asked| asked != issue);
        let oldest = self.unanswered.first().copied().unwrap_or(issue);
        self.writes.retain(|write| write.0 >= oldest);
        self.reads.retain(|read| read.0 >= oldest);
    }

    /// A write of the client was executed and put `key` into state `at`.
    pub(super) fn wrote(&mut self, issue: u64, key: usize, at: usize) {
        self.writes.push((issue, key, at));
    }

    /// The states of `key` that a read may return.
    fn admissible<'h>(
        &self,
        asked: &Asked,
        key: usize,
        value: Option<u64>,
        source: Source,
        history: &'h PerKey<Vec<State>>,
        db: usize,
    ) -> impl Iterator<Item = usize> + use<'h> {
        let states = &history[db][key];
        let floor = self.seen[db][key].max(asked.acked[db][key]);
        let later = self
            .writes
            .iter()
            .filter(|write| write.0 > asked.issue && write.1 == key);
        let below = later.map(|write| write.2).min().unwrap_or(states.len());
        let asked = *asked;
        (floor..below).filter(move |&index| states[index].value == value && is_current(states, index, &asked, source))
    }

    /// The client was answered with `value`.
    pub(super) fn read(
        &mut self,
        asked: &Asked,
        key: usize,
        value: Option<u64>,
        source: Source,
        redis: &Redis,
        db: usize,
    ) {
        let mut admissible = self.admissible(asked, key, value, source, &redis.history, db);
        let (first, last) = (admissible.next(), admissible.last());
        let Some(index) = first else {
            self.fail(asked, key, value, source, &redis.history[db][key], db);
        };
        self.seen[db][key] = index;
        self.reads.push((asked.issue, key, last.unwrap_or(index)));
    }

    /// Says which promise was broken.
    fn fail(&self, asked: &Asked, key: usize, value: Option<u64>, source: Source, states: &[State], db: usize) -> ! {
        let had = |index: &usize| states[*index].value == value;
        let current = |index: &usize| is_current(states, *index, asked, source);
        let broken = if !(0..states.len()).any(|index| had(&index)) {
            "I1 validity"
        } else if !(0..states.len()).filter(had).any(|index| current(&index)) {
            "I2 staleness"
        } else if !(self.made[db][key]..states.len())
            .filter(had)
            .any(|index| current(&index))
        {
            "I3 own writes"
        } else if !(asked.acked[db][key]..states.len())
            .filter(had)
            .any(|index| current(&index))
        {
            "I5 visibility"
        } else if !(self.seen[db][key]..states.len())
            .filter(had)
            .any(|index| current(&index))
        {
            "I4 monotonic reads"
        } else {
            "I3 order"
        };
        let recent = &states[states.len().saturating_sub(8)..];
        panic!(
            "{broken}: {source:?} gave {value:?}; seen {}, made {} of {}: {asked:?}\n{recent:?}\n{:?}",
            self.seen[db][key],
            self.made[db][key],
            states.len() - 1,
            self.writes,
        );
    }

    /// The client's command was acknowledged and had put `key` into state `at`: no read asked for behind it, in the same
    /// pipeline, may have been answered with an older one.
    pub(super) fn acknowledged(&mut self, asked: &Asked, key: usize, at: usize, db: usize) {
        let overtook = self
            .reads
            .iter()
            .find(|read| read.0 > asked.issue && read.1 == key && read.2 < at);
        assert!(
            overtook.is_none(),
            "I3 own writes: a read {overtook:?} overtook {asked:?}, which made {at}"
        );
        self.seen[db][key] = self.seen[db][key].max(at);
        self.made[db][key] = self.made[db][key].max(at);
    }

    /// Two values that were read together must have been current together.
    pub(super) fn read_both(
        &mut self,
        asked: &Asked,
        values: [Option<u64>; 2],
        source: Source,
        redis: &Redis,
        db: usize,
    ) {
        let [first, second] = [0, 1].map(|key| {
            self.admissible(asked, key, values[key], source, &redis.history, db)
                .map(|index| span(&redis.history[db][key], index))
                .collect::<Vec<_>>()
        });
        for (key, value) in values.into_iter().enumerate() {
            self.read(asked, key, value, source, redis, db);
        }
        let together = first.iter().any(|a| second.iter().any(|b| a.0 < b.1 && b.0 < a.1));
        assert!(
            together,
            "I1b torn: {values:?} were never current together: {asked:?}, {first:?}, {second:?}"
        );
    }

    /// A transaction that watched its key ran, and the key held `before` then.
    pub(super) fn swapped(read: Option<u64>, before: Option<u64>, asked: &Asked) {
        assert_eq!(read, before, "I7 lost update: {asked:?} had read something else");
    }
}

/// Whether a read may return the state as far as time goes.
fn is_current(states: &[State], index: usize, asked: &Asked, source: Source) -> bool {
    let since = match source {
        Source::Home => asked.invoked,
        _ => Instant::from_nanos(asked.invoked.as_nanos() - u64::try_from(BOUND.as_nanos()).unwrap()),
    };
    let born = states[index].from;
    states.get(index + 1).is_none_or(|next| {
        // An EXPIRE is a write like any other: that it was given may be known late, what was given may not.
        let known = |given| given == born || given < since;
        let over = next.from <= asked.invoked && next.expiry.is_some_and(known);
        next.from >= since && !over
    })
}

/// From when to when, the end not included.
fn span(states: &[State], index: usize) -> (Instant, Instant) {
    let end = states.get(index + 1).map_or(Instant::MAX, |next| next.from);
    (states[index].from, end)
}
