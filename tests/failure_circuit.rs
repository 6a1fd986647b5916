//! What an operator sees of each node: whether connections to it can be had, and how much is on its way there.

mod support;

use support::{Nearhit, RedisServer, Replicated, Reply, SOON, wait_for};

/// Says of the node at a place in the topology what stands in a field. It is connected while the server is there.
fn looking(proxy: &Nearhit) -> impl FnMut(usize, &str) -> Reply + use<> {
    let mut client = proxy.connect3();
    move |at, name| {
        let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
        nodes[at].get(name).expect("a field").clone()
    }
}

fn metric(proxy: &Nearhit, name: &str, server: &RedisServer) -> f64 {
    proxy.metric(name, &[&format!("upstream=\"{}\"", server.addr())])
}

#[test]
fn requests_on_their_way_to_a_node_are_counted() {
    let redis = RedisServer::start();
    let proxy = Nearhit::serve_with(
        &redis.url(),
        &["--cache.mode", "off", "--upstream.command-timeout", "0s"],
    );
    let mut look = looking(&proxy);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
    }
    wait_for("nothing on its way", SOON, || look(0, "in_flight") == 0);
    redis.pause();
    for client in &mut clients {
        client.send(&["GET", "k"]);
        client.send(&["GET", "k"]);
    }
    wait_for("ten on their way", SOON, || look(0, "in_flight") == 10);
    assert_eq!(metric(&proxy, "nearhit_upstream_in_flight_requests", &redis), 10.0);
    redis.resume();
    for client in &mut clients {
        assert_eq!([client.reply(), client.reply()].map(|reply| reply == "v"), [true; 2]);
    }
    clients[0].send(&["BLPOP", "list", "0"]);
    wait_for("one that waits", SOON, || look(0, "in_flight") == 1);
    redis.cmd(&["RPUSH", "list", "x"]);
    wait_for("nothing on its way", SOON, || look(0, "in_flight") == 0);
    assert_eq!(metric(&proxy, "nearhit_upstream_in_flight_requests", &redis), 0.0);
}

#[test]
fn a_node_that_is_away_has_an_open_circuit_until_it_answers() {
    let mut redis = RedisServer::start();
    let proxy = Nearhit::serve_with(&redis.url(), &["--cache.mode", "off", "--server.threads", "1"]);
    let (mut look, mut client) = (looking(&proxy), proxy.connect());
    assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
    assert_eq!(look(0, "circuit"), "closed");
    assert!(look(0, "circuit_since_ms").is_nil());
    redis.kill9();
    for state in ["open", "half-open"] {
        wait_for(state, SOON, || {
            assert!(client.cmd(&["GET", "k"]).is_error_with("ERR nearhit: "));
            look(0, "circuit") == state
        });
    }
    assert!(look(0, "circuit_since_ms").int() >= 0);
    assert!(metric(&proxy, "nearhit_upstream_circuit", &redis) >= 1.0);
    redis.restart();
    wait_for("an answer", SOON, || client.cmd(&["GET", "k"]).is_nil());
    wait_for("closed", SOON, || look(0, "circuit") == "closed");
    assert!(look(0, "circuit_since_ms").is_nil());
    assert_eq!(metric(&proxy, "nearhit_upstream_circuit", &redis), 0.0);
}

#[test]
fn every_node_that_is_read_from_has_a_circuit_of_its_own() {
    let mut nodes = Replicated::start(1);
    let args = [
        "--cache.mode",
        "off",
        "--routing.reads",
        "replica",
        "--server.threads",
        "1",
    ];
    let proxy = Nearhit::serve_with(&nodes.primary().url(), &args);
    let (mut look, mut client) = (looking(&proxy), proxy.connect());
    wait_for("a read of the replica", SOON, || {
        client.cmd(&["GET", "k"]);
        proxy.metric("nearhit_reads_routed_total", &["to=\"replica\""]) > 0.0
    });
    nodes.nodes()[0].pause();
    let mut writer = proxy.connect();
    writer.send(&["SET", "k", "v"]);
    let mut in_flight = |at| look(at, "in_flight").int();
    wait_for("a write at the master", SOON, || in_flight(0) == 1);
    assert_eq!(in_flight(1), 0, "nothing at the replica");
    nodes.nodes()[0].resume();
    assert_eq!(writer.reply(), "OK");
}
