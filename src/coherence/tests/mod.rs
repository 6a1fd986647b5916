//! The rules of coherence as sentences. One bench: a near-cache, its tracked connection, a server made of bytes, and a
//! clock that stands still until a test moves it.

mod copies;
mod fields;
mod fills;
mod kills;
mod lease;
mod memory;
mod model;
#[cfg(feature = "loom")]
mod order;
mod partitions;
mod redirect;
mod session;
mod sources;
mod stored;
mod stream;
mod touch;
mod write_hot;

use std::sync::Arc;
use std::time::Duration;

use super::{Copies, Deliver, Delivery, Fence, Fill, Lease, Limits, Lookup, NearCache, Origin, Query, Sight, Tracked};
use crate::cache::eviction::EvictionKind;
use crate::cache::{EntryId, Policies};
use crate::metrics::Bypass;
use crate::resp::{Shape, Version};
use crate::time::Instant;

const GET: u16 = 1;
const STRLEN: u16 = 2;
const HGET: u16 = 3;

/// What an invalidation of `k` looks like on the tracked connection.
const INVALIDATE_K: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
/// The server forgot everything.
const INVALIDATE_ALL: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Hit(String),
    Wait(u32),
    Lead(u32),
    Bypass(Bypass),
}

fn hit(reply: &str) -> Seen {
    Seen::Hit(reply.into())
}

/// One cacheable read, as a session would ask it.
#[derive(Clone, Copy)]
struct Read {
    key: &'static str,
    db: u32,
    command: u16,
    rest: &'static str,
    shape: Shape,
    version: Version,
}

impl Read {
    fn of(key: &'static str) -> Self {
        Self {
            key,
            db: 0,
            command: GET,
            rest: "",
            shape: Shape::Same,
            version: Version::V3,
        }
    }

    fn db(self, db: u32) -> Self {
        Self { db, ..self }
    }

    fn command(self, command: u16, shape: Shape) -> Self {
        Self { command, shape, ..self }
    }

    fn resp2(self) -> Self {
        let version = Version::V2;
        Self { version, ..self }
    }
}

#[derive(Default)]
struct Given(Vec<(u32, Delivery)>);

impl Deliver<u32> for Given {
    fn deliver(&mut self, waiter: u32, delivery: Delivery) {
        self.0.push((waiter, delivery));
    }
}

struct Bench {
    cache: Arc<NearCache<u32>>,
    copies: Copies,
    origin: Arc<Origin>,
    tracked: Tracked<u32>,
    now: Instant,
    /// What the session that reads has seen.
    must_see: Instant,
    /// What was written to the tracked connection.
    sent: Vec<u8>,
    given: Given,
    /// Whether the last lookup said that a PING would help.
    ping_helps: bool,
    waiters: u32,
}

/// Limits that store from the first read on, and an eviction that need not be told of hits: each makes a copy.
fn eager() -> Limits {
    Limits {
        admit_always: true,
        eviction: EvictionKind::Fifo,
        ..Limits::default()
    }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Bench {
    fn new() -> Self {
        Self::with(eager(), Policies::default())
    }

    fn with(limits: Limits, policies: Policies) -> Self {
        Self::build(limits, policies, true)
    }

    /// `renews`: the invalidations come on this very connection.
    fn build(limits: Limits, policies: Policies, renews: bool) -> Self {
        Self::over(Arc::new(NearCache::new(limits, policies)), renews)
    }

    /// Another origin of the same near-cache.
    fn beside(&self) -> Self {
        let mut other = Self::over(Arc::clone(&self.cache), true);
        other.now = self.now;
        other
    }

    fn over(cache: Arc<NearCache<u32>>, renews: bool) -> Self {
        let origin = cache.open().unwrap();
        let stream = origin.stream();
        stream.go_live();
        Self {
            tracked: Tracked::new(Arc::clone(&cache), stream, 0, renews),
            cache,
            copies: Copies::eager(),
            origin,
            now: Instant::from_nanos(1_000_000_000_000),
            must_see: Instant::ZERO,
            sent: Vec::new(),
            given: Given::default(),
            ping_helps: false,
            waiters: 0,
        }
    }

    fn pass(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    fn sight(&self) -> Sight {
        self.cache.sight(&self.origin, self.now)
    }

    fn query(&self, read: &Read) -> Query<'static> {
        Query {
            hash: self.cache.hash(read.key.as_bytes()),
            key: read.key.as_bytes(),
            id: EntryId {
                origin: self.origin.number(),
                db: read.db,
                command: read.command,
                rest: read.rest.as_bytes(),
            },
            shape: read.shape,
            hash_fields: read.command == HGET,
        }
    }

    /// Looks `read` up; a fetch that it leads is sent at once.
    fn read(&mut self, read: Read) -> Seen {
        let sight = self.sight();
        match self.look(read, &sight) {
            (seen, None) => seen,
            (seen, Some(lease)) => {
                self.send(lease);
                seen
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Seen {
        self.read(Read::of(key))
    }

    /// Looks `read` up; a lease it gets is the caller's to send.
    fn look(&mut self, read: Read, sight: &Sight) -> (Seen, Option<Lease>) {
        self.waiters += 1;
        let (query, waiter, mut out) = (self.query(&read), self.waiters, Vec::new());
        let (found, ping_helps) = self.cache.lookup(
            &mut self.copies,
            &query,
            sight.reader(self.must_see, read.version),
            waiter,
            &mut out,
        );
        self.ping_helps = ping_helps;
        match found {
            Lookup::Hit { shared, .. } => (
                hit(&text(&shared.map_or(out, |shared| shared.into_bytes().to_vec()))),
                None,
            ),
            Lookup::Wait => (Seen::Wait(waiter), None),
            Lookup::Lead(lease) => (Seen::Lead(waiter), Some(lease)),
            Lookup::Bypass(why) => (Seen::Bypass(why), None),
        }
    }

    /// Takes the lead of a fetch of `read` without sending it.
    fn lead(&mut self, read: Read) -> Lease {
        let sight = self.sight();
        match self.look(read, &sight) {
            (Seen::Lead(_), Some(lease)) => lease,
            (seen, _) => panic!("not the leader but {seen:?}"),
        }
    }

    /// Hands a fetch to the tracked connection; when it refuses, whoever waits goes home.
    fn send(&mut self, lease: Lease) {
        let frame = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".as_slice().into();
        if let Err(fill) = self.tracked.fill(Fill { lease, frame }, self.now, &mut self.sent) {
            for waiter in self.cache.abandon(fill.lease) {
                self.given.deliver(waiter, Delivery::Home);
            }
        }
    }

    /// The server's bytes arrive on the tracked connection.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), Fence> {
        self.tracked.receive(bytes, self.now, &mut self.given)
    }

    fn server(&mut self, bytes: impl AsRef<[u8]>) {
        self.receive(bytes.as_ref()).unwrap();
    }

    /// A whole fetch of `k`, from the read to the PTTL behind the reply.
    fn fill(&mut self, reply: &str, pttl: i64) {
        self.fill_of(Read::of("k"), reply, pttl);
    }

    fn fill_of(&mut self, read: Read, reply: &str, pttl: i64) {
        let seen = self.read(read);
        assert!(matches!(seen, Seen::Lead(_)), "not fetched but {seen:?}");
        self.server(format!("+OK\r\n{reply}:{pttl}\r\n"));
    }

    fn ping(&mut self) {
        self.tracked.ping(self.now, &mut self.sent);
    }

    /// What waiters got since the last call: their replies, or "home".
    fn answers(&mut self) -> Vec<(u32, String)> {
        let given = std::mem::take(&mut self.given.0);
        let answer = |(waiter, delivery)| match delivery {
            Delivery::Reply(reply, _) => (waiter, text(&reply)),
            Delivery::Home => (waiter, "home".into()),
        };
        given.into_iter().map(answer).collect()
    }

    /// Gives the tracked connection up and opens the next one.
    fn reconnect(&mut self) {
        let stream = self.origin.fence();
        let next = Tracked::new(Arc::clone(&self.cache), Arc::clone(&stream), 0, true);
        std::mem::replace(&mut self.tracked, next).abandon(&mut self.given);
        stream.go_live();
    }

    fn entries(&self) -> usize {
        self.cache.totals().entries
    }

    fn flights(&self, key: &str) -> usize {
        self.cache
            .report(key.as_bytes(), self.now)
            .map_or(0, |report| report.flights)
    }

    /// Every shard keeps its invariants, and the total is the sum of the shards.
    fn validate(&self) {
        validate(&self.cache);
    }
}

fn validate<W>(cache: &NearCache<W>) {
    let mut bytes = 0;
    for index in 0..cache.shard_count() {
        let shard = cache.lock_at(index);
        shard.validate();
        bytes += shard.bytes();
    }
    assert_eq!(bytes, cache.totals().bytes);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pseudo-random sequence that is the same for the same seed on every machine (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}
