//! The three caches, each with the same keys and values in it, and one read of each: find the key, copy the value out.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nearhit::cache::{EntryId, Policies};
use nearhit::coherence::{Copies, Limits, Lookup, NearCache, Origin, Query, Sight};
use nearhit::resp::{Shape, Version};
use nearhit::time::Instant;

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of a value.
pub(crate) const VALUE: usize = 64;
/// Lookups for which a session reads the clock, and the proof of life, once: the requests of one read.
const BATCH: usize = 16;
/// Any time will do.
const NOW: u64 = 1_000_000_000_000;

pub(crate) type Key = [u8; KEY];

/// The key with this number.
pub(crate) fn key(number: u32) -> Key {
    let text = format!("user:profile:{number:019}");
    text.as_bytes().try_into().expect("32 bytes")
}

fn value(number: u32) -> String {
    format!("{number:0>VALUE$}")
}

/// What is measured.
pub(crate) trait Contender: Sync {
    /// What a thread needs of its own.
    type Local: Default;
    /// Its column.
    const NAME: &'static str;
    /// With `count` keys in it and room for as many again.
    fn filled(count: u32) -> Self;
    /// Reads the keys one after the other and copies their values out; panics when one is missing.
    fn read(&self, local: &mut Self::Local, keys: &[Key], out: &mut Vec<u8>);
    /// Stores a key that was not there.
    fn store(&self, key: &Key, value: &Bytes);
}

/// nearhit's own, by the very calls that a session makes for a GET.
pub(crate) struct Near {
    pub(crate) cache: NearCache<u32>,
    pub(crate) origin: Arc<Origin>,
}

impl Near {
    pub(crate) fn empty() -> Self {
        let limits = Limits {
            max_bytes: 1 << 30,
            max_staleness: Duration::from_secs(3600),
            admit_always: true,
            ..Limits::default()
        };
        let cache = NearCache::new(limits, Policies::default());
        let origin = cache.open().expect("the first origin");
        origin.stream().go_live();
        origin.stream().renew(Instant::from_nanos(NOW));
        Self { cache, origin }
    }

    pub(crate) fn query<'k>(&self, key: &'k [u8]) -> Query<'k> {
        Query {
            hash: self.cache.hash(key),
            key,
            id: EntryId {
                origin: self.origin.number(),
                db: 0,
                command: 1,
                rest: b"",
            },
            shape: Shape::Same,
            hash_fields: false,
        }
    }

    pub(crate) fn sight(&self) -> Sight {
        self.cache.sight(&self.origin, Instant::from_nanos(NOW))
    }
}

impl Contender for Near {
    type Local = Copies;
    const NAME: &'static str = "nearhit";

    fn filled(count: u32) -> Self {
        let near = Self::empty();
        for number in 0..count {
            let value = value(number);
            let reply = Bytes::from(format!("${}\r\n{value}\r\n", value.len()));
            near.store(&key(number), &reply);
        }
        near
    }

    fn read(&self, copies: &mut Copies, keys: &[Key], out: &mut Vec<u8>) {
        for batch in keys.chunks(BATCH) {
            let sight = self.sight();
            let reader = sight.reader(Instant::ZERO, Version::V3);
            out.clear();
            for key in batch {
                let (looked, _) = self.cache.lookup(copies, &self.query(key), reader, 0, out);
                assert!(matches!(looked, Lookup::Hit { .. }));
            }
            black_box(out.as_slice());
        }
    }

    fn store(&self, key: &Key, reply: &Bytes) {
        let lease = self.cache.prefetch(&self.query(key), &self.sight(), Instant::ZERO);
        let lease = lease.expect("a key that is not there");
        let settled = self.cache.settle(lease, reply.clone(), -1, Instant::from_nanos(NOW));
        settled.outcome.expect("room for it");
    }
}

/// Reads from a cache that gives shared values.
fn copy_out(keys: &[Key], out: &mut Vec<u8>, get: impl Fn(&Key) -> Option<Bytes>) {
    for batch in keys.chunks(BATCH) {
        out.clear();
        for key in batch {
            out.extend_from_slice(&get(key).expect("a hit"));
        }
        black_box(out.as_slice());
    }
}

pub(crate) struct Quick(quick_cache::sync::Cache<Key, Bytes, quick_cache::UnitWeighter, foldhash::fast::RandomState>);

impl Contender for Quick {
    type Local = ();
    const NAME: &'static str = "quick_cache";

    fn filled(count: u32) -> Self {
        let capacity = count as usize * 2;
        let cache = quick_cache::sync::Cache::with(
            capacity,
            capacity as u64,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        (0..count).for_each(|number| cache.insert(key(number), value(number).into()));
        Self(cache)
    }

    fn read(&self, (): &mut (), keys: &[Key], out: &mut Vec<u8>) {
        copy_out(keys, out, |key| self.0.get(key));
    }

    fn store(&self, key: &Key, value: &Bytes) {
        self.0.insert(*key, value.clone());
    }
}

pub(crate) struct Moka(moka::sync::Cache<Key, Bytes, foldhash::fast::RandomState>);

impl Contender for Moka {
    type Local = ();
    const NAME: &'static str = "moka";

    fn filled(count: u32) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(u64::from(count) * 2)
            .build_with_hasher(foldhash::fast::RandomState::default());
        (0..count).for_each(|number| cache.insert(key(number), value(number).into()));
        cache.run_pending_tasks();
        Self(cache)
    }

    fn read(&self, (): &mut (), keys: &[Key], out: &mut Vec<u8>) {
        copy_out(keys, out, |key| self.0.get(key));
    }

    fn store(&self, key: &Key, value: &Bytes) {
        self.0.insert(*key, value.clone());
    }
}
