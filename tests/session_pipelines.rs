//! Long pipelines, large values and odd segments: no deadlock, no reply out of its place.

mod session_support;
mod support;

use session_support::{Dice, Pair, caching, hits, line_bytes};
use std::io::{Read, Write};
use support::resp::encode;
use support::{RedisServer, Resp};

const MANY: usize = 100_000;

/// Writes all before it reads a byte, as blocking clients do, and compares what comes.
#[track_caller]
fn write_then_read(client: &Resp, requests: &[u8], expected: &[u8]) {
    let mut stream = client.stream();
    stream.write_all(requests).expect("the proxy takes all of it");
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).expect("as many bytes as expected");
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        let show = |bytes: &[u8]| {
            bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]
                .escape_ascii()
                .to_string()
        };
        panic!("different at byte {at}: {} instead of {}", show(&got), show(expected));
    }
}

/// Kilobytes of memory that a process has now.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("kilobytes")
}

#[test]
fn a_hundred_thousand_requests_are_written_before_a_reply_is_read() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    client.lines_ok(&["SET warm hit", "GET warm", "GET warm"]);
    let before = resident(nearhit.pid());
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for number in 0..MANY / 5 {
        let key = number % 1000;
        let lines = [
            format!("SET k{key} v{number}"),
            format!("GET k{key}"),
            "INCR n".into(),
            "GET warm".into(),
            "PING".into(),
        ];
        requests.extend(lines.iter().flat_map(|line| line_bytes(line)));
        let value = format!("v{number}");
        let replies = format!(
            "+OK\r\n${}\r\n{value}\r\n:{}\r\n$3\r\nhit\r\n+PONG\r\n",
            value.len(),
            number + 1
        );
        expected.extend(replies.bytes());
    }
    write_then_read(&client, &requests, &expected);
    let grown = resident(nearhit.pid()).saturating_sub(before);
    assert!(
        grown < 150_000,
        "{grown} kB more for {} kB of requests",
        requests.len() / 1000
    );
    assert_eq!(client.line("GET n"), (MANY / 5).to_string());
}

#[test]
fn a_hundred_thousand_writes_then_a_hundred_thousand_reads() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let client = nearhit.connect();
    let sets: Vec<u8> = (0..MANY)
        .flat_map(|number| line_bytes(&format!("SET key{number} {number}")))
        .collect();
    write_then_read(&client, &sets, "+OK\r\n".repeat(MANY).as_bytes());
    let gets: Vec<u8> = (0..MANY)
        .flat_map(|number| line_bytes(&format!("GET key{number}")))
        .collect();
    let values: String = (0..MANY)
        .map(|number| format!("${}\r\n{number}\r\n", number.to_string().len()))
        .collect();
    for round in 0..2 {
        write_then_read(&client, &gets, values.as_bytes());
        assert!(
            round == 0 || hits(&nearhit) > 1000.0,
            "round {round}: {}",
            hits(&nearhit)
        );
    }
}

#[test]
fn a_hundred_thousand_commands_in_one_transaction() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let client = nearhit.connect();
    let commands = [
        line_bytes("MULTI"),
        line_bytes("INCR n").repeat(MANY),
        line_bytes("EXEC"),
        line_bytes("GET n"),
    ]
    .concat();
    let counts: String = (1..=MANY).map(|number| format!(":{number}\r\n")).collect();
    let expected = format!(
        "+OK\r\n{}*{MANY}\r\n{counts}$6\r\n{MANY}\r\n",
        "+QUEUED\r\n".repeat(MANY)
    );
    write_then_read(&client, &commands, expected.as_bytes());
}

#[test]
fn replies_of_every_origin_keep_their_places() {
    let pair = Pair::start_with(&[("--hz", "500")], &[]);
    let lines = [
        "GET hot",
        "GET cold{}",
        "SET cold{} {}",
        "GET cold{}",
        "PING",
        "CLIENT GETNAME",
        "NOSUCH",
        "GET",
        "LPUSH hot x",
        "ECHO {}",
        "MGET hot cold{} hot",
        "SELECT 0",
        "MULTI",
        "GET hot",
        "EXEC",
        "GET hot",
        "BLPOP none 0.01",
        "HELLO 9",
        "GET hot",
        "WAIT 0 1",
        "EVAL return{1,{2}} 0",
        "GET cold{}",
        "DEL cold{}",
        "GET cold{}",
    ];
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.lines(&["SET hot 1", "GET hot", "GET hot"]);
        let all: Vec<_> = (0..40)
            .flat_map(|round| lines.map(|line| line.replace("{}", &round.to_string())))
            .collect();
        twin.pipeline(&all.iter().map(String::as_str).collect::<Vec<_>>());
        // And each kind without what takes a connection of its own.
        let kept = |line: &&String| {
            !["MULTI", "EXEC", "BLPOP", "NOSUCH", "WAIT"]
                .iter()
                .any(|word| line.starts_with(word))
        };
        twin.pipeline(&all.iter().filter(kept).map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn segments_may_end_anywhere() {
    let pair = Pair::start();
    let requests: Vec<u8> = [
        "SET k v",
        "GET k",
        "GET k",
        "*0",
        "MGET k none k",
        "PING",
        "NOSUCH a",
        "HSET h f v",
        "HGETALL h",
    ]
    .iter()
    .flat_map(|line| {
        if *line == "*0" {
            b"*0\r\n\r\n  \r\nPING inline\r\n".to_vec()
        } else {
            line_bytes(line)
        }
    })
    .collect();
    let mut dice = Dice(7);
    for most in [1, 2, 5, 30] {
        let mut twin = pair.twin();
        for _ in 0..10 {
            let mut rest = &requests[..];
            while !rest.is_empty() {
                let (piece, left) = rest.split_at((1 + dice.below(most)).min(rest.len()));
                twin.send(piece);
                rest = left;
            }
        }
        twin.frames(90);
    }
}

#[test]
fn keys_and_values_are_bytes() {
    let pair = Pair::start();
    let odd: &[&[u8]] = &[
        b"",
        b"\0",
        b"\r\n",
        b"\xff\xfe",
        b"*3\r\n$3\r\n",
        b"a b",
        b"'\"",
        b"$-1\r\n",
        b"{}",
        "\u{1f980}".as_bytes(),
    ];
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for key in odd {
            for value in odd {
                twin.same(&[b"SET", *key, *value]);
                for _ in 0..3 {
                    twin.same(&[b"GET", *key]);
                    twin.same(&[b"STRLEN", *key]);
                }
                twin.same(&[&b"HSET"[..], b"h", key, value]);
                twin.same(&[&b"HGET"[..], b"h", key]);
                twin.same(&[&b"HGET"[..], b"h", key]);
                twin.same(&[&b"MGET"[..], key, b"h", key]);
            }
            twin.same(&[&b"ECHO"[..], key]);
            twin.same(&[*key]);
            twin.same(&[*key, b"x"]);
            twin.same(&[&b"CLIENT"[..], key]);
            twin.same(&[&b"DEL"[..], key, b"h"]);
        }
    }
}

#[test]
fn values_of_every_size_pass_whole() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        // Around every buffer's size, and beyond what an entry may weigh.
        for size in [
            0,
            1,
            16 << 10,
            64 << 10,
            65_537,
            256 << 10,
            262_145,
            1 << 20,
            (1 << 20) + 1,
            20 << 20,
        ] {
            let value: Vec<u8> = (0..size)
                .map(|at: usize| b'a' + u8::try_from(at % 23).expect("a letter"))
                .collect();
            twin.same(&[b"SET", &b"big"[..], &value]);
            for _ in 0..3 {
                twin.line("GET big");
            }
            let pipeline = [
                line_bytes("GET big"),
                line_bytes("STRLEN big"),
                line_bytes("GET big"),
                line_bytes("PING"),
            ]
            .concat();
            twin.send(&pipeline);
            twin.frames(4);
            twin.line("MGET big none big");
            twin.lines(&["MULTI", "GET big", "EXEC"]);
        }
    }
    // It did not stay in memory either: entries have a limit.
    assert!(pair.nearhit.metric("nearhit_cache_bytes", &[]) < 4e6);
}

#[test]
fn a_slow_reader_gets_all_of_a_large_pipeline() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &["--server.limits.client_output_buffer", "1mb"]);
    let (mut slow, mut other) = (nearhit.connect(), nearhit.connect());
    let value = "x".repeat(100_000);
    other.cmd(&["SET", "big", &value]);
    let writer = slow.stream().try_clone().expect("a second handle");
    let requests = [encode(&["GET", "big"]), encode(&["STRLEN", "big"])]
        .concat()
        .repeat(500);
    std::thread::scope(|scope| {
        scope.spawn(|| (&writer).write_all(&requests).expect("send"));
        for _ in 0..50 {
            assert_eq!(other.line("PING"), "PONG", "nobody waits for a slow reader");
        }
        assert!(resident(nearhit.pid()) < 120_000, "{} kB", resident(nearhit.pid()));
        for _ in 0..500 {
            assert_eq!(slow.reply(), value.as_str());
            assert_eq!(slow.reply(), 100_000);
        }
    });
}

#[test]
fn what_is_ready_does_not_wait_for_a_server_that_hangs() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &["--invalidation.max-staleness", "10s"]);
    let mut client = nearhit.connect();
    client.lines_ok(&["SET warm hit", "SET cold miss", "GET warm", "GET warm", "GET warm"]);
    redis.pause();
    let requests = ["GET warm", "GET warm", "GET cold", "GET warm"]
        .map(line_bytes)
        .concat();
    write_then_read(&client, &requests, b"$3\r\nhit\r\n$3\r\nhit\r\n");
    redis.resume();
    write_then_read(&client, &[], b"$4\r\nmiss\r\n$3\r\nhit\r\n");
}
