//! What is stored and for how long: admission, policies, TTLs, errors, size.

use super::*;
use crate::config::{ByteSize, Policy};

fn bench(policy: Policy) -> Bench {
    let number = |name: &str| (name == "GET").then_some(GET);
    Bench::with(eager(), Policies::new(&[policy], number))
}

#[test]
fn the_first_read_of_a_key_passes_and_the_second_is_fetched() {
    let mut bench = Bench::with(Limits::default(), Policies::default());
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::Cold));
    bench.pass(millis(60_000));
    assert_eq!(bench.get("k"), Seen::Lead(2));
    assert_eq!(bench.get("l"), Seen::Bypass(Bypass::Cold));
    bench.pass(millis(60_001));
    assert_eq!(bench.get("l"), Seen::Bypass(Bypass::Cold));
    assert_eq!(bench.cache.totals().keys, 1);
}

#[test]
fn a_key_that_a_policy_forbids_is_never_fetched() {
    let mut bench = bench(Policy::new("locks", "lock:*").cache(false));
    assert_eq!(bench.get("lock:1"), Seen::Bypass(Bypass::Policy));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn a_policy_allows_the_commands_it_lists() {
    let mut policy = Policy::new("gets", "k");
    policy.commands = Some(vec!["GET".into()]);
    let mut bench = bench(policy);
    let strlen = Read::of("k").command(STRLEN, Shape::Same);
    assert_eq!(bench.read(strlen), Seen::Bypass(Bypass::Policy));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn a_policy_shortens_the_life_and_the_size_of_entries() {
    let mut bench = bench(Policy::new("short", "k").ttl(millis(10)).max_entry(ByteSize::new(64)));
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(9));
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(1));
    bench.fill(&format!("$99\r\n{}\r\n", "x".repeat(99)), -1);
    assert_eq!(bench.entries(), 0);
}

#[test]
fn a_policy_may_allow_larger_entries_than_the_cache_does() {
    let mut bench = bench(Policy::new("large", "k").max_entry(ByteSize::mib(2)));
    let large = format!("$1500000\r\n{}\r\n", "x".repeat(1_500_000));
    bench.fill(&large, -1);
    assert_eq!(bench.get("k"), hit(&large));
}

#[test]
fn an_entry_lives_until_its_key_expires_counted_from_sending() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.pass(millis(40));
    bench.server("+OK\r\n$1\r\nv\r\n:100\r\n");
    bench.pass(millis(59));
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(3));
    bench.validate();
}

#[test]
fn a_key_without_a_ttl_is_kept_for_the_longest_life() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(59_999));
    bench.ping();
    bench.server("+PONG\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(3));
}

#[test]
fn a_key_that_expires_now_or_expired_behind_its_value_is_not_stored() {
    for pttl in [0, -2, -3] {
        let mut bench = Bench::new();
        bench.fill("$1\r\nv\r\n", pttl);
        assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
        assert_eq!((bench.entries(), bench.cache.totals().keys), (0, 0), "{pttl}");
    }
}

#[test]
fn a_key_that_does_not_exist_is_kept_for_the_negative_life() {
    for nil in [
        "_\r\n",
        ":0\r\n",
        "*0\r\n",
        "*2\r\n_\r\n_\r\n",
        "*2\r\n:0\r\n:0\r\n",
        "$-1\r\n",
    ] {
        let mut bench = Bench::new();
        bench.fill(nil, -2);
        bench.pass(millis(999));
        assert_eq!(bench.get("k"), hit(nil));
        bench.pass(millis(1));
        assert_eq!(bench.get("k"), Seen::Lead(3));
    }
}

#[test]
fn replies_that_only_resemble_a_missing_key_are_not_stored_when_it_is_gone() {
    for value in ["*2\r\n_\r\n$1\r\nv\r\n", "*1\r\n:1\r\n", ":1\r\n", "*1\r\n*1\r\n_\r\n"] {
        let mut bench = Bench::new();
        bench.fill(value, -2);
        assert_eq!(bench.entries(), 0, "{value}");
    }
}

#[test]
fn missing_keys_are_not_stored_where_that_is_switched_off() {
    let limits = Limits {
        negative_ttl: Duration::ZERO,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill("_\r\n", -2);
    assert_eq!(bench.entries(), 0);
}

#[test]
fn hashes_are_kept_briefly_where_fields_expire_on_their_own() {
    let mut bench = Bench::new();
    let read = Read::of("k").command(HGET, Shape::Same);
    bench.fill_of(read, "$1\r\nv\r\n", -1);
    bench.pass(millis(1000));
    assert_eq!(bench.read(read), Seen::Lead(2));
    bench.cache.set_hash_fields_expire(false);
    bench.server("+OK\r\n$1\r\nv\r\n:-1\r\n");
    bench.pass(millis(1000));
    assert_eq!(bench.read(read), hit("$1\r\nv\r\n"));
}

#[test]
fn a_reply_that_may_live_no_time_is_not_stored() {
    let limits = Limits {
        hash_ttl: Duration::ZERO,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill_of(Read::of("k").command(HGET, Shape::Same), "$1\r\nv\r\n", -1);
    assert_eq!((bench.entries(), bench.cache.totals().keys), (0, 0));
}

#[test]
fn errors_answer_the_waiters_and_are_not_stored() {
    for error in ["-WRONGTYPE no\r\n", "!9\r\nNOPERM no\r\n", "-MOVED 1 b:1\r\n"] {
        let mut bench = Bench::new();
        bench.fill(error, -1);
        assert_eq!(bench.answers(), [(1, error.into())]);
        assert_eq!(bench.get("k"), Seen::Lead(2));
    }
}

#[test]
fn a_reply_without_a_pttl_is_not_stored() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.server("+OK\r\n$1\r\nv\r\n-NOPERM this user has no permissions to run the 'pttl' command\r\n");
    assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn a_reply_too_large_to_read_sends_waiters_home_and_the_key_is_left_alone_for_a_while() {
    let limits = Limits {
        max_entry: 1000,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.get("k");
    bench.get("k");
    bench.server(format!("+OK\r\n$70000\r\n{}\r\n", "x".repeat(70_000)));
    assert_eq!(bench.answers(), [(1, "home".into()), (2, "home".into())]);
    // It used to join the fetch whose reply was already dropped, and was never answered.
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::TooLarge));
    bench.server(":-1\r\n");
    bench.pass(millis(10_000));
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::TooLarge));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(5));
    bench.validate();
}

#[test]
fn a_reply_too_large_to_store_is_passed_on_and_the_key_is_left_alone_for_a_while() {
    let limits = Limits {
        max_entry: 10,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill("$11\r\n01234567890\r\n", -1);
    assert_eq!(bench.answers(), [(1, "$11\r\n01234567890\r\n".into())]);
    // It used to be fetched for the cache, with three commands, at every read.
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::TooLarge));
}

#[test]
fn a_reply_that_would_drive_out_most_others_is_not_stored() {
    let limits = Limits {
        max_bytes: 64 << 10,
        ..eager()
    };
    for (len, stored) in [(8000, 1), (9000, 0)] {
        let mut bench = Bench::with(limits, Policies::default());
        bench.fill(&format!("${len}\r\n{}\r\n", "x".repeat(len)), -1);
        assert_eq!(bench.entries(), stored, "{len} bytes of {}", limits.max_bytes);
    }
}
