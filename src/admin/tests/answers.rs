//! HELP, errors, both protocols, STATS, LATENCY and the section of INFO.

use std::collections::BTreeSet;

use super::*;
use crate::admin::console::VERBS;
use crate::metrics::{Bypass, CacheResult, Outcome};

#[test]
fn help_has_every_verb_as_redis_writes_it() {
    let bench = Bench::new();
    let reply = bench.ask("PROXY help");
    let lines: Vec<_> = reply.as_values().unwrap().iter().map(text).collect();
    assert_eq!(
        lines[0],
        "PROXY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    );
    for verb in VERBS {
        assert!(
            lines.iter().any(|line| line.split(' ').next() == Some(verb.name)),
            "{} is not in HELP",
            verb.name
        );
    }
    assert_eq!(lines[lines.len() - 2..], ["HELP", "    Prints this help."]);
    assert!(lines.iter().all(|line| line.len() <= 120));
    assert!(bench.raw("PROXY HELP", Version::V2).starts_with(b"*"));
    assert!(
        reply
            .as_values()
            .unwrap()
            .iter()
            .all(|line| matches!(line, Value::Simple(_)))
    );
}

#[test]
fn wrong_requests_are_refused_in_redis_words() {
    let bench = Bench::with(|settings| settings.admin_command = "nearhitctl".to_owned());
    for (words, error) in [
        ("nearhitctl", "ERR wrong number of arguments for 'nearhitctl' command"),
        (
            "nearhitctl nosuch",
            "ERR unknown subcommand 'nosuch'. Try NEARHITCTL HELP.",
        ),
        (
            "NearhitCtl Inspect",
            "ERR wrong number of arguments for 'nearhitctl|inspect' command",
        ),
        (
            "nearhitctl PING x",
            "ERR wrong number of arguments for 'nearhitctl|ping' command",
        ),
        (
            "nearhitctl EXPLAIN",
            "ERR wrong number of arguments for 'nearhitctl|explain' command",
        ),
        ("nearhitctl ATTRIBUTES maybe", "ERR syntax error"),
        ("nearhitctl STATS nosuch", "ERR unknown command 'nosuch'"),
        ("nearhitctl LATENCY get nosuch", "ERR unknown command 'nosuch'"),
    ] {
        assert_eq!(bench.ask(words), Value::error(error), "{words}");
    }
}

#[test]
fn each_protocol_gets_its_own_types() {
    let bench = Bench::new();
    assert_eq!(bench.raw("PROXY PING", Version::V2), b"+PONG\r\n");
    let version = env!("CARGO_PKG_VERSION");
    let pairs = format!(
        "$4\r\nname\r\n$7\r\nnearhit\r\n$7\r\nversion\r\n${}\r\n{version}\r\n$8\r\nrevision\r\n",
        version.len()
    );
    let expected = format!("%3\r\n{pairs}_\r\n");
    assert_eq!(bench.raw("PROXY VERSION", Version::V3), expected.as_bytes());
    let expected = format!("*6\r\n{pairs}$-1\r\n");
    assert_eq!(bench.raw("PROXY VERSION", Version::V2), expected.as_bytes());
    let keys = |version| bench.raw("PROXY KEYS *", version);
    assert_eq!(keys(Version::V3), b"%2\r\n$4\r\nkeys\r\n*0\r\n$4\r\nmore\r\n#f\r\n");
    assert_eq!(keys(Version::V2), b"*4\r\n$4\r\nkeys\r\n*0\r\n$4\r\nmore\r\n:0\r\n");
}

#[test]
fn every_verb_answers_in_both_protocols() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.recorder.record(bench.number("get"), Outcome::Hit, 1_500);
    for words in [
        "HELP",
        "STATS",
        "STATS get",
        "SHADOW",
        "LATENCY",
        "LATENCY get",
        "INSPECT k",
        "KEYS *",
        "EXPLAIN GET k",
        "EXPLAIN x",
        "VERSION",
        "PING",
        "FLUSH ALL",
    ] {
        for version in [Version::V2, Version::V3] {
            let reply = bench.raw(&format!("PROXY {words}"), version);
            let value = Value::decode(&reply, version).unwrap_or_else(|error| panic!("{words}: {error}"));
            assert!(!matches!(value, Value::Error(_)), "{words}: {value:?}");
        }
    }
}

#[test]
fn a_console_whose_proxy_is_gone_says_so() {
    let mut bench = Bench::new();
    bench.console = Console::new(
        std::sync::Weak::new(),
        Arc::clone(&bench.gauges),
        bench.console.facts.clone(),
    );
    assert_eq!(bench.ask("PROXY STATS"), Value::error("ERR nearhit is stopping"));
    assert_eq!(bench.console.info_section(), "");
}

#[test]
fn stats_count_every_cacheable_request_once() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.receive(b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nk\r\n$1\r\nx\r\n");
    let cells = &bench.recorder.cache;
    cells.add(CacheResult::Hit, 5);
    cells.add(CacheResult::NegativeHit, 1);
    cells.add(CacheResult::Miss, 2);
    cells.add(CacheResult::Coalesced, 1);
    cells.add(CacheResult::Bypass, 3);
    bench.recorder.bypass.add(Bypass::Cold, 3);
    let stats = bench.ask("PROXY STATS");
    let field = |name: &str| text(stats.get(name.as_bytes()).unwrap());
    let seen = ["hits", "negative_hits", "misses", "coalesced", "bypassed", "hit_ratio"].map(field);
    assert_eq!(seen, ["6", "1", "3", "1", "3", "0.5"]);
    let within = |map: &str, name: &str| text(stats.get(map.as_bytes()).unwrap().get(name.as_bytes()).unwrap());
    assert_eq!(within("bypass_reasons", "cold"), "3");
    assert_eq!(
        (within("invalidations", "received"), within("invalidations", "removed")),
        ("2".into(), "1".into())
    );
    assert_eq!(field("inserts"), "1");
    assert_eq!(within("tracking", "state"), "connecting");
    assert_eq!(within("upstream", "address"), "10.0.0.1:6379");
}

#[test]
fn stats_and_latency_of_a_command_are_in_microseconds() {
    let bench = Bench::new();
    let get = bench.number("get");
    bench.recorder.record_n(get, Outcome::Hit, 2_000, 99);
    bench.recorder.record_n(get, Outcome::Error, 1_000_000, 1);
    let stats = bench.ask("PROXY STATS GET");
    let field = |name: &str| text(stats.get(name.as_bytes()).unwrap());
    assert_eq!(
        ["calls", "hits", "errors", "writes"].map(field),
        ["100", "99", "1", "0"]
    );
    let p50: f64 = field("p50_usec").parse().unwrap();
    assert!((2.0..2.1).contains(&p50), "{p50}");
    assert_eq!(bench.field("PROXY STATS set", "p50_usec"), "null");
    let latency = bench.ask("PROXY LATENCY get set");
    let commands = latency.get(b"commands").unwrap();
    let of_get = commands.get(b"get").unwrap();
    assert_eq!(text(of_get.get(b"hit").unwrap().get(b"count").unwrap()), "99");
    assert!(of_get.get(b"miss").is_none() && commands.get(b"set").is_none());
    assert!(matches!(latency.get(b"window_seconds"), Some(Value::Double(span)) if *span < 70.0));
}

#[test]
fn the_section_of_info_can_be_told_from_the_servers() {
    let mut bench = Bench::new();
    bench.gauges.reachable.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.recorder.cache.add(CacheResult::Hit, 3);
    bench.recorder.cache.add(CacheResult::Miss, 1);
    bench.recorder.record(bench.number("get"), Outcome::Hit, 1_500);
    let text = bench.console.info_section();
    let mut lines = text.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("# Proxy"));
    assert!(text.ends_with("\r\n") && text.matches('\n').count() == text.matches("\r\n").count());
    let pairs: Vec<_> = lines.map(|line| line.split_once(':').expect(line)).collect();
    let names: BTreeSet<_> = pairs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), pairs.len(), "a name stands there twice");
    assert!(names.iter().all(|name| name.starts_with("proxy_")), "{names:?}");
    for (name, value) in [
        ("proxy_cache_hits", "3"),
        ("proxy_cache_misses", "1"),
        ("proxy_cache_hit_ratio", "0.7500"),
        ("proxy_cache_keys", "1"),
        ("proxy_cache_enabled", "1"),
        ("proxy_cache_mode", "serve"),
        ("proxy_invalidations_received", "0"),
        ("proxy_upstream_state", "up"),
        ("proxy_tracking_state", "connecting"),
        ("proxy_latency_usec_get", "p50=1.5,p95=1.5,p99=1.5,p99.9=1.5"),
    ] {
        assert!(pairs.contains(&(name, value)), "{name}:{value} is not in\n{text}");
    }
    assert!(!text.contains("git_sha1"), "it is not known");
}
