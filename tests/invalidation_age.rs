//! Mode `ttl`: nobody tells of foreign writes, so entries live for a fraction of a second; what goes through the proxy is
//! seen at once all the same.

mod coherence_support;
mod support;

use coherence_support::{Bench, Protocol, in_one_packet, run};
use nearhit::time;
use std::time::Duration;
use support::RedisServer;

const TTL: Duration = Duration::from_millis(500);

fn bench() -> Bench {
    bench_of("500ms")
}

fn bench_of(ttl: &str) -> Bench {
    let args = ["--cache.admission", "always", "--invalidation.fallback-ttl", ttl];
    Bench::new(RedisServer::start(), "ttl", &args)
}

#[test]
fn a_foreign_write_is_seen_within_the_ttl() {
    let bench = bench();
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    for (round, write) in ["SET k b", "DEL k", "FLUSHALL", "SET k c"].into_iter().enumerate() {
        run(&mut direct, &format!("SET k {round}"));
        bench.converges(&mut client, &mut direct, "GET k");
        bench.read_from_memory(&mut client, "GET k");
        let began = time::now();
        run(&mut direct, write);
        bench.converges(&mut client, &mut direct, "GET k");
        let took = time::now().since(began);
        assert!(took < TTL + Duration::from_millis(400), "{write}: {took:?}");
    }
}

#[test]
fn what_goes_through_the_proxy_is_seen_at_once_by_everybody() {
    let bench = bench_of("1m");
    let (mut client, mut other) = (bench.client(Protocol::Resp3), bench.client(Protocol::Resp2));
    for round in 0..200 {
        run(&mut client, &format!("SET k {round}"));
        for reader in [&mut client, &mut other] {
            assert_eq!(reader.cmd(&["GET", "k"]), round.to_string().as_str());
            assert_eq!(reader.cmd(&["GET", "k"]), round.to_string().as_str());
        }
    }
    assert!(bench.hits() >= 200.0, "{} hits", bench.hits());
    run(&mut client, "FLUSHALL");
    assert!(other.cmd(&["GET", "k"]).is_nil());
}

#[test]
fn writes_and_reads_of_one_pipeline_are_in_order() {
    let bench = bench_of("1m");
    let mut client = bench.client(Protocol::Resp3);
    for round in 0..50 {
        let lines = [
            "GET k".to_owned(),
            format!("SET k {round:03}"),
            "GET k".to_owned(),
            "GET k".to_owned(),
        ];
        let replies = in_one_packet(&mut client, &lines);
        assert_eq!(replies[2], format!("$3\r\n{round:03}\r\n").into_bytes());
        assert_eq!(replies[3], replies[2]);
    }
}

/// The script does not say which key it writes: its session may not be served what was fetched before.
#[test]
fn a_session_sees_what_its_scripts_did() {
    let bench = bench_of("1m");
    let mut client = bench.client(Protocol::Resp3);
    run(&mut client, "SET k 0");
    for round in 1..50 {
        bench.read_from_memory(&mut client, "GET k");
        let script = format!("EVAL 'return redis.call(\"SET\", ARGV[1], ARGV[2])' 0 k {round}");
        run(&mut client, &script);
        assert_eq!(client.cmd(&["GET", "k"]), round.to_string().as_str());
    }
}

/// An entry is older than what somebody was told by the server itself: nobody is served it any more.
#[test]
fn what_the_server_said_is_not_taken_back() {
    let bench = bench_of("1m");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k old");
    bench.read_from_memory(&mut client, "GET k");
    run(&mut direct, "SET k new");
    // SORT_RO and the like are not cached, so they are answered by the server.
    assert_eq!(client.cmd(&["OBJECT", "ENCODING", "k"]), "embstr");
    assert_eq!(client.cmd(&["GET", "k"]), "new");
}

/// Entries of different ages were not current together.
#[test]
fn several_keys_are_read_from_the_server() {
    let bench = bench_of("1m");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "MSET a 1 b 1");
    bench.read_from_memory(&mut client, "GET a");
    run(&mut direct, "MSET a 2 b 2");
    bench.read_from_memory(&mut client, "GET b");
    assert_eq!(client.cmd(&["MGET", "a", "b"]).items(), ["2", "2"]);
}

#[test]
fn a_lost_connection_drops_everything() {
    let bench = bench_of("1m");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k a");
    bench.read_from_memory(&mut client, "GET k");
    bench.start_over();
    bench.redis.cmd(&["SET", "k", "b"]);
    let mut client = bench.client(Protocol::Resp3);
    assert_eq!(client.cmd(&["GET", "k"]), "b");
}

#[test]
fn the_bound_that_is_shown_is_the_ttl() {
    let bench = bench_of("250ms");
    assert_eq!(bench.nearhit.metric("nearhit_staleness_bound_seconds", &[]), 0.25);
    assert_eq!(bench.nearhit.metric("nearhit_invalidation_source", &["ttl-only"]), 1.0);
}
