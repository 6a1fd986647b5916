//! EXPLAIN, INSPECT, KEYS and FLUSH.

use super::*;

#[test]
fn explain_tells_where_a_command_runs_and_what_it_does() {
    let bench = Bench::new();
    for (command, place, effect, keys, answered_by) in [
        ("GET k", "shared", "read", "k", "server"),
        ("set k v", "shared", "write", "k", "server"),
        ("MSET a 1 b 2", "shared", "write", "a b", "server"),
        ("MULTI", "pinned", "none", "", "server"),
        ("BLPOP q 0", "pinned", "write", "q", "server"),
        ("FLUSHALL", "shared", "flush", "", "server"),
        ("SCAN 0", "shared", "keyless-read", "", "server"),
        ("EVAL x 1 k", "shared", "unknown", "k", "server"),
        ("EVAL x many k", "shared", "unknown", "", "server"),
        ("SELECT 1", "local", "none", "", "proxy"),
        ("SYNC", "refused", "none", "", "nobody"),
    ] {
        let ask = format!("PROXY EXPLAIN {command}");
        let seen = ["place", "effect", "keys", "answered_by"].map(|field| bench.field(&ask, field));
        assert_eq!(seen, [place, effect, keys, answered_by], "{command}");
        assert_eq!(bench.field(&ask, "known"), "true");
    }
}

#[test]
fn explain_says_why_the_near_cache_is_passed_by() {
    let mut bench = Bench::new();
    bench.fill("get", "there", None, "$1\r\nv\r\n", -1);
    for (command, bypass) in [
        ("GET once", "cold"),
        ("GET lock:1", "policy"),
        ("HGETALL hash:1", "policy"),
        ("MGET there absent", "multi_key_miss"),
        ("SET k v", "null"),
        ("GET there", "null"),
    ] {
        assert_eq!(
            bench.field(&format!("PROXY EXPLAIN {command}"), "bypass"),
            bypass,
            "{command}"
        );
    }
    bench.shared.cache.fence(&bench.origin());
    assert_eq!(bench.field("PROXY EXPLAIN GET there", "bypass"), "not_live");
    let off = Bench::with(|settings| settings.caching = false);
    assert_eq!(off.field("PROXY EXPLAIN GET k", "bypass"), "disabled");
}

#[test]
fn explain_tells_reads_of_one_key_apart() {
    let mut bench = Bench::new();
    bench.fill("hget", "hash:1", Some("f"), "$1\r\nv\r\n", 5_000);
    bench.fill("get", "a", None, "$1\r\nv\r\n", -1);
    for (command, answered_by) in [
        ("HGET hash:1 f", "memory"),
        ("HGET hash:1 other", "fetch"),
        ("MGET a a", "memory"),
        ("MGET a b", "server"),
        ("STRLEN a", "fetch"),
    ] {
        let seen = bench.field(&format!("PROXY EXPLAIN {command}"), "answered_by");
        assert_eq!(seen, answered_by, "{command}");
    }
    let left: u64 = bench.field("PROXY EXPLAIN HGET hash:1 f", "ttl_ms").parse().unwrap();
    assert!((1..=5_000).contains(&left), "the server's own expiry bounds it: {left}");
    assert_eq!(bench.field("PROXY EXPLAIN HGET hash:1 f", "policy"), "hashes");
}

#[test]
fn explain_knows_what_nobody_knows() {
    let bench = Bench::new();
    assert_eq!(bench.field("PROXY EXPLAIN NOSUCH a", "known"), "false");
    assert_eq!(bench.field("PROXY EXPLAIN NOSUCH a", "effect"), "unknown");
    let reason = bench.field("PROXY EXPLAIN CONFIG nosuch", "reason");
    assert!(
        reason.ends_with("ERR unknown subcommand 'nosuch'. Try CONFIG HELP."),
        "{reason}"
    );
    assert_eq!(bench.field("PROXY EXPLAIN GET", "arity_ok"), "false");
    assert_eq!(bench.field("PROXY EXPLAIN proxy help", "answered_by"), "proxy");
    let renamed = Bench::with(|settings| settings.admin_command = "nearhitctl".to_owned());
    assert_eq!(renamed.field("NEARHITCTL EXPLAIN proxy help", "known"), "false");
}

#[test]
fn inspect_tells_everything_about_a_cached_key() {
    let mut bench = Bench::new();
    bench.fill("get", "user:1", None, "$5\r\nhello\r\n", -1);
    let report = bench.ask("proxy inspect user:1");
    assert_eq!(report.get(b"cached"), Some(&Value::Boolean(true)));
    assert_eq!(report.get(b"reason"), Some(&Value::Null));
    let entries = report.get(b"entries").unwrap().as_values().unwrap();
    let field = |name: &str| text(entries.first().unwrap().get(name.as_bytes()).unwrap());
    let seen = ["command", "db", "reply_bytes", "negative", "state"].map(field);
    assert_eq!(seen, ["get", "0", "11", "false", "serve"]);
    assert!(field("ttl_ms").parse::<u64>().unwrap() <= 60_000);
    let policy = report.get(b"policy").unwrap();
    assert_eq!(policy.get(b"name"), Some(&Value::Null));
    assert_eq!(text(policy.get(b"ttl_ms").unwrap()), "60000");
}

#[test]
fn inspect_says_why_a_key_is_not_cached() {
    let mut bench = Bench::new();
    for (key, why) in [("once", "not read before"), ("lock:1", "policy")] {
        let reason = bench.field(&format!("PROXY INSPECT {key}"), "reason");
        assert!(reason.starts_with("not cached: ") && reason.contains(why), "{reason}");
    }
    assert_eq!(
        text(
            bench
                .ask("PROXY INSPECT lock:1")
                .get(b"policy")
                .unwrap()
                .get(b"name")
                .unwrap()
        ),
        "locks-never"
    );
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.receive(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    assert_eq!(bench.field("PROXY INSPECT k", "cached"), "false");
    assert_eq!(bench.field("PROXY INSPECT k", "admission"), "admitted");
    bench.shared.cache.fence(&bench.origin());
    assert_eq!(bench.field("PROXY INSPECT k", "admission"), "not_live");
}

#[test]
fn asking_about_a_key_does_not_make_it_a_candidate() {
    let bench = Bench::new();
    for _ in 0..3 {
        assert_eq!(bench.field("PROXY INSPECT k", "admission"), "cold");
        assert_eq!(bench.field("PROXY EXPLAIN GET k", "bypass"), "cold");
    }
    assert_eq!(bench.shared.cache.totals().keys, 0);
}

#[test]
fn keys_are_listed_up_to_a_bound() {
    let mut bench = Bench::new();
    for key in ["a:1", "a:2", "a:3", "b:1"] {
        bench.fill("get", key, None, "$1\r\nv\r\n", -1);
    }
    let listed = |words: &str| {
        let reply = bench.ask(words);
        let count = reply.get(b"keys").unwrap().as_values().unwrap().len();
        (count, text(reply.get(b"more").unwrap()))
    };
    assert_eq!(listed("PROXY KEYS a:*"), (3, "false".to_owned()));
    assert_eq!(listed("PROXY KEYS a:* COUNT 3"), (3, "false".to_owned()));
    assert_eq!(listed("PROXY KEYS * count 3"), (3, "true".to_owned()));
    assert_eq!(listed("PROXY KEYS nothing"), (0, "false".to_owned()));
    for (words, error) in [
        ("PROXY KEYS * COUNT", "ERR syntax error"),
        ("PROXY KEYS * LIMIT 1", "ERR syntax error"),
        ("PROXY KEYS * COUNT x", "ERR value is not an integer or out of range"),
        ("PROXY KEYS * COUNT 0", "ERR COUNT must be between 1 and 10000"),
        ("PROXY KEYS * COUNT 10001", "ERR COUNT must be between 1 and 10000"),
    ] {
        assert_eq!(bench.ask(words), Value::error(error), "{words}");
    }
}

#[test]
fn flush_drops_what_it_is_told_and_nothing_else() {
    let mut bench = Bench::new();
    for key in ["a:1", "a:2", "b:1", "dryrun", "c"] {
        bench.fill("get", key, None, "$1\r\nv\r\n", -1);
    }
    bench.fill("strlen", "a:1", None, ":1\r\n", -1);
    for (words, removed, left) in [
        ("PROXY FLUSH ALL DRYRUN", 6, 6),
        ("PROXY FLUSH match a:* dryrun", 3, 6),
        ("PROXY FLUSH KEY a:1 a:1 b:1 absent DryRun", 3, 6),
        ("PROXY FLUSH KEY dryrun", 1, 5),
        ("PROXY FLUSH KEY a:1 a:1", 2, 3),
        ("PROXY FLUSH MATCH a:*", 1, 2),
        ("PROXY FLUSH all", 2, 0),
    ] {
        assert_eq!(bench.ask(words), Value::Integer(removed), "{words}");
        assert_eq!(bench.shared.cache.totals().entries, left, "{words}");
    }
}

#[test]
fn a_flush_without_a_complete_form_says_the_forms_and_drops_nothing() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    for words in ["", " DRYRUN", " KEY", " MATCH", " ALL k", " MATCH a b", " k"] {
        let reply = bench.ask(&format!("PROXY FLUSH{words}"));
        let error = text(&reply);
        assert!(matches!(reply, Value::Error(_)), "{words}: {error}");
        for form in ["FLUSH ALL", "FLUSH KEY", "FLUSH MATCH", "DRYRUN"] {
            assert!(error.contains(form), "{words}: {error}");
        }
    }
    assert_eq!(bench.shared.cache.totals().entries, 1);
}

#[test]
fn what_is_being_fetched_during_a_flush_is_not_kept() {
    for words in ["ALL", "KEY k", "MATCH k*"] {
        let mut bench = Bench::new();
        bench.begin_fill("get", "k", None);
        assert_eq!(bench.field("PROXY INSPECT k", "fetching"), "1");
        assert_eq!(bench.ask(&format!("PROXY FLUSH {words}")), Value::Integer(0));
        bench.receive(b"+OK\r\n$1\r\nv\r\n:-1\r\n");
        assert_eq!(bench.field("PROXY INSPECT k", "cached"), "false", "{words}");
        assert_eq!(bench.field("PROXY INSPECT k", "fetching"), "0", "{words}");
    }
}
