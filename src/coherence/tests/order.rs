//! Memory order, under loom: every order of events that the memory model allows, on the production types.
//!
//! `make loom` runs them. Each rule has its opposite beside it: the same steps in the wrong order, in which loom must
//! find the reader who is served something old. A test that cannot fail shows nothing.
//!
//! As long as entries are read and killed under the shard's lock, the order of the steps is what counts. Copies are read
//! without it: for them the proof must be stored with Release and loaded with Acquire, and so must the number of a name.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::*;
use crate::coherence::{Causality, Keys};
use crate::command::Effect;

const OLD: &[u8] = b"$3\r\nold\r\n";
const NEW: &[u8] = b"$3\r\nnew\r\n";
/// When the entry was fetched, when the server was asked for a newer proof, and when somebody reads.
const FETCHED: u64 = 1_000_000_000;
const ASKED: u64 = 5_000_000_000;
const READ: u64 = 5_500_000_000;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// One near-cache and one origin, shared by the threads of a model.
struct Ground {
    cache: Arc<NearCache<u32>>,
    origin: Arc<Origin>,
}

impl Ground {
    fn new() -> Arc<Self> {
        let limits = Limits {
            max_bytes: 1 << 14,
            ..eager()
        };
        let cache = Arc::new(NearCache::new(limits, Policies::default()));
        let origin = cache.open().unwrap();
        origin.stream().go_live();
        Arc::new(Self { cache, origin })
    }

    /// The old value is cached.
    fn with_entry() -> Arc<Self> {
        let ground = Self::new();
        ground.origin.stream().renew(at(FETCHED));
        let lease = ground.lead(at(FETCHED)).unwrap();
        ground
            .cache
            .settle(lease, Bytes::from_static(OLD), -1, at(FETCHED))
            .outcome
            .unwrap();
        ground
    }

    fn query(&self) -> Query<'static> {
        Query {
            hash: self.cache.hash(b"k"),
            key: b"k",
            id: EntryId {
                origin: self.origin.number(),
                db: 0,
                command: GET,
                rest: b"",
            },
            shape: Shape::Same,
            hash_fields: false,
        }
    }

    /// What a worker with these copies serves a session that has seen nothing.
    fn served_with(&self, copies: &mut Copies, sight: &Sight) -> Option<Vec<u8>> {
        let (mut out, query) = (Vec::new(), self.query());
        let entry = self
            .cache
            .copied(copies, &query, sight.reader(Instant::ZERO, Version::V3))?;
        assert!(entry.append(Version::V3, &mut out).is_none());
        Some(out)
    }

    /// A worker that has copied the entry.
    fn copies(&self) -> Copies {
        let (mut copies, sight) = (Copies::eager(), self.cache.sight(&self.origin, at(FETCHED)));
        let (query, mut out) = (self.query(), Vec::new());
        let look = self.cache.lookup(
            &mut copies,
            &query,
            sight.reader(Instant::ZERO, Version::V3),
            1,
            &mut out,
        );
        assert!(matches!(look.0, Lookup::Hit { .. }));
        assert!(self.served_with(&mut copies, &sight).is_some(), "not copied");
        copies
    }

    /// What a session that has seen nothing is served at `now`.
    fn served(&self, sight: &Sight) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let seen = self.cache.peek(
            &mut Copies::default(),
            &self.query(),
            sight.reader(Instant::ZERO, Version::V3),
            &mut out,
        );
        seen.map(|_| out)
    }

    fn read(&self, now: Instant) -> Option<Vec<u8>> {
        self.served(&self.cache.sight(&self.origin, now))
    }

    fn lead(&self, now: Instant) -> Option<Lease> {
        let sight = self.cache.sight(&self.origin, now);
        self.cache.prefetch(&self.query(), &sight, Instant::ZERO)
    }

    fn tracked(&self) -> Tracked<u32> {
        Tracked::new(Arc::clone(&self.cache), self.origin.stream(), 0, true)
    }

    fn kill(&self) {
        self.cache.kill(self.query().hash);
    }
}

/// Whether loom finds an order of events in which somebody is served something old.
fn fails(model: impl Fn() + Sync + Send + 'static) -> bool {
    let found = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    found.is_err_and(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.is_some_and(|text| text.contains(SERVED))
    })
}

/// What a model that found a reader of something old says.
const SERVED: &str = "was served something old";

#[test]
fn an_entry_whose_key_was_invalidated_before_the_proof_is_not_served_on_the_proof() {
    loom::model(|| {
        let ground = Ground::with_entry();
        let reader = Arc::clone(&ground);
        let reads = thread::spawn(move || reader.read(at(READ)));
        let mut tracked = ground.tracked();
        tracked.ping(at(ASKED), &mut Vec::new());
        let stream = [INVALIDATE_K, b"+PONG\r\n"].concat();
        tracked.receive(&stream, at(READ), &mut Given::default()).unwrap();
        assert_eq!(reads.join().unwrap(), None, "{SERVED}");
    });
}

#[test]
fn a_copy_of_an_entry_whose_key_was_invalidated_before_the_proof_is_not_served_on_the_proof() {
    loom::model(|| {
        let ground = Ground::with_entry();
        let (reader, mut copies) = (Arc::clone(&ground), ground.copies());
        let reads = thread::spawn(move || {
            let sight = reader.cache.sight(&reader.origin, at(READ));
            reader.served_with(&mut copies, &sight)
        });
        let mut tracked = ground.tracked();
        tracked.ping(at(ASKED), &mut Vec::new());
        let stream = [INVALIDATE_K, b"+PONG\r\n"].concat();
        tracked.receive(&stream, at(READ), &mut Given::default()).unwrap();
        assert_eq!(reads.join().unwrap(), None, "{SERVED}");
    });
}

#[test]
fn a_copy_served_without_asking_after_the_proof_would_be_found() {
    assert!(fails(|| {
        let ground = Ground::with_entry();
        let (reader, mut copies) = (Arc::clone(&ground), ground.copies());
        let reads = thread::spawn(move || {
            // The number of the name, as of some time ago.
            let lenient = reader.cache.sight(&reader.origin, at(FETCHED));
            let value = reader.served_with(&mut copies, &lenient);
            let fresh = reader.origin.stream().fresh();
            value.filter(|_| at(READ).since(fresh) <= reader.cache.limits().max_staleness)
        });
        ground.kill();
        ground.origin.stream().renew(at(ASKED));
        assert_eq!(reads.join().unwrap(), None, "{SERVED}");
    }));
}

#[test]
fn no_worker_serves_a_copy_after_a_write_was_acknowledged() {
    loom::model(|| {
        let ground = Ground::with_entry();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let reader = (Arc::clone(&ground), ground.copies(), Arc::clone(&acknowledged));
        let reads = thread::spawn(move || {
            let (ground, mut copies, acknowledged) = reader;
            let knows = acknowledged.load(Ordering::Acquire) == 1;
            let sight = ground.cache.sight(&ground.origin, at(FETCHED));
            let read = ground.served_with(&mut copies, &sight);
            assert!(!knows || read.is_none(), "{SERVED}");
        });
        write_as(Effect::Write, &ground, &|| {}, &|| {
            acknowledged.store(1, Ordering::Release)
        });
        reads.join().unwrap();
    });
}

#[test]
fn a_reader_who_published_the_proof_before_the_kill_would_be_found() {
    assert!(fails(|| {
        let ground = Ground::with_entry();
        let reader = Arc::clone(&ground);
        let reads = thread::spawn(move || reader.read(at(READ)));
        ground.origin.stream().renew(at(ASKED));
        ground.kill();
        assert_eq!(reads.join().unwrap(), None, "{SERVED}");
    }));
}

#[test]
fn a_lookup_that_read_the_proof_after_the_entry_would_be_found() {
    assert!(fails(|| {
        let ground = Ground::with_entry();
        let reader = Arc::clone(&ground);
        let reads = thread::spawn(move || {
            // The entry, as of some time ago.
            let lenient = reader.cache.sight(&reader.origin, at(FETCHED));
            let value = reader.served(&lenient);
            let fresh = reader.origin.stream().fresh();
            value.filter(|_| at(READ).since(fresh) <= reader.cache.limits().max_staleness)
        });
        ground.kill();
        ground.origin.stream().renew(at(ASKED));
        assert_eq!(reads.join().unwrap(), None, "{SERVED}");
    }));
}

/// One writes through nearhit, one fetches meanwhile, and once the write is acknowledged one reads. `write` is what the
/// writer does, given what changes the server's value.
fn nobody_reads_the_old_value_after(write: fn(&Ground, &dyn Fn(), &dyn Fn())) {
    let ground = Ground::new();
    ground.origin.stream().renew(at(FETCHED));
    let value = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let fetcher = (Arc::clone(&ground), Arc::clone(&value));
    let fetches = thread::spawn(move || {
        let (ground, value) = fetcher;
        let Some(lease) = ground.lead(at(FETCHED)) else { return };
        // The server executes one command at a time: this is a read-modify-write, so it sees the newest value.
        let reply = if value.fetch_add(0, Ordering::SeqCst) == 0 {
            OLD
        } else {
            NEW
        };
        // Whether it was stored is not the question.
        let _stored = ground.cache.settle(lease, Bytes::from_static(reply), -1, at(FETCHED));
    });
    let writer = (Arc::clone(&ground), value, Arc::clone(&acknowledged));
    let writes = thread::spawn(move || {
        let (ground, value, acknowledged) = writer;
        let execute = || {
            value.fetch_add(1, Ordering::SeqCst);
        };
        let acknowledge = || acknowledged.store(1, Ordering::Release);
        write(&ground, &execute, &acknowledge);
    });
    if acknowledged.load(Ordering::Acquire) == 1 {
        let read = ground.read(at(FETCHED));
        assert_ne!(read.as_deref(), Some(OLD), "{SERVED} after the acknowledgement");
    }
    fetches.join().unwrap();
    writes.join().unwrap();
    assert_ne!(ground.read(at(FETCHED)).as_deref(), Some(OLD), "{SERVED} for ever");
}

fn write_as(effect: Effect, ground: &Ground, execute: &dyn Fn(), acknowledge: &dyn Fn()) {
    let keys = match effect {
        Effect::Admin => Keys::None,
        _ => Keys::One(ground.query().hash),
    };
    let mut session = Causality::default();
    let flushing = ground.cache.leaves(effect, &keys);
    execute();
    ground.cache.returns(effect, &keys, flushing, &mut session, at(FETCHED));
    acknowledge();
}

#[test]
fn a_write_is_acknowledged_after_its_second_kill() {
    loom::model(|| {
        nobody_reads_the_old_value_after(|ground, execute, ack| write_as(Effect::Write, ground, execute, ack))
    });
}

#[test]
fn a_write_acknowledged_before_its_second_kill_would_be_found() {
    assert!(fails(|| {
        nobody_reads_the_old_value_after(|ground, execute, acknowledge| {
            ground.kill();
            execute();
            acknowledge();
            ground.kill();
        });
    }));
}

#[test]
fn a_write_without_a_second_kill_would_be_found() {
    assert!(fails(|| {
        nobody_reads_the_old_value_after(|ground, execute, acknowledge| {
            ground.kill();
            execute();
            acknowledge();
        });
    }));
}

#[test]
fn a_command_that_changes_everything_is_acknowledged_after_its_second_flush() {
    loom::model(|| {
        nobody_reads_the_old_value_after(|ground, execute, ack| write_as(Effect::Admin, ground, execute, ack))
    });
}

#[test]
fn nothing_is_served_over_a_connection_once_it_was_given_up() {
    loom::model(|| {
        let ground = Ground::with_entry();
        let given_up = Arc::new(AtomicU64::new(0));
        let reader = (Arc::clone(&ground), Arc::clone(&given_up));
        let reads = thread::spawn(move || {
            let (ground, given_up) = reader;
            let knows = given_up.load(Ordering::Acquire) == 1;
            let read = ground.read(at(FETCHED));
            assert!(!knows || read.is_none(), "{SERVED}");
        });
        ground.cache.fence(&ground.origin);
        given_up.store(1, Ordering::Release);
        reads.join().unwrap();
        assert_eq!(ground.read(at(FETCHED)), None);
    });
}
