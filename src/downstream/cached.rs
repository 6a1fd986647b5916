//! Cacheable reads: what the near-cache says, and what follows from it.

use super::context::Ticket;
use super::request::{Flow, Turn};
use super::session::Fetching;
use crate::cache::EntryId;
use crate::coherence::{Fill, Lookup, Query};
use crate::command::Command;
use crate::metrics::{Bypass, CacheResult, Outcome};
use crate::resp::{Request, Shape, Version, encode, to_resp2};

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
        let sight = self.sight();
        let ticket = Ticket {
            worker: self.context.worker,
            place: self.session.place,
            generation: self.session.generation,
            number: self.core.pipeline.next(),
        };
        let (must_see, version) = (self.core.causality.must_see(), self.core.version);
        let cache = &self.context.shared.cache;
        let (lookup, unproved) = self.core.pipeline.ready(self.muted, |out| {
            cache.lookup(&query, &sight, must_see, ticket, version, out)
        });
        if unproved && let Some(tracking) = &self.context.shared.tracking {
            tracking.kick();
        }
        let counters = &self.context.recorder.cache;
        match lookup {
            Lookup::Hit { negative, shared } => {
                if let Some(reply) = shared {
                    self.core
                        .pipeline
                        .ready(self.muted, |out| out.extend_from_slice(&reply));
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
                self.core.pipeline.ready(self.muted, |out| match version {
                    Version::V3 => out.extend_from_slice(&reply),
                    Version::V2 => write_resp2(query.shape, &reply, out),
                });
                self.core.answer(query.id.command, Outcome::Miss);
            }
            Lookup::Wait => {
                counters.inc(CacheResult::Coalesced);
                self.wait(&query, request);
            }
            Lookup::Lead(lease) => {
                counters.inc(CacheResult::Miss);
                self.wait(&query, request);
                if let Some(tracking) = &self.context.shared.tracking {
                    tracking.fill(Fill {
                        lease,
                        frame: request.frame().into(),
                    });
                }
            }
            Lookup::Bypass(why) => return self.pass(why, command, request),
        }
        Flow::Next
    }

    /// A read of several keys: from memory only as a whole, and only if all values stood there together.
    pub(super) fn mget(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if self.core.keys.is_empty() {
            return self.pass(Bypass::Disabled, command, request);
        }
        let refused = self
            .core
            .keys
            .iter()
            .find_map(|&hash| self.core.causality.may_look(hash).err());
        if let Some(why) = refused {
            return self.pass(why, command, request);
        }
        let Some(get) = self.table.by_name("get").map(|get| get.id().number()) else {
            return self.pass(Bypass::MultiKeyMiss, command, request);
        };
        let (sight, must_see, version) = (self.sight(), self.core.causality.must_see(), self.core.version);
        let (cache, db) = (&self.context.shared.cache, self.core.db);
        let keys = std::mem::take(&mut self.core.keys);
        let query = |at: usize, hash: u64| Query {
            hash,
            key: request.arg(at + 1),
            id: EntryId {
                origin: ORIGIN,
                db,
                command: get,
                rest: b"",
            },
            shape: Shape::Generic,
            hash_fields: false,
        };
        let served = self.core.pipeline.ready(self.muted, |out| {
            let start = out.len();
            encode::array_header(out, keys.len());
            let mut serials = Vec::with_capacity(keys.len());
            for (at, &hash) in keys.iter().enumerate() {
                match cache.peek(&query(at, hash), &sight, must_see, version, out) {
                    Some(serial) => serials.push(serial),
                    None => break,
                }
            }
            // The second look: the values were there together only if none of them changed since the first.
            let whole = serials.len() == keys.len()
                && keys
                    .iter()
                    .zip(&serials)
                    .enumerate()
                    .all(|(at, (&hash, &serial))| cache.is_unchanged(&query(at, hash), &sight, must_see, serial));
            if !whole {
                out.truncate(start);
            }
            whole
        });
        if served {
            self.context.recorder.cache.inc(CacheResult::Hit);
            self.core.answer(command.id().number(), Outcome::Hit);
        } else if let Some(tracking) = &self.context.shared.tracking {
            for (at, &hash) in keys.iter().enumerate() {
                if let Some(lease) = cache.prefetch(&query(at, hash), &sight, must_see) {
                    let mut frame = Vec::new();
                    encode::request(&mut frame, [b"GET".as_slice(), request.arg(at + 1)]);
                    tracking.fill(Fill {
                        lease,
                        frame: frame.into(),
                    });
                }
            }
        }
        self.core.keys = keys;
        if served {
            Flow::Next
        } else {
            self.pass(Bypass::MultiKeyMiss, command, request)
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

/// Appends a RESP3 reply as RESP2; what cannot be converted (it was scanned, so there is no such thing) is an error.
pub(super) fn write_resp2(shape: Shape, reply: &[u8], out: &mut Vec<u8>) {
    if let Err(error) = to_resp2(shape, reply, out) {
        encode::error(
            out,
            format!("ERR nearhit: the reply cannot be written in RESP2: {error}").as_bytes(),
        );
    }
}
