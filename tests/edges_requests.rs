//! Requests larger than anybody wants to hold: they pass through as they come, whole or not at all.

mod session_support;
mod support;

use session_support::{Dice, Pair, Twin, caching, line_bytes};
use std::io::Write;
use std::time::Duration;
use support::resp::encode;
use support::{Nearhit, RedisServer, SOON, eventually, wait_for};

const MIB: usize = 1 << 20;

fn value(seed: usize, size: usize) -> Vec<u8> {
    let pattern = b"abcdefghijklmnopqrstuvw";
    let seed = seed % pattern.len();
    pattern.repeat((seed + size).div_ceil(pattern.len()))[seed..seed + size].to_vec()
}

/// Sends bytes in pieces to both while it reads nothing.
fn send_in_pieces(twin: &mut Twin, bytes: &[u8], dice: &mut Dice) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at((1 + dice.below(300_000)).min(rest.len()));
        twin.send(piece);
        rest = left;
    }
}

/// Commands with arguments that are passed on as they come, and some whose arguments are not.
fn requests<'a>(big: &'a [u8], bigger: &'a [u8], crlf: &'a [u8]) -> Vec<Vec<&'a [u8]>> {
    vec![
        vec![b"SET", b"k", big],
        vec![b"SET", b"k", bigger, b"EX", b"1000"],
        vec![b"SET", b"k", crlf, b"GET"],
        vec![b"SETEX", b"k", b"1000", big],
        vec![b"APPEND", b"k", bigger],
        vec![b"SETRANGE", b"k", b"10", big],
        vec![b"GETSET", b"k", b"small"],
        vec![b"SETNX", b"k", big],
        vec![b"RPUSH", b"l", b"a", big, b"b", bigger, b"", b"c"],
        vec![b"RPUSH", b"k", big],
        vec![b"HSET", b"h", b"f", big, b"g", bigger],
        vec![b"SADD", b"s", big, bigger],
        vec![b"XADD", b"x", b"1-1", b"f", big],
        vec![b"LPOS", b"l", bigger],
        vec![b"PUBLISH", b"c", big],
        vec![b"ECHO", bigger],
        vec![b"SET", b"k", big, b"NOSUCH"],
        vec![b"SETNX", b"k", big, b"too many"],
        vec![b"NOSUCH", b"k", big],
        vec![b"MSET", b"k", big, b"j", bigger],
        vec![b"EVAL", b"return #ARGV[1]", b"0", big],
        vec![b"GETRANGE", b"k", big, b"1"],
    ]
}

#[test]
fn large_arguments_arrive_as_they_were_sent() {
    let pair = Pair::start();
    let (big, bigger, crlf) = (value(1, 2 * MIB), value(2, 5 * MIB + 7), b"\r\n".repeat(MIB));
    let requests = requests(&big, &bigger, &crlf);
    let mut dice = Dice(3);
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for request in &requests {
            let bytes = encode(request);
            let around = [
                line_bytes("INCR n"),
                bytes.clone(),
                line_bytes("GET k"),
                line_bytes("INCR n"),
            ]
            .concat();
            send_in_pieces(&mut twin, &around, &mut dice);
            twin.frames(4);
            twin.lines(&[
                "STRLEN k",
                "GET k",
                "LRANGE l 0 -1",
                "HGET h f",
                "HGET h g",
                "SCARD s",
                "XLEN x",
                "MGET j",
            ]);
        }
        let all: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        let (direct, proxied) = (twin.direct.stream().try_clone(), twin.proxied.stream().try_clone());
        std::thread::scope(|scope| {
            for stream in [direct, proxied] {
                scope.spawn(|| stream.expect("a handle").write_all(&all).expect("send"));
            }
            twin.frames(requests.len());
        });
        twin.line("DEL k l h s x j n");
    }
}

#[test]
fn a_large_argument_is_sent_whatever_state_the_session_is_in() {
    let pair = Pair::start();
    let (big, small) = (value(4, 3 * MIB), value(5, 10));
    for before in [
        "MULTI",
        "WATCH k",
        "SELECT 3",
        "CLIENT TRACKING ON",
        "SUBSCRIBE c",
        "HELLO 3|SUBSCRIBE c",
        "CLIENT REPLY SKIP|PING",
        "CLIENT REPLY OFF|CLIENT REPLY ON",
        "GET k|BLPOP none 0.01",
    ] {
        let mut twin = pair.twin();
        for line in before.split('|') {
            twin.send(&line_bytes(line));
        }
        for value in [&big, &small] {
            twin.send(&encode(&[&b"SET"[..], b"k", value]));
        }
        // Told apart from what came before by its number.
        twin.send(
            &[
                line_bytes("PING"),
                line_bytes("EXEC"),
                line_bytes("RESET"),
                line_bytes("ECHO end"),
            ]
            .concat(),
        );
        for _ in 0..20 {
            if twin.reply(before.as_bytes()) == "end" {
                break;
            }
        }
        pair.foreign("GET k");
    }
}

/// The beginning of `SET k` with a value of so many bytes, and the first of these.
fn beginning(size: usize, sent: usize) -> Vec<u8> {
    [
        format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${size}\r\n").into_bytes(),
        value(0, sent),
    ]
    .concat()
}

#[test]
fn half_a_request_never_runs() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    redis.cmd(&["SET", "k", "old"]);
    for end in ["leave", "close_write", "framing", "header"] {
        let mut client = nearhit.connect();
        client.send_raw(beginning(4 * MIB, 3 * MIB));
        wait_for("the upload", SOON, || {
            nearhit.metric("nearhit_clients_pinned", &[]) == 1.0
        });
        match end {
            "leave" => drop(client),
            "close_write" => {
                client.close_write();
                client.expect_closed();
            }
            _ => {
                client.send_raw(value(3 * MIB, MIB));
                client.send_raw(if end == "framing" { "xx" } else { "\r\n*x\r\n" });
                let heard = client.read_to_close();
                let said = if end == "framing" {
                    "-ERR Protocol error: invalid bulk length\r\n"
                } else {
                    "+OK\r\n-ERR Protocol error: invalid multibulk length\r\n"
                };
                assert_eq!(String::from_utf8_lossy(&heard), said, "{end}");
            }
        }
        wait_for("nobody", SOON, || {
            nearhit.metric("nearhit_clients_connected", &[]) == 0.0
        });
        let value = redis.cmd(&["STRLEN", "k"]);
        assert_eq!(value, if end == "header" { 4 * MIB as i64 } else { 3 }, "{end}");
        redis.cmd(&["SET", "k", "old"]);
        assert_eq!(nearhit.connect().line("GET k"), "old");
    }
    assert_eq!(nearhit.metric("nearhit_uncertain_replies_total", &[]), 0.0);
}

#[test]
fn a_whole_request_of_a_client_that_says_no_more_runs() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    // What waits in nearhit at the end depends on the size; one of these ends while something does.
    for size in (0..25).map(|step| 10 * MIB + step * 50_000) {
        let bytes = [beginning(size, size), b"\r\nSTRLEN k\r\n".to_vec()].concat();
        let mut client = nearhit.connect();
        client.send_raw(&bytes[..2 * MIB]);
        wait_for("the upload", SOON, || {
            nearhit.metric("nearhit_clients_pinned", &[]) == 1.0
        });
        redis.pause();
        let mut stream = client.stream().try_clone().expect("a handle");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stream.write_all(&bytes[2 * MIB..]).expect("send the rest");
                client.close_write();
            });
            nearhit.connect().expect_silence(Duration::from_millis(30));
            redis.resume();
        });
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.reply(), i64::try_from(size).expect("a size"));
        client.expect_closed();
    }
}

#[test]
fn what_breaks_behind_a_large_argument_is_told_as_redis_tells_it() {
    let pair = Pair::start();
    for tail in [
        "\r\n$x\r\n",
        "\r\n$-1\r\n",
        "\r\n+OK\r\n",
        "\r\n$01\r\n",
        "\r\n$536870913\r\n",
        "\r\n\r\n",
    ] {
        let mut twin = pair.twin();
        let begin = format!("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 2 * MIB);
        let bytes = [
            line_bytes("PING"),
            begin.into_bytes(),
            value(0, 2 * MIB),
            tail.as_bytes().to_vec(),
        ]
        .concat();
        twin.send(&bytes);
        twin.closes(tail.as_bytes());
        assert!(pair.twin().line("GET k").is_nil());
    }
}

#[test]
fn readers_see_the_old_value_until_the_new_one_is_acknowledged_and_never_after() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let (mut writer, mut reader) = (nearhit.connect(), nearhit.connect());
    for round in 0..20 {
        let old = format!("old{round}");
        redis.cmd(&["SET", "k", &old]);
        assert!(eventually(SOON, || reader.line("GET k") == old));
        writer.send_raw(beginning(2 * MIB, MIB / 2));
        for _ in 0..20 {
            assert_eq!(reader.line("GET k"), old);
        }
        writer.send_raw([value(MIB / 2, 2 * MIB - MIB / 2), b"\r\n".to_vec()].concat());
        assert_eq!(writer.reply(), "OK");
        assert_eq!(reader.line("STRLEN k"), 2 * MIB as i64);
        assert_eq!(reader.line("GET k").bytes().expect("a value").len(), 2 * MIB);
    }
}

#[test]
fn a_value_of_two_hundred_megabytes_is_never_held() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let (mut client, mut other) = (nearhit.connect(), nearhit.connect());
    client.patience(Duration::from_secs(30));
    client.line("PING");
    let before = nearhit.resident();
    let (chunk, chunks) = (value(0, MIB), 200);
    let mut most = 0;
    client.send_raw(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", chunks * MIB));
    for _ in 0..chunks {
        client.send_raw(&chunk);
        most = most.max(nearhit.resident());
    }
    client.send_raw("\r\n");
    assert_eq!(client.reply(), "OK");
    assert_eq!(other.line("STRLEN k"), (chunks * MIB) as i64);
    let grown = most.saturating_sub(before);
    assert!(grown < 12 * MIB as u64, "{} MiB more", grown / MIB as u64);
}

#[test]
fn a_server_that_does_not_read_holds_up_the_client_and_not_the_memory() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let mut client = nearhit.connect();
    client.line("GET k");
    let before = nearhit.resident();
    client.send_raw(beginning(100 * MIB, 2 * MIB));
    wait_for("the upload", SOON, || {
        nearhit.metric("nearhit_clients_pinned", &[]) == 1.0
    });
    redis.pause();
    let mut stream = client.stream().try_clone().expect("a handle");
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let sent = stream
            .write_all(&value(2 * MIB, 98 * MIB))
            .and_then(|()| stream.write_all(b"\r\n"));
        sender.send(sent.is_ok()).expect("the test waits");
    });
    let early = done.recv_timeout(Duration::from_millis(700));
    assert!(early.is_err(), "98 MB went nowhere");
    let grown = nearhit.resident().saturating_sub(before);
    redis.resume();
    assert!(
        done.recv_timeout(Duration::from_secs(10)).expect("an end"),
        "everything was sent"
    );
    assert_eq!(client.reply(), "OK");
    assert!(grown < 12 * MIB as u64, "{} MiB more", grown / MIB as u64);
    assert_eq!(redis.cmd(&["STRLEN", "k"]), 100 * MIB as i64);
}

#[test]
fn a_server_that_refuses_or_leaves_in_the_middle_ends_the_upload() {
    let mut redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    assert_eq!(redis.cmd(&["CONFIG", "SET", "proto-max-bulk-len", "2mb"]), "OK");
    let mut client = nearhit.connect();
    client.line("PING");
    client.send_raw(beginning(4 * MIB, MIB));
    let heard = client.read_to_close();
    assert_eq!(
        String::from_utf8_lossy(&heard),
        "-ERR Protocol error: invalid bulk length\r\n"
    );
    redis.cmd(&["CONFIG", "SET", "proto-max-bulk-len", "512mb"]);
    let mut client = nearhit.connect();
    client.send_raw(beginning(4 * MIB, 2 * MIB));
    wait_for("the upload", SOON, || {
        nearhit.metric("nearhit_clients_pinned", &[]) == 1.0
    });
    redis.kill9();
    let heard = client.read_to_close();
    assert!(
        heard.starts_with(b"-ERR nearhit: upstream connection lost before the command was sent"),
        "{}",
        heard.escape_ascii()
    );
    assert_eq!(nearhit.metric("nearhit_uncertain_replies_total", &[]), 0.0);
}

/// Sets a key a few times and looks what it is; some leave in the middle of the last time.
fn upload_and_look(nearhit: &Nearhit, redis: &RedisServer, number: usize) {
    let mut client = nearhit.connect();
    let key = format!("k{number}");
    for round in 0..4 {
        let value = value(number + round, 2 * MIB + number);
        let bytes = encode(&[&b"SET"[..], key.as_bytes(), &value]);
        if number.is_multiple_of(3) && round == 3 {
            return client.send_raw(&bytes[..MIB + MIB / 2]);
        }
        client.send_raw(&bytes);
        assert_eq!(client.reply(), "OK");
        assert!(redis.cmd(&["GET", &key]).bytes() == Some(&value), "{key}");
    }
}

#[test]
fn many_upload_at_once_and_some_leave() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--upstream.pinned-max", "5"]);
    std::thread::scope(|scope| {
        for number in 0..15_usize {
            let (nearhit, redis) = (&nearhit, &redis);
            scope.spawn(move || upload_and_look(nearhit, redis, number));
        }
    });
    for number in 0..15 {
        let size = 2 * MIB + number;
        assert_eq!(redis.cmd(&["STRLEN", &format!("k{number}")]), size as i64);
    }
}
