//! Keys that go by themselves: expired, evicted, or forgotten by the server's tracking table.

mod coherence_support;
mod support;

use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, run};
use support::{RedisServer, Resp};

/// How much later than the server's own clock says a read may still see an expired key: clocks are read in three
/// processes on a busy machine.
const SLACK_MICROS: i64 = 20_000;

/// The server's clock.
fn server_micros(direct: &mut Resp) -> i64 {
    let time = direct.cmd(&["TIME"]).items();
    let part = |index: usize| -> i64 { time[index].text().parse().expect("a number") };
    part(0) * 1_000_000 + part(1)
}

/// Reads through the proxy until well after the key is gone; no read that begins later than its time is answered with it.
#[track_caller]
fn ends_in_time(bench: &Bench, client: &mut Resp, direct: &mut Resp, key: &str, read: &str, gone: &[u8]) {
    let deadline = direct.cmd(&["PEXPIRETIME", key]).int() * 1000;
    assert!(deadline > 0, "{key} has a time to live");
    let hits = bench.hits();
    let mut late_reads = 0;
    while late_reads < 50 {
        let begun = server_micros(direct);
        let reply = bytes(client, read);
        if begun > deadline + SLACK_MICROS {
            let late = (begun - deadline) / 1000;
            assert_eq!(
                reply.escape_ascii().to_string(),
                gone.escape_ascii().to_string(),
                "{late} ms after {key} expired"
            );
            late_reads += 1;
        }
    }
    assert!(
        bench.hits() > hits + 10.0,
        "hardly a read of {key} was a hit: this tests nothing"
    );
}

fn bench_with_debug(mode: &str) -> Bench {
    let redis = RedisServer::builder().arg("--enable-debug-command", "yes").start();
    Bench::new(redis, mode, &["--cache.admission", "always"])
}

#[test]
fn an_expired_key_is_not_served_whether_or_not_the_server_says_so() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = bench_with_debug(mode);
            let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
            let nil: &[u8] = if protocol == Protocol::Resp3 {
                b"_\r\n"
            } else {
                b"$-1\r\n"
            };
            for active in [1, 0] {
                run(&mut direct, &format!("DEBUG SET-ACTIVE-EXPIRE {active}"));
                for millis in [50, 170, 300] {
                    let key = format!("k{active}:{millis}");
                    run(&mut direct, &format!("SET {key} v PX {millis}"));
                    ends_in_time(&bench, &mut client, &mut direct, &key, &format!("GET {key}"), nil);
                }
            }
        }
    }
}

#[test]
fn what_expires_is_bounded_for_every_type() {
    let bench = bench_with_debug("tracking");
    let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
    run(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
    let cases: [(&str, &str, &[u8]); 5] = [
        ("HSET k f v", "HGETALL k", b"*0\r\n"),
        ("RPUSH k v", "LRANGE k 0 -1", b"*0\r\n"),
        ("SADD k v", "SISMEMBER k v", b":0\r\n"),
        ("ZADD k 1 v", "ZSCORE k v", b"$-1\r\n"),
        ("XADD k 1-1 f v", "XRANGE k - +", b"*0\r\n"),
    ];
    for (write, read, gone) in cases {
        run(&mut direct, "DEL k");
        run(&mut direct, write);
        run(&mut direct, "PEXPIRE k 60");
        ends_in_time(&bench, &mut client, &mut direct, "k", read, gone);
    }
}

#[test]
fn a_changed_time_to_live_counts() {
    for mode in MODES {
        let bench = bench_with_debug(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        run(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
        for (first, then) in [
            ("SET k v", "PEXPIRE k 60"),
            ("SET k v EX 1000", "PEXPIRE k 60 LT"),
            ("SET k v EX 1000", "GETEX k PX 60"),
            ("SET k v EX 1000", "SET k v PX 60"),
            ("SET k v EX 1000", "RESTORE-LIKE"),
        ] {
            run(&mut direct, first);
            bench.converges(&mut client, &mut direct, "GET k");
            bench.read_from_memory(&mut client, "GET k");
            if then == "RESTORE-LIKE" {
                run(&mut direct, "SET short v PX 60");
                run(&mut direct, "RENAME short k");
            } else {
                run(&mut direct, then);
            }
            ends_in_time(&bench, &mut client, &mut direct, "k", "GET k", b"_\r\n");
        }
    }
}

#[test]
fn a_key_whose_time_to_live_was_taken_away_stays() {
    for mode in MODES {
        for persist in ["PERSIST k", "GETEX k PERSIST", "SET k v", "PEXPIRE k 100000"] {
            let bench = Bench::always(mode);
            let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
            run(&mut direct, "SET k v PX 150");
            let deadline = direct.cmd(&["PEXPIRETIME", "k"]).int() * 1000;
            bench.read_from_memory(&mut client, "GET k");
            run(&mut direct, persist);
            while server_micros(&mut direct) < deadline + SLACK_MICROS {
                assert_eq!(bytes(&mut client, "GET k"), b"$1\r\nv\r\n");
            }
            assert_eq!(bench.read_from_memory(&mut client, "GET k"), b"$1\r\nv\r\n");
        }
    }
}

/// A write straight after the expiry must be seen, although the server never announced the expiry.
#[test]
fn a_key_that_comes_back_after_its_expiry_is_seen() {
    for mode in MODES {
        let bench = bench_with_debug(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        run(&mut direct, "DEBUG SET-ACTIVE-EXPIRE 0");
        run(&mut direct, "SET k 1 PX 40");
        ends_in_time(&bench, &mut client, &mut direct, "k", "GET k", b"_\r\n");
        bench.read_from_memory(&mut client, "GET k");
        run(&mut direct, "SET k 2");
        bench.converges(&mut client, &mut direct, "GET k");
        assert_eq!(bench.read_from_memory(&mut client, "GET k"), b"$1\r\n2\r\n");
    }
}

#[test]
fn evicted_keys_are_seen_as_gone() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
        let keys: Vec<_> = (0..200).map(|number| format!("k{number}")).collect();
        let value = "v".repeat(2000);
        for key in &keys {
            direct.cmd(&["SET", key, &value]);
            client.cmd(&["GET", key]);
        }
        let used: u64 = bench.redis.info("used_memory").parse().expect("a number");
        run(&mut direct, "CONFIG SET maxmemory-policy allkeys-random");
        run(&mut direct, &format!("CONFIG SET maxmemory {}", used - 200_000));
        support::wait_for("evictions", support::SOON, || {
            run(&mut direct, "SET noise x");
            direct.cmd(&["DBSIZE"]).int() < 150
        });
        for key in &keys {
            bench.converges(&mut client, &mut direct, &format!("GET {key}"));
        }
        assert!(bench.hits() > 0.0, "what stayed is served from memory");
    }
}

#[test]
fn a_tracking_table_that_is_too_small_costs_hits_not_truth() {
    for mode in MODES {
        let redis = RedisServer::builder().arg("--tracking-table-max-keys", "5").start();
        let bench = Bench::new(redis, mode, &["--cache.admission", "always"]);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
        for round in 0..3 {
            for key in &keys {
                direct.cmd(&["SET", key, &round.to_string()]);
            }
            for key in &keys {
                bench.converges(&mut client, &mut direct, &format!("GET {key}"));
            }
        }
        run(&mut direct, "SET hot a");
        bench.converges(&mut client, &mut direct, "GET hot");
        bench.read_from_memory(&mut client, "GET hot");
        run(&mut direct, "SET hot b");
        bench.converges(&mut client, &mut direct, "GET hot");
    }
}
