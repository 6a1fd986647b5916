//! `nearhit bench` from outside: exit codes, what it says, and that it leaves nothing at the server.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Finished, Nearhit, RedisServer, child, run, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// A short run: what it measures is of no interest here.
const SHORT: [&str; 8] = ["--seconds", "1", "--rounds", "1", "--connections", "4", "--keys", "100"];

fn command(redis: &RedisServer) -> Command {
    let mut command = Nearhit::command();
    command.args(["bench", "--target", &redis.url()]);
    command
}

fn bench(redis: &RedisServer, arguments: &[&str]) -> Finished {
    run(command(redis).args(SHORT).args(arguments), LIMIT)
}

/// The keys of a run that the server has now. (nearhit's canary has a key of its own.)
fn left(redis: &RedisServer) -> Vec<String> {
    let keys = redis.cmd(&["KEYS", "__nearhit_bench:*"]);
    keys.items().iter().map(support::Reply::text).collect()
}

#[test]
fn both_ways_are_measured_and_nothing_stays() {
    let redis = RedisServer::start();
    let json = support::temp_dir();
    let path = json.path().join("report.json");
    let done = bench(&redis, &["--json", path.to_str().expect("text")]);
    assert_eq!(done.code(), Some(0), "{}", done.output());
    for word in [
        "direct",
        "through",
        "× direct",
        "p99.9",
        "from memory",
        "--rate counts them",
    ] {
        assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
    }
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a report")).expect("JSON");
    let through = &report["ways"][1]["rounds"][0];
    assert!(
        through["from_memory"].as_f64().is_some_and(|share| share > 0.5),
        "{report}"
    );
    assert!(
        report["ways"][0]["rounds"][0]["gets"]
            .as_u64()
            .is_some_and(|gets| gets > 100),
        "{report}"
    );
    assert_eq!(left(&redis), [""; 0]);
}

#[test]
fn a_fixed_rate_is_kept_also_with_writes_and_one_way_only() {
    let redis = RedisServer::start();
    let arguments = ["--through", "none", "--rate", "500", "--writes", "10", "--zipf", "0.99"];
    let done = bench(&redis, &arguments);
    assert_eq!(done.code(), Some(0), "{}", done.output());
    assert!(!done.stdout.contains("through"), "{}", done.stdout);
    let line = done.stdout.lines().find(|line| line.starts_with("direct  "));
    let rate = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|rate| rate.parse().ok());
    assert!(
        rate.is_some_and(|rate: f64| (200.0..=510.0).contains(&rate)),
        "{}",
        done.stdout
    );
}

#[test]
fn a_nearhit_that_runs_already_is_measured_as_it_is() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--cache.mode", "off"]);
    let done = bench(&redis, &["--through", &format!("redis://{}", nearhit.addr())]);
    assert_eq!(done.code(), Some(0), "{}", done.output());
    let line = done.stdout.lines().find(|line| line.starts_with("through  "));
    assert!(line.is_some_and(|line| line.ends_with("  0.0 %")), "{}", done.stdout);
}

#[test]
fn another_servers_nearhit_is_noticed() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let nearhit = Nearhit::serve(&other.url());
    let done = bench(&redis, &["--through", &format!("redis://{}", nearhit.addr())]);
    assert_eq!(done.code(), Some(1), "{}", done.output());
    assert!(
        done.stderr.contains("does --through stand before --target"),
        "{}",
        done.stderr
    );
    assert_eq!(left(&redis), [""; 0]);
}

#[test]
fn a_signal_ends_it_and_its_keys() {
    let redis = RedisServer::start();
    let mut started = command(&redis)
        .args(["--seconds", "600", "--through", "none", "--keys", "100"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    wait_for("its keys", LIMIT, || left(&redis).len() == 100);
    let first = left(&redis).swap_remove(0);
    assert!(redis.cmd(&["PTTL", &first]).int() > 0);
    child::signal(&started, Signal::INT);
    let status = child::wait(&mut started, LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert_eq!(left(&redis), [""; 0]);
}

#[test]
fn nobody_there_and_wrong_usage_exit_with_2() {
    let nobody = format!("redis://{}", support::free_addr());
    for (arguments, said) in [
        (
            vec!["bench", "--target", &nobody],
            "nearhit bench: --target: connect to",
        ),
        (vec!["bench", "--size", "1"], "--size must be between"),
        (vec!["bench", "--zipf", "9"], "--zipf must be between"),
        (vec!["bench", "--rate", "5", "--pipeline", "2"], "cannot be used with"),
    ] {
        let done = run(Nearhit::command().args(&arguments), LIMIT);
        assert_eq!(done.code(), Some(2), "{arguments:?}: {}", done.output());
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
    }
}
