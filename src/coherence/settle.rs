//! How a flight ends: its reply answers those who wait, its PTTL decides whether the reply is stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::flight::{Flight, Lease, Record, serial};
use super::near_cache::{NearCache, Tally};
use crate::cache::{Entry, Shard, SlotId};
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

impl<W> NearCache<W> {
    /// The flight's reply arrived: whoever waited is to be answered with it, stored or not, because all of them asked
    /// before any write that could have revoked the lease was acknowledged. Later joiners get it at once.
    pub fn arrived(&self, lease: &Lease, reply: &Bytes) -> Vec<W> {
        self.with_flight(lease, |flight| {
            flight.value = Some(reply.clone());
            std::mem::take(&mut flight.waiters)
        })
    }

    /// The flight's reply is larger than the cache takes: whoever waited must ask over their own connection, and this
    /// read of the key is not fetched for the cache again for a while. The flight ends here, for nobody who joined it now would be
    /// answered.
    pub fn outgrown(&self, lease: &Lease, now: Instant) -> Vec<W> {
        self.note_too_large(lease.hash, lease.command, now);
        self.end_flight(lease)
    }

    /// Ends the flight without storing anything; gives back who still waits.
    #[allow(clippy::needless_pass_by_value, reason = "a lease is taken where its flight ends")]
    pub fn abandon(&self, lease: Lease) -> Vec<W> {
        self.end_flight(&lease)
    }

    fn end_flight(&self, lease: &Lease) -> Vec<W> {
        let mut shard = self.lock(lease.hash);
        let Some(id) = shard.find(lease.hash, &lease.key) else {
            return Vec::new();
        };
        let flight = take_flight(&mut shard, id, lease.flight);
        shard.release(id);
        drop(shard);
        flight.map(|flight| flight.waiters).unwrap_or_default()
    }

    /// Ends the flight with its reply and the PTTL that followed it, and stores the reply if nothing speaks against it.
    ///
    /// `sent_at` is when the fetch was handed to the socket: deadlines count from there, so they never lie behind the
    /// server's own expiry.
    ///
    /// # Errors
    /// Why the reply was not stored; nobody waits any more either way.
    pub fn settle(&self, lease: Lease, reply: Bytes, pttl: i64, sent_at: Instant) -> Result<(), Rejected> {
        let (hash, command) = (lease.hash, lease.command);
        let outcome = self.store(lease, reply, pttl, sent_at);
        if outcome == Err(Rejected::TooLarge) {
            self.note_too_large(hash, command, sent_at);
        }
        let counter = match outcome {
            Ok(()) => &self.tally.inserts,
            Err(Rejected::Race) => &self.tally.rejected_race,
            Err(Rejected::TooLarge) => &self.tally.rejected_too_large,
            Err(Rejected::Error) => &self.tally.rejected_error,
            Err(Rejected::Ttl) => &self.tally.rejected_ttl,
        };
        Tally::add(counter, 1);
        outcome
    }

    fn store(&self, lease: Lease, reply: Bytes, pttl: i64, sent_at: Instant) -> Result<(), Rejected> {
        let entry = self.entry_for(&lease, reply, pttl, sent_at);
        let entry = match entry {
            Ok(entry) if self.make_room(entry.weight()) => entry,
            Ok(_) => {
                let _nobody = self.abandon(lease);
                return Err(Rejected::TooLarge);
            }
            Err(why) => {
                let _nobody = self.abandon(lease);
                return Err(why);
            }
        };
        let mut shard = self.lock(lease.hash);
        let id = shard.find(lease.hash, &lease.key).ok_or(Rejected::Race)?;
        let flight = take_flight(&mut shard, id, lease.flight);
        let alive = flight.is_some_and(|flight| {
            shard
                .slot(id)
                .is_some_and(|slot| slot.state.generation == flight.generation)
                && flight.stamp == self.origin.stream().stamp()
                && self.flushing.load(Ordering::SeqCst) == 0
        });
        if !alive {
            shard.release(id);
            return Err(Rejected::Race);
        }
        let replaced = shard.insert(id, entry, &lease.id());
        drop(shard);
        drop(replaced);
        Ok(())
    }

    fn entry_for(&self, lease: &Lease, reply: Bytes, pttl: i64, sent_at: Instant) -> Result<Entry, Rejected> {
        if matches!(reply.first(), Some(b'-' | b'!')) {
            return Err(Rejected::Error);
        }
        let terms = self.policies.terms(&lease.key);
        if reply.len() > terms.max_entry.unwrap_or(self.limits.max_entry) {
            return Err(Rejected::TooLarge);
        }
        let negative = pttl == -2;
        // 0: it expires now. -2 behind a value: it expired or was deleted between the two commands.
        if pttl == 0 || pttl < -2 || (negative && (!is_empty(&reply) || self.limits.negative_ttl.is_zero())) {
            return Err(Rejected::Ttl);
        }
        let mut keep = self.limits.max_entry_ttl.min(terms.ttl.unwrap_or(Duration::MAX));
        if negative {
            keep = keep.min(self.limits.negative_ttl);
        }
        if lease.hash_fields && self.hash_fields_expire.load(Ordering::Relaxed) {
            keep = keep.min(self.limits.hash_ttl);
        }
        if let Ok(millis) = u64::try_from(pttl) {
            keep = keep.min(Duration::from_millis(millis));
        }
        if keep.is_zero() {
            return Err(Rejected::Ttl);
        }
        // The flight's stamp, never the current one: what was flushed meanwhile stays flushed.
        let mut entry = Entry::new(&lease.id(), reply, lease.shape, lease.stamp, serial());
        entry.fetched_at = sent_at;
        entry.deadline = sent_at.after(keep);
        entry.negative = negative;
        Ok(entry)
    }

    fn with_flight(&self, lease: &Lease, change: impl FnOnce(&mut Flight<W>) -> Vec<W>) -> Vec<W> {
        let mut shard = self.lock(lease.hash);
        shard
            .find(lease.hash, &lease.key)
            .and_then(|id| shard.state_mut(id))
            .and_then(|record| record.flights.iter_mut().find(|flight| flight.serial == lease.flight))
            .map(change)
            .unwrap_or_default()
    }
}

fn take_flight<W>(shard: &mut Shard<Record<W>>, id: SlotId, serial: u64) -> Option<Flight<W>> {
    let record = shard.state_mut(id)?;
    let index = record.flights.iter().position(|flight| flight.serial == serial)?;
    let flight = record.flights.swap_remove(index);
    if record.flights.is_empty() {
        // A name that is cached for long keeps no room for fetches.
        record.flights = Vec::new();
    }
    Some(flight)
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
