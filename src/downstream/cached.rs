//! Cacheable reads: what the near-cache says, and what follows from it.

use super::context::Ticket;
use super::request::{Flow, Turn};
use super::session::{Core, Fetching};
use crate::cache::EntryId;
use crate::coherence::{Fill, Lease, Lookup, Query, Sight};
use crate::command::Command;
use crate::metrics::{Bypass, CacheResult, Outcome};
use crate::resp::{Request, Shape, Version, encode, to_resp2};
use crate::time::Instant;

/// The node of all entries: there is one so far.
const ORIGIN: u16 = 0;

impl Turn<'_> {
    /// A read of one key.
    pub(super) fn cached(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let Some(&hash) = self.core.keys.first() else {
            return self.pass(Bypass::Disabled, command, request);
        };
        if let Err(why) = self.core.causality.may_look(hash) {
            return self.pass(why, command, request);
        }
        let query = Query {
            hash,
            key: request.arg(1),
            id: EntryId {
                origin: ORIGIN,
                db: self.core.db,
                command: command.id().number(),
                rest: request.tail(2),
            },
            shape: command.shape(request),
            hash_fields: command.hash_field_ttl_cap,
        };
        let ticket = self.ticket();
        let (must_see, version) = (self.core.causality.must_see(), self.core.version);
        let (lookup, unproved) = self.with_sight(|turn, sight| {
            let cache = &turn.context.shared.cache;
            turn.core.pipeline.ready(turn.muted, |out| {
                cache.lookup(&query, sight, must_see, ticket, version, out)
            })
        });
        if unproved && let Some(tracking) = &self.context.shared.tracking {
            tracking.kick();
        }
        match self.follow(lookup, &query, request) {
            Ok(()) => Flow::Next,
            Err(why) => self.pass(why, command, request),
        }
    }

    /// Does what the near-cache said; `Err`: it will not answer.
    fn follow(&mut self, lookup: Lookup, query: &Query<'_>, request: &Request<'_>) -> Result<(), Bypass> {
        let counters = &self.context.recorder.cache;
        match lookup {
            Lookup::Hit { negative, shared } => {
                if let Some(reply) = shared {
                    let muted = self.muted;
                    self.core.pipeline.ready(muted, |out| out.extend_from_slice(&reply));
                }
                counters.inc(if negative {
                    CacheResult::NegativeHit
                } else {
                    CacheResult::Hit
                });
                self.core.answer(query.id.command, Outcome::Hit);
            }
            Lookup::Value(reply) => {
                counters.inc(CacheResult::Coalesced);
                let version = self.core.version;
                self.core.pipeline.ready(self.muted, |out| match version {
                    Version::V3 => out.extend_from_slice(&reply),
                    Version::V2 => write_resp2(query.shape, &reply, out),
                });
                self.core.answer(query.id.command, Outcome::Miss);
            }
            Lookup::Wait => {
                counters.inc(CacheResult::Coalesced);
                self.wait(query, request);
            }
            Lookup::Lead(lease) => {
                counters.inc(CacheResult::Miss);
                self.wait(query, request);
                self.fetch(lease, request.frame());
            }
            Lookup::Bypass(why) => return Err(why),
        }
        Ok(())
    }

    /// A read of several keys: from memory only as a whole, and only if all values stood there together.
    pub(super) fn mget(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !self.context.shared.settings.caching {
            return self.pass(Bypass::Disabled, command, request);
        }
        let may_look = |core: &Core| core.keys.iter().try_for_each(|&hash| core.causality.may_look(hash));
        if let Err(why) = may_look(self.core) {
            return self.pass(why, command, request);
        }
        let Some(get) = self.table.by_name("get") else {
            return self.pass(Bypass::MultiKeyMiss, command, request);
        };
        let (keys, id) = (std::mem::take(&mut self.core.keys), self.get_id(get));
        let queries = |at: usize| query_get(request.arg(at + 1), keys.get(at).copied().unwrap_or_default(), id);
        let must_see = self.core.causality.must_see();
        let served = self.with_sight(|turn, sight| {
            let served = turn.serve_all(&queries, keys.len(), sight, must_see);
            if !served {
                turn.prefetch_all(&queries, keys.len(), sight, must_see);
            }
            served
        });
        self.core.keys = keys;
        if !served {
            return self.pass(Bypass::MultiKeyMiss, command, request);
        }
        self.context.recorder.cache.inc(CacheResult::Hit);
        self.core.answer(command.id().number(), Outcome::Hit);
        Flow::Next
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
        self.core.pipeline.ready(self.muted, |out| {
            let start = out.len();
            encode::array_header(out, count);
            let mut serials = Vec::with_capacity(count);
            serials.extend((0..count).map_while(|at| cache.peek(&query(at), sight, must_see, version, out)));
            // The second look. What was there both times was there together in between.
            let unchanged = |(at, &serial): (usize, &u64)| cache.is_unchanged(&query(at), sight, must_see, serial);
            let whole = serials.len() == count && serials.iter().enumerate().all(unchanged);
            if !whole {
                out.truncate(start);
            }
            whole
        })
    }

    /// Has those of the keys fetched that are worth it, for the next read of them.
    fn prefetch_all<'q>(&self, query: &impl Fn(usize) -> Query<'q>, count: usize, sight: &Sight, must_see: Instant) {
        for query in (0..count).map(query) {
            if let Some(lease) = self.context.shared.cache.prefetch(&query, sight, must_see) {
                let mut frame = Vec::new();
                encode::request(&mut frame, [b"GET".as_slice(), query.key]);
                self.fetch(lease, &frame);
            }
        }
    }

    fn fetch(&self, lease: Lease, frame: &[u8]) {
        if let Some(tracking) = &self.context.shared.tracking {
            tracking.fill(Fill {
                lease,
                frame: frame.into(),
            });
        }
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            worker: self.context.worker,
            place: self.session.place,
            generation: self.session.generation,
            number: self.core.pipeline.next(),
        }
    }

    /// What tells the entries of GET apart from others of the same key.
    fn get_id(&self, get: &Command) -> EntryId<'static> {
        EntryId {
            origin: ORIGIN,
            db: self.core.db,
            command: get.id().number(),
            rest: b"",
        }
    }

    fn wait(&mut self, query: &Query<'_>, request: &Request<'_>) {
        let number = self.core.pipeline.pend(self.muted);
        self.core.causality.fetching(query.hash);
        let fetching = Fetching {
            key: query.hash,
            command: query.id.command,
            started: self.now,
            frame: request.frame().into(),
        };
        self.core.fetching.insert(number, fetching);
    }

    fn pass(&mut self, why: Bypass, command: &Command, request: &Request<'_>) -> Flow {
        self.context.recorder.cache.inc(CacheResult::Bypass);
        self.context.recorder.bypass.inc(why);
        self.forward_read(command, request)
    }
}

fn query_get<'q>(key: &'q [u8], hash: u64, id: EntryId<'q>) -> Query<'q> {
    Query {
        hash,
        key,
        id,
        shape: Shape::Generic,
        hash_fields: false,
    }
}

/// Appends a RESP3 reply as RESP2; what cannot be converted (it was scanned, so there is no such thing) is an error.
pub(super) fn write_resp2(shape: Shape, reply: &[u8], out: &mut Vec<u8>) {
    if let Err(error) = to_resp2(shape, reply, out) {
        encode::error(
            out,
            format!("ERR nearhit: the reply cannot be written in RESP2: {error}").as_bytes(),
        );
    }
}
