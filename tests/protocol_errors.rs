//! What is not the protocol: Redis' words, a closed connection, and a proxy that lives on.

mod session_support;
mod support;

use session_support::{Dice, Pair, caching, line_bytes};
use std::io::{Read, Write};
use std::time::Duration;
use support::{Nearhit, RedisServer, SOON, eventually};

/// Bytes that Redis answers with a protocol error and a close.
fn broken() -> Vec<Vec<u8>> {
    let texts: &[&[u8]] = &[
        b"*x\r\n",
        b"*1x\r\n",
        b"*+1\r\n",
        b"*01\r\n",
        b"* 1\r\n",
        b"*-0\r\n",
        b"*2147483648\r\n",
        b"*99999999999999999999\r\n",
        b"*\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n\nx\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*1\r\n$+4\r\nPING\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*2\r\n$3\r\nGET\r\n!1\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-5\r\n",
        b"SET k \"v\r\n",
        b"'\r\n",
        b"\"\\\r\n",
        b"GET \"k\"x\r\n",
        b"GET 'k'x\n",
    ];
    let behind = line_bytes("PING");
    let mut all: Vec<_> = texts.iter().map(|text| [text, &behind[..]].concat()).collect();
    // Lines that do not end within 65,536 bytes.
    for start in ["*", "*1\r\n$", "", "SET k "] {
        all.push([start.as_bytes(), &vec![b'1'; 65_540]].concat());
    }
    all
}

#[test]
fn a_broken_request_gets_redis_words_and_a_close() {
    let pair = Pair::start();
    for bytes in broken() {
        for before in [
            "",
            "PING|SET k v|GET k|GET k|NOSUCH",
            "MULTI|SET never 1",
            "HELLO 3|GET none",
        ] {
            let mut twin = pair.twin();
            let before: Vec<u8> = before
                .split('|')
                .filter(|line| !line.is_empty())
                .flat_map(line_bytes)
                .collect();
            twin.send(&[&before[..], &bytes].concat());
            let heard = twin.closes(&bytes[..bytes.len().min(100)]);
            assert!(
                heard.ends_with(b"\r\n") && heard.windows(15).any(|part| part == b"-ERR Protocol e"),
                "{}",
                bytes.escape_ascii()
            );
        }
    }
    assert!(pair.twin().line("GET never").is_nil());
}

#[test]
fn what_redis_waits_for_or_skips_nearhit_does_too() {
    let pair = Pair::start();
    for bytes in [
        &b"*0\r\n"[..],
        b"*-1\r\n",
        b"*-99\r\n",
        b"\r\n",
        b"\n",
        b"   \r\n",
        b"\t\x0b\n",
        b"*2147483647\r\n$4\r\n",
        b"*1\r\n$536870912\r\nab",
        b"*",
        b"*1",
        b"*1\r",
        b"*1\r\n$4\r\nPIN",
        b"GET k",
        b"SET k \"half",
    ] {
        let (mut twin, mut other) = (pair.twin(), pair.twin());
        twin.send(&[&line_bytes("PING before")[..], bytes].concat());
        twin.reply(b"PING before");
        for side in [&mut twin.direct, &mut twin.proxied] {
            side.expect_silence(Duration::from_millis(30));
        }
        other.line("PING");
    }
}

#[test]
fn inline_requests_are_read_as_redis_reads_them() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    for line in [
        "PING",
        "ping",
        "  PING  ",
        "SET k v",
        "GET k",
        "get  k",
        "SET 'a b' \"c\\x41\\n\\\"d\"",
        "GET \"a b\"",
        "SET '' ''",
        "GET ''",
        "ECHO 'it\\'s'",
        "ECHO \"\"",
        "GET",
        "NOSUCH x 'y z'",
        "ECHO a\\nb",
        "HGETALL none",
        "ECHO \u{e9}",
        "CLIENT GETNAME",
        "SELECT 1",
        "GET k",
    ] {
        for end in ["\r\n", "\n"] {
            for _ in 0..2 {
                twin.send(format!("{line}{end}").as_bytes());
                twin.reply(line.as_bytes());
            }
        }
    }
    twin.send(b"PING\r\n*1\r\n$4\r\nPING\r\nGET k\n\r\n*0\r\nPING\n");
    twin.frames(4);
}

#[test]
fn http_is_closed_without_a_word() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    for bytes in [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET stolen 1\r\n",
        "post /\r\n",
        "Host: localhost\r\n",
        "host: x\r\n",
        "*1\r\n$4\r\nPOST\r\n",
        "*2\r\n$5\r\nHost:\r\n$1\r\nx\r\n",
    ] {
        for before in ["", "MULTI\r\n"] {
            let mut client = nearhit.connect();
            if !before.is_empty() {
                client.send_raw(before);
                client.reply();
            }
            client.send_raw(bytes);
            client.send_raw(line_bytes("SET stolen 1"));
            client.expect_closed();
        }
    }
    // A browser's GET is a command Redis does not like either, but its Host line ends it.
    let mut client = nearhit.connect();
    client.send_raw("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: *\r\n\r\n");
    client.read_to_close();
    assert!(redis.cmd(&["GET", "stolen"]).is_nil());
}

#[test]
fn a_client_that_is_told_of_its_error_need_not_be_read_on() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    // Much behind the error: it is thrown away, and the error still arrives.
    let mut client = nearhit.connect();
    let _may_fail = client.try_send_raw([b"*x\r\n".to_vec(), line_bytes("PING").repeat(10_000)].concat());
    assert!(
        client
            .read_to_close()
            .starts_with(b"-ERR Protocol error: invalid multibulk length\r\n")
    );
}

/// Something between a request and noise.
fn garbage(dice: &mut Dice) -> Vec<u8> {
    let pieces: &[&[u8]] = &[
        b"*",
        b"$",
        b"\r\n",
        b"*3\r\n",
        b"$3\r\nSET\r\n",
        b"$1\r\nk\r\n",
        b"$-1\r\n",
        b"\n",
        b"\r",
        b"\"",
        b"GET k\r\n",
        b"PING\r\n",
        b"*1\r\n",
        b"*2147483647\r\n",
        b"$536870912\r\n",
        b"MULTI\r\n",
        b"EXEC\r\n",
        b"HELLO 3\r\n",
        b"SUBSCRIBE a\r\n",
        b"CLIENT REPLY OFF\r\n",
        b"BLPOP q 1\r\n",
        b"SELECT 7\r\n",
        b"RESET\r\n",
        b"\0\0\0",
        b"\xff\xff",
        b">1\r\n",
        b"!5\r\n",
        b"|1\r\n",
        b"MONITOR\r\n",
        b"QUIT\r\n",
    ];
    let mut bytes = Vec::new();
    for _ in 0..dice.below(60) {
        match dice.below(4) {
            0 => bytes.extend((0..dice.below(20)).map(|_| u8::try_from(dice.next() % 256).expect("a byte"))),
            _ => bytes.extend_from_slice(dice.pick::<&[u8]>(pieces)),
        }
    }
    bytes
}

#[test]
fn garbage_from_two_hundred_connections_harms_nobody() {
    let redis = RedisServer::start();
    let mut nearhit = caching(&redis, &[]);
    let mut dice = Dice(11);
    let mut friend = nearhit.connect();
    for round in 0..5 {
        let mut clients: Vec<_> = (0..200).map(|_| nearhit.connect()).collect();
        for client in &mut clients {
            let _may_be_closed = client.try_send_raw(garbage(&mut dice));
        }
        friend.cmd(&["SET", "friend", &round.to_string()]);
        assert_eq!(friend.line("GET friend"), round.to_string());
        for (at, client) in clients.iter_mut().enumerate() {
            let _may_be_closed = client.try_send_raw(garbage(&mut dice));
            if at % 2 == 0 {
                let mut stream = client.stream();
                stream
                    .set_read_timeout(Some(Duration::from_millis(1)))
                    .expect("change the socket");
                let _may_be_closed = stream.flush().and_then(|()| stream.read(&mut [0; 4096]));
            }
        }
        assert_eq!(friend.line("GET friend"), round.to_string());
    }
    assert!(nearhit.is_running());
    assert_eq!(nearhit.metric("nearhit_panics_total", &[]), 0.0);
    let alone = || nearhit.metric("nearhit_clients_connected", &[]) == 1.0;
    assert!(eventually(SOON, alone), "all of them are gone");
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
}

#[test]
fn the_client_too_many_is_told_so_in_redis_words() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.max-clients", "2"]);
    let (mut one, mut two) = (nearhit.connect(), nearhit.connect());
    one.line("PING");
    two.line("PING");
    for _ in 0..3 {
        let heard = nearhit.connect().read_to_close();
        assert_eq!(heard, b"-ERR max number of clients reached\r\n");
    }
    assert_eq!(one.line("PING"), "PONG");
    drop(two);
    let room = || {
        nearhit.connect().try_send_raw("PING\r\n").is_ok() && {
            let mut third = nearhit.connect();
            third.send(&["PING"]);
            third.try_reply().is_some_and(|reply| reply == "PONG")
        }
    };
    assert!(eventually(SOON, room), "a place that was left can be taken");
}
