//! `cache.strict_sessions`: who read a new value of one key reads no older state of another, although nothing but the
//! tracked connection says that the other one changed, and that is late.

mod coherence_support;
mod support;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, PROTOCOLS, Protocol, front_at, run};

/// `k` is cached as `old`; its invalidation is late, and `k` and then `j` are `new` at the server.
fn with_a_late_invalidation(mode: &str, strict: &str) -> (Bench, Laggard) {
    let word = if mode == "redirect" { "SUBSCRIBE" } else { "TRACKING" };
    let redis = support::RedisServer::start();
    let laggard = Laggard::before(redis.addr(), word);
    let args = ["--cache.strict-sessions", strict, "--invalidation.max-staleness", "10s"];
    let nearhit = front_at(&laggard.url(), mode, &args);
    let bench = Bench { redis, nearhit };
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "MSET k old j old");
    bench.read_from_memory(&mut client, "GET k");
    laggard.hold();
    run(&mut direct, "SET k new");
    run(&mut direct, "SET j new");
    (bench, laggard)
}

#[test]
fn a_session_that_is_not_strict_may_read_keys_out_of_order() {
    let (bench, _laggard) = with_a_late_invalidation("tracking", "false");
    let mut client = bench.client(Protocol::Resp3);
    assert_eq!(client.cmd(&["GET", "j"]), "new");
    assert_eq!(client.cmd(&["GET", "k"]), "old");
}

#[test]
fn a_strict_session_that_read_a_new_value_reads_nothing_older_of_another_key() {
    for mode in ["tracking", "redirect"] {
        for protocol in PROTOCOLS {
            for reading in ["GET j", "EVAL_RO 'return redis.call(\"GET\", KEYS[1])' 1 j", "GETEX j"] {
                let (bench, laggard) = with_a_late_invalidation(mode, "true");
                let mut client = bench.client(protocol);
                client.send_raw(format!("{reading}\r\n"));
                assert_eq!(client.reply(), "new");
                client.send(&["GET", "k"]);
                // It may be fetched over the tracked connection.
                laggard.release();
                assert_eq!(client.reply(), "new", "{mode}: after {reading}");
            }
        }
    }
}

#[test]
fn nor_does_it_in_one_packet() {
    for reading in ["GET j", "EVAL_RO 'return redis.call(\"GET\", \"j\")' 0"] {
        let (bench, _laggard) = with_a_late_invalidation("tracking", "true");
        let mut client = bench.client(Protocol::Resp2);
        client.send_raw(format!("{reading}\r\nGET k\r\n"));
        assert_eq!(client.reply(), "new", "{reading}");
        assert_eq!(client.reply(), "new", "after {reading}");
    }
}

#[test]
fn in_one_packet_no_session_goes_back_behind_what_a_read_without_keys_told_it() {
    for protocol in PROTOCOLS {
        for reading in [
            "EVAL_RO 'return redis.call(\"GET\", \"k\")' 0",
            "SORT_RO l BY nosort GET *",
        ] {
            let (bench, _laggard) = with_a_late_invalidation("tracking", "false");
            let mut direct = bench.direct(Protocol::Resp3);
            run(&mut direct, "RPUSH l k");
            let mut client = bench.client(protocol);
            client.send_raw(format!("{reading}\r\nGET k\r\n"));
            assert!(client.reply().to_string().contains("new"), "{reading}");
            assert_eq!(client.reply(), "new", "after {reading}");
        }
    }
}

#[test]
fn another_session_is_not_held_to_what_it_has_not_read() {
    let (bench, _laggard) = with_a_late_invalidation("tracking", "true");
    let mut other = bench.client(Protocol::Resp3);
    assert_eq!(other.cmd(&["GET", "k"]), "old");
}

#[test]
fn a_strict_session_that_goes_back_and_forth_still_has_hits() {
    let bench = Bench::new(
        support::RedisServer::start(),
        "tracking",
        &["--cache.strict-sessions", "true"],
    );
    let mut client = bench.client(Protocol::Resp2);
    run(&mut client, "SET k v");
    for _ in 0..5 {
        assert_eq!(client.cmd(&["EXISTS", "k", "none"]), 1);
        assert_eq!(bench.read_from_memory(&mut client, "GET k"), b"$1\r\nv\r\n");
    }
}
