//! An upstream that sends anything: clients get an error or a close, never wrong bytes, and nearhit stays up.

mod failure_support;
mod support;

use failure_support::{Fake, Then, reset};
use nearhit::time;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::{Nearhit, Resp, SOON, eventually, wait_for};

const OFF: [&str; 2] = ["--cache.mode", "off"];
const ALWAYS: [&str; 2] = ["--cache.admission", "always"];

/// Resident bytes of a process.
fn rss(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("a process");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4096
}

/// What a client that asked `line` got until it had an error or was closed.
fn outcome(proxy: &Nearhit, line: &str) -> String {
    let mut client = proxy.connect();
    client.send_raw(format!("{line}\r\n"));
    match client.try_reply() {
        Some(reply) if reply.is_error() => reply.text(),
        Some(reply) => panic!("{line} was answered with {reply:?}"),
        None => String::from_utf8_lossy(&client.read_to_close()).into_owned(),
    }
}

fn deep(levels: usize) -> Vec<u8> {
    [b"*1\r\n".repeat(levels), b":1\r\n".to_vec()].concat()
}

/// Name, bytes instead of a reply, what follows them.
fn horrors() -> Vec<(&'static str, Vec<u8>, Then)> {
    vec![
        ("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Then::GoOn),
        ("zeros", vec![0; 4096], Then::GoOn),
        ("truncated and reset", b"$10\r\nhalf".to_vec(), Then::Reset),
        ("truncated and closed", b"*3\r\n$1\r\na\r\n".to_vec(), Then::Close),
        ("a line without end and closed", b"+OK\r".to_vec(), Then::Close),
        (
            "a bulk that is longer than it says",
            b"$3\r\nabcdef\r\n".to_vec(),
            Then::GoOn,
        ),
        ("a negative length", b"$-7\r\n".to_vec(), Then::GoOn),
        (
            "a length beyond all numbers",
            b"*99999999999999999999\r\n".to_vec(),
            Then::GoOn,
        ),
        (
            "an endless bulk header",
            [b"$".to_vec(), vec![b'1'; 1 << 20]].concat(),
            Then::GoOn,
        ),
        ("a million arrays in each other", deep(1_000_000), Then::GoOn),
        ("closed at once", Vec::new(), Then::Close),
        ("reset at once", Vec::new(), Then::Reset),
    ]
}

#[test]
fn whatever_comes_instead_of_a_reply_is_an_error_or_a_close() {
    for (name, bytes, then) in horrors() {
        let fake = Fake::start(move |request| match request {
            "ECHO" | "GET FINE" => (b"$4\r\nfine\r\n".to_vec(), Then::GoOn),
            _ => (bytes.clone(), then),
        });
        for cache in [OFF, ALWAYS] {
            let mut proxy = Nearhit::serve_with(&fake.url(), &cache);
            for (line, writes) in [
                ("GET k", false),
                ("SET k v", true),
                ("LRANGE l 0 -1", false),
                ("BLPOP l 1", true),
            ] {
                let text = outcome(&proxy, line);
                let clear = text.starts_with("ERR nearhit: ") || (writes && text.starts_with("UNCERTAIN "));
                assert!(text.is_empty() || clear, "{name}, {line}: {text:?}");
            }
            assert!(proxy.is_running(), "{name}");
            wait_for("a good reply", SOON, || proxy.connect().line("GET fine") == "fine");
            assert!(rss(proxy.pid()) < 96 << 20, "{name}: {} bytes", rss(proxy.pid()));
        }
    }
}

#[test]
fn whatever_comes_instead_of_a_greeting_is_an_error() {
    for (name, bytes, then) in horrors() {
        let fake = Fake::listen(move |mut stream| {
            // What cannot be sent because the other side has given up need not be sent.
            let _gone = stream.write_all(&bytes);
            if then == Then::Reset {
                reset(&stream);
            } else if then == Then::GoOn {
                let mut rest = Vec::new();
                drop(stream.set_read_timeout(Some(Duration::from_millis(200))));
                let _gone = stream.read_to_end(&mut rest);
            }
        });
        let mut proxy = Nearhit::serve_with(&fake.url(), &["--upstream.connect-timeout", "300ms"]);
        for line in ["GET k", "SET k v", "BLPOP l 1", "HELLO 3"] {
            let text = outcome(&proxy, line);
            assert!(
                text.starts_with("ERR nearhit: ") && text.lines().count() == 1,
                "{name}, {line}: {text:?}"
            );
        }
        assert!(proxy.is_running(), "{name}");
        assert!(rss(proxy.pid()) < 96 << 20, "{name}: {} bytes", rss(proxy.pid()));
    }
}

#[test]
fn a_reply_too_many_closes_the_connection_and_answers_nobody() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let fake = Fake::start(move |request| {
        let reply = format!("${}\r\n{request}\r\n", request.len());
        let twice = counter.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        (reply.repeat(if twice { 2 } else { 1 }).into_bytes(), Then::GoOn)
    });
    let proxy = Nearhit::serve_with(&fake.url(), &OFF);
    let mut clients = [proxy.connect(), proxy.connect()];
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            let reply = client.line(&format!("GET {number}-{round}"));
            assert!(
                reply == format!("GET {number}-{round}") || reply.is_error_with("ERR nearhit: "),
                "{reply:?}"
            );
        }
    }
    assert!(proxy.metric("nearhit_upstream_lost_total", &["reason=\"protocol\""]) > 0.0);
}

#[test]
fn a_large_reply_that_breaks_off_closes_the_client() {
    let fake = Fake::start(|request| match request {
        "GET BIG" => ([b"$1000000\r\n".to_vec(), vec![b'x'; 600_000]].concat(), Then::Close),
        _ => (b"+OK\r\n".to_vec(), Then::GoOn),
    });
    let proxy = Nearhit::serve_with(&fake.url(), &OFF);
    let mut client = proxy.connect();
    client.send_raw("GET big\r\nGET small\r\n");
    let got = client.read_to_close();
    assert!(
        b"$1000000\r\n".starts_with(&got[..got.len().min(10)]),
        "wrong bytes in front"
    );
    assert!(
        got.iter().skip(10).all(|byte| *byte == b'x'),
        "something follows half a reply"
    );
    wait_for("the next connection", SOON, || {
        proxy.connect().line("GET small") == "OK"
    });
}

#[test]
fn a_large_reply_that_comes_slowly_comes_whole() {
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go_on);
    let fake = Fake::start(move |request| match request {
        "GET BIG" => ([b"$600000\r\n".to_vec(), vec![b'x'; 400_000]].concat(), Then::GoOn),
        "GET SECOND" => {
            assert!(eventually(SOON, || gate.load(Ordering::SeqCst)));
            ([vec![b'x'; 200_000], b"\r\n+OK\r\n".to_vec()].concat(), Then::GoOn)
        }
        _ => (b"+OK\r\n".to_vec(), Then::GoOn),
    });
    let mut args = OFF.to_vec();
    args.extend(["--upstream.command-timeout", "300ms", "--server.threads", "1"]);
    let proxy = Nearhit::serve_with(&fake.url(), &args);
    let mut client = proxy.connect();
    // The neighbour's command makes the fake send the rest, and is late because the rest is.
    let asked = time::now();
    client.send_raw("GET big\r\n");
    wait_for("the first half", SOON, || {
        proxy.metric("nearhit_client_bytes_total", &["direction=\"out\""]) > 200_000.0
    });
    let mut neighbour = proxy.connect();
    neighbour.send_raw("GET second\r\n");
    // Twice the limit, and nothing but the reply.
    wait_for("time to pass", SOON, || {
        time::now().since(asked) > Duration::from_millis(600)
    });
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(client.reply().text().len(), 600_000);
    assert_eq!(client.line("GET small"), "OK");
}

#[test]
fn the_memory_of_an_endless_reply_is_given_back() {
    let fake = Fake::start(|request| match request {
        "GET BIG" => (
            [b"$2000000000\r\n".to_vec(), vec![b'x'; 64 << 20]].concat(),
            Then::Close,
        ),
        _ => (b"+OK\r\n".to_vec(), Then::GoOn),
    });
    let proxy = Nearhit::serve_with(&fake.url(), &OFF);
    let before = rss(proxy.pid());
    let mut client = proxy.connect();
    client.send_raw("GET big\r\n");
    let (mut sum, mut chunk) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = client.stream().read(&mut chunk) {
        sum += count;
    }
    assert!(sum > 4 << 20, "it is passed on while it comes: {sum}");
    // 64 MiB were passed on; what the allocator keeps of the pieces is up to it.
    wait_for("memory", SOON, || rss(proxy.pid()) < before + (28 << 20));
}

/// How many connections a second a server sees that closes every connection after `greet`.
fn storm(fake: &Fake, proxy: &Nearhit) -> f64 {
    let (start, before) = (time::now(), fake.accepted());
    let mut clients: Vec<Resp> = (0..20).map(|_| proxy.connect()).collect();
    while time::now().since(start) < Duration::from_secs(1) {
        for (number, client) in clients.iter_mut().enumerate() {
            let line = ["GET k", "SET k v", "BLPOP l 1", "MULTI"][number % 4];
            if client.try_send_raw(format!("{line}\r\n")).is_err() || client.try_reply().is_none() {
                *client = proxy.connect();
            }
        }
    }
    let seconds = time::now().since(start).as_secs_f64();
    f64::from(u32::try_from(fake.accepted() - before).expect("few")) / seconds
}

#[test]
fn a_server_that_closes_every_connection_is_asked_only_now_and_then() {
    let args = ["--server.threads", "1", "--upstream.connect-timeout", "50ms"];
    let at_once = Fake::listen(drop);
    let refused = Fake::listen(|mut stream| {
        let _gone = stream.write_all(b"-ERR max number of clients reached\r\n");
    });
    let greeted = Fake::start(|_| (Vec::new(), Then::Close));
    let silent = Fake::listen(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    for (name, fake) in [
        ("at once", at_once),
        ("refused", refused),
        ("greeted", greeted),
        ("silent", silent),
    ] {
        let proxy = Nearhit::serve_with(&fake.url(), &args);
        let rate = storm(&fake, &proxy);
        // One worker 50, tracking 50, learning 4.
        assert!(rate < 120.0, "{name}: {rate} connections a second");
    }
}

#[test]
fn many_clients_that_need_a_connection_of_their_own_do_not_storm_a_server_that_is_away() {
    let fake = Fake::listen(drop);
    let proxy = Nearhit::serve_with(&fake.url(), &["--server.threads", "1"]);
    assert!(proxy.connect().line("MULTI").is_error());
    let before = fake.accepted();
    let mut clients: Vec<Resp> = (0..200).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(&["BLPOP", "l", "0"]);
    }
    for client in &mut clients {
        assert!(client.reply().is_error());
    }
    let connections = fake.accepted() - before;
    assert!(connections < 40, "{connections} connections for 200 clients");
}
