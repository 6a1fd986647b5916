//! The caches, each behind one closure: was this key there, and if not, it is now.

use bytes::Bytes;
use nearhit::cache::eviction::EvictionKind;
use nearhit::cache::{Entry, EntryId, Shard, SlotState, Stamp};
use nearhit::resp::Shape;

/// The columns: nearhit's policies by their names, then the libraries.
pub(crate) const NAMES: [&str; 7] = ["worth", "lru", "lfu", "fifo", "s3fifo", "quick_cache", "moka"];

/// Columns of nearhit.
pub(crate) const OWN: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Entries(usize),
    Bytes(u64),
}

/// How many of the requests were hits. `sizes` are the keys' own.
pub(crate) fn replay(name: &str, keys: &[u32], bound: Bound, sizes: Option<&[u32]>) -> u64 {
    match name {
        "quick_cache" => quick_cache(keys, bound, sizes),
        "moka" => moka(keys, bound, sizes),
        own => {
            let kind = own.parse().expect("a policy's name");
            nearhit(kind, keys, bound, sizes)
        }
    }
}

/// How many were there.
fn count(keys: &[u32], mut read: impl FnMut(u32) -> bool) -> u64 {
    keys.iter().filter(|&&key| read(key)).count() as u64
}

fn size_of(key: u32, sizes: Option<&[u32]>) -> u32 {
    sizes.map_or(1, |sizes| sizes[key as usize])
}

struct Idle;

impl SlotState for Idle {
    fn create() -> Self {
        Self
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn owned(&self) -> usize {
        0
    }
}

fn hash(name: &[u8]) -> u64 {
    let bytes = name.try_into().map(u32::from_le_bytes).expect("four bytes");
    crate::requests::mix(u64::from(bytes))
}

/// What replies are cut from.
static BYTES: [u8; 1 << 20] = [b'x'; 1 << 20];

fn nearhit(kind: EvictionKind, keys: &[u32], bound: Bound, sizes: Option<&[u32]>) -> u64 {
    const ID: EntryId<'_> = EntryId {
        origin: 0,
        db: 0,
        command: 0,
        rest: b"",
    };
    let stamp = Stamp { epoch: 1, flush: 0 };
    let mut shard = Shard::<Idle>::new(kind, std::sync::Arc::new(hash));
    let (mut hits, mut bytes) = (0, 0_u64);
    for &key in keys {
        let name = key.to_le_bytes();
        let hash = hash(&name);
        if let Some(slot) = shard.find(hash, &name) {
            shard.touch(slot);
            hits += 1;
            continue;
        }
        let size = size_of(key, sizes);
        let is_full = |shard: &Shard<Idle>, bytes: u64| match bound {
            Bound::Entries(most) => shard.entries() >= most,
            Bound::Bytes(most) => bytes + u64::from(size) > most,
        };
        while is_full(&shard, bytes) {
            let Some(evicted) = shard.evict() else { break };
            bytes -= evicted.iter().map(|entry| entry.reply_len() as u64).sum::<u64>();
        }
        if is_full(&shard, bytes) {
            continue;
        }
        let slot = shard.find_or_create(hash, &name).expect("a slot");
        let reply = Bytes::from_static(&BYTES[..size as usize]);
        let entry = Entry::new(&name, &ID, reply, Shape::Same, stamp, 1).expect("a small stamp");
        shard.insert(slot, entry, &ID);
        bytes += u64::from(size);
    }
    hits
}

#[derive(Clone)]
struct Weighter;

impl quick_cache::Weighter<u32, u32> for Weighter {
    fn weight(&self, _: &u32, size: &u32) -> u64 {
        u64::from(*size)
    }
}

fn quick_cache(keys: &[u32], bound: Bound, sizes: Option<&[u32]>) -> u64 {
    let (items, capacity) = match bound {
        Bound::Entries(most) => (most, most as u64),
        Bound::Bytes(most) => (usize::try_from(most / 500).expect("fits").max(20), most),
    };
    let mut cache = quick_cache::unsync::Cache::with_weighter(items, capacity, Weighter);
    count(keys, |key| {
        let there = cache.get(&key).is_some();
        if !there {
            cache.insert(key, size_of(key, sizes));
        }
        there
    })
}

fn moka(keys: &[u32], bound: Bound, sizes: Option<&[u32]>) -> u64 {
    let capacity = match bound {
        Bound::Entries(most) => most as u64,
        Bound::Bytes(most) => most,
    };
    let cache = moka::sync::Cache::builder()
        .max_capacity(capacity)
        .weigher(|_: &u32, size: &u32| *size)
        .build();
    count(keys, |key| {
        let there = cache.get(&key).is_some();
        if !there {
            cache.insert(key, size_of(key, sizes));
        }
        there
    })
}
