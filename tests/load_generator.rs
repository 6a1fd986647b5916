//! The load generator against servers that misbehave.

mod support;

use nearhit::config::UpstreamUrl;
use nearhit::error::Kind;
use nearhit::load::{Load, Order, Pace, Picker, Script, Until};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::NonZeroU64;
use std::time::Duration;
use support::eventually;

/// How long the slow server sleeps, once.
const STALL: Duration = Duration::from_millis(500);
/// What counts as having waited for it.
const LONG: u64 = 100_000_000;

/// A server of one connection that answers every SET, and everything else with `other`. It sleeps once, at its tenth
/// request.
fn server(other: &'static str) -> UpstreamUrl {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut buffer, mut requests) = ([0; 4096], 0);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            for _ in text.matches('*') {
                requests += 1;
                if requests == 10 {
                    eventually(STALL, || false);
                }
                let reply = if text.contains("SET") { "+OK\r\n" } else { other };
                if stream.write_all(reply.as_bytes()).is_err() {
                    return;
                }
            }
        }
    });
    UpstreamUrl::tcp(addr.ip().to_string(), addr.port())
}

/// Of a load of SETs, how many were sent, and how many waited long.
fn waited(pace: Pace, until: Until) -> (u64, u64) {
    let script = Script::new("k", 10, 8);
    let picker = Picker::new(&Order::InTurn, 10, 1000, 1);
    let mut load = Load::open(&server(""), &script, picker, 1).expect("connect");
    let done = load.run(pace, until, true).expect("replies");
    let long = done
        .latency
        .iter_recorded()
        .filter(|value| value.value_iterated_to() >= LONG);
    (done.sets, long.map(|value| value.count_at_value()).sum())
}

#[test]
fn an_open_loop_counts_all_who_would_have_waited() {
    let rate = NonZeroU64::new(100).expect("more than zero");
    let (sent, long) = waited(Pace::Open { rate }, Until::Elapsed(Duration::from_secs(1)));
    assert_eq!(sent, 100);
    // Those due in the first 400 of 500 ms.
    assert!(long >= 35, "{long}");
}

#[test]
fn a_closed_loop_counts_the_one_who_did() {
    let (sent, long) = waited(Pace::Closed { pipeline: 1 }, Until::Requests(100));
    assert_eq!(sent, 100);
    assert!((1..20).contains(&long), "{long}");
}

#[test]
fn a_wrong_reply_ends_a_load() {
    let script = Script::new("k", 10, 8);
    for other in ["$8\r\n00000007\r\n", "-LOADING wait\r\n", "$-1\r\n"] {
        let picker = Picker::new(&Order::InTurn, 10, 0, 1);
        let mut load = Load::open(&server(other), &script, picker, 1).expect("connect");
        let error = load.run(Pace::Closed { pipeline: 1 }, Until::Requests(5), false);
        let error = error.expect_err("a wrong reply");
        assert_eq!(error.kind(), Kind::Protocol, "{error}");
    }
}
