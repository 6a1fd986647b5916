//! Attributes that tell where an answer came from, for clients that ask for them.

mod coherence_support;
mod support;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, Protocol, front_at, run};
use support::{RedisServer, Reply, Resp, SOON, wait_for};

const ALWAYS: [&str; 2] = ["--cache.admission", "always"];

/// A client that is told where its answers come from.
#[track_caller]
fn told(bench: &Bench) -> Resp {
    let mut client = bench.client(Protocol::Resp3);
    assert_eq!(run(&mut client, "PROXY ATTRIBUTES ON"), "OK");
    client
}

/// What stands in the attribute of a reply, and the reply.
#[track_caller]
fn parts(reply: Reply) -> (Reply, Reply) {
    let Reply::Attributed(pairs, reply) = reply else {
        panic!("no attribute: {reply:?}")
    };
    let [(name, about)] = <[_; 1]>::try_from(pairs).expect("one pair");
    assert_eq!(name, "nearhit");
    (about, *reply)
}

#[track_caller]
fn field(about: &Reply, name: &str) -> Reply {
    about.get(name).unwrap_or_else(|| panic!("no {name} in {about:?}"))
}

#[track_caller]
fn source(client: &mut Resp, read: &str) -> (String, Reply) {
    let (about, reply) = parts(client.cmd(&coherence_support::words(read)));
    (field(&about, "source").text(), reply)
}

#[test]
fn a_reply_tells_whether_it_was_fetched_or_stood_in_memory() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let mut client = told(&bench);
    assert_eq!(run(&mut client, "SET k v"), "OK");
    assert_eq!(source(&mut client, "GET k"), ("fetch".to_owned(), "v".into_bulk()));
    wait_for("a hit", SOON, || source(&mut client, "GET k").0 == "hit");
    let (about, reply) = parts(client.cmd(&["GET", "k"]));
    assert_eq!(reply, "v");
    assert!((0..60_000).contains(&field(&about, "age_ms").int()));
    assert_eq!(field(&about, "node"), bench.redis.addr().to_string());
    assert_eq!(field(&about, "why"), Reply::Null);
    wait_for("a hit of several keys", SOON, || {
        source(&mut client, "MGET k k").0 == "hit"
    });
}

#[test]
fn a_reply_that_was_not_cached_tells_why() {
    let bench = Bench::new(RedisServer::start(), "tracking", &[]);
    let mut client = told(&bench);
    let large = "x".repeat(2_000_000);
    run(&mut client, &format!("SET large {large}"));
    for (read, why) in [
        ("GET once", "cold"),
        ("MGET a b", "multi_key_miss"),
        ("GET large", "cold"),
    ] {
        let (about, reply) = parts(client.cmd(&coherence_support::words(read)));
        assert_eq!(field(&about, "source"), "upstream", "{read}");
        assert_eq!(field(&about, "why"), why, "{read}");
        assert!(read != "GET large" || reply.bytes().unwrap().len() == large.len());
    }
    // What is no cacheable read has none.
    assert!(matches!(client.cmd(&["SET", "k", "v"]), Reply::Status(_)));
    assert!(matches!(client.cmd(&["DBSIZE"]), Reply::Int(2)));
    let shadow = Bench::new(RedisServer::start(), "tracking", &["--cache.mode", "shadow"]);
    let (about, _) = parts(told(&shadow).cmd(&["GET", "k"]));
    assert_eq!(
        (field(&about, "source"), field(&about, "why")),
        ("upstream".into_bulk(), "shadow".into_bulk())
    );
}

#[test]
fn who_shares_a_fetch_is_told_so() {
    let redis = RedisServer::start();
    let relay = Laggard::before(redis.addr(), "TRACKING");
    let nearhit = front_at(&relay.url(), "tracking", &ALWAYS);
    let (mut first, mut second) = (nearhit.connect3(), nearhit.connect3());
    for client in [&mut first, &mut second] {
        run(client, "PROXY ATTRIBUTES ON");
    }
    relay.hold();
    first.send(&["GET", "k"]);
    wait_for("a fetch", SOON, || {
        nearhit.metric("nearhit_cache_requests_total", &["miss\""]) == 1.0
    });
    second.send(&["GET", "k"]);
    wait_for("a second reader", SOON, || {
        nearhit.metric("nearhit_cache_requests_total", &["coalesced"]) == 1.0
    });
    relay.release();
    let sources = [first, second].map(|mut client| field(&parts(client.reply()).0, "source").text());
    assert_eq!(sources, ["fetch", "coalesced"]);
}

#[test]
fn only_those_who_ask_in_resp3_get_attributes_and_only_until_they_say_otherwise() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let mut old = bench.client(Protocol::Resp2);
    let refused = old.cmd(&["PROXY", "ATTRIBUTES", "ON"]);
    assert_eq!(
        refused,
        Reply::Error("ERR attributes are part of RESP3: say HELLO 3 first".to_owned())
    );
    let plain = |client: &mut Resp| assert_eq!(client.cmd(&["GET", "k"]), Reply::Null);
    let mut other = bench.client(Protocol::Resp3);
    for end in ["PROXY ATTRIBUTES OFF", "RESET", "HELLO 2"] {
        let mut client = told(&bench);
        let (_, reply) = parts(client.cmd(&["GET", "k"]));
        assert_eq!(reply, Reply::Null);
        plain(&mut other);
        run(&mut client, end);
        client.hello3();
        plain(&mut client);
    }
}

#[test]
fn attributes_and_replies_keep_their_order_in_a_pipeline() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let mut client = told(&bench);
    for round in 0..100 {
        let value = format!("v{round}");
        let commands = [
            vec!["SET", "k", &value],
            vec!["GET", "k"],
            vec!["PING"],
            vec!["GET", "k"],
            vec!["GET", "other"],
        ];
        let replies = client.pipeline(&commands);
        assert_eq!((&replies[0], &replies[2]), (&"OK".into_status(), &"PONG".into_status()));
        for reply in [&replies[1], &replies[3]] {
            assert_eq!(parts(reply.clone()).1, value.as_str().into_bulk());
        }
        assert_eq!(parts(replies[4].clone()).1, Reply::Null);
    }
}

#[test]
fn a_library_that_knows_attributes_reads_the_reply_behind_them() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let url = format!("redis://{}/?protocol=resp3", bench.nearhit.addr());
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut ask = |line: &str| -> String {
        let words = coherence_support::words(line);
        let (name, args) = words.split_first().unwrap();
        redis::cmd(name).arg(args).query(&mut connection).unwrap()
    };
    assert_eq!(
        (ask("SET k v"), ask("PROXY ATTRIBUTES ON")),
        ("OK".to_owned(), "OK".to_owned())
    );
    (0..10).for_each(|_| assert_eq!(ask("GET k"), "v"));
}

/// Replies from text.
trait IntoReply {
    fn into_bulk(self) -> Reply;
    fn into_status(self) -> Reply;
}

impl IntoReply for &str {
    fn into_bulk(self) -> Reply {
        Reply::Bulk(self.as_bytes().to_vec())
    }

    fn into_status(self) -> Reply {
        Reply::Status(self.to_owned())
    }
}
