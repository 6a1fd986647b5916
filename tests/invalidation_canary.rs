//! The canary: it times invalidations, it finds a stream that carries none, and nobody notices it.

mod coherence_support;
mod invalidation_support;
mod support;

use coherence_support::{Bench, MODES, Protocol, front_at, run};
use invalidation_support::Deaf;
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

const OFTEN: [&str; 4] = ["--cache.admission", "always", "--invalidation.canary-interval", "20ms"];

fn timed(nearhit: &Nearhit) -> f64 {
    nearhit.metric("nearhit_invalidation_canary_seconds_count", &[])
}

fn failed(nearhit: &Nearhit, reason: &str) -> f64 {
    nearhit.metric("nearhit_invalidation_canary_failures_total", &[reason])
}

#[track_caller]
fn wait_for_rounds(nearhit: &Nearhit, count: f64) {
    let before = timed(nearhit);
    wait_for("rounds of the canary", SOON, || timed(nearhit) >= before + count);
}

#[test]
fn invalidations_are_timed_in_every_mode() {
    for mode in MODES.into_iter().chain(["keyspace"]) {
        let events = if mode == "keyspace" { "KA" } else { "" };
        let redis = RedisServer::builder().arg("--notify-keyspace-events", events).start();
        let bench = Bench::new(redis, mode, &OFTEN);
        wait_for_rounds(&bench.nearhit, 5.0);
        let (sum, count) = (
            bench.nearhit.metric("nearhit_invalidation_canary_seconds_sum", &[]),
            timed(&bench.nearhit),
        );
        assert!(sum > 0.0 && sum / count < 1.0, "{mode}: {sum} / {count}");
        let last = bench
            .nearhit
            .metric("nearhit_invalidation_canary_last_success_timestamp_seconds", &[]);
        assert!(last > 1_600_000_000.0, "{mode}: {last}");
        assert_eq!(failed(&bench.nearhit, ""), 0.0, "{mode}:\n{}", bench.nearhit.stderr());
        // It is no client's key.
        assert_eq!(
            bench.nearhit.metric("nearhit_invalidations_total", &["key"]),
            0.0,
            "{mode}"
        );
    }
}

#[test]
fn nobody_sees_the_key() {
    let bench = Bench::new(RedisServer::start(), "tracking", &OFTEN);
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut client, "SET k a");
    bench.read_from_memory(&mut client, "GET k");
    // A client that watches is not disturbed, whatever else is written.
    run(&mut direct, "WATCH k");
    wait_for_rounds(&bench.nearhit, 5.0);
    let (before, mut looks) = (timed(&bench.nearhit), 0);
    while timed(&bench.nearhit) < before + 5.0 {
        assert_eq!(direct.cmd(&["KEYS", "*"]).items(), ["k"]);
        looks += 1;
    }
    assert!(looks > 0);
    run(&mut direct, "MULTI");
    run(&mut direct, "PING");
    assert!(!direct.cmd(&["EXEC"]).is_nil());
    assert_eq!(
        client.cmd(&["PROXY", "KEYS", "*"]).get("keys").expect("keys").items(),
        ["k"]
    );
    let hits = bench.hits();
    assert_eq!(client.cmd(&["GET", "k"]), "a");
    assert!(bench.hits() > hits, "entries stay");
}

/// The rounds of `user`, of whom nearhit is one.
fn denied_to(rules: &str) -> Bench {
    let redis = RedisServer::builder()
        .arg("--user", &format!("default on nopass ~* &* +@all {rules}"))
        .start();
    Bench::new(redis, "tracking", &OFTEN)
}

#[test]
fn a_user_who_may_not_write_is_tracked_without_it() {
    for rules in ["-@write", "-multi", "resetkeys %R~k"] {
        let bench = denied_to(rules);
        let mut client = bench.client(Protocol::Resp3);
        bench.read_from_memory(&mut client, "GET k");
        assert_eq!(failed(&bench.nearhit, "denied"), 1.0, "{rules}: tried and said once");
        assert_eq!(
            bench.nearhit.stderr().matches("the canary cannot be written").count(),
            1
        );
        let log = bench.redis.cmd(&["ACL", "LOG"]).items().len();
        assert!(log <= 2, "SET and DEL, {rules}: {log} entries in the server's ACL LOG");
    }
}

#[test]
fn a_read_only_replica_is_tracked_without_it() {
    let primary = RedisServer::start();
    let bench = Bench::new(RedisServer::replica_of(&primary), "tracking", &OFTEN);
    let mut client = bench.client(Protocol::Resp3);
    primary.cmd(&["SET", "k", "a"]);
    bench.converges(&mut client, &mut bench.direct(Protocol::Resp3), "GET k");
    bench.read_from_memory(&mut client, "GET k");
    assert_eq!(failed(&bench.nearhit, "denied"), 1.0);
}

#[test]
fn a_server_without_memory_is_asked_again() {
    let bench = Bench::new(RedisServer::start(), "tracking", &OFTEN);
    let mut direct = bench.direct(Protocol::Resp2);
    run(&mut direct, "CONFIG SET maxmemory 1");
    wait_for("refused writes", SOON, || failed(&bench.nearhit, "refused") >= 3.0);
    assert_eq!(bench.nearhit.metric("nearhit_tracking_connected", &[]), 1.0);
    run(&mut direct, "CONFIG SET maxmemory 0");
    wait_for_rounds(&bench.nearhit, 2.0);
}

/// Something between nearhit and the server begins to drop what nobody asked for; the link answers all the while.
#[test]
fn a_stream_that_falls_silent_is_given_up() {
    let redis = RedisServer::start();
    let relay = Deaf::before(redis.addr(), &["OPTIN"]);
    let nearhit = front_at(&relay.url(), "tracking", &OFTEN);
    let bench = Bench { redis, nearhit };
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k old");
    bench.read_from_memory(&mut client, "GET k");
    relay.turn_deaf();
    run(&mut direct, "SET k new");
    bench.nearhit.wait_for_stderr("no invalidation of it came");
    assert_eq!(client.cmd(&["GET", "k"]), "new");
    assert!(failed(&bench.nearhit, "silent") >= 1.0);
    wait_for("nothing to be cached", SOON, || {
        bench.nearhit.metric("nearhit_invalidation_source", &["off"]) == 1.0
    });
}

/// Users have streams of their own through the same relay, and no canary.
#[test]
fn what_nearhits_own_canary_finds_counts_for_all_users() {
    let redis = RedisServer::builder().arg("--user", "ann on >pw ~* &* +@all").start();
    let relay = Deaf::before(redis.addr(), &["OPTIN"]);
    let nearhit = front_at(&relay.url(), "auto", &OFTEN);
    let bench = Bench { redis, nearhit };
    let login = |mut client: Resp| {
        run(&mut client, "AUTH ann pw");
        client
    };
    let (mut ann, mut direct) = (login(bench.client(Protocol::Resp3)), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k old");
    bench.read_from_memory(&mut ann, "GET k");
    relay.turn_deaf();
    wait_for("redirect", SOON, || {
        bench.nearhit.metric("nearhit_invalidation_source", &["redirect"]) == 1.0
    });
    run(&mut direct, "SET k new");
    bench.converges(&mut ann, &mut direct, "GET k");
    wait_for("ann to be redirected", SOON, || {
        bench
            .nearhit
            .stderr()
            .lines()
            .any(|line| line.contains("ann") && line.contains("Redirect"))
    });
}

/// A registration that the server gives up early is no silence.
#[test]
fn a_table_of_a_few_keys_and_flushes_are_no_silence() {
    let redis = RedisServer::builder().arg("--tracking-table-max-keys", "5").start();
    let bench = Bench::new(redis, "tracking", &OFTEN);
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    let before = timed(&bench.nearhit);
    let mut round = 0;
    while timed(&bench.nearhit) < before + 20.0 {
        round += 1;
        for key in 0..20 {
            client.cmd(&["GET", &format!("k{key}")]);
        }
        if round % 10 == 0 {
            run(&mut direct, "FLUSHALL");
        }
    }
    assert_eq!(failed(&bench.nearhit, "silent"), 0.0);
}
