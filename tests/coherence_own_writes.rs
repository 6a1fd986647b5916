//! What a client wrote through the proxy is there for every client of the proxy, at once: nothing here waits.

mod coherence_support;
mod support;

use coherence_support::cases::{CASES, Case};
use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, in_one_packet, run};
use support::Resp;

/// Where tracking alone tells what was written: only the writer itself sees that at once.
fn is_undeclared(case: &Case) -> bool {
    case.write.contains("ARGV[")
}

/// How a case is written and read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By one client, a request after the other.
    InTurn,
    /// By one client, all in one packet.
    OnePacket,
    /// Written by one client, read by another one.
    ByAnother,
}

fn replies_after(way: Way, writer: &mut Resp, reader: &mut Resp, writes: &[String], reads: &[String]) -> Vec<Vec<u8>> {
    match way {
        Way::OnePacket => {
            let all: Vec<_> = writes.iter().chain(reads).cloned().collect();
            in_one_packet(writer, &all).split_off(writes.len())
        }
        Way::InTurn => {
            writes.iter().for_each(|line| drop(run(writer, line)));
            reads.iter().map(|line| bytes(writer, line)).collect()
        }
        Way::ByAnother => {
            writes.iter().for_each(|line| drop(run(writer, line)));
            reads.iter().map(|line| bytes(reader, line)).collect()
        }
    }
}

fn all_cases(mode: &str, protocol: Protocol) {
    let bench = Bench::always(mode);
    let (mut writer, mut reader) = (bench.client(protocol), bench.client(protocol));
    let mut direct = bench.direct(protocol);
    let mut cached_reads = 0.0;
    for way in [Way::InTurn, Way::OnePacket, Way::ByAnother] {
        let cases = CASES
            .iter()
            .filter(|case| way != Way::ByAnother || !is_undeclared(case));
        for (number, case) in cases.enumerate() {
            let prefix = format!("w{}c{number}:", way as u8);
            for line in Case::lines(case.setup, &prefix) {
                run(&mut writer, &line);
            }
            let reads = Case::lines(case.reads, &prefix);
            for read in &reads {
                // The second or third time it is in memory; that it was is counted at the end.
                (0..3).for_each(|_| drop(bytes(&mut reader, read)));
                cached_reads += 1.0;
            }
            let writes = Case::lines(case.write, &prefix);
            let replies = replies_after(way, &mut writer, &mut reader, &writes, &reads);
            for (read, reply) in reads.iter().zip(replies) {
                let truth = bytes(&mut direct, read).escape_ascii().to_string();
                assert_eq!(reply.escape_ascii().to_string(), truth, "{read:?} after {writes:?}");
            }
        }
    }
    assert!(
        bench.hits() >= cached_reads,
        "hardly a read was a hit: this tests nothing"
    );
}

#[test]
fn every_own_write_is_seen_at_once_by_resp2_clients() {
    all_cases("tracking", Protocol::Resp2);
}

#[test]
fn every_own_write_is_seen_at_once_by_resp3_clients() {
    all_cases("tracking", Protocol::Resp3);
}

#[test]
fn every_own_write_is_seen_at_once_when_redirected() {
    all_cases("redirect", Protocol::Resp3);
}

/// The reply a read must have, or nothing particular.
type Step = (String, Option<String>);

#[track_caller]
fn says_in_one_packet(client: &mut Resp, steps: &[Step]) {
    let lines: Vec<_> = steps.iter().map(|(line, _)| line.clone()).collect();
    for ((line, wanted), reply) in steps.iter().zip(in_one_packet(client, &lines)) {
        assert_ne!(reply.first(), Some(&b'-'), "{line:?}");
        if let Some(wanted) = wanted {
            let wanted = format!("${}\r\n{wanted}\r\n", wanted.len());
            assert_eq!(String::from_utf8_lossy(&reply), wanted, "{line:?}");
        }
    }
}

fn step(line: impl Into<String>, wanted: impl Into<String>) -> Step {
    (line.into(), Some(wanted.into()))
}

fn write(line: impl Into<String>) -> Step {
    (line.into(), None)
}

#[test]
fn writes_and_reads_in_one_packet_keep_their_order() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let mut client = bench.client(protocol);
            for warm in [false, true] {
                run(&mut client, "SET k before");
                if warm {
                    bench.read_from_memory(&mut client, "GET k");
                }
                let mut steps = vec![step("GET k", "before")];
                for round in 0..300 {
                    steps.push(write(format!("SET k {round}")));
                    steps.extend((0..round % 4).map(|_| step("GET k", round.to_string())));
                    steps.push(write(format!("GET other{}", round % 7)));
                }
                says_in_one_packet(&mut client, &steps);
            }
        }
    }
}

/// The read before a write must not be answered with what the write wrote.
#[test]
fn a_read_before_a_write_in_one_packet_does_not_see_it() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let mut client = bench.client(protocol);
            for round in 0..200 {
                let key = format!("k{round}");
                let steps = [
                    write(format!("SET {key} old")),
                    step(format!("GET {key}"), "old"),
                    step(format!("GETRANGE {key} 0 -1"), "old"),
                    write(format!("SET {key} new")),
                    step(format!("GETRANGE {key} 0 -1"), "new"),
                    step(format!("GET {key}"), "new"),
                ];
                says_in_one_packet(&mut client, &steps);
                // A cold read at the very front, so that it is fetched for the cache.
                let steps = [
                    step(format!("GET {key}"), "new"),
                    write(format!("SET {key} newer")),
                    step(format!("GET {key}"), "newer"),
                ];
                says_in_one_packet(&mut client, &steps);
            }
        }
    }
}

#[test]
fn undeclared_effects_of_scripts_are_seen_by_their_client() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let mut client = bench.client(protocol);
            run(&mut client, "SET k start");
            for round in 0..100 {
                bench.client(protocol).cmd(&["GET", "k"]);
                client.cmd(&["GET", "k"]);
                run(
                    &mut client,
                    &format!("EVAL 'return redis.call(\"SET\", ARGV[1], \"a{round}\")' 0 k"),
                );
                assert_eq!(client.cmd(&["GET", "k"]), format!("a{round}"), "after EVAL");
                let steps = [
                    step("GET k", format!("a{round}")),
                    write(format!(
                        "EVAL 'return redis.call(\"SET\", ARGV[1], \"b{round}\")' 1 declared k"
                    )),
                    step("GET k", format!("b{round}")),
                    write("GET declared"),
                    step("GET k", format!("b{round}")),
                ];
                says_in_one_packet(&mut client, &steps);
                assert_eq!(client.cmd(&["GET", "k"]), format!("b{round}"), "after a packet");
            }
        }
    }
}

#[test]
fn functions_and_scripts_by_hash_are_seen_by_their_client() {
    let bench = Bench::always("tracking");
    let mut client = bench.client(Protocol::Resp3);
    let library = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('SET', args[1], args[2]) end)";
    client.cmd(&["FUNCTION", "LOAD", library]);
    let sha = client
        .cmd(&["SCRIPT", "LOAD", "return redis.call('SET', ARGV[1], ARGV[2])"])
        .text();
    run(&mut client, "SET k start");
    for round in 0..100 {
        let value = round.to_string();
        client.cmd(&["GET", "k"]);
        client.cmd(&["GET", "k"]);
        if round % 2 == 0 {
            client.cmd(&["FCALL", "put", "0", "k", &value]);
        } else {
            client.cmd(&["EVALSHA", &sha, "0", "k", &value]);
        }
        assert_eq!(client.cmd(&["GET", "k"]), value);
    }
}

#[test]
fn transactions_are_seen_at_once_by_everybody() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let (mut client, mut other) = (bench.client(protocol), bench.client(protocol));
            run(&mut client, "SET k start");
            for round in 0..50 {
                for reader in [&mut client, &mut other] {
                    reader.cmd(&["GET", "k"]);
                    reader.cmd(&["GET", "k"]);
                }
                for line in ["MULTI", &format!("SET k {round}"), "GET k", "EXEC"] {
                    run(&mut client, line);
                }
                assert_eq!(client.cmd(&["GET", "k"]), round.to_string());
                assert_eq!(other.cmd(&["GET", "k"]), round.to_string());
                let packet = format!("GET k;MULTI;APPEND k x;GET k;EXEC;GET k;SET k y{round};GET k");
                let lines: Vec<_> = packet.split(';').map(str::to_owned).collect();
                let replies = in_one_packet(&mut client, &lines);
                assert_eq!(support::resp::decode(&replies[0]), round.to_string());
                assert_eq!(support::resp::decode(&replies[5]), format!("{round}x"));
                assert_eq!(support::resp::decode(&replies[7]), format!("y{round}"));
            }
        }
    }
}

/// Compare and set: what is read after WATCH must come from the server, or the update of another client is lost.
#[test]
fn optimistic_locking_loses_no_update() {
    for mode in MODES {
        let bench = Bench::always(mode);
        run(&mut bench.direct(Protocol::Resp2), "SET n 0");
        let count = |mut client: Resp| {
            let mut done = 0;
            while done < 50 {
                client.cmd(&["GET", "n"]);
                client.cmd(&["WATCH", "n"]);
                let next = client.cmd(&["GET", "n"]).text().parse::<i64>().expect("a number") + 1;
                client.cmd(&["MULTI"]);
                client.cmd(&["SET", "n", &next.to_string()]);
                done += i64::from(!client.cmd(&["EXEC"]).is_nil());
                assert!(client.cmd(&["GET", "n"]).text().parse::<i64>().expect("a number") >= next - 1);
            }
        };
        std::thread::scope(|scope| {
            for client in [
                bench.client(Protocol::Resp2),
                bench.client(Protocol::Resp3),
                bench.direct(Protocol::Resp2),
            ] {
                scope.spawn(move || count(client));
            }
        });
        assert_eq!(bench.redis.cmd(&["GET", "n"]), "150");
        assert_eq!(bench.client(Protocol::Resp2).cmd(&["GET", "n"]), "150");
    }
}

#[test]
fn blocking_pops_are_seen_at_once_by_everybody() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let (mut client, mut other) = (bench.client(protocol), bench.client(protocol));
            for round in 0..30 {
                // There is something to pop.
                run(&mut client, "RPUSH list a b c");
                bench.read_from_memory(&mut client, "LLEN list");
                let pop = ["BLPOP list 1", "BLMOVE list to LEFT RIGHT 1", "BLMPOP 1 1 list LEFT"][round % 3];
                run(&mut client, pop);
                assert_eq!(client.cmd(&["LLEN", "list"]), 2);
                assert_eq!(other.cmd(&["LLEN", "list"]), 2);
                let replies = in_one_packet(
                    &mut client,
                    &["BRPOP list 1", "LLEN list", "RPOP list", "LLEN list"].map(String::from),
                );
                assert_eq!(support::resp::decode(&replies[1]), 1);
                assert_eq!(support::resp::decode(&replies[3]), 0);
                // The popper waits; the pusher and the popper both know what happened.
                bench.read_from_memory(&mut other, "LRANGE list 0 -1");
                client.send(&["BLPOP", "list", "5"]);
                support::wait_for("the popper to wait", support::SOON, || {
                    bench.redis.info("blocked_clients") == "1"
                });
                run(&mut other, "RPUSH list x y");
                assert_eq!(other.cmd(&["LRANGE", "list", "0", "-1"]), ["y"]);
                client.reply();
                assert_eq!(client.cmd(&["LRANGE", "list", "0", "-1"]), ["y"]);
                run(&mut client, "DEL list");
            }
        }
    }
}

#[test]
fn a_packet_that_changes_databases_reads_in_each() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let mut client = bench.client(protocol);
            for round in 0..50 {
                let steps = [
                    write(format!("SET k zero{round}")),
                    step("GET k", format!("zero{round}")),
                    write("SELECT 3"),
                    write(format!("SET k three{round}")),
                    step("GET k", format!("three{round}")),
                    write("SELECT 0"),
                    step("GET k", format!("zero{round}")),
                    write("SELECT 3"),
                    step("GET k", format!("three{round}")),
                    write("SWAPDB 0 3"),
                    step("GET k", format!("zero{round}")),
                    write("SELECT 0"),
                    step("GET k", format!("three{round}")),
                    write("FLUSHDB"),
                    write("GET k"),
                    write("COPY k k DB 3".to_owned()),
                    write("SELECT 3"),
                    step("GET k", format!("zero{round}")),
                    write("FLUSHALL"),
                    write("GET k"),
                    write("SELECT 0"),
                ];
                says_in_one_packet(&mut client, &steps);
                assert!(client.cmd(&["GET", "k"]).is_nil());
            }
        }
    }
}

#[test]
fn commands_that_concern_everything_are_seen_at_once_by_everybody() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            let (mut client, mut other) = (bench.client(protocol), bench.client(protocol));
            for flush in [
                "FLUSHALL",
                "FLUSHDB",
                "FLUSHALL ASYNC",
                "SWAPDB 0 9",
                "MULTI;FLUSHDB;EXEC",
            ] {
                run(&mut client, "FLUSHALL");
                run(&mut client, "SET k a");
                bench.read_from_memory(&mut other, "GET k");
                bench.read_from_memory(&mut client, "GET k");
                for line in flush.split(';') {
                    run(&mut client, line);
                }
                assert!(client.cmd(&["GET", "k"]).is_nil(), "{flush}");
                assert!(other.cmd(&["GET", "k"]).is_nil(), "{flush}");
            }
        }
    }
}

#[test]
fn muted_writes_are_seen_at_once() {
    let bench = Bench::always("tracking");
    let (mut client, mut other) = (bench.client(Protocol::Resp2), bench.client(Protocol::Resp3));
    run(&mut client, "SET k start");
    for round in 0..50 {
        bench.client(Protocol::Resp2).cmd(&["GET", "k"]);
        client.cmd(&["GET", "k"]);
        client.send(&["CLIENT", "REPLY", "OFF"]);
        client.send(&["SET", "k", &round.to_string()]);
        client.send(&["CLIENT", "REPLY", "ON"]);
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.cmd(&["GET", "k"]), round.to_string());
        assert_eq!(other.cmd(&["GET", "k"]), round.to_string());
    }
}
