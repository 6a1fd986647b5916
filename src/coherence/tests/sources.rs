//! Streams whose word does not go all the way: prefixes, notifications, nothing at all; and the canary.

use std::sync::atomic::Ordering;

use super::super::{Asked, Dialect, Reach, Stream, Subscriber};
use super::*;

/// A cache whose stream goes as far as `reach`, filled by a connection that registers nothing.
fn bench(reach: Reach) -> Bench {
    let mut bench = Bench::build(eager(), Policies::default(), false);
    let stream = bench.anew();
    stream.go_live_within(reach);
    bench.tracked = Tracked::filling_only(Arc::clone(&bench.cache), stream, 0);
    bench
}

impl Bench {
    /// A new incarnation that is not live yet.
    fn anew(&self) -> Arc<Stream> {
        self.cache.fence(&self.origin);
        self.origin.stream()
    }

    /// A whole fetch of `k` over a connection that registers nothing.
    fn fetch(&mut self, reply: &str, pttl: i64) {
        let seen = self.get("k");
        assert!(matches!(seen, Seen::Lead(_)), "not fetched but {seen:?}");
        self.server(format!("{reply}:{pttl}\r\n"));
    }

    fn subscriber(&self, dialect: Dialect) -> Subscriber<u32> {
        Subscriber::speaking(dialect, Arc::clone(&self.cache), self.origin.stream())
    }

    fn proves(&self, subscriber: &mut Subscriber<u32>, pong: &[u8]) {
        subscriber.ping(self.now, &mut Vec::new());
        subscriber.receive(pong).unwrap();
    }

    fn invalidated(&self) -> u64 {
        self.cache.tally().invalidated_keys.load(Ordering::Relaxed)
    }
}

fn full() -> Reach {
    Reach::full().clone()
}

fn by_age(ttl: Duration) -> Reach {
    Reach {
        longest: ttl,
        by_age: true,
        ..full()
    }
}

const V: &str = "$1\r\nv\r\n";
const W: &str = "$1\r\nw\r\n";
const PONG: &[u8] = b"+PONG\r\n";
const PONG2: &[u8] = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n";

/// What redis-server 7.0.15 publishes about `key` of database 3.
fn notification(key: &str, event: &str) -> Vec<u8> {
    let channel = format!("__keyspace@3__:{key}");
    format!(
        "*4\r\n$8\r\npmessage\r\n$16\r\n__keyspace@*__:*\r\n${}\r\n{channel}\r\n${}\r\n{event}\r\n",
        channel.len(),
        event.len()
    )
    .into_bytes()
}

#[test]
fn a_push_about_prefixes_kills_every_key_it_names() {
    let mut at = bench(full());
    let mut subscriber = at.subscriber(Dialect::Broadcast);
    at.fetch(V, -1);
    at.proves(&mut subscriber, PONG);
    assert_eq!(at.get("k"), hit(V));
    let push = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nj\r\n$1\r\nk\r\n";
    subscriber.receive(push).unwrap();
    at.fetch(W, -1);
    subscriber.receive(INVALIDATE_ALL).unwrap();
    at.proves(&mut subscriber, PONG);
    assert!(matches!(at.get("k"), Seen::Lead(_)));
}

#[test]
fn keys_without_a_prefix_are_passed_on() {
    let mut at = bench(Reach {
        prefixes: vec![b"a:".as_slice().into(), b"k".as_slice().into()],
        ..full()
    });
    assert!(matches!(at.get("k"), Seen::Lead(_)));
    for other in ["j", "a", "", "b:a:"] {
        assert_eq!(at.get(other), Seen::Bypass(Bypass::NotCovered), "{other:?}");
    }
}

#[test]
fn a_notification_kills_the_key_whatever_the_event() {
    for event in ["set", "del", "expired", "evicted", "rename_from", "no such event"] {
        let mut at = bench(full());
        let mut subscriber = at.subscriber(Dialect::Keyspace);
        at.fetch(V, -1);
        at.proves(&mut subscriber, PONG2);
        subscriber.receive(&notification("j", event)).unwrap();
        assert_eq!(at.get("k"), hit(V));
        subscriber.receive(&notification("k", event)).unwrap();
        assert!(matches!(at.get("k"), Seen::Lead(_)), "{event}");
    }
}

#[test]
fn a_key_may_look_like_a_channel() {
    let at = bench(full());
    let mut subscriber = at.subscriber(Dialect::Keyspace);
    for key in ["", "__:", "__keyspace@0__:k", "@1__:", "\u{0}"] {
        subscriber.receive(&notification(key, "set")).unwrap();
    }
    assert_eq!(at.invalidated(), 5);
}

#[test]
fn anything_else_fences() {
    let cases: [(Dialect, &[u8]); 8] = [
        (
            Dialect::Keyspace,
            b"*3\r\n$12\r\npunsubscribe\r\n$16\r\n__keyspace@*__:*\r\n:0\r\n",
        ),
        (
            Dialect::Keyspace,
            b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$5\r\nother\r\n$3\r\nset\r\n",
        ),
        (Dialect::Keyspace, b"*1\r\n$8\r\npmessage\r\n"),
        (Dialect::Keyspace, PONG),
        (Dialect::Keyspace, PONG2),
        (Dialect::Broadcast, PONG),
        (Dialect::Broadcast, b">1\r\n$21\r\ntracking-redir-broken\r\n"),
        (Dialect::Broadcast, b"-LOADING Redis is loading\r\n"),
    ];
    for (dialect, bytes) in cases {
        let outcome = bench(full()).subscriber(dialect).receive(bytes);
        assert!(outcome.is_err(), "{dialect:?} {}", text(bytes));
    }
}

#[test]
fn nothing_lives_longer_than_the_stream_says() {
    let mut at = bench(Reach {
        longest: millis(300),
        ..full()
    });
    let mut subscriber = at.subscriber(Dialect::Keyspace);
    at.fetch(V, 5000);
    at.pass(millis(299));
    at.proves(&mut subscriber, PONG2);
    assert_eq!(at.get("k"), hit(V));
    at.pass(millis(1));
    assert!(matches!(at.get("k"), Seen::Lead(_)));
}

#[test]
fn by_age_an_entry_is_served_until_it_is_too_old_though_nothing_is_proved() {
    let mut at = bench(by_age(millis(2500)));
    at.fetch(V, -1);
    at.pass(millis(2499));
    assert_eq!(at.get("k"), hit(V));
    at.pass(millis(1));
    assert!(matches!(at.get("k"), Seen::Lead(_)));
}

#[test]
fn by_age_nothing_fetched_before_what_was_seen_is_served() {
    let mut at = bench(by_age(millis(500)));
    at.fetch(V, -1);
    at.pass(millis(1));
    // The session saw the effects of a script.
    at.must_see = at.now;
    at.fetch(W, -1);
    assert_eq!(at.get("k"), hit(W));
    // Somebody was told of the key by the server itself.
    at.pass(millis(1));
    at.cache.saw(at.cache.hash(b"k"), at.now);
    assert!(matches!(at.get("k"), Seen::Lead(_)));
}

#[test]
fn by_age_a_fetch_older_than_the_ttl_is_not_joined() {
    let mut at = bench(by_age(millis(100)));
    assert!(matches!(at.get("k"), Seen::Lead(_)));
    at.pass(millis(100));
    assert!(matches!(at.get("k"), Seen::Wait(_)));
    at.pass(millis(1));
    assert_eq!(at.get("k"), Seen::Bypass(Bypass::FlightStale));
}

#[test]
fn by_age_several_keys_are_never_read_together() {
    let mut at = bench(by_age(millis(500)));
    at.fetch(V, -1);
    let (sight, query) = (at.sight(), at.query(&Read::of("k")));
    let found = at.cache.peek(
        &mut at.copies,
        &query,
        sight.reader(Instant::ZERO, Version::V3),
        &mut Vec::new(),
    );
    assert_eq!(found, None);
}

#[test]
fn by_age_nothing_is_served_while_rights_are_unknown() {
    let mut at = bench(by_age(millis(500)));
    at.fetch(V, -1);
    at.cache.prove_rights(at.now);
    assert_ne!(at.get("k"), hit(V));
}

#[test]
fn the_canary_is_counted_apart_and_its_name_is_true_all_the_same() {
    let mut at = Bench::new();
    let stream = at.origin.stream();
    stream.set_canary(b"k".as_slice().into());
    let canary = stream.canary().unwrap();
    at.fill(V, -1);
    at.tracked.ask_for_canary(at.now, &mut at.sent);
    assert!(text(&at.sent).ends_with("*2\r\n$6\r\nEXISTS\r\n$1\r\nk\r\n"));
    assert_eq!(canary.asked(), Asked::Unanswered);
    at.server("+OK\r\n:0\r\n");
    assert_eq!((canary.asked(), canary.heard()), (Asked::Granted, 0));
    assert_eq!(at.get("k"), hit(V));
    at.server(INVALIDATE_K);
    assert_eq!((canary.heard(), at.invalidated()), (1, 0));
    assert!(matches!(at.get("k"), Seen::Lead(_)));
}

#[test]
fn what_the_server_says_to_the_canary_is_told_apart() {
    for (replies, asked) in [
        ("+OK\r\n:0\r\n", Ok(Asked::Granted)),
        ("+OK\r\n-NOPERM no\r\n", Ok(Asked::Denied)),
        ("+OK\r\n-LOADING wait\r\n", Ok(Asked::Refused)),
        ("-ERR no\r\n", Err(Fence::CachingRefused)),
    ] {
        let mut at = Bench::new();
        let stream = at.origin.stream();
        stream.set_canary(b"c".as_slice().into());
        at.tracked.ask_for_canary(at.now, &mut at.sent);
        let outcome = at.receive(replies.as_bytes());
        assert_eq!(outcome.map(|()| stream.canary().unwrap().asked()), asked, "{replies}");
    }
}
