//! How a flight ends: its reply answers those who wait, its PTTL decides whether the reply is stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::fields::Ttls;
use super::flight::{Flight, Lease, Record, State, serial};
use super::near_cache::{NearCache, Tally, UNWATCHED_TTL};
use super::recent::Event;
use super::slots::Slots;
use crate::cache::{Entry, Packed, Shard, SlotId, Stamp};
use crate::command::Slot;
use crate::mutants::{Mutant, mutated};
use crate::time::Instant;

/// Why a fetched reply was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The key was killed, or everything was flushed, while the reply travelled.
    Race,
    /// The reply, or what it would weigh, is too large.
    TooLarge,
    /// The reply is an error.
    Error,
    /// The key was expiring or gone, or negative replies are not stored.
    Ttl,
}

impl Rejected {
    /// The word for it, as the metric has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Race => "race",
            Self::TooLarge => "too_large",
            Self::Error => "error",
            Self::Ttl => "ttl",
        }
    }
}

impl Event for Rejected {
    const ALL: &'static [Self] = &[Self::Race, Self::TooLarge, Self::Error, Self::Ttl];

    fn place(self) -> u64 {
        self as u64
    }
}

impl<W> NearCache<W> {
    /// The flight's reply arrived: who began the fetch is to be answered with it, stored or not, because that was asked
    /// before the server read the key. Whether it is an answer to who joined, only the PTTL behind it can tell.
    /// `in_order`: invalidations come on the same connection.
    pub fn arrived(&self, lease: &Lease, in_order: bool) -> Option<W> {
        let mut shard = self.lock(lease.hash);
        let id = shard.find(lease.hash, &lease.key)?;
        let leader = shard.with_state(id, |state| {
            let record = state.record_mut()?;
            let generation = record.generation;
            let mut flights = record.flights.iter_mut();
            let flight = flights.find(|flight| flight.serial == lease.flight)?;
            flight.as_read = in_order.then(|| (generation, lease.stream.stamp()));
            flight.leader.take()
        });
        leader.flatten()
    }

    /// The flight's reply is larger than the cache takes: whoever waited must ask over their own connection, and this
    /// read of the key is not fetched for the cache again for a while. The flight ends here, for nobody who joined it now would be
    /// answered.
    pub fn outgrown(&self, lease: &Lease, now: Instant) -> Vec<W> {
        self.note_too_large(lease.hash, lease.command, now);
        self.rejections.note(lease.hash, Rejected::TooLarge, now);
        self.end_flight(lease)
    }

    /// Ends the flight without storing anything; gives back who still waits.
    #[allow(clippy::needless_pass_by_value, reason = "a lease is taken where its flight ends")]
    pub fn abandon(&self, lease: Lease) -> Vec<W> {
        self.end_flight(&lease)
    }

    /// Whether the node answered that it has not got the key, so that whoever waited must ask whoever has. What is cached of
    /// its slot is dead.
    pub(super) fn is_elsewhere(&self, lease: &Lease, reply: &[u8]) -> bool {
        let Some(slots) = self.slots.as_ref().filter(|_| Slots::says_elsewhere(reply)) else {
            return false;
        };
        slots.renew(Slot::of(&lease.key));
        self.rejections.note(lease.hash, Rejected::Error, self.about_now());
        Tally::add(&self.tally.rejected_error, 1);
        true
    }

    /// Whether the key's slot is still in the life in which it was asked for.
    fn lives(&self, lease: &Lease) -> bool {
        let slots = self.slots.as_ref();
        slots.is_none_or(|slots| slots.life_of(&lease.key) == lease.db)
    }

    /// The node answered for the key what it was asked at `sent_at`.
    pub(super) fn is_owned(&self, lease: &Lease, sent_at: Instant) {
        if let Some(slots) = &self.slots {
            slots.prove(Slot::of(&lease.key), lease.db, sent_at);
            slots.remember(&lease.key);
        }
    }

    /// Whether the server is to be asked when the fields that are read expire.
    pub(super) fn asks_fields(&self, lease: &Lease) -> bool {
        lease.hash_fields
            && self.knows_field_ttls.load(Ordering::Relaxed)
            && self.policies.terms(&lease.key).hash_field_ttl
    }

    pub(super) fn end_flight(&self, lease: &Lease) -> Vec<W> {
        let mut shard = self.lock(lease.hash);
        let Some(id) = shard.find(lease.hash, &lease.key) else {
            return Vec::new();
        };
        let flight = take_flight(&mut shard, id, lease.flight);
        shard.with_state(id, State::tidy);
        shard.release(id);
        drop(shard);
        flight.map(Flight::into_waiters).unwrap_or_default()
    }

    /// Ends the flight with its reply and the TTLs that followed it, and stores the reply if nothing speaks against it.
    ///
    /// `sent_at` is when the fetch was handed to the socket: deadlines count from there, so they never lie behind the
    /// server's own expiry.
    #[allow(clippy::needless_pass_by_value, reason = "a lease is taken where its flight ends")]
    pub fn settle(&self, lease: Lease, reply: Bytes, ttls: impl Into<Ttls>, sent_at: Instant) -> Settled<W> {
        let (hash, command) = (lease.hash, lease.command);
        let settled = self.store(&lease, reply, ttls.into(), sent_at);
        let outcome = settled.outcome;
        if outcome == Err(Rejected::TooLarge) {
            self.note_too_large(hash, command, sent_at);
        }
        if let Err(why) = outcome {
            self.rejections.note(hash, why, self.about_now());
        }
        let counter = match outcome {
            Ok(()) => &self.tally.inserts,
            Err(Rejected::Race) => &self.tally.rejected_race,
            Err(Rejected::TooLarge) => &self.tally.rejected_too_large,
            Err(Rejected::Error) => &self.tally.rejected_error,
            Err(Rejected::Ttl) => &self.tally.rejected_ttl,
        };
        Tally::add(counter, 1);
        settled
    }

    fn store(&self, lease: &Lease, reply: Bytes, ttls: Ttls, sent_at: Instant) -> Settled<W> {
        let failed = matches!(reply.first(), Some(b'-' | b'!'));
        let until = answers_until(&reply, ttls, sent_at);
        let entry = self.entry_for(lease, reply, ttls, sent_at).and_then(|entry| {
            if self.make_room(entry.weight()) {
                Ok(entry)
            } else {
                Err(Rejected::TooLarge)
            }
        });
        let mut shard = self.lock(lease.hash);
        let found = shard.find(lease.hash, &lease.key);
        let taken = found.and_then(|id| Some((id, take_flight(&mut shard, id, lease.flight)?)));
        let Some((id, flight)) = taken else {
            return Settled::nobody(Err(Rejected::Race));
        };
        let record = shard.slot(id).and_then(|slot| slot.record());
        let alive = record.is_some_and(|record| holds(record, &flight))
            && lease.stream.is_live()
            && (flight.stamp == lease.stream.stamp() || mutated(Mutant::StampCurrent))
            && self.lives(lease)
            && (self.flushing.load(Ordering::SeqCst) == 0 || mutated(Mutant::FlushingIgnored));
        // It may have been killed before it was read: then it still answers those who had joined by then.
        let now = record.map(|record| (record.generation, lease.stream.stamp()));
        let unchanged = alive || (flight.as_read.is_some() && flight.as_read == now);
        if let (Ok(entry), false) = (&entry, flight.joiners.is_empty()) {
            // The fetch was worth it.
            entry.note_hit();
        }
        if self.slots.is_some() && alive {
            // What is left of earlier lives would pile up while the slot moves.
            let left = shard.clear_if(id, |entry| entry.db() != lease.db);
            Tally::add(&self.tally.evicted_flush, left.len());
        }
        let (outcome, replaced) = match entry {
            Ok(entry) if alive => (Ok(()), shard.insert(id, entry, &lease.id())),
            Ok(_) => (Err(Rejected::Race), None),
            Err(why) => (Err(why), None),
        };
        shard.with_state(id, State::tidy);
        if outcome.is_err() {
            shard.release(id);
        }
        drop(shard);
        drop(replaced);
        let mut settled = Settled::nobody(outcome);
        for (joiner, asked_at) in flight.joiners {
            if failed || (unchanged && (asked_at < until || mutated(Mutant::JoinExpired))) {
                settled.answered.push(joiner);
            } else {
                settled.sent_home.push(joiner);
            }
        }
        settled
    }

    fn entry_for(&self, lease: &Lease, reply: Bytes, ttls: Ttls, sent_at: Instant) -> Result<Box<Entry>, Rejected> {
        let ttls = if mutated(Mutant::NoPttl) {
            Ttls {
                key: -1,
                fields: Some(-1),
            }
        } else {
            ttls
        };
        if matches!(reply.first(), Some(b'-' | b'!')) && !mutated(Mutant::ErrorCached) {
            return Err(Rejected::Error);
        }
        let terms = self.policies.terms(&lease.key);
        if reply.len() > self.limits.largest(terms) {
            return Err(Rejected::TooLarge);
        }
        let (pttl, negative) = (ttls.key, ttls.key == -2);
        // 0: it expires now. -2 behind a value: it expired or was deleted between the two commands.
        if pttl == 0 || pttl < -2 || (negative && (!is_empty(&reply) || self.limits.negative_ttl.is_zero())) {
            return Err(Rejected::Ttl);
        }
        let mut keep = self.limits.max_entry_ttl.min(terms.ttl.unwrap_or(Duration::MAX));
        keep = keep.min(lease.stream.reach().longest);
        if negative {
            keep = keep.min(self.limits.negative_ttl);
        }
        if lease.hash_fields && terms.hash_field_ttl && self.hash_fields_expire.load(Ordering::Relaxed) {
            keep = keep.min(match ttls.fields {
                None => self.limits.hash_ttl,
                // Negative: none of them expires.
                Some(first) => u64::try_from(first).map_or(Duration::MAX, Duration::from_millis),
            });
        }
        if self.rights_unwatched.load(Ordering::SeqCst) {
            keep = keep.min(UNWATCHED_TTL);
        }
        if let Ok(millis) = u64::try_from(pttl) {
            keep = keep.min(Duration::from_millis(millis));
        }
        // An entry's life is counted in milliseconds.
        if keep < Duration::from_millis(1) {
            return Err(Rejected::Ttl);
        }
        // The flight's stamp, never the current one: what was flushed meanwhile stays flushed.
        let stamp = if mutated(Mutant::StampCurrent) {
            lease.stream.stamp()
        } else {
            lease.stamp
        };
        let entry = self.entry_of(lease, reply, stamp);
        let mut entry = entry.ok_or(Rejected::Race)?.served_for(sent_at, keep);
        entry.negative = negative;
        Ok(entry)
    }

    fn entry_of(&self, lease: &Lease, reply: Bytes, stamp: Stamp) -> Option<Box<Entry>> {
        let (id, shape) = (lease.id(), lease.shape);
        let packed = (reply.len() > self.limits.compress_above).then(|| Packed::of(&reply));
        let Some(packed) = packed.flatten() else {
            return Entry::new(&lease.key, &id, reply, shape, stamp, serial());
        };
        Tally::add(&self.tally.compressed, 1);
        Tally::add(&self.tally.compressed_from, reply.len());
        Tally::add(&self.tally.compressed_to, packed.len());
        let kind = reply.first().copied().unwrap_or_default();
        Entry::packed(&lease.key, &id, (packed, kind), shape, stamp, serial())
    }
}

/// How a flight ended.
#[derive(Debug)]
#[must_use = "those who joined are waiting"]
pub struct Settled<W> {
    /// Whether the reply was stored, and if not, why.
    pub outcome: Result<(), Rejected>,
    /// Who joined, and is answered by the reply.
    pub answered: Vec<W>,
    /// Who joined, and must ask over the own connection.
    pub sent_home: Vec<W>,
}

impl<W> Settled<W> {
    fn nobody(outcome: Result<(), Rejected>) -> Self {
        Self {
            outcome,
            answered: Vec::new(),
            sent_home: Vec::new(),
        }
    }
}

/// Until when the reply answers who asks: not behind the server's own expiry.
fn answers_until(reply: &[u8], ttls: Ttls, sent_at: Instant) -> Instant {
    let end = |pttl: i64| match u64::try_from(pttl) {
        Ok(millis) => sent_at.after(Duration::from_millis(millis)),
        // -1: it does not expire. -2: it is gone, which is what the reply may say.
        Err(_) if pttl == -1 || is_empty(reply) => Instant::MAX,
        Err(_) => Instant::ZERO,
    };
    end(ttls.key).min(ttls.fields.map_or(Instant::MAX, end))
}

fn holds<W>(record: &Record<W>, flight: &Flight<W>) -> bool {
    let same = |other: &Flight<W>| other.is(&flight.id()) && other.generation == record.generation;
    flight.generation == record.generation
        || mutated(Mutant::NoToken)
        || mutated(Mutant::TaskInsert)
        || (mutated(Mutant::AbaMarker) && record.flights.iter().any(same))
}

/// Takes the flight out of its record. Tidy the state when the record is not needed any more.
fn take_flight<W>(shard: &mut Shard<State<W>>, id: SlotId, serial: u64) -> Option<Flight<W>> {
    let taken = shard.with_state(id, |state| {
        let record = state.record_mut()?;
        let index = record.flights.iter().position(|flight| flight.serial == serial)?;
        Some(record.flights.swap_remove(index))
    });
    taken.flatten()
}

/// Whether a reply is what its command says about a key that does not exist: nothing, no elements, or (HMGET,
/// SMISMEMBER) nothing for every element. A key that does exist may be answered the same way; then it makes no
/// difference. `:-1` is what BITPOS says.
fn is_empty(reply: &[u8]) -> bool {
    match reply {
        b"%0\r\n" | b"~0\r\n" | b"$0\r\n\r\n" | b"+none\r\n" | b"#f\r\n" => true,
        // BITPOS.
        b":-1\r\n" => true,
        [b'*', b'0'..=b'9', ..] => {
            let mut lines = reply.split_inclusive(|&byte| byte == b'\n').skip(1);
            lines.all(is_nothing)
        }
        single => is_nothing(single),
    }
}

fn is_nothing(line: &[u8]) -> bool {
    matches!(line, b"_\r\n" | b":0\r\n" | b":-1\r\n" | b"$-1\r\n" | b"*-1\r\n")
}

#[cfg(test)]
mod tests {
    use super::is_empty;

    #[test]
    fn replies_about_missing_keys_say_nothing_about_any_member() {
        for nothing in [
            b"_\r\n".as_slice(),
            b"*0\r\n",
            b"*2\r\n_\r\n_\r\n",
            b"*2\r\n:0\r\n:0\r\n",
        ] {
            assert!(is_empty(nothing), "{}", nothing.escape_ascii());
        }
        for something in [
            b"*2\r\n_\r\n$1\r\na\r\n".as_slice(),
            b"*2\r\n:0\r\n:1\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n*2\r\n,0\r\n,0\r\n",
        ] {
            assert!(!is_empty(something), "{}", something.escape_ascii());
        }
    }
}
