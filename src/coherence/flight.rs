//! Flights: one fetch in progress, who shares it, and the lease that lets its leader store the reply.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::cache::{EntryId, SlotState, Stamp};
use crate::resp::Shape;
use crate::time::Instant;

/// One cacheable read.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Hash of the key's name ([`super::NearCache::hash`]).
    pub hash: u64,
    /// The key's name.
    pub key: &'a [u8],
    /// What tells this read's entry apart under the name.
    pub id: EntryId<'a>,
    /// How the RESP3 reply becomes RESP2.
    pub shape: Shape,
    /// Reads a hash, whose fields may expire without the key expiring.
    pub hash_fields: bool,
}

/// Numbers that never repeat in this process: generations, flights, entries.
pub(super) fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is kept per key name beside its entries.
#[derive(Debug)]
pub(super) struct Record<W> {
    /// Changes with every kill. A flight is alive while it still has the generation it began with.
    pub(super) generation: u64,
    /// A reply that did not come from the cache was given for this name at this time: an older answer must not follow.
    pub(super) seen_at: Instant,
    pub(super) flights: Vec<Flight<W>>,
}

impl<W> SlotState for Record<W> {
    fn create() -> Self {
        Self {
            generation: serial(),
            seen_at: Instant::ZERO,
            flights: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }
}

/// One fetch in progress. Its identity is `serial`, not the key: a second fetch of the same key is another flight.
#[derive(Debug)]
pub(super) struct Flight<W> {
    pub(super) serial: u64,
    pub(super) origin: u16,
    pub(super) command: u16,
    pub(super) db: u32,
    pub(super) rest: Box<[u8]>,
    pub(super) generation: u64,
    pub(super) sent_at: Instant,
    pub(super) stamp: Stamp,
    /// The reply, between its arrival and the PTTL that settles the flight; joiners are answered from it at once.
    pub(super) value: Option<Bytes>,
    pub(super) waiters: Vec<W>,
}

impl<W> Flight<W> {
    pub(super) fn is(&self, id: &EntryId<'_>) -> bool {
        self.command == id.command && self.db == id.db && self.origin == id.origin && *self.rest == *id.rest
    }
}

/// The leader's right to store one reply. Taken by value wherever it ends, so it ends once; revoked by any kill of the
/// name, which the holder need not know.
///
/// Invariant: *a reply fetched under a revoked lease answers those who waited and is not stored; a lookup after the
/// revocation starts a new flight.*
#[derive(Debug)]
#[must_use = "a lease that is dropped leaves its waiters without an answer; settle or abandon it"]
pub struct Lease {
    pub(super) hash: u64,
    pub(super) key: Box<[u8]>,
    pub(super) flight: u64,
    pub(super) origin: u16,
    pub(super) command: u16,
    pub(super) db: u32,
    pub(super) rest: Box<[u8]>,
    pub(super) shape: Shape,
    pub(super) hash_fields: bool,
    pub(super) stamp: Stamp,
}

impl Lease {
    /// The key's name.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The database to read in.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// How the RESP3 reply becomes RESP2.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The incarnation it was given under; any other must refuse it.
    pub fn epoch(&self) -> u64 {
        self.stamp.epoch
    }

    pub(super) fn id(&self) -> EntryId<'_> {
        EntryId {
            origin: self.origin,
            db: self.db,
            command: self.command,
            rest: &self.rest,
        }
    }
}
