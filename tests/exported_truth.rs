//! What an operator can see of how true the answers are, against a real server.

mod coherence_support;
mod support;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, MODES, Protocol, front_at, run};
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

const ALWAYS: [&str; 2] = ["--cache.admission", "always"];

fn bound(nearhit: &Nearhit) -> f64 {
    nearhit.metric("nearhit_staleness_bound_seconds", &["upstream=\"127.0.0.1:"])
}

fn fences(nearhit: &Nearhit, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    nearhit.metric("nearhit_tracking_fences_total", &[&label])
}

#[track_caller]
fn field(map: &Reply, name: &str) -> Reply {
    map.get(name).unwrap_or_else(|| panic!("no {name} in {map:?}"))
}

/// What PROXY INSPECT says of a key's only entry.
#[track_caller]
fn entry(client: &mut Resp, key: &str) -> Reply {
    let report = client.cmd(&["PROXY", "INSPECT", key]);
    let entries = field(&report, "entries").items();
    entries
        .first()
        .cloned()
        .unwrap_or_else(|| panic!("nothing is held: {report:?}"))
}

#[test]
fn the_bound_grows_while_the_server_is_silent_and_ends_with_the_hits() {
    let redis = RedisServer::start();
    let relay = Laggard::before(redis.addr(), "TRACKING");
    let mut args = ALWAYS.to_vec();
    args.extend(["--invalidation.max-staleness", "3s"]);
    let nearhit = front_at(&relay.url(), "tracking", &args);
    let mut client = nearhit.connect3();
    run(&mut client, "SET k v");
    // Entries live for a second until it is known that changes of rights are heard of.
    wait_for("an entry that lasts", SOON, || {
        run(&mut client, "GET k");
        let report = client.cmd(&["PROXY", "INSPECT", "k"]);
        let mut entries = field(&report, "entries").items().into_iter();
        entries.any(|entry| field(&entry, "ttl_ms").int() > 10_000)
    });
    assert_eq!(nearhit.metric("nearhit_staleness_limit_seconds", &[]), 3.0);
    wait_for("a proof", SOON, || (0.0..1.0).contains(&bound(&nearhit)));
    assert_eq!(nearhit.metric("nearhit_cache_unproved_total", &["lease"]), 0.0);

    relay.hold();
    // A PING goes out after a third of the bound: with answers it would never be that old.
    wait_for("a bound that grows", SOON, || bound(&nearhit) > 1.6);
    wait_for("a lapsed lease", SOON, || {
        client.send(&["GET", "k"]);
        nearhit.metric("nearhit_cache_unproved_total", &["lease"]) > 0.0
    });
    assert_eq!(bound(&nearhit), 0.0, "no answer is given from memory any more");
    wait_for("a fence", SOON, || fences(&nearhit, "silent") == 1.0);
    assert_eq!(nearhit.metric("nearhit_tracking_fences_total", &[]), 1.0);
}

#[test]
fn every_incarnation_of_the_stream_is_counted_and_dated() {
    for mode in MODES {
        let bench = Bench::new(RedisServer::start(), mode, &ALWAYS);
        let since = || bench.nearhit.metric("nearhit_tracking_since_timestamp_seconds", &[]);
        let incarnations = || bench.nearhit.metric("nearhit_tracking_incarnations_total", &[]);
        let (first, started) = (incarnations(), since());
        assert!((nearhit::time::unix_seconds() - started).abs() < 60.0, "{started}");
        bench.start_over();
        wait_for("another incarnation", SOON, || {
            incarnations() > first && since() > started
        });
        assert!(fences(&bench.nearhit, "connection") >= 1.0);
        let stats = bench.client(Protocol::Resp3).cmd(&["PROXY", "STATS"]);
        let reasons = field(&field(&stats, "tracking"), "fence_reasons");
        assert!(field(&reasons, "connection").int() >= 1, "{reasons:?}");
    }
}

#[test]
fn the_ages_of_hits_are_counted() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let mut client = bench.client(Protocol::Resp2);
    run(&mut client, "SET k v");
    bench.read_from_memory(&mut client, "GET k");
    let before = bench.hits();
    (0..10).for_each(|_| assert_eq!(run(&mut client, "GET k"), "v"));
    assert_eq!(bench.hits() - before, 10.0);
    assert_eq!(
        bench.nearhit.metric("nearhit_served_age_seconds_count", &[]),
        bench.hits()
    );
    let within_a_minute = bench
        .nearhit
        .metric("nearhit_served_age_seconds_bucket", &["le=\"60\""]);
    assert_eq!(within_a_minute, bench.hits());
}

#[test]
fn invalidations_and_flushes_are_counted_by_what_they_were() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k v");
    bench.read_from_memory(&mut client, "GET k");
    run(&mut direct, "SET k w");
    let invalidations = |kind: &str, effect: &str| {
        let labels = [format!("kind=\"{kind}\""), format!("effect=\"{effect}\"")];
        let labels = labels.each_ref().map(String::as_str);
        bench.nearhit.metric("nearhit_invalidations_total", &labels)
    };
    wait_for("an invalidation", SOON, || invalidations("key", "removed") == 1.0);
    let flushes = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        bench.nearhit.metric("nearhit_cache_flushes_total", &[&label])
    };
    run(&mut direct, "FLUSHALL");
    wait_for("a flush by the server", SOON, || flushes("null_push") >= 1.0);
    run(&mut client, "SWAPDB 0 1");
    assert_eq!((flushes("command"), flushes("admin")), (1.0, 0.0));
    run(&mut client, "PROXY FLUSH ALL");
    assert_eq!(flushes("admin"), 1.0);
    let before = flushes("rights");
    run(&mut direct, "ACL SETUSER default on");
    wait_for("a flush for rights", SOON, || flushes("rights") > before);
}

#[test]
fn inspect_tells_what_invalidated_a_key_last() {
    let bench = Bench::new(RedisServer::start(), "tracking", &ALWAYS);
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k v");
    bench.read_from_memory(&mut client, "GET k");
    let conditions = field(&entry(&mut client, "k"), "conditions");
    assert_eq!(field(&conditions, "epoch"), "yes");
    let mut last = || {
        let report = client.cmd(&["PROXY", "INSPECT", "k"]);
        match field(&report, "last_invalidation") {
            Reply::Null => None,
            last => Some(field(&last, "by").text()),
        }
    };
    assert_eq!(last(), None);
    run(&mut direct, "SET k w");
    wait_for("the invalidation", SOON, || last() == Some("push".to_owned()));
    let mut client = bench.client(Protocol::Resp3);
    bench.read_from_memory(&mut client, "GET k");
    run(&mut client, "SET k x");
    assert_eq!(last(), Some("own write".to_owned()));
}

#[test]
fn explain_says_that_the_session_has_seen_something_newer() {
    let redis = RedisServer::start();
    let relay = Laggard::before(redis.addr(), "TRACKING");
    let mut args = ALWAYS.to_vec();
    args.extend(["--invalidation.max-staleness", "10s"]);
    let nearhit = front_at(&relay.url(), "tracking", &args);
    let (mut client, mut other) = (nearhit.connect3(), nearhit.connect3());
    run(&mut client, "SET k v");
    wait_for("an entry", SOON, || {
        run(&mut client, "GET k");
        nearhit.metric("nearhit_cache_requests_total", &["hit\""]) > 0.0
    });
    relay.hold();
    // A script may have told the client anything.
    run(&mut client, "EVAL 'return 1' 0");
    let told = client.cmd(&["PROXY", "EXPLAIN", "GET", "k"]);
    let condition = field(&field(&told, "conditions"), "must_see").text();
    assert!(
        condition.starts_with("no: this session has seen something newer"),
        "{condition}"
    );
    assert_ne!(field(&told, "answered_by"), "memory");
    let told = other.cmd(&["PROXY", "EXPLAIN", "GET", "k"]);
    assert_eq!(field(&told, "answered_by"), "memory", "others may still be served");
}
