//! Flights: one fetch in progress, who shares it, and the lease that lets its leader store the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stream::Stream;
use crate::cache::{EntryId, Slot, SlotState, Stamp};
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
    /// Reads a hash, whose fields may expire without the key expiring: those whose names stand behind the key, or all where
    /// nothing does.
    pub hash_fields: bool,
}

/// Numbers that never repeat in this process: generations, flights, entries.
pub(super) fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is kept per key name beside its entries: nothing for most names that are cached, a record while it is fetched.
#[derive(Debug)]
pub(super) struct State<W>(Option<Box<Record<W>>>);

#[derive(Debug)]
pub(super) struct Record<W> {
    /// Changes with every kill. A flight is alive while it still has the generation it began with.
    pub(super) generation: u64,
    /// A reply that did not come from the cache was given for this name at this time: an older answer must not follow.
    pub(super) seen_at: Instant,
    pub(super) flights: Vec<Flight<W>>,
}

impl<W> State<W> {
    pub(super) fn record(&self) -> Option<&Record<W>> {
        self.0.as_deref()
    }

    pub(super) fn record_mut(&mut self) -> Option<&mut Record<W>> {
        self.0.as_deref_mut()
    }

    /// The record, made when there is none. Generations never repeat, so no flight of an earlier record is alive in it.
    pub(super) fn begin(&mut self) -> &mut Record<W> {
        self.0.get_or_insert_with(|| {
            Box::new(Record {
                generation: serial(),
                seen_at: Instant::ZERO,
                flights: Vec::new(),
            })
        })
    }

    pub(super) fn flights(&self) -> &[Flight<W>] {
        self.record()
            .map(|record| record.flights.as_slice())
            .unwrap_or_default()
    }

    /// Somebody waits for the flight at this place.
    pub(super) fn join(&mut self, flight: usize, joiner: Option<(W, Instant)>) {
        let flights = self.record_mut().map(|record| &mut record.flights);
        if let Some(flight) = flights.and_then(|flights| flights.get_mut(flight)) {
            flight.joiners.extend(joiner);
        }
    }

    /// Revokes the leases of all flights. Without a record there are none.
    pub(super) fn kill(&mut self) {
        if let Some(record) = self.record_mut() {
            record.generation = serial();
        }
    }

    /// A flight ended: what nobody needs any more goes. What was seen stays for as long as there is an entry.
    pub(super) fn tidy(&mut self) {
        let Some(record) = self.record_mut().filter(|record| record.flights.is_empty()) else {
            return;
        };
        record.flights = Vec::new();
        if record.seen_at == Instant::ZERO {
            self.0 = None;
        }
    }
}

impl<W> SlotState for State<W> {
    fn create() -> Self {
        Self(None)
    }

    fn is_idle(&self) -> bool {
        self.flights().is_empty()
    }

    fn owned(&self) -> usize {
        self.record().map_or(0, size_of_val)
    }
}

/// What a slot's state says; nothing where there is none.
impl<W> Slot<State<W>> {
    pub(super) fn record(&self) -> Option<&Record<W>> {
        self.state()?.record()
    }

    /// See [`Record::seen_at`].
    pub(super) fn seen_at(&self) -> Instant {
        self.record().map_or(Instant::ZERO, |record| record.seen_at)
    }

    pub(super) fn flights(&self) -> &[Flight<W>] {
        self.state().map(State::flights).unwrap_or_default()
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
    /// Who asked for it, until the reply is there; nobody did for a prefetch.
    pub(super) leader: Option<W>,
    /// Who asked for the same meanwhile, and when. They are answered once it is known when the reply expires: for one of
    /// them it may have expired before it asked.
    pub(super) joiners: Vec<(W, Instant)>,
    /// Generation and stamp when the reply arrived, if invalidations come in order with it: while they are the same, the
    /// PTTL behind the reply is that of what was read.
    pub(super) as_read: Option<(u64, Stamp)>,
}

impl<W> Flight<W> {
    pub(super) fn into_waiters(self) -> Vec<W> {
        let joiners = self.joiners.into_iter().map(|(joiner, _)| joiner);
        self.leader.into_iter().chain(joiners).collect()
    }

    pub(super) fn id(&self) -> EntryId<'_> {
        EntryId {
            origin: self.origin,
            db: self.db,
            command: self.command,
            rest: &self.rest,
        }
    }

    pub(super) fn is(&self, id: &EntryId<'_>) -> bool {
        self.command == id.command && self.db == id.db && self.origin == id.origin && *self.rest == *id.rest
    }
}

/// The leader's right to store one reply. Taken by value wherever it ends, so it ends once; revoked by any kill of the
/// name, which the holder need not know.
///
/// Invariant: *a reply fetched under a revoked lease answers who began the fetch and nobody else, and is not stored; a
/// lookup after the revocation starts a new flight.*
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
    /// The incarnation it was given under.
    pub(super) stream: Arc<Stream>,
}

impl Lease {
    /// The key's name.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Canonical bytes of the arguments behind the key.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
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
