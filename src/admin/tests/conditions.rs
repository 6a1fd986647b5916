//! Whether and why an entry may be served: each condition by its name, and what is remembered of a key.

use super::*;
use crate::coherence::{Dropped, Keys};
use crate::command::Effect;

/// A way to break a condition.
type Break = fn(&mut Bench);

/// How the conditions of the cached key `k` are told, by name.
fn told(bench: &Bench, ask: &str) -> Vec<(String, String)> {
    let reply = bench.ask(ask);
    let conditions = match reply.get(b"entries") {
        Some(entries) => entries.as_values().unwrap()[0].get(b"conditions").cloned(),
        None => reply.get(b"conditions").cloned(),
    };
    let Some(Value::Map(pairs)) = conditions else {
        panic!("no conditions in {reply:?}")
    };
    pairs.iter().map(|(name, how)| (text(name), text(how))).collect()
}

fn broken(bench: &Bench, ask: &str) -> Vec<String> {
    let told = told(bench, ask).into_iter();
    told.filter(|(_, how)| how.starts_with("no: "))
        .map(|(name, _)| name)
        .collect()
}

fn hash(bench: &Bench) -> u64 {
    bench.shared.cache.hash(b"k")
}

#[test]
fn every_condition_that_does_not_hold_is_named() {
    let cases: [(&[&str], Break); 6] = [
        (&[], |_| {}),
        (&["live", "epoch", "lease"], |bench| {
            bench.shared.cache.fence(&bench.origin())
        }),
        (&["flush"], |bench| bench.shared.cache.flush_by_command()),
        (&["rights"], |bench| bench.shared.cache.prove_rights(Instant::ZERO)),
        (&["seen_at"], |bench| {
            _ = bench.shared.cache.saw(hash(bench), time::now())
        }),
        (&["must_see"], |bench| bench.causality.saw(time::now())),
    ];
    for (names, break_it) in cases {
        let mut bench = Bench::new();
        bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
        break_it(&mut bench);
        assert_eq!(broken(&bench, "PROXY INSPECT k"), names);
        assert_eq!(broken(&bench, "PROXY EXPLAIN GET k"), names);
        let by_memory = bench.field("PROXY EXPLAIN GET k", "answered_by") == "memory";
        assert_eq!(by_memory, names.is_empty(), "{names:?}");
        let reason = bench.field("PROXY EXPLAIN GET k", "reason");
        assert!(
            by_memory || reason.starts_with("cached, but ") || reason.contains("not connected"),
            "{reason}"
        );
    }
}

#[test]
fn time_that_is_over_is_named() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", 1);
    let over = time::now().after(Duration::from_millis(2));
    while time::now() < over {}
    assert_eq!(broken(&bench, "PROXY EXPLAIN GET k"), ["deadline"]);
    let mut bench = Bench::bounded(Duration::from_nanos(1), |_| {});
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    assert_eq!(broken(&bench, "PROXY EXPLAIN GET k"), ["lease"]);
}

#[test]
fn the_lease_is_told_with_its_age_and_its_bound() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    let told = told(&bench, "PROXY EXPLAIN GET k");
    let (_, lease) = told.iter().find(|(name, _)| name == "lease").unwrap();
    assert!(
        lease.starts_with("yes: the newest proof is ") && lease.ends_with(", and may be 3600000 ms old"),
        "{lease}"
    );
}

#[test]
fn what_the_session_has_on_its_way_stands_before_the_entry() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.causality.forwarded(&Keys::One(hash(&bench)), Effect::Write);
    assert_eq!(bench.field("PROXY EXPLAIN GET k", "bypass"), "pipelined");
    bench.causality.forwarded(&Keys::None, Effect::Unknown);
    assert_eq!(bench.field("PROXY EXPLAIN GET k", "bypass"), "unknown_effects");
}

#[test]
fn an_entry_says_where_and_whose_it_is() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    let report = bench.ask("PROXY INSPECT k");
    let entry = &report.get(b"entries").unwrap().as_values().unwrap()[0];
    let field = |name: &str| text(entry.get(name.as_bytes()).unwrap());
    assert_eq!(
        (field("node").as_str(), field("users").as_str()),
        ("10.0.0.1:6379", "default")
    );
    let fetched: f64 = field("fetched_at").parse().unwrap();
    assert!((time::unix_seconds() - fetched).abs() < 60.0, "{fetched}");
}

#[test]
fn the_last_invalidation_of_a_key_is_remembered_with_its_cause() {
    let by: [(&str, Break); 4] = [
        ("application", |bench| {
            _ = bench.shared.cache.drop_key(Dropped::Application, b"k");
        }),
        ("push", |bench| {
            bench.receive(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n")
        }),
        ("own write", |bench| bench.shared.cache.kill(hash(bench))),
        ("admin", |bench| drop(bench.ask("PROXY FLUSH MATCH k*"))),
    ];
    for (cause, drop_it) in by {
        let mut bench = Bench::new();
        assert_eq!(bench.field("PROXY INSPECT k", "last_invalidation"), "null");
        bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
        drop_it(&mut bench);
        let last = bench.ask("PROXY INSPECT k").get(b"last_invalidation").cloned().unwrap();
        assert_eq!(text(last.get(b"by").unwrap()), cause);
        assert!(text(last.get(b"ago_ms").unwrap()).parse::<u64>().unwrap() < 60_000);
        assert_eq!(bench.field("PROXY INSPECT other", "last_invalidation"), "null");
    }
}

#[test]
fn the_last_reply_that_was_not_kept_is_remembered_with_the_reason() {
    let rejected = |fetch: fn(&mut Bench)| {
        let mut bench = Bench::new();
        fetch(&mut bench);
        let last = bench.ask("PROXY INSPECT k").get(b"last_rejection").cloned().unwrap();
        text(last.get(b"reason").unwrap())
    };
    assert_eq!(
        rejected(|bench| bench.fill("get", "k", None, "-ERR x\r\n", -1)),
        "error"
    );
    assert_eq!(rejected(|bench| bench.fill("get", "k", None, "$1\r\nv\r\n", 0)), "ttl");
    let killed = |bench: &mut Bench| {
        bench.begin_fill("get", "k", None);
        bench.shared.cache.kill(hash(bench));
        bench.receive(b"+OK\r\n$1\r\nv\r\n:-1\r\n");
    };
    assert_eq!(rejected(killed), "race");
}

#[test]
fn the_last_flush_of_everything_is_remembered_with_its_cause() {
    let by: [(&str, Break); 4] = [
        ("application", |bench| bench.shared.cache.flush_by_application()),
        ("null push", |bench| bench.receive(b">2\r\n$10\r\ninvalidate\r\n_\r\n")),
        ("command", |bench| bench.shared.cache.flush_by_command()),
        ("tracking lost", |bench| bench.shared.cache.fence(&bench.origin())),
    ];
    for (cause, flush) in by {
        let mut bench = Bench::new();
        flush(&mut bench);
        let last = bench.ask("PROXY INSPECT k").get(b"last_flush").cloned().unwrap();
        assert_eq!(text(last.get(b"by").unwrap()), cause);
    }
}

#[test]
fn in_shadow_mode_the_server_answers_and_the_rest_is_told_as_it_would_be() {
    let mut bench = Bench::with(|settings| settings.shadow = true);
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    let seen = ["answered_by", "bypass", "cached"].map(|field| bench.field("PROXY EXPLAIN GET k", field));
    assert_eq!(seen, ["server", "shadow", "true"]);
    assert_eq!(bench.field("PROXY STATS", "cache_mode"), "shadow");
    assert!(
        bench
            .field("PROXY EXPLAIN GET k", "reason")
            .ends_with("otherwise memory would: cached")
    );
}
