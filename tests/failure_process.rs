//! How nearhit starts and ends: busy ports, probes, signals.

mod support;

use nearhit::time;
use rustix::process::Signal;
use std::net::TcpListener;
use std::time::Duration;
use support::http::get;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, child, free_port, temp_dir, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_busy_address_is_one_line_and_status_73() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    for flag in ["--listen", "--metrics.listen"] {
        let mut command = Nearhit::command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--metrics.listen", "127.0.0.1:0"]);
        if flag == "--listen" {
            command.args(["--listen", &addr]);
        } else {
            command = Nearhit::command();
            command.args(["serve", "--listen", "127.0.0.1:0", flag, &addr]);
        }
        let done = child::run(&mut command, LIMIT);
        assert_eq!(done.code(), Some(73), "{flag}: {}", done.output());
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        assert!(
            done.stderr
                .starts_with(&format!("nearhit: listen on {addr}: address already in use (")),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn a_file_that_is_no_socket_is_never_replaced() {
    let dir = temp_dir();
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").expect("write a file");
    let mut command = Nearhit::command();
    command.args(["serve", "--listen", &format!("unix://{}", path.display())]);
    command.args(["--metrics.listen", "127.0.0.1:0"]);
    let done = child::run(&mut command, LIMIT);
    assert_eq!(done.code(), Some(73), "{}", done.output());
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(&path).expect("the file is there"), "data");
}

#[test]
fn readiness_follows_redis_and_liveness_does_not() {
    let port = free_port();
    let proxy = Nearhit::serve(&format!("redis://127.0.0.1:{port}"));
    let probe = |path: &str| get(proxy.metrics_addr(), path);
    assert_eq!(probe("/livez").0, 200);
    let (status, body) = probe("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("\"check\":\"upstream\""), "{body}");
    let mut redis = RedisServer::builder().port(port).start();
    wait_for("ready", SOON, || probe("/readyz").0 == 200);
    redis.kill9();
    wait_for("not ready", SOON, || probe("/readyz").0 == 503);
    assert_eq!(probe("/livez").0, 200);
    redis.restart();
    wait_for("ready again", SOON, || probe("/readyz").0 == 200);
}

#[test]
fn a_stop_answers_what_was_received_and_exits_0() {
    let redis = RedisServer::start();
    let mut proxy = Nearhit::serve(&redis.url());
    let mut clients: Vec<Resp> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.line("PING"), "PONG");
    }
    redis.pause();
    for client in &mut clients {
        client.send_raw("INCR n\r\n".repeat(100));
    }
    wait_for("requests on their way", SOON, || {
        proxy.metric("nearhit_client_bytes_total", &["direction=\"in\""]) >= f64::from(10 * (100 * 8 + 6))
    });
    proxy.signal(Signal::TERM);
    wait_for("draining", SOON, || get(proxy.metrics_addr(), "/readyz").0 == 503);
    wait_for("a closed listener", SOON, || Resp::try_connect(proxy.addr()).is_err());
    redis.resume();
    for client in &mut clients {
        for _ in 0..100 {
            assert!(matches!(client.reply(), Reply::Int(_)));
        }
        client.expect_closed();
    }
    assert_eq!(proxy.wait(LIMIT).code(), Some(0));
    assert_eq!(redis.cmd(&["GET", "n"]), "1000");
}

#[test]
fn nobody_who_only_waits_delays_a_stop() {
    let redis = RedisServer::start();
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Nearhit::serve(&redis.url());
        let lines = [
            "BLPOP l 0",
            "SUBSCRIBE c",
            "MONITOR",
            "XREAD BLOCK 0 STREAMS s $",
            "MULTI",
            "WATCH k",
            "PING",
        ];
        let clients: Vec<Resp> = lines
            .iter()
            .map(|line| {
                let mut client = proxy.connect();
                client.send_raw(format!("{line}\r\n"));
                client
            })
            .collect();
        wait_for("blocked clients", SOON, || redis.info("blocked_clients") == "2");
        let start = time::now();
        proxy.signal(signal);
        assert_eq!(proxy.wait(LIMIT).code(), Some(0));
        let took = time::now().since(start);
        assert!(took < Duration::from_secs(1), "{signal:?}: {took:?}");
        drop(clients);
        wait_for("nobody at Redis", SOON, || redis.info("blocked_clients") == "0");
    }
}

#[test]
fn a_drain_is_over_after_its_timeout_and_a_second_signal_does_not_wait() {
    let redis = RedisServer::start();
    for (timeout, second, least, code) in [("500ms", false, 500, Some(0)), ("30s", true, 0, Some(143))] {
        let args = ["--server.drain-timeout", timeout, "--upstream.command-timeout", "0s"];
        let mut proxy = Nearhit::serve_with(&redis.url(), &args);
        let mut client = proxy.connect();
        assert_eq!(client.line("PING"), "PONG");
        redis.pause();
        client.send(&["INCR", "n"]);
        wait_for("a request", SOON, || {
            proxy.metric("nearhit_client_bytes_total", &["direction=\"in\""]) > 20.0
        });
        let start = time::now();
        proxy.signal(Signal::TERM);
        if second {
            proxy.wait_for_stderr("draining");
            proxy.signal(Signal::TERM);
        }
        assert_eq!(proxy.wait(LIMIT).code(), code);
        let took = time::now().since(start);
        redis.resume();
        let window = Duration::from_millis(least)..Duration::from_millis(least + 1000);
        assert!(window.contains(&took), "{timeout}: {took:?}");
    }
}

#[test]
fn a_stop_before_redis_is_there_is_at_once() {
    // Nobody answers there: packets to this network are dropped or refused, whichever the machine does.
    for upstream in [
        "redis://192.0.2.1:6379".to_owned(),
        format!("redis://127.0.0.1:{}", free_port()),
    ] {
        let mut proxy = Nearhit::serve(&upstream);
        let mut client = proxy.connect();
        // Accepted, and not only in the listener's queue, which a stop closes.
        client.line("CLIENT ID");
        client.send(&["GET", "k"]);
        wait_for("a request", SOON, || {
            proxy.metric("nearhit_client_bytes_total", &["direction=\"in\""]) > 30.0
        });
        let start = time::now();
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(LIMIT).code(), Some(0), "{upstream}");
        let took = time::now().since(start);
        // The request is answered first: with the time-out of connecting, two seconds.
        assert!(took < Duration::from_secs(3), "{upstream}: {took:?}");
        assert!(client.reply().is_error_with("ERR nearhit: connect to "), "{upstream}");
    }
}
