//! What the cache says it takes is what it takes, and it is little. A process of its own: nothing else grows meanwhile.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use nearhit::cache::eviction::EvictionKind;
use nearhit::cache::{Entry, EntryId, Shard, SlotState, Stamp};
use nearhit::resp::Shape;

/// A name's state as it is for a name that is cached and not being fetched: a pointer to nothing.
struct Nothing(#[expect(dead_code, reason = "it takes room, as in production")] Option<Box<u64>>);

impl SlotState for Nothing {
    fn create() -> Self {
        Self(None)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn owned(&self) -> usize {
        0
    }
}

const ENTRIES: u32 = 400_000;

fn resident() -> u64 {
    let status = support::read("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("VmRSS") * 1024
}

/// FNV-1a, then splitmix64's finalizer: as even as production's hash.
fn hash(name: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = name.iter().fold(start, step);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn store(shards: &mut [Shard<Nothing>], number: u32) -> u64 {
    let name = format!("user:{number:08}");
    let hash = hash(name.as_bytes());
    // 40 to 167 bytes, so that every remainder of a size class is there.
    let body = "x".repeat(40 + number as usize % 128);
    let reply = Bytes::from(format!("${}\r\n{body}\r\n", body.len()));
    let payload = (name.len() + reply.len()) as u64;
    let id = EntryId {
        origin: 0,
        db: 0,
        command: 0,
        rest: b"",
    };
    let shard = usize::try_from((hash >> 40) % shards.len() as u64).expect("fits");
    let shard = &mut shards[shard];
    let slot = shard.find_or_create(hash, name.as_bytes()).expect("a slot");
    let stamp = Stamp { epoch: 1, flush: 0 };
    let entry = Entry::new(name.as_bytes(), &id, reply, Shape::Same, stamp, u64::from(number));
    assert!(shard.insert(slot, entry.expect("a small stamp"), &id).is_none());
    payload
}

#[test]
fn an_entry_takes_little_beyond_key_and_reply_and_is_counted_exactly() {
    let mut shards: Vec<_> = (0..64)
        .map(|_| Shard::new(EvictionKind::Worth, Arc::new(hash)))
        .collect();
    let before = resident();
    let payload: u64 = (0..ENTRIES).map(|number| store(&mut shards, number)).sum();
    let grown = resident() - before;
    let counted: u64 = shards.iter().map(Shard::bytes).sum();
    let each = |bytes: u64| bytes as f64 / f64::from(ENTRIES);
    let (beyond, counted_beyond) = (each(grown - payload), each(counted - payload));
    println!("bytes an entry beyond key and reply: {beyond:.1} by VmRSS, {counted_beyond:.1} as counted");
    let ratio = counted as f64 / grown as f64;
    println!("counted {counted}, VmRSS grew by {grown}: {ratio:.3}");
    assert!(beyond <= 110.0, "{beyond:.1} bytes an entry");
    assert!((0.95..1.05).contains(&ratio), "{counted} bytes are counted of {grown}");
}
