//! MGET of keys that several nodes of a cluster have: from memory if all of it is there, else from all of them.

use crate::cache::EntryId;
use crate::coherence::{Query, Sight};
use crate::command::{Command, Slot};
use crate::downstream::attribute::Source;
use crate::downstream::cached::{collect_all, query_get};
use crate::downstream::request::{Flow, Turn};
use crate::metrics::{Bypass, CacheResult, Outcome};
use crate::resp::{Request, encode};
use crate::topology::NodeId;

/// What one key's entry is looked up by.
struct Look<'q> {
    query: Query<'q>,
    slot: Slot,
    node: NodeId,
    /// Place among the sights.
    sight: usize,
    /// It is proved that the node still has the key.
    owned: bool,
}

/// What lookups start from, by the node that has the key.
type Sights = Vec<(NodeId, Sight)>;

impl Turn<'_> {
    /// A read of several keys: from memory only as a whole, and only if all values stood there together, as far as several
    /// nodes have a common time.
    pub(in crate::downstream) fn mget_over_nodes(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let (looks, sights) = match self.looks(request) {
            Ok(looks) => looks,
            Err(why) => return self.pass(why, command, request),
        };
        let (must_see, version, told) = (self.core.causality.must_see(), self.core.version, self.upstream_name());
        let attribute = self.core.attribute(Source::Hit(None), told).unwrap_or_default();
        let cache = &self.context.shared.cache;
        let mut copies = self.context.copies.borrow_mut();
        let look = |at: usize| {
            let look: &Look<'_> = looks.get(at)?;
            let reader = sights.get(look.sight)?.1.reader(must_see, version);
            Some((look.query, reader.of_slot(look.owned)))
        };
        let served = !self.context.shared.settings.shadow
            && self.core.pipeline.ready(self.muted, |out| {
                let start = out.len();
                out.extend_from_slice(&attribute);
                let served = collect_all(cache, &mut copies, &look, looks.len(), out).is_some();
                if !served {
                    out.truncate(start);
                }
                served
            });
        drop(copies);
        for look in &looks {
            self.count_key(&look.query, served);
        }
        if served {
            self.saw_in_memory();
            self.context.recorder.cache.inc(CacheResult::Hit);
            self.core.answer(command.id().number(), Outcome::Hit);
            return Flow::Next;
        }
        self.prefetch_over_nodes(&looks, &sights);
        self.pass(Bypass::MultiKeyMiss, command, request)
    }

    /// What the keys are looked up by; `Err`: why they are not.
    fn looks<'q>(&self, request: &'q Request<'_>) -> Result<(Vec<Look<'q>>, Sights), Bypass> {
        let shared = &self.context.shared;
        let slots = shared.cache.slots().filter(|_| shared.settings.caching);
        let slots = slots.ok_or(Bypass::Disabled)?;
        let causality = &self.core.causality;
        self.core.keys.iter().try_for_each(|&hash| causality.may_look(hash))?;
        let get = self.table.by_name("get").ok_or(Bypass::MultiKeyMiss)?.id().number();
        let mut sights = Sights::new();
        let mut looks = Vec::with_capacity(self.core.keys.len());
        for (at, &hash) in self.core.keys.iter().enumerate() {
            let key = request.arg(at + 1);
            let slot = Slot::of(key);
            let node = self.context.owner(Some(slot)).ok_or(Bypass::NotLive)?;
            let partition = self.core.account.partition(Some(node)).ok_or(Bypass::SessionState)?;
            let known = sights.iter().position(|(of, _)| *of == node);
            let sight = known.unwrap_or_else(|| {
                sights.push((node, shared.cache.sight(&partition.origin, self.now)));
                sights.len() - 1
            });
            let life = slots.life(slot);
            let id = EntryId {
                origin: partition.origin.number(),
                db: life,
                command: get,
                rest: b"",
            };
            looks.push(Look {
                query: query_get(key, hash, id),
                slot,
                node,
                sight,
                owned: slots.is_proved(slot, life, self.now),
            });
        }
        Ok((looks, sights))
    }

    /// Has those of the keys fetched that are worth it, for the next read of them.
    fn prefetch_over_nodes(&mut self, looks: &[Look<'_>], sights: &[(NodeId, Sight)]) {
        let must_see = self.core.causality.must_see();
        let before = (self.slot, self.node);
        for look in looks {
            let Some((_, sight)) = sights.get(look.sight) else {
                continue;
            };
            if let Some(lease) = self.context.shared.cache.prefetch(&look.query, sight, must_see) {
                let mut frame = Vec::new();
                encode::request(&mut frame, [b"GET".as_slice(), look.query.key]);
                (self.slot, self.node) = (Some(look.slot), Some(look.node));
                self.fetch(lease, &frame);
            }
        }
        (self.slot, self.node) = before;
    }
}
