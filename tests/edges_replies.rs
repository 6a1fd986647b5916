//! Replies larger than anybody wants to hold: they pass through as fast as the client reads, and cost others nothing.

mod session_support;
mod support;

use session_support::{Pair, line_bytes, wait_for_cache};
use std::io::Read;
use std::time::Duration;
use support::{Nearhit, RedisServer, Resp, SOON, eventually, wait_for};

const MIB: u64 = 1 << 20;
/// The output buffer of these tests.
const BUFFER: u64 = 8 * MIB;
/// What nearhit may grow by beyond the buffer: reads and pieces under way, the allocator's slack.
const SLACK: u64 = 12 * MIB;

fn small_buffer(redis: &RedisServer, args: &[&str]) -> Nearhit {
    let buffer = ["--server.limits.client_output_buffer", "8mb", "--server.threads", "1"];
    Nearhit::serve_with(&redis.url(), &[&buffer[..], args].concat())
}

/// A server where `big` is a string of so many bytes, `list` has it twice, and `mid` is a megabyte.
fn stocked(size: u64) -> RedisServer {
    let redis = RedisServer::start();
    let mut client = redis.client();
    let last = (size - 1).to_string();
    assert_eq!(
        client.cmd(&["SETRANGE", "big", &last, "x"]).int(),
        i64::try_from(size).expect("a size")
    );
    let push = "local b = redis.call('GET', 'big') return redis.call('RPUSH', 'list', b, b)";
    assert_eq!(client.cmd(&["EVAL", push, "2", "big", "list"]), 2);
    assert_eq!(client.cmd(&["SETRANGE", "mid", "1048575", "x"]), MIB as i64);
    redis
}

/// Reads so many bytes and says whether the last two are a line end.
#[track_caller]
fn read_through(client: &Resp, bytes: u64) {
    let mut stream = client.stream();
    let (mut chunk, mut left) = (vec![0; 1 << 20], usize::try_from(bytes).expect("a size"));
    let mut end = [0, 0];
    while left > 0 {
        let most = chunk.len().min(left);
        let count = stream.read(&mut chunk[..most]).expect("more of the reply");
        assert!(count > 0, "closed with {left} bytes missing");
        left -= count;
        if count >= 2 {
            end.copy_from_slice(&chunk[count - 2..count]);
        }
    }
    assert!(end == *b"\r\n" || end[1] == b'\n', "{end:?}");
}

/// Lets `client` not read for a while; others are served meanwhile, and memory is bounded.
#[track_caller]
fn others_do_not_notice(nearhit: &Nearhit, redis: &RedisServer, before: u64) {
    let mut other = nearhit.connect();
    let start = nearhit::time::now();
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for at in 0.. {
        let sent = nearhit::time::now();
        assert_eq!(other.line("INCR n"), at + 1);
        assert_eq!(other.line("STRLEN mid"), MIB as i64);
        slowest = slowest.max(nearhit::time::now().since(sent));
        most = most.max(nearhit.resident());
        if nearhit::time::now().since(start) > Duration::from_millis(500) {
            break;
        }
    }
    redis.cmd(&["DEL", "n"]);
    let grown = most.saturating_sub(before);
    assert!(grown < BUFFER + SLACK, "{} MiB more", grown / MIB);
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

#[test]
fn a_reply_nobody_reads_waits_at_the_server_and_comes_whole_in_the_end() {
    let redis = stocked(60 * MIB);
    let nearhit = small_buffer(&redis, &[]);
    wait_for_cache(&nearhit);
    let mut warm = nearhit.connect();
    warm.line("GET mid");
    let before = nearhit.resident();
    let bulk = |size: u64| format!("${size}\r\n").len() as u64 + size + 2;
    let big = bulk(60 * MIB);
    let cases = [
        // Cold, then known to be large.
        ("GET big\r\n", big),
        ("GET big\r\n", big),
        ("LRANGE list 0 -1\r\n", 4 + 2 * big),
        ("EVAL \"return redis.call('GET', 'big')\" 1 big\r\n", big),
        ("MULTI\r\nGET big\r\nEXEC\r\n", 5 + 9 + 4 + big),
        (
            "MULTI\r\nPUBLISH c m\r\nGET big\r\nSELECT 0\r\nGET big\r\nEXEC\r\n",
            5 + 4 * 9 + 4 + 4 + big + 5 + big,
        ),
        ("GET big\r\nGET big\r\nPING\r\n", 2 * big + 7),
        ("PING\r\nMGET big mid big\r\nPING\r\n", 7 + 4 + 2 * big + bulk(MIB) + 7),
    ];
    for (requests, bytes) in cases {
        let mut slow = nearhit.connect();
        let arrived = || nearhit.metric("nearhit_upstream_bytes_total", &["in"]);
        let earlier = arrived();
        slow.send_raw(requests);
        // Whoever asks from now on does not wait behind it: 4 MiB of it were passed on, and a part is on its way.
        wait_for("five megabytes", SOON, || arrived() > earlier + 5.0 * MIB as f64);
        others_do_not_notice(&nearhit, &redis, before);
        read_through(&slow, bytes);
        assert_eq!(slow.line("ECHO end"), "end", "{requests}");
    }
}

#[test]
fn four_hundred_megabytes_in_a_pipeline_wait_at_the_server() {
    let redis = stocked(MIB);
    for args in [&["--invalidation.mode", "off"][..], &["--cache.admission", "always"]] {
        let nearhit = small_buffer(&redis, args);
        let mut warm = nearhit.connect();
        warm.lines_ok(&["GET mid", "GET mid"]);
        let before = nearhit.resident();
        let mut slow = nearhit.connect();
        slow.send_raw(line_bytes("GET mid").repeat(400));
        others_do_not_notice(&nearhit, &redis, before);
        read_through(&slow, 400 * (MIB + 12));
        assert_eq!(slow.line("ECHO end"), "end");
    }
}

/// A client whose request for a large reply is at the server, which is paused, and another one that has asked for nothing.
fn one_asks_for_much(nearhit: &Nearhit, redis: &RedisServer) -> (Resp, Resp) {
    let (mut slow, mut behind) = (nearhit.connect(), nearhit.connect());
    behind.line("GET n");
    redis.pause();
    slow.send(&["GET", "big"]);
    wait_for("the request on its way", SOON, || {
        nearhit.metric("nearhit_upstream_bytes_total", &["out"]) > 40.0
    });
    (slow, behind)
}

#[test]
fn who_stands_behind_a_reply_nobody_reads_waits_a_moment_and_its_reader_is_closed() {
    let redis = stocked(60 * MIB);
    let nearhit = small_buffer(&redis, &["--invalidation.mode", "off"]);
    let (slow, mut behind) = one_asks_for_much(&nearhit, &redis);
    behind.send(&["INCR", "n"]);
    wait_for("another behind it", SOON, || {
        nearhit.metric("nearhit_upstream_bytes_total", &["out"]) > 60.0
    });
    redis.resume();
    let start = nearhit::time::now();
    assert_eq!(behind.reply(), 1);
    let took = nearhit::time::now().since(start);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(
        nearhit.metric("nearhit_client_disconnects_total", &["slow_reader"]),
        1.0
    );
    assert!(slow.stream().read(&mut [0; 16]).is_ok(), "what was there may be read");
    assert_eq!(behind.line("INCR n"), 2);
}

#[test]
fn who_stands_behind_a_reply_that_is_read_gets_both() {
    let redis = stocked(60 * MIB);
    let nearhit = small_buffer(&redis, &["--invalidation.mode", "off"]);
    let (mut slow, mut behind) = one_asks_for_much(&nearhit, &redis);
    behind.send_raw("INCR n\r\nINCR n\r\n");
    redis.resume();
    read_through(&slow, 60 * MIB + 13);
    behind.send_raw("INCR n\r\nGET n\r\n");
    for reply in [1, 2, 3] {
        assert_eq!(behind.reply(), reply);
    }
    assert_eq!(behind.reply(), "3");
    assert_eq!(slow.line("PING"), "PONG");
}

#[test]
fn a_client_that_leaves_leaves_no_bytes_behind() {
    let redis = stocked(60 * MIB);
    let nearhit = small_buffer(&redis, &["--invalidation.mode", "off"]);
    let before = nearhit.resident();
    for _ in 0..3 {
        let mut gone = nearhit.connect();
        gone.send_raw("EVAL \"return redis.call('GET', 'big')\" 1 big\r\n".repeat(3));
        assert!(gone.stream().read(&mut [0; 16]).expect("the reply begins") > 0);
        drop(gone);
    }
    assert_eq!(nearhit.connect().line("PING"), "PONG");
    wait_for("all of them are gone", SOON, || {
        nearhit.metric("nearhit_clients_connected", &[]) == 0.0
    });
    let connections = || nearhit.metric("nearhit_upstream_connections", &["shared"]);
    assert!(eventually(SOON, || connections() <= 1.0), "{}", connections());
    let grown = nearhit.resident().saturating_sub(before);
    assert!(grown < BUFFER + SLACK, "{} MiB more", grown / MIB);
}

#[test]
fn a_large_message_reaches_its_subscribers_whole() {
    let pair = Pair::start();
    let message = "m".repeat(3 << 20);
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.line("SUBSCRIBE c");
        for server in [&pair.direct, &pair.behind] {
            server.client().cmd(&["PUBLISH", "c", &message]);
        }
        twin.reply(b"message");
        let mut watcher = pair.twin_in(version);
        watcher.line("MONITOR");
        watcher.line("PING");
    }
}
