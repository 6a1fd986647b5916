//! What a client may send before it has said who it is: Redis' small limits, and its words.

mod session_support;
mod support;

use session_support::{Pair, line_bytes};
use support::{Nearhit, RedisServer};

fn guarded() -> RedisServer {
    let redis = RedisServer::start();
    assert_eq!(redis.cmd(&["CONFIG", "SET", "requirepass", "secret"]), "OK");
    redis
}

fn pair() -> Pair {
    let (direct, behind) = (guarded(), guarded());
    let nearhit = Nearhit::serve(&behind.url());
    let pair = Pair {
        direct,
        behind,
        nearhit,
    };
    // The first stranger is told that there is a password.
    assert!(pair.twin().line("GET k").is_error_with("NOAUTH"));
    pair
}

fn many(count: usize) -> Vec<u8> {
    line_bytes(&format!("DEL {}", "k ".repeat(count - 1)))
}

fn long(len: usize) -> Vec<u8> {
    line_bytes(&format!("ECHO {}", "x".repeat(len)))
}

#[test]
fn a_stranger_is_cut_off_at_ten_arguments_and_sixteen_kilobytes() {
    let pair = pair();
    for before in [
        "",
        "PING\r\n",
        "*0\r\n",
        "AUTH wrong\r\n",
        "AUTH secret\r\nRESET\r\n",
        "GET k\r\nHELLO 3\r\n",
    ] {
        for bytes in [
            many(11),
            long(16_385),
            b"*11\r\n".to_vec(),
            b"*2\r\n$4\r\nECHO\r\n$16385\r\n".to_vec(),
        ] {
            let mut twin = pair.twin();
            let sent = [before.as_bytes(), &bytes].concat();
            twin.send(&sent);
            let heard = twin.closes(&sent);
            let text = String::from_utf8_lossy(&heard).into_owned();
            assert!(text.contains("-ERR Protocol error: unauthenticated "), "{text}");
        }
    }
}

#[test]
fn what_is_small_enough_is_answered_as_to_any_stranger() {
    let pair = pair();
    let mut twin = pair.twin();
    for bytes in [
        many(10),
        long(16_384),
        format!("DEL {}\r\n", "k ".repeat(20)).into_bytes(),
    ] {
        twin.send(&bytes);
        assert!(twin.reply(&bytes).is_error_with("NOAUTH"));
    }
}

#[test]
fn a_long_inline_request_of_a_stranger_is_answered_in_redis_order_of_checks() {
    let pair = pair();
    let words = "a ".repeat(20);
    for before in ["", "AUTH wrong\r\n", "AUTH secret\r\n"] {
        for line in ["DEL", "GET", "NOSUCH", "CONFIG NOSUCH", "MULTI", "SUBSCRIBE", "PING"] {
            let mut twin = pair.twin();
            let bytes = format!("{before}{line} {words}\r\nDEL k\r\n");
            twin.send(bytes.as_bytes());
            twin.frames(bytes.lines().count());
        }
    }
    let mut twin = pair.twin();
    twin.send(format!("POST {words}\r\nPING\r\n").as_bytes());
    assert!(twin.closes(b"POST").is_empty());
}

#[test]
fn who_says_its_name_in_the_same_write_is_no_stranger_behind_it() {
    let pair = pair();
    for hello in [
        "AUTH secret",
        "AUTH default secret",
        "HELLO 2 AUTH default secret",
        "HELLO 3 AUTH default secret",
    ] {
        let mut twin = pair.twin();
        twin.send(&[line_bytes(hello), many(11), long(16_385), line_bytes("PING")].concat());
        for reply in twin.frames(4) {
            assert!(!reply.is_error(), "{hello}: {reply:?}");
        }
    }
}

#[test]
fn nobody_is_a_stranger_where_there_is_no_password_or_nearhit_knows_it() {
    let open = Pair::start();
    let mut twin = open.twin();
    twin.send(&[many(11), long(16_385)].concat());
    twin.frames(2);
    let redis = guarded();
    let url = redis.url().replace("redis://", "redis://:secret@");
    let nearhit = Nearhit::serve(&url);
    let mut client = nearhit.connect();
    client.send_raw([many(11), long(16_385)].concat());
    assert_eq!(client.reply(), 0);
    assert_eq!(client.reply().text().len(), 16_385);
}
