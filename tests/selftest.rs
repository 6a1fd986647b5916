//! `nearhit selftest` from outside: a short run with every fault, its report, and what it refuses.

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{Nearhit, RedisServer, child};

/// Longer than any run here: a loaded machine takes its time to start and stop processes.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs `nearhit selftest` with these arguments; gives back how it ended and its report, if it wrote one.
fn selftest(args: &[&str]) -> (child::Finished, Value) {
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("report.json");
    let mut command = Nearhit::command();
    command.arg("selftest").args(args).arg("--json").arg(&json);
    let finished = child::run(&mut command, LIMIT);
    let report = std::fs::read_to_string(&json).unwrap_or_else(|_| "null".to_owned());
    (finished, serde_json::from_str(&report).expect("JSON"))
}

fn number(report: &Value, path: &str) -> f64 {
    report
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} of {report:#}"))
}

#[test]
fn a_short_run_with_all_faults_finds_no_violation() {
    let (finished, report) = selftest(&["--seconds", "60", "--seed", "4"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.output());
    assert_eq!(report["violations"], serde_json::json!({}), "{}", finished.stdout);
    let faults = report["faults"].as_object().expect("faults").len();
    assert!(faults >= 20, "{faults} kinds of faults: {}", finished.stdout);
    assert!(number(&report, "/checked") > 50_000.0, "{}", finished.stdout);
    assert!(
        number(&report, "/late/all/max_ms") <= 1050.0 * 1.04,
        "{}",
        finished.stdout
    );
    for proof in ["hits", "joins", "raced", "lapsed", "invalidated"] {
        assert!(
            number(&report, &format!("/instances/{proof}")) > 0.0,
            "{proof}: {}",
            finished.stdout
        );
    }
}

#[test]
fn a_shared_server_keeps_nothing_of_a_run_and_loses_nothing() {
    let redis = RedisServer::start();
    let mut resp = redis.client();
    resp.cmd(&["SET", "mine", "precious"]);
    let url = format!("{}/2", redis.url());
    let (finished, report) = selftest(&["--upstream", &url, "--seconds", "6", "--clients", "8"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.output());
    let made = report["faults"].as_object().expect("faults");
    assert!(!made.is_empty(), "no faults at all");
    assert!(
        ["flushdb", "restart-empty", "kill-normal"]
            .iter()
            .all(|fault| !made.contains_key(*fault))
    );
    assert_eq!(resp.cmd(&["GET", "mine"]).text(), "precious");
    for db in ["2", "3"] {
        resp.cmd(&["SELECT", db]);
        assert_eq!(resp.cmd(&["DBSIZE"]), 0, "database {db}");
    }
}

#[test]
fn an_old_value_seen_after_the_bound_is_a_violation_and_exit_code_1() {
    // No cache keeps a bound of nothing: whoever writes directly at the server is acknowledged before nearhit is told.
    let args = [
        "--seconds",
        "5",
        "--bound",
        "0",
        "--faults",
        "delay-from",
        "--seed",
        "1",
    ];
    let (finished, report) = selftest(&args);
    assert_eq!(finished.code(), Some(1), "{}", finished.output());
    let violations = report["violations"].as_object().expect("violations");
    assert!(violations.keys().any(|name| name.starts_with("I2")), "{violations:?}");
    let history = report["histories"][0].as_str().expect("a history");
    assert!(history.contains("← this") && history.contains("faults: "), "{history}");
}

#[test]
fn a_run_that_tests_nothing_is_exit_code_2() {
    let (finished, _) = selftest(&["--seconds", "2", "--faults", "none", "--mode", "off"]);
    assert_eq!(finished.code(), Some(2), "{}", finished.output());
    assert!(
        finished.stdout.contains("tested too little: 0 hits"),
        "{}",
        finished.stdout
    );
}

#[test]
fn wrong_usage_is_exit_code_2_and_one_clear_line() {
    let cases: [(&[&str], &str); 6] = [
        (
            &["--faults", "earthquake"],
            "there is no 'earthquake'; there are all, none, delay-to",
        ),
        (&["--clients", "0"], "--clients must be between 1 and"),
        (&["--upstream", "unix:///run/redis.sock"], "--upstream must be redis://"),
        (
            &["--upstream", "redis://127.0.0.1:1", "--seconds", "1"],
            "ask 127.0.0.1:1",
        ),
        (&["--redis-server", "/nowhere"], "/nowhere is no Redis server"),
        (
            &["--faults", "flushdb", "--upstream", "redis://127.0.0.1:1"],
            "everybody at that server would feel it",
        ),
    ];
    for (args, expected) in cases {
        let (finished, _) = selftest(args);
        assert_eq!(finished.code(), Some(2), "{args:?}: {}", finished.output());
        assert!(finished.stderr.contains(expected), "{args:?}: {}", finished.stderr);
    }
}
