//! Whatever is written at Redis, past the proxy, is seen through the proxy, for every kind of write.

mod coherence_support;
mod support;

use coherence_support::cases::{CASES, Case};
use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, run};
use support::Resp;

/// Reads from memory what `case` reads, writes directly, and reads until the proxy says what the server says.
#[track_caller]
fn is_seen(bench: &Bench, client: &mut Resp, direct: &mut Resp, case: &Case, prefix: &str) {
    for line in Case::lines(case.setup, prefix) {
        run(direct, &line);
    }
    let reads = Case::lines(case.reads, prefix);
    let mut before = Vec::new();
    for read in &reads {
        let hit = bench.read_from_memory(client, read);
        assert_eq!(
            hit.escape_ascii().to_string(),
            bytes(direct, read).escape_ascii().to_string(),
            "{read:?}"
        );
        before.push(hit);
    }
    for line in Case::lines(case.write, prefix) {
        run(direct, &line);
    }
    for (read, before) in reads.iter().zip(before) {
        assert_ne!(before, bytes(direct, read), "{case:?} does not change {read:?}");
        bench.converges(client, direct, read);
    }
}

fn all_cases(mode: &str, protocol: Protocol) {
    let bench = Bench::always(mode);
    let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
    for (number, case) in CASES.iter().enumerate() {
        is_seen(&bench, &mut client, &mut direct, case, &format!("c{number}:"));
    }
}

#[test]
fn every_foreign_write_is_seen_by_a_resp2_client() {
    all_cases("tracking", Protocol::Resp2);
}

#[test]
fn every_foreign_write_is_seen_by_a_resp3_client() {
    all_cases("tracking", Protocol::Resp3);
}

#[test]
fn every_foreign_write_is_seen_by_a_resp2_client_when_redirected() {
    all_cases("redirect", Protocol::Resp2);
}

#[test]
fn every_foreign_write_is_seen_by_a_resp3_client_when_redirected() {
    all_cases("redirect", Protocol::Resp3);
}

#[test]
fn every_foreign_write_is_seen_when_prefixes_are_tracked() {
    all_cases("broadcast", Protocol::Resp3);
}

#[test]
fn a_restored_key_is_seen() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        run(&mut direct, "SET from a");
        let support::Reply::Bulk(dump) = run(&mut direct, "DUMP from") else {
            panic!("DUMP gives bytes");
        };
        bench.read_from_memory(&mut client, "GET to");
        direct.cmd(&[b"RESTORE".as_slice(), b"to", b"0", &dump]);
        bench.converges(&mut client, &mut direct, "GET to");
        assert_eq!(client.cmd(&["GET", "to"]), "a");
    }
}

#[test]
fn a_popped_member_of_a_blocked_client_is_seen() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
        run(&mut direct, "RPUSH to x");
        for read in ["LLEN list", "LRANGE to 0 -1"] {
            bench.read_from_memory(&mut client, read);
        }
        let mut blocked = bench.direct(Protocol::Resp2);
        blocked.send(&["BLMOVE", "list", "to", "LEFT", "RIGHT", "10"]);
        run(&mut direct, "RPUSH list a");
        assert_eq!(blocked.reply(), "a");
        for read in ["LLEN list", "LRANGE to 0 -1"] {
            bench.converges(&mut client, &mut direct, read);
        }
    }
}

/// Tracking knows names only: a write in one database uses up what was registered in all of them.
#[test]
fn writes_to_one_name_in_two_databases_are_both_seen() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let (mut zero, mut five) = (bench.client(protocol), bench.client(protocol));
            let (mut direct0, mut direct5) = (bench.direct(protocol), bench.direct(protocol));
            run(&mut five, "SELECT 5");
            run(&mut direct5, "SELECT 5");
            for round in 0..10 {
                run(&mut direct0, &format!("SET k zero{round}"));
                run(&mut direct5, &format!("SET k five{round}"));
                bench.converges(&mut zero, &mut direct0, "GET k");
                bench.converges(&mut five, &mut direct5, "GET k");
                let at_zero = bench.read_from_memory(&mut zero, "GET k");
                let at_five = bench.read_from_memory(&mut five, "GET k");
                assert_ne!(at_zero, at_five, "one database answered for another");
                // The other database first: it consumes the registration.
                run(&mut direct5, "SET k x");
                run(&mut direct0, "SET k y");
                bench.converges(&mut zero, &mut direct0, "GET k");
                bench.converges(&mut five, &mut direct5, "GET k");
            }
        }
    }
}

#[test]
fn a_key_that_a_foreign_client_moved_or_copied_between_databases_is_seen_there() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        let mut one = bench.direct(Protocol::Resp3);
        for line in ["SET moved a", "SET copied a"] {
            run(&mut direct, line);
        }
        for connection in [&mut client, &mut one] {
            run(connection, "SELECT 1");
        }
        for read in ["GET moved", "GET copied"] {
            bench.read_from_memory(&mut client, read);
        }
        for line in ["MOVE moved 1", "COPY copied copied DB 1"] {
            run(&mut direct, line);
        }
        for read in ["GET moved", "GET copied"] {
            bench.converges(&mut client, &mut one, read);
            assert_eq!(bytes(&mut client, read), b"$1\r\na\r\n");
        }
    }
}

#[test]
fn flushes_are_seen_whoever_and_wherever() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
            let mut other = bench.direct(protocol);
            run(&mut other, "SELECT 7");
            for flush in ["FLUSHALL", "FLUSHALL ASYNC", "FLUSHDB", "FLUSHDB ASYNC"] {
                run(&mut direct, "SET k a");
                bench.converges(&mut client, &mut direct, "GET k");
                bench.read_from_memory(&mut client, "GET k");
                run(&mut direct, flush);
                bench.converges(&mut client, &mut direct, "GET k");
                // A flush of another database makes the server forget what it tracked here.
                run(&mut direct, "SET k a");
                bench.converges(&mut client, &mut direct, "GET k");
                bench.read_from_memory(&mut client, "GET k");
                run(&mut other, "FLUSHDB");
                run(&mut direct, "SET k b");
                bench.converges(&mut client, &mut direct, "GET k");
            }
        }
    }
}

#[test]
fn a_reload_of_the_data_set_is_seen() {
    for mode in MODES {
        let redis = support::RedisServer::builder()
            .arg("--enable-debug-command", "yes")
            .start();
        let bench = Bench::new(redis, mode, &["--cache.admission", "always"]);
        let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
        run(&mut direct, "SET k a");
        run(&mut direct, "SAVE");
        run(&mut direct, "SET k b");
        assert_eq!(bench.read_from_memory(&mut client, "GET k"), b"$1\r\nb\r\n");
        run(&mut direct, "DEBUG RELOAD NOSAVE");
        bench.converges(&mut client, &mut direct, "GET k");
        assert_eq!(bytes(&mut client, "GET k"), b"$1\r\na\r\n");
        bench.read_from_memory(&mut client, "GET k");
        run(&mut direct, "SET k c");
        bench.converges(&mut client, &mut direct, "GET k");
    }
}
