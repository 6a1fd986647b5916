//! Mode `keyspace`: keyspace notifications tell of every change but flushes, which only the age of entries bounds.

mod coherence_support;
mod support;

use coherence_support::cases::{CASES, Case};
use coherence_support::{Bench, PROTOCOLS, Protocol, bytes, run};
use nearhit::time;
use std::time::Duration;
use support::{RedisServer, eventually};

fn bench(keyspace_ttl: &str) -> Bench {
    let redis = RedisServer::builder().arg("--notify-keyspace-events", "KA").start();
    let args = [
        "--cache.admission",
        "always",
        "--invalidation.keyspace-ttl",
        keyspace_ttl,
    ];
    Bench::new(redis, "keyspace", &args)
}

/// Redis 7.0.15 publishes nothing when PFCOUNT writes down what it has counted: the bytes of the key change, nobody's
/// count does.
fn is_told(case: &Case) -> bool {
    !case.write.contains("PFCOUNT")
}

#[test]
fn every_foreign_write_but_pfcounts_is_seen() {
    let bench = bench("1h");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    for (number, case) in CASES.iter().filter(|case| is_told(case)).enumerate() {
        let prefix = format!("c{number}:");
        for line in Case::lines(case.setup, &prefix) {
            run(&mut direct, &line);
        }
        let reads = Case::lines(case.reads, &prefix);
        for read in &reads {
            bench.converges(&mut client, &mut direct, read);
            bench.read_from_memory(&mut client, read);
        }
        for line in Case::lines(case.write, &prefix) {
            run(&mut direct, &line);
        }
        for read in &reads {
            bench.converges(&mut client, &mut direct, read);
        }
    }
}

#[test]
fn writes_in_every_database_are_seen() {
    for protocol in PROTOCOLS {
        let bench = bench("1h");
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        for db in [0, 5, 15] {
            for connection in [&mut client, &mut direct] {
                run(connection, &format!("SELECT {db}"));
            }
            run(&mut direct, "SET k a");
            bench.converges(&mut client, &mut direct, "GET k");
            bench.read_from_memory(&mut client, "GET k");
            run(&mut direct, "SET k b");
            bench.converges(&mut client, &mut direct, "GET k");
        }
    }
}

#[test]
fn ones_own_writes_are_seen_at_once() {
    let bench = bench("1h");
    let (mut client, mut other) = (bench.client(Protocol::Resp3), bench.client(Protocol::Resp2));
    for round in 0..200 {
        run(&mut client, &format!("SET k {round}"));
        assert_eq!(client.cmd(&["GET", "k"]), round.to_string().as_str());
        assert_eq!(other.cmd(&["GET", "k"]), round.to_string().as_str());
        assert_eq!(client.cmd(&["GET", "k"]), round.to_string().as_str());
    }
    assert!(bench.hits() > 0.0);
}

#[test]
fn flushes_through_the_proxy_are_seen_at_once() {
    let bench = bench("1h");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    for flush in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        run(&mut direct, "SET k a");
        bench.converges(&mut client, &mut direct, "GET k");
        bench.read_from_memory(&mut client, "GET k");
        run(&mut client, flush);
        assert_eq!(bytes(&mut client, "GET k"), b"_\r\n", "{flush}");
    }
}

#[test]
fn flushes_by_others_are_seen_when_the_entries_are_too_old() {
    let bench = bench("400ms");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    for flush in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        run(&mut direct, "SET k a");
        bench.converges(&mut client, &mut direct, "GET k");
        bench.read_from_memory(&mut client, "GET k");
        let began = time::now();
        run(&mut direct, flush);
        bench.converges(&mut client, &mut direct, "GET k");
        // What was read before the flush is not served for longer than it may live.
        let took = time::now().since(began);
        assert!(took < Duration::from_millis(900), "{flush}: {took:?}");
    }
}

#[test]
fn the_loss_of_either_connection_drops_everything() {
    let bench = bench("1h");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    for kind in ["normal", "pubsub"] {
        run(&mut direct, "SET k a");
        bench.converges(&mut client, &mut direct, "GET k");
        bench.read_from_memory(&mut client, "GET k");
        let fences = bench.nearhit.metric("nearhit_cache_flushes_total", &["tracking_lost"]);
        run(&mut direct, &format!("CLIENT KILL TYPE {kind} SKIPME yes"));
        run(&mut direct, "SET k b");
        let lost = eventually(support::SOON, || {
            bench.nearhit.metric("nearhit_cache_flushes_total", &["tracking_lost"]) > fences
        });
        assert!(lost, "{kind}");
        // The client's own connection may have been one of those killed.
        client = bench.client(Protocol::Resp3);
        bench.converges(&mut client, &mut direct, "GET k");
    }
}
