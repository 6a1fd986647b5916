//! Connections to a node are opened at a rate it can bear, however many clients want some.

mod support;

use std::time::Duration;

use nearhit::time;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

fn serve(redis: &RedisServer, args: &[&str]) -> Nearhit {
    Nearhit::serve_with(
        &redis.url(),
        &[&["--cache.mode", "off", "--server.threads", "1"], args].concat(),
    )
}

/// A client that waits for an element on a connection of its own, and is there no more: nor is that connection.
fn come_and_go(redis: &RedisServer, proxy: &Nearhit) -> Option<Reply> {
    let mut client = proxy.connect();
    client.send(&["BLPOP", "list", "0"]);
    let mut asking = redis.client();
    let mut refused = None;
    wait_for(
        "a client that waits, or is told why not",
        Duration::from_secs(10),
        || {
            let blocked = asking.cmd(&["INFO", "clients"]).text().contains("blocked_clients:1");
            if !blocked && is_readable(&client) {
                refused = client.try_reply();
            }
            blocked || refused.is_some()
        },
    );
    drop(client);
    wait_for("its connection to be closed", SOON, || {
        proxy.metric("nearhit_upstream_connections", &["pool=\"pinned\""]) == 0.0
    });
    refused
}

fn is_readable(client: &Resp) -> bool {
    let stream = client.stream();
    stream.set_nonblocking(true).expect("a socket");
    let readable = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).expect("a socket");
    readable
}

fn delayed(proxy: &Nearhit, pool: &str) -> f64 {
    proxy.metric(
        "nearhit_upstream_connects_delayed_total",
        &[&format!("pool=\"{pool}\"")],
    )
}

#[test]
fn two_thousand_clients_that_come_back_at_once_share_their_connections() {
    let mut redis = RedisServer::start();
    let proxy = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let mut clients: Vec<_> = (0..2000).map(|_| proxy.connect()).collect();
    let ask = |clients: &mut Vec<Resp>| {
        clients.iter_mut().for_each(|client| client.send(&["SET", "k", "v"]));
        let replies = clients.iter_mut().map(Resp::reply);
        replies.filter(|reply| *reply == "OK").count()
    };
    assert_eq!(ask(&mut clients), 2000);
    redis.kill9();
    drop(clients);
    redis.restart();
    let before: u64 = redis.info("total_connections_received").parse().expect("a number");
    let mut clients: Vec<_> = (0..2000).map(|_| proxy.connect()).collect();
    wait_for("all to be served", Duration::from_secs(20), || {
        ask(&mut clients) == 2000
    });
    let received: u64 = redis.info("total_connections_received").parse().expect("a number");
    // One for each worker, those that watch, learn and invalidate, and the question itself.
    assert!(received - before < 20, "{} connections", received - before);
}

#[test]
fn what_is_opened_beyond_the_burst_waits_for_its_turn() {
    let redis = RedisServer::start();
    let proxy = serve(&redis, &["--upstream.pinned-max", "4", "--upstream.connect-rate", "20"]);
    let begun = time::now();
    for _ in 0..14 {
        assert_eq!(come_and_go(&redis, &proxy), None);
    }
    let took = time::now().since(begun);
    assert!(
        took >= Duration::from_millis(500),
        "4 at once and 10 at 20 a second: {took:?}"
    );
    // A machine may be so slow that a turn has come whenever somebody wants one.
    assert!(
        delayed(&proxy, "pinned") >= 1.0 || took > Duration::from_secs(1),
        "{took:?}"
    );
    assert_eq!(delayed(&proxy, "shared"), 0.0);
}

#[test]
fn who_does_not_get_a_turn_is_told_and_what_all_share_is_opened_all_the_same() {
    let redis = RedisServer::start();
    let args = [
        "--upstream.pinned-max",
        "1",
        "--upstream.connect-rate",
        "1",
        "--upstream.connect-timeout",
        "200ms",
    ];
    let proxy = serve(&redis, &args);
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["PING"]), "PONG");
    let is_turned_away = |reply: &Reply| {
        reply.is_error_with("ERR nearhit: connect to ") && format!("{reply:?}").contains("upstream.connect_rate")
    };
    let refused = (0..50).find_map(|_| come_and_go(&redis, &proxy).filter(is_turned_away));
    let refused = refused.expect("somebody to be turned away");
    assert!(
        format!("{refused:?}").contains("1 connections are opened there a second at most"),
        "{refused:?}"
    );
    assert!(proxy.metric("nearhit_upstream_connects_total", &["result=\"crowded\""]) >= 1.0);
    // Another database is another connection.
    for db in ["1", "2", "3"] {
        assert_eq!(client.cmd(&["SELECT", db]), "OK");
        assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
    }
    assert_eq!(delayed(&proxy, "shared"), 0.0);
    assert_eq!(
        proxy.metric("nearhit_upstream_circuit", &[]),
        0.0,
        "the node is not to blame"
    );
}

#[test]
fn without_a_rate_nobody_waits() {
    let redis = RedisServer::start();
    let proxy = serve(&redis, &["--upstream.pinned-max", "1", "--upstream.connect-rate", "0"]);
    for _ in 0..20 {
        assert_eq!(come_and_go(&redis, &proxy), None);
    }
    assert_eq!(delayed(&proxy, "pinned"), 0.0);
}
