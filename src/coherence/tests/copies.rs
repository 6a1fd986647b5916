//! A worker's copies: served like their entries, without a lock, and never longer.

use super::*;
use crate::coherence::Dropped;

const VALUE: &str = "$1\r\nv\r\n";

impl Bench {
    /// What the worker's own copy says to a read, if there is one that may be served.
    fn copied(&mut self, read: Read) -> Option<String> {
        let (query, sight) = (self.query(&read), self.sight());
        let found = self
            .cache
            .copied(&mut self.copies, &query, sight.reader(self.must_see, read.version));
        found.map(|entry| {
            let mut reply = Vec::new();
            assert!(entry.append(read.version, &mut reply).is_none());
            text(&reply)
        })
    }

    fn copied_k(&mut self) -> Option<String> {
        self.copied(Read::of("k"))
    }
}

/// `k` is cached, and so hot that its hit made a copy.
fn copied() -> Bench {
    let mut bench = Bench::new();
    bench.fill(VALUE, -1);
    assert_eq!(bench.copied_k(), None, "nobody was answered from memory");
    assert_eq!(bench.get("k"), hit(VALUE));
    assert_eq!(bench.copied_k().as_deref(), Some(VALUE));
    bench
}

#[test]
fn whatever_takes_an_entry_away_takes_its_copy_away() {
    type Deed = fn(&mut Bench);
    let deeds: [(&str, Deed); 10] = [
        ("an invalidation", |bench| bench.server(INVALIDATE_K)),
        ("an invalidation of everything", |bench| bench.server(INVALIDATE_ALL)),
        ("a write of this process", |bench| {
            bench.cache.kill(bench.cache.hash(b"k"))
        }),
        ("a command that changes everything", |bench| {
            bench.cache.flush_by_command()
        }),
        ("the loss of the connection", Bench::reconnect),
        ("an operator", |bench| {
            bench.cache.flush_key(b"k");
        }),
        ("a pattern", |bench| {
            bench.cache.drop_matching(Dropped::Admin, |name| name == b"k");
        }),
        ("its time", |bench| bench.now = bench.now.after(Duration::from_secs(61))),
        ("eviction", |bench| {
            while bench.cache.lock(bench.cache.hash(b"k")).evict().is_some() {}
        }),
        ("silence of the server", |bench| {
            bench.now = bench.now.after(millis(1001))
        }),
    ];
    for (what, deed) in deeds {
        let mut bench = copied();
        deed(&mut bench);
        assert_eq!(bench.copied_k(), None, "{what}");
    }
}

#[test]
fn a_copy_is_not_served_before_what_its_session_or_its_key_has_seen() {
    let mut bench = copied();
    bench.now = bench.now.after(millis(10));
    bench.must_see = bench.now;
    assert_eq!(bench.copied_k(), None, "the session has seen something newer");
    bench.must_see = Instant::ZERO;
    assert_eq!(bench.copied_k().as_deref(), Some(VALUE));
    bench.cache.saw(bench.cache.hash(b"k"), bench.now);
    assert_eq!(bench.copied_k(), None, "of the key something newer was seen");
}

#[test]
fn a_reply_that_takes_the_place_of_another_takes_the_place_of_its_copy() {
    let mut bench = copied();
    let newer = "$1\r\nw\r\n";
    // A proof older than what the session has seen: the entry stays where it is, and the read is fetched again.
    bench.now = bench.now.after(millis(10));
    bench.must_see = bench.now;
    bench.fill(newer, -1);
    bench.must_see = Instant::ZERO;
    assert_eq!(bench.copied_k(), None);
    assert_eq!(bench.get("k"), hit(newer));
    assert_eq!(bench.copied_k().as_deref(), Some(newer));
}

#[test]
fn of_several_reads_of_one_key_the_last_has_a_copy() {
    let mut bench = copied();
    let length = Read::of("k").command(STRLEN, Shape::Same);
    bench.fill_of(length, ":1\r\n", -1);
    assert_eq!(bench.read(length), hit(":1\r\n"));
    assert_eq!(bench.copied(length).as_deref(), Some(":1\r\n"));
    assert_eq!(bench.copied_k(), None);
    bench.get("k");
    assert_eq!(bench.copied_k().as_deref(), Some(VALUE));
    assert_eq!(bench.copied(length), None);
    assert_eq!(bench.copied(Read::of("k").db(1)), None);
}

#[test]
fn a_hit_that_eviction_must_know_of_is_no_hit_on_a_copy() {
    let limits = Limits {
        eviction: EvictionKind::Worth,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill(VALUE, -1);
    let mut hits = 0;
    while bench.copied_k().is_none() {
        bench.get("k");
        hits += 1;
        assert!(hits < 100, "never copied");
    }
    assert!(hits > 10, "copied after {hits} hits: eviction thinks it cold");
    // Time passes with what is stored in the shard.
    let (mark, mut key) = (bench.cache.mark(bench.cache.hash(b"k")), 0);
    while bench.cache.mark(bench.cache.hash(b"k")) == mark {
        key += 1;
        let name: &'static str = format!("other:{key}").leak();
        bench.fill_of(Read::of(name), VALUE, -1);
    }
    assert_eq!(bench.copied_k(), None);
    bench.get("k");
    assert_eq!(
        bench.copied_k(),
        None,
        "that hit was the one that eviction had to know of"
    );
    bench.get("k");
    assert_eq!(bench.copied_k().as_deref(), Some(VALUE));
}

#[test]
fn large_replies_are_not_copied() {
    let mut bench = Bench::new();
    let large = format!("$2000\r\n{}\r\n", "x".repeat(2000));
    bench.fill(&large, -1);
    assert_eq!(bench.get("k"), hit(&large));
    assert_eq!(bench.copied_k(), None);
}

/// Reads `other` keys evenly, each three times over, and says how often `k` was served from its copy in between.
fn read_among(bench: &mut Bench, others: u32) -> usize {
    let mut kept = 0;
    for round in 0..3 {
        for key in 0..others {
            let name: &'static str = format!("other:{key}").leak();
            if round == 0 {
                bench.fill_of(Read::of(name), VALUE, -1);
            }
            bench.get(name);
            kept += usize::from(bench.copied_k().is_some());
            bench.get("k");
        }
    }
    kept
}

#[test]
fn a_key_that_is_hot_keeps_its_copy_among_many_that_are_not() {
    // Two in a row that want its place, without a read of it in between, are the only way to lose it.
    assert!(read_among(&mut copied(), 3000) > 8900);
}

#[test]
fn a_key_is_copied_when_it_wants_that_twice_in_a_row() {
    let mut bench = Bench::new();
    bench.copies = Copies::default();
    bench.fill(VALUE, -1);
    bench.get("k");
    assert_eq!(bench.copied_k(), None);
    bench.get("k");
    assert_eq!(bench.copied_k().as_deref(), Some(VALUE));
    assert!(read_among(&mut bench, 3000) > 8900);
    // Those that were read evenly are as good as never copied.
    let names = (0..3000).map(|key| -> &'static str { format!("other:{key}").leak() });
    let copies = names.filter(|name| bench.copied(Read::of(name)).is_some()).count();
    assert!(copies < 300, "{copies} copies");
}
