//! Shadow mode: the server answers everything, and what memory would have answered is counted and compared.

mod coherence_support;
mod support;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, front_at, run, speaking};
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

const SHADOW: [&str; 4] = ["--cache.mode", "shadow", "--cache.admission", "always"];

fn looked(nearhit: &Nearhit, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    nearhit.metric("nearhit_shadow_requests_total", &[&label])
}

fn compared(nearhit: &Nearhit, verdict: &str) -> f64 {
    let label = format!("verdict=\"{verdict}\"");
    nearhit.metric("nearhit_shadow_comparisons_total", &[&label])
}

#[track_caller]
fn field(map: &Reply, name: &str) -> Reply {
    map.get(name).unwrap_or_else(|| panic!("no {name} in {map:?}"))
}

/// Reads until memory would have answered.
#[track_caller]
fn read_until_known(nearhit: &Nearhit, client: &mut Resp, read: &str) {
    let mut before = looked(nearhit, "hit");
    wait_for(&format!("a would-be hit of {read:?}"), SOON, || {
        bytes(client, read);
        let after = looked(nearhit, "hit");
        std::mem::replace(&mut before, after) < after
    });
}

#[test]
fn the_server_answers_every_read() {
    for mode in MODES {
        let bench = Bench::new(RedisServer::start(), mode, &SHADOW);
        let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
        run(&mut direct, "SET k v");
        read_until_known(&bench.nearhit, &mut client, "GET k");
        let (calls, known) = (bench.calls("get"), looked(&bench.nearhit, "hit"));
        (0..100).for_each(|_| assert_eq!(run(&mut client, "GET k"), "v"));
        assert_eq!(bench.calls("get") - calls, 100);
        assert_eq!(
            looked(&bench.nearhit, "hit") - known,
            100.0,
            "memory knew the answer each time"
        );
        assert_eq!(bench.hits(), 0.0);
        assert_eq!(bench.nearhit.metric("nearhit_cache_enabled", &[]), 0.0);
        assert!(bench.nearhit.metric("nearhit_cache_bypass_total", &["shadow"]) >= 101.0);
    }
}

#[test]
fn what_memory_would_have_said_is_what_the_server_says() {
    let bench = Bench::new(RedisServer::start(), "tracking", &SHADOW);
    let mut direct = bench.direct(Protocol::Resp2);
    for line in [
        "SET k v",
        "HSET h a 1 b 2",
        "SADD s x y z",
        "ZADD z 1.5 m",
        "RPUSH l 1 2",
        "SET other w",
    ] {
        run(&mut direct, line);
    }
    run(&mut direct, &format!("SET large {}", "x".repeat(600_000)));
    for protocol in PROTOCOLS {
        let mut client = bench.client(protocol);
        for read in [
            "GET k",
            "HGETALL h",
            "SMEMBERS s",
            "ZSCORE z m",
            "LRANGE l 0 -1",
            "GET absent",
            "GET large",
        ] {
            let before = compared(&bench.nearhit, "equal");
            read_until_known(&bench.nearhit, &mut client, read);
            assert_eq!(bytes(&mut client, read), bytes(&mut bench.direct(protocol), read));
            assert!(
                compared(&bench.nearhit, "equal") >= before + 2.0,
                "{read} in {protocol:?}"
            );
        }
        read_until_known(&bench.nearhit, &mut client, "MGET k other");
    }
    let others = ["raced", "late", "stale", "uncompared"].map(|verdict| compared(&bench.nearhit, verdict));
    assert_eq!(others, [0.0; 4]);
}

/// Reads and writes, the same each time: hot keys, some of them written by this client or by another one.
#[track_caller]
fn workload(client: &mut Resp, direct: &mut Resp) {
    let mut state = 7_u64;
    for step in 0..3_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The square favours small numbers.
        let (roll, key) = (state >> 33, ((state >> 40) % 32).pow(2) / 16);
        match roll % 40 {
            0 => run(client, &format!("SET k{key} own{step}")),
            1 => run(direct, &format!("SET k{key} foreign{step}")),
            _ => client.cmd(&["GET", &format!("k{key}")]),
        };
    }
}

#[test]
fn the_would_be_hit_ratio_is_what_serving_has() {
    let ratio = |args: &[&str], name: &str, within: Option<&str>| {
        let bench = Bench::new(RedisServer::start(), "tracking", args);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        workload(&mut client, &mut direct);
        let stats = client.cmd(&["PROXY", "STATS"]);
        let map = within.map_or(stats.clone(), |within| field(&stats, within));
        field(&map, name).text().parse::<f64>().unwrap()
    };
    let serving = ratio(&[], "hit_ratio", None);
    let shadow = ratio(&["--cache.mode", "shadow"], "hit_ratio", Some("shadow"));
    assert!(serving > 0.5, "the workload must have hits: {serving}");
    assert!((serving - shadow).abs() < 0.08, "serving {serving}, shadow {shadow}");
}

#[test]
fn an_invalidation_that_comes_late_is_told_from_one_that_never_comes() {
    let redis = RedisServer::start();
    let relay = Laggard::before(redis.addr(), "TRACKING");
    let mut args = SHADOW.to_vec();
    args.extend(["--invalidation.max-staleness", "10s"]);
    let nearhit = front_at(&relay.url(), "tracking", &args);
    let (mut client, mut direct) = (nearhit.connect(), redis.client());
    run(&mut direct, "SET k old");
    read_until_known(&nearhit, &mut client, "GET k");

    relay.hold();
    run(&mut direct, "SET k new");
    assert_eq!(run(&mut client, "GET k"), "new", "the server answers");
    assert_eq!(
        compared(&nearhit, "late") + compared(&nearhit, "stale"),
        0.0,
        "no verdict yet"
    );
    relay.release();
    wait_for("a verdict", SOON, || compared(&nearhit, "late") == 1.0);

    read_until_known(&nearhit, &mut client, "GET k");
    // Redis tells nobody of it.
    run(&mut direct, "SWAPDB 0 1");
    run(&mut client, "GET k");
    wait_for("a verdict", SOON, || compared(&nearhit, "stale") == 1.0);
    assert_eq!(compared(&nearhit, "late"), 1.0);
}

#[test]
fn a_value_that_changes_while_the_request_travels_is_not_stale() {
    let bench = Bench::new(
        RedisServer::builder().arg("--enable-debug-command", "yes").start(),
        "tracking",
        &SHADOW,
    );
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k old");
    read_until_known(&bench.nearhit, &mut client, "GET k");
    let known = looked(&bench.nearhit, "hit");
    // The write stands in front of the read, and neither runs before the server has slept.
    let lines = ["DEBUG SLEEP 0.3", "SET k new"].map(str::to_owned);
    direct.send_raw(
        lines
            .iter()
            .flat_map(|line| support::resp::encode(&coherence_support::words(line)))
            .collect::<Vec<_>>(),
    );
    client.send(&["GET", "k"]);
    assert_eq!(client.reply(), "new");
    assert_eq!(
        looked(&bench.nearhit, "hit") - known,
        1.0,
        "memory had an answer when it was asked"
    );
    wait_for("a verdict", SOON, || {
        compared(&bench.nearhit, "raced") + compared(&bench.nearhit, "late") == 1.0
    });
    assert_eq!(compared(&bench.nearhit, "stale"), 0.0);
}

#[test]
fn an_error_is_not_compared() {
    let bench = Bench::new(RedisServer::start(), "tracking", &SHADOW);
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    direct.lines_ok(&["SET k v", "SELECT 1"]);
    run(&mut direct, "LPUSH k element");
    read_until_known(&bench.nearhit, &mut client, "GET k");
    // Redis tells nobody of it.
    run(&mut direct, "SWAPDB 0 1");
    assert!(client.cmd(&["GET", "k"]).is_error());
    let verdicts = ["uncompared", "raced", "late", "stale"].map(|verdict| compared(&bench.nearhit, verdict));
    assert_eq!(verdicts, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn every_policy_is_counted_by_its_name() {
    let policy = r#"[{ name = "sessions", match = "session:*" }, { name = "locks", match = "lock:*", cache = false }]"#;
    let mut args = SHADOW.to_vec();
    args.extend(["--policy", policy]);
    let bench = Bench::new(RedisServer::start(), "tracking", &args);
    let mut client = bench.client(Protocol::Resp3);
    let of = |policy: &str, result: &str| {
        let labels = [format!("policy=\"{policy}\""), format!("result=\"{result}\"")];
        bench
            .nearhit
            .metric("nearhit_shadow_requests_total", &labels.each_ref().map(String::as_str))
    };
    for (key, policy) in [("session:1", "sessions"), ("plain", "default")] {
        wait_for("a would-be hit", SOON, || {
            client.cmd(&["GET", key]);
            of(policy, "hit") > 0.0
        });
        assert_eq!(of(policy, "miss"), 1.0);
    }
    (0..3).for_each(|_| drop(client.cmd(&["GET", "lock:1"])));
    assert_eq!((of("locks", "bypass"), of("locks", "hit")), (3.0, 0.0));
    let report = client.cmd(&["PROXY", "SHADOW"]);
    assert_eq!(field(&report, "mode"), "shadow");
    let sessions = field(&field(&report, "policies"), "sessions");
    assert!(
        field(&sessions, "hit_ratio").text().parse::<f64>().unwrap() > 0.0,
        "{sessions:?}"
    );
}

#[test]
fn a_session_reads_its_own_writes_in_one_pipeline() {
    let bench = Bench::new(RedisServer::start(), "tracking", &SHADOW);
    for protocol in PROTOCOLS {
        let mut client = speaking(bench.nearhit.connect(), protocol);
        for round in 0..50 {
            let lines = [
                format!("SET k {round}"),
                "GET k".to_owned(),
                "GET k".to_owned(),
                "INCR k".to_owned(),
                "GET k".to_owned(),
            ];
            let replies = coherence_support::in_one_packet(&mut client, &lines);
            let next = (round + 1).to_string();
            assert_eq!(replies[2], replies[1]);
            assert_eq!(replies[4], format!("${}\r\n{next}\r\n", next.len()).into_bytes());
        }
    }
    assert_eq!(compared(&bench.nearhit, "stale"), 0.0);
}
