//! Clients that say nothing: closed when the operator wants it, as Redis' `timeout` closes them.

mod session_support;
mod support;

use session_support::Pair;
use std::time::Duration;
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// What a client says, and then nothing more.
const CLOSED: &[&str] = &[
    "",
    "PING\r\n",
    "*2\r\n$3\r\nGET\r\n",
    "MULTI\r\nGET k\r\n",
    "WATCH k\r\n",
    "HELLO 3\r\n",
    "CLIENT TRACKING ON\r\n",
    "CLIENT REPLY OFF\r\n",
    "SUBSCRIBE c\r\nUNSUBSCRIBE c\r\n",
];
const KEPT: &[&str] = &[
    "BLPOP l 0\r\n",
    "XREAD BLOCK 0 STREAMS s $\r\n",
    "SUBSCRIBE c\r\n",
    "HELLO 3\r\nPSUBSCRIBE c*\r\n",
    "MONITOR\r\n",
    "MULTI\r\nEXEC\r\nSUBSCRIBE c\r\n",
];

#[test]
fn silent_clients_are_closed_and_waiting_ones_are_not_as_redis_does() {
    let pair = Pair::start_with(&[("--hz", "100")], &["--server.idle-timeout", "2s"]);
    // Of nearhit's own connections none may be closed: only the server without it has Redis' setting.
    assert_eq!(pair.direct.cmd(&["CONFIG", "SET", "timeout", "2"]), "OK");
    let start = |said: &&str| {
        [pair.direct.client(), pair.nearhit.connect()].map(|mut client| {
            client.send_raw(said);
            client
        })
    };
    let kept: Vec<[Resp; 2]> = KEPT.iter().map(start).collect();
    let closed: Vec<[Resp; 2]> = CLOSED.iter().map(start).collect();
    for (said, clients) in CLOSED.iter().zip(closed) {
        let [direct, proxied] = clients.map(|mut client| client.read_to_close());
        session_support::same_bytes(&direct, &proxied, said.as_bytes());
    }
    assert_eq!(
        pair.nearhit.metric("nearhit_client_disconnects_total", &["idle"]),
        CLOSED.len() as f64
    );
    // Redis may close who is not blocked any more and was silent until now before it has written the element.
    assert_eq!(pair.direct.cmd(&["CONFIG", "SET", "timeout", "0"]), "OK");
    pair.twin().lines(&["RPUSH l element", "XADD s 1-1 f v"]);
    for server in [&pair.direct, &pair.behind] {
        // How many connections hear it, is not the same: nearhit's clients share one.
        assert!(!server.client().line("PUBLISH c message").is_error());
    }
    for (said, [direct, proxied]) in KEPT.iter().zip(kept) {
        for (mut client, side) in [(direct, "redis"), (proxied, "nearhit")] {
            let mut heard = Vec::new();
            wait_for(&format!("{said:?} at {side}"), SOON, || {
                let frame = client.try_read_frame();
                heard.extend(frame.unwrap_or_else(|| panic!("{said:?} at {side}: {}", heard.escape_ascii())));
                let text = String::from_utf8_lossy(&heard);
                ["element", "1-1", "message"].iter().any(|word| text.contains(word))
            });
        }
    }
}

#[test]
fn who_speaks_or_reads_now_and_then_stays() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.idle-timeout", "2s"]);
    let (mut speaker, mut silent) = (nearhit.connect(), nearhit.connect());
    silent.patience(Duration::from_millis(200));
    silent.line("PING");
    let ends = nearhit::time::now().after(Duration::from_secs(5));
    while nearhit::time::now() < ends {
        assert_eq!(speaker.line("PING"), "PONG");
        let _silence_or_end = silent.try_reply();
    }
    assert_eq!(nearhit.metric("nearhit_client_disconnects_total", &["idle"]), 1.0);
}

#[test]
fn silence_is_allowed_unless_the_operator_says_otherwise() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect();
    client.expect_silence(Duration::from_millis(1500));
    assert_eq!(client.line("PING"), "PONG");
}

#[test]
fn a_stranger_may_not_be_silent_for_as_long_as_others() {
    let redis = RedisServer::start();
    assert_eq!(redis.cmd(&["CONFIG", "SET", "requirepass", "secret"]), "OK");
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.auth-timeout", "1s"]);
    let (mut known, mut told, mut pinned) = (nearhit.connect(), nearhit.connect(), nearhit.connect());
    assert_eq!(known.line("AUTH secret"), "OK");
    assert!(told.line("GET k").is_error_with("NOAUTH"));
    assert!(pinned.line("BLPOP l 0").is_error_with("NOAUTH"));
    let mut fresh = nearhit.connect();
    for client in [&mut told, &mut pinned, &mut fresh] {
        client.expect_closed();
    }
    assert!(known.line("GET k").is_nil());
    assert_eq!(nearhit.metric("nearhit_client_disconnects_total", &["idle"]), 3.0);
}

/// The kernel's timer of the connection that `port` accepted from `peer`: which one, and hundredths of a second.
fn timer(port: u16, peer: u16) -> (u8, u32) {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let row = table
        .lines()
        .find(|row| {
            row.contains(&format!(":{port:04X} "))
                && row
                    .split_whitespace()
                    .nth(2)
                    .is_some_and(|remote| remote.ends_with(&format!(":{peer:04X}")))
        })
        .unwrap_or_else(|| panic!("no connection from {peer} to {port} in\n{table}"));
    let field = row.split_whitespace().nth(5).expect("a timer");
    let (kind, when) = field.split_once(':').expect("a kind and a time");
    (
        u8::from_str_radix(kind, 16).expect("a kind"),
        u32::from_str_radix(when, 16).expect("a time"),
    )
}

#[test]
fn the_kernel_probes_silent_clients() {
    let redis = RedisServer::start();
    for (setting, kind, hundredths) in [("5m", 2, 29_000..=30_000), ("20s", 2, 1_900..=2_000), ("0s", 0, 0..=0)] {
        let nearhit = Nearhit::serve_with(&redis.url(), &["--server.tcp-keepalive", setting]);
        let mut client = nearhit.connect();
        assert_eq!(client.line("PING"), "PONG");
        wait_for(&format!("the timer for {setting}"), SOON, || {
            let (found, when) = timer(nearhit.addr().port(), client.local_addr().port());
            found == kind && hundredths.contains(&when)
        });
    }
}
