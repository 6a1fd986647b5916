//! Passwords are told to Redis, and to nobody else.

mod identity_support;
mod session_support;
mod support;

use identity_support::server;
use session_support::CACHE_ALL;
use std::time::Duration;
use support::{Nearhit, SOON, http, wait_for};

const SECRETS: [&str; 4] = ["canary-of-alice", "canary-of-ada", "canary-wrong", "canary-own"];

/// What is told about nearhit, in every way there is.
fn told(nearhit: &Nearhit) -> Vec<(String, String)> {
    let mut ada = nearhit.connect();
    if ada.line("AUTH ada canary-of-ada").is_error() {
        // Nobody is there to judge it, and nothing is done as somebody else instead.
        ada.expect_closed();
        ada = nearhit.connect();
    }
    let mut told: Vec<_> = [
        "INFO",
        "INFO everything",
        "CLIENT LIST",
        "CLIENT INFO",
        "PROXY STATS",
        "PROXY KEYS *",
        "PROXY INSPECT a:1",
        "PROXY EXPLAIN AUTH alice canary",
        "PROXY LATENCY",
        "PROXY HELP",
        "SLOWLOG GET 128",
        "COMMAND DOCS PROXY",
    ]
    .iter()
    .map(|line| ((*line).to_owned(), format!("{:?}", ada.line(line))))
    .collect();
    told.push(("metrics".into(), http::get(nearhit.metrics_addr(), "/metrics").1));
    let proc = |name: &str| std::fs::read(format!("/proc/{}/{name}", nearhit.pid())).expect("read /proc");
    for name in ["cmdline", "environ", "comm"] {
        told.push((name.into(), String::from_utf8_lossy(&proc(name)).into_owned()));
    }
    told.push(("stderr".into(), nearhit.stderr()));
    told
}

#[test]
fn no_password_is_found_in_what_nearhit_tells() {
    let mut redis = server(true);
    redis.client().lines_ok(&[
        "AUTH opensesame",
        "ACL SETUSER alice >canary-of-alice",
        "ACL SETUSER ada >canary-of-ada",
        "ACL SETUSER default >canary-own",
        "CONFIG SET slowlog-log-slower-than 0",
    ]);
    let file = support::temp_dir();
    let path = file.path().join("password");
    std::fs::write(&path, "canary-own\n").expect("write a file");
    let path = path.to_str().expect("a path");
    let args = ["--upstream.password-file", path, "--log.level", "trace"];
    let nearhit = Nearhit::serve_with(&redis.url(), &[CACHE_ALL, &args].concat());
    let mut watcher = nearhit.connect();
    watcher.line("MONITOR");
    let mut client = nearhit.connect();
    for line in [
        "AUTH alice canary-of-alice",
        "GET a:1",
        "GET a:1",
        "AUTH alice canary-wrong",
        "AUTH canary-wrong",
        "AUTH a canary-wrong canary-wrong",
        "HELLO 3 AUTH alice canary-of-alice SETNAME x",
        "HELLO 3 AUTH alice canary-wrong BAD",
        "HELLO 2 AUTH ada canary-of-ada",
        "MULTI",
        "AUTH alice canary-of-alice",
        "EXEC",
        "AUTH ada canary-of-ada",
        "ACL SETUSER bob >canary-wrong",
        "CLIENT TRACKING ON",
        "AUTH alice canary-wrong",
        "CONFIG SET requirepass canary-own",
    ] {
        client.line(line);
    }
    // Errors of connections that log in: the password is wrong from now on, and the server goes away.
    redis.client().lines_ok(&[
        "AUTH canary-own",
        "ACL SETUSER alice resetpass >other",
        "CLIENT KILL TYPE normal SKIPME yes",
    ]);
    let mut alice = nearhit.connect();
    wait_for("a refusal", SOON, || {
        alice.line("AUTH alice canary-of-alice").is_error()
    });
    check(&nearhit);
    redis.kill9();
    assert!(nearhit.connect().line("AUTH alice canary-of-alice").is_error());
    check(&nearhit);
    watcher.patience(Duration::from_millis(300));
    let mut seen = String::new();
    while let Some(frame) = watcher.try_read_frame() {
        seen.push_str(&String::from_utf8_lossy(&frame));
    }
    assert!(!SECRETS.iter().any(|secret| seen.contains(secret)), "MONITOR: {seen}");
}

#[track_caller]
fn check(nearhit: &Nearhit) {
    for (place, text) in told(nearhit) {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}

#[test]
fn a_password_in_the_url_is_not_shown() {
    let redis = server(true);
    let url = format!("redis://ada:lovelace@{}", redis.addr());
    let nearhit = Nearhit::serve_with(&url, &["--log.level", "trace"]);
    nearhit.connect().line("GET k");
    let shown: String = nearhit.stderr() + &format!("{:?}", nearhit.connect().line("INFO"));
    assert!(!shown.contains("lovelace"), "{shown}");
}
