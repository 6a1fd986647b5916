//! Cacheable reads: what the near-cache says, and what follows from it.

use super::attribute::{self, Source};
use super::context::Ticket;
use super::request::{Flow, Sighted, Turn};
use super::session::{Fetching, nanos};
use crate::cache::EntryId;
use crate::coherence::{Copies, Fill, Lease, Lookup, NearCache, Query, Reader, Sight};
use crate::command::Command;
use crate::metrics::{Bypass, CacheResult, Outcome};
use crate::mutants::{Mutant, mutated};
use crate::resp::{Request, Shape, encode};
use crate::time::Instant;

impl Turn<'_> {
    /// A read of one key.
    pub(super) fn cached(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let query = match self.query(command, request) {
            Ok(query) => query,
            Err(why) => return self.pass(why, command, request),
        };
        let ticket = self.ticket();
        let (must_see, version) = (self.core.causality.must_see(), self.core.version);
        self.renew_sight();
        let owned = self.owns(query.id.db);
        let Some(Sighted { sight, .. }) = &self.sight else {
            return self.pass(Bypass::SessionState, command, request);
        };
        let (shared, told) = (&self.context.shared, self.core.attributes.get());
        let reader = sight.reader(must_see, version).of_slot(owned);
        let (lookup, unproved) = self.core.pipeline.ready(self.muted, |out| {
            let start = out.len();
            let mut copies = self.context.copies.borrow_mut();
            let looked = shared.cache.lookup(&mut copies, &query, reader, ticket, out);
            drop(copies);
            if told {
                attribute::before_hit(out, start, &looked.0, sight, &shared.settings.upstream);
            }
            looked
        });
        self.count_key(&query, matches!(lookup, Lookup::Hit { .. }));
        if unproved && let Some(partition) = self.core.account.partition(self.node) {
            partition.tracking.kick();
        }
        match self.follow(lookup, &query, request) {
            Ok(()) => Flow::Next,
            Err(why) => self.pass(why, command, request),
        }
    }

    /// Counts a read by its key, if it is one of the sample.
    pub(super) fn count_key(&self, query: &Query<'_>, hit: bool) {
        let recorder = &self.context.recorder;
        if recorder.sampler.takes() {
            recorder.hot_keys.lock().record(query.hash, query.key, hit, self.now);
        }
    }

    /// What the near-cache is asked about a read of one key; `Err`: why it is not.
    pub(super) fn query<'q>(&self, command: &Command, request: &'q Request<'_>) -> Result<Query<'q>, Bypass> {
        let &hash = self.core.keys.first().ok_or(Bypass::Disabled)?;
        self.core.causality.may_look(hash)?;
        let origin = self.core.account.origin_number(self.node).ok_or(Bypass::SessionState)?;
        Ok(Query {
            hash,
            key: request.arg(1),
            id: EntryId {
                origin,
                db: self.db_of_entries(),
                command: command.id().number(),
                rest: request.tail(2),
            },
            shape: command.shape(request),
            hash_fields: command.hash_field_ttl_cap,
        })
    }

    /// Does what the near-cache said; `Err`: it will not answer.
    fn follow(&mut self, lookup: Lookup, query: &Query<'_>, request: &Request<'_>) -> Result<(), Bypass> {
        let counters = &self.context.recorder.cache;
        match lookup {
            Lookup::Hit {
                negative,
                shared,
                fetched_at,
                ..
            } => {
                if let Some(reply) = shared {
                    let muted = self.muted;
                    self.core.pipeline.ready(muted, |out| reply.append(out));
                }
                counters.inc(if negative {
                    CacheResult::NegativeHit
                } else {
                    CacheResult::Hit
                });
                self.saw_in_memory();
                let age = self.now.since(fetched_at);
                self.context.recorder.served_age.record(nanos(age));
                self.core.answer(query.id.command, Outcome::Hit);
            }
            Lookup::Wait => {
                counters.inc(CacheResult::Coalesced);
                self.wait(query, request, Source::Coalesced);
            }
            Lookup::Lead(lease) => {
                counters.inc(CacheResult::Miss);
                self.wait(query, request, Source::Fetch);
                self.fetch(lease, request.frame());
            }
            Lookup::Bypass(why) => return Err(why),
        }
        Ok(())
    }

    /// A read of several keys: from memory only as a whole, and only if all values stood there together.
    pub(super) fn mget(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let id = match self.query_all() {
            Ok(id) => id,
            Err(why) => return self.pass(why, command, request),
        };
        let keys = std::mem::take(&mut self.core.keys);
        let queries = |at: usize| query_get(request.arg(at + 1), keys.get(at).copied().unwrap_or_default(), id);
        let must_see = self.core.causality.must_see();
        let served = self.with_sight(|turn, sight| {
            let served = turn.serve_all(&queries, keys.len(), sight, must_see);
            if !served {
                turn.prefetch_all(&queries, keys.len(), sight, must_see);
            }
            served
        });
        for at in 0..keys.len() {
            self.count_key(&queries(at), served == Some(true));
        }
        self.core.keys = keys;
        if served != Some(true) {
            return self.pass(Bypass::MultiKeyMiss, command, request);
        }
        self.saw_in_memory();
        self.context.recorder.cache.inc(CacheResult::Hit);
        self.core.answer(command.id().number(), Outcome::Hit);
        Flow::Next
    }

    /// What tells the entries of GET apart, which answer a read of several keys; `Err`: why they are not asked for.
    pub(super) fn query_all(&self) -> Result<EntryId<'static>, Bypass> {
        if !self.context.shared.settings.caching {
            return Err(Bypass::Disabled);
        }
        let causality = &self.core.causality;
        self.core.keys.iter().try_for_each(|&hash| causality.may_look(hash))?;
        let get = self.table.by_name("get").ok_or(Bypass::MultiKeyMiss)?;
        let origin = self.core.account.origin_number(self.node).ok_or(Bypass::SessionState)?;
        Ok(EntryId {
            origin,
            db: self.db_of_entries(),
            command: get.id().number(),
            rest: b"",
        })
    }

    /// Answers with the entries of all queries, if all are there and none changed while they were looked at.
    fn serve_all<'q>(
        &mut self,
        query: &impl Fn(usize) -> Query<'q>,
        count: usize,
        sight: &Sight,
        must_see: Instant,
    ) -> bool {
        let (cache, version) = (&self.context.shared.cache, self.core.version);
        let mut copies = self.context.copies.borrow_mut();
        let reader = sight.reader(must_see, version).of_slot(self.owns(self.db_of_entries()));
        let attribute = self
            .core
            .attribute(Source::Hit(None), self.upstream_name())
            .unwrap_or_default();
        self.core.pipeline.ready(self.muted, |out| {
            let start = out.len();
            out.extend_from_slice(&attribute);
            let look = |at| Some((query(at), reader));
            let served = collect_all(cache, &mut copies, &look, count, out).is_some();
            if !served {
                out.truncate(start);
            }
            served
        })
    }

    /// Has those of the keys fetched that are worth it, for the next read of them.
    pub(super) fn prefetch_all<'q>(
        &self,
        query: &impl Fn(usize) -> Query<'q>,
        count: usize,
        sight: &Sight,
        must_see: Instant,
    ) {
        for query in (0..count).map(query) {
            if let Some(lease) = self.context.shared.cache.prefetch(&query, sight, must_see) {
                let mut frame = Vec::new();
                encode::request(&mut frame, [b"GET".as_slice(), query.key]);
                self.fetch(lease, &frame);
            }
        }
    }

    pub(super) fn fetch(&self, lease: Lease, frame: &[u8]) {
        if let Some(partition) = self.core.account.partition(self.node) {
            partition.tracking.fill(Fill {
                lease,
                frame: frame.into(),
            });
        }
    }

    /// The database that entries are told apart by; in a cluster, the life of the slot of the request in hand.
    pub(super) fn db_of_entries(&self) -> u32 {
        if let Some(slot) = self.slot
            && let Some(slots) = self.context.shared.cache.slots()
        {
            return slots.life(slot);
        }
        if mutated(Mutant::SelectLeaks) {
            return self.context.shared.settings.db;
        }
        self.core.db
    }

    /// Whether it is proved that the node still has the slot of the request in hand, if that has this life.
    pub(super) fn owns(&self, life: u32) -> bool {
        self.slot.is_none_or(|slot| {
            let slots = self.context.shared.cache.slots();
            slots.is_none_or(|slots| slots.is_proved(slot, life, self.now))
        })
    }

    fn wait(&mut self, query: &Query<'_>, request: &Request<'_>, source: Source) {
        let number = self.core.pipeline.pend(self.muted);
        self.core.causality.fetching(query.hash);
        let fetching = Fetching {
            key: query.hash,
            command: query.id.command,
            started: self.now,
            source,
            slot: self.slot,
            frame: request.frame().into(),
        };
        self.core.fetching.insert(number, fetching);
    }

    pub(super) fn pass(&mut self, why: Bypass, command: &Command, request: &Request<'_>) -> Flow {
        self.tell(why);
        let flow = self.forward_read(command, request);
        if flow == Flow::Next {
            self.context.recorder.cache.inc(CacheResult::Bypass);
            self.context.recorder.bypass.inc(why);
        }
        flow
    }
}

/// Appends the values of all queries as one array and gives the numbers of their entries, if all are there and none
/// changed while they were looked at.
pub(super) fn collect_all<'q>(
    cache: &NearCache<Ticket>,
    copies: &mut Copies,
    look: &impl Fn(usize) -> Option<(Query<'q>, Reader<'q>)>,
    count: usize,
    out: &mut Vec<u8>,
) -> Option<Vec<u64>> {
    let start = out.len();
    encode::array_header(out, count);
    let mut serials = Vec::with_capacity(count);
    serials.extend((0..count).map_while(|at| {
        let (query, reader) = look(at)?;
        cache.peek(copies, &query, reader, out)
    }));
    // The second look. What was there both times was there together in between.
    let unchanged = |(at, &serial): (usize, &u64)| {
        look(at).is_some_and(|(query, reader)| cache.is_unchanged(copies, &query, reader, serial))
    };
    if serials.len() == count && serials.iter().enumerate().all(unchanged) {
        return Some(serials);
    }
    out.truncate(start);
    None
}

pub(super) fn query_get<'q>(key: &'q [u8], hash: u64, id: EntryId<'q>) -> Query<'q> {
    Query {
        hash,
        key,
        id,
        shape: Shape::Generic,
        hash_fields: false,
    }
}
