//! `nearhit selftest` before a primary with replicas, before sentinels and before a cluster: short runs, with faults of theirs.

mod support;

use parking_lot::Mutex;
use serde_json::Value;
use std::time::Duration;
use support::{Nearhit, child};

/// Longer than any run here: a loaded machine takes its time to start and stop processes.
const LIMIT: Duration = Duration::from_secs(140);

/// One run at a time: each has a dozen processes, and its faults a time in which they must have been made.
static TURN: Mutex<()> = Mutex::new(());

/// Runs it, and gives back what it says if nothing was violated and enough was tested.
fn sound(seconds: &str, args: &[&str]) -> Value {
    let _turn = TURN.lock();
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("report.json");
    let mut command = Nearhit::command();
    command
        .args(["selftest", "--seconds", seconds, "--clients", "8", "--seed", "4"])
        .args(args);
    let finished = child::run(command.arg("--json").arg(&json), LIMIT);
    assert_eq!(finished.code(), Some(0), "{}", finished.output());
    let report = std::fs::read_to_string(&json).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["violations"], serde_json::json!({}), "{report:#}");
    assert!(report["checked"].as_u64() > Some(10_000), "{report:#}");
    report
}

/// The same, and replicas must have been read from.
fn sound_at_replicas(seconds: &str, args: &[&str]) -> Value {
    let report = sound(seconds, args);
    assert!(report["instances"]["at_replicas"].as_u64() > Some(100), "{report:#}");
    report
}

/// Faults that a run of this length makes each at least once.
fn faults(of_the_topology: &str) -> String {
    format!("instance-stop,kill-normal,flushdb,restart-empty,{of_the_topology}")
}

fn was_made(report: &Value, fault: &str) -> bool {
    report["faults"][fault]["made"].as_u64() > Some(0)
}

const OF_REPLICAS: &str = "stall-tracked-from,reset-data,replica-kill,replica-stop,replica-link,replica-resync";

#[test]
fn reads_at_replicas_keep_every_rule() {
    let report = sound_at_replicas("18", &["--topology", "replicas", "--faults", &faults(OF_REPLICAS)]);
    assert!(
        OF_REPLICAS.split(',').all(|fault| was_made(&report, fault)),
        "{report:#}"
    );
    // What a hit may be late, what a replica may be late, and what a reply itself takes.
    assert!(
        report["late"]["all"]["max_ms"].as_f64() <= Some(2050.0 * 1.04),
        "{report:#}"
    );
}

#[test]
fn without_a_cache_reads_at_replicas_keep_every_rule() {
    let faults = "replica-kill,replica-stop";
    let report = sound_at_replicas("8", &["--topology", "replicas", "--mode", "off", "--faults", faults]);
    let [reads, at_replicas] =
        ["/reads", "/instances/at_replicas"].map(|path| report.pointer(path).and_then(Value::as_u64));
    // A client that writes and reads without a pause comes to a replica once a second at most.
    assert!(at_replicas > reads.map(|reads| reads / 500), "{report:#}");
}

#[test]
fn a_failover_loses_nothing_that_replicas_had() {
    let faults = faults("replica-kill,replica-link,failover");
    let report = sound_at_replicas("18", &["--topology", "sentinel", "--faults", &faults]);
    assert!(was_made(&report, "failover"), "{report:#}");
}

const OF_A_CLUSTER: &str =
    "slot-move,slot-half,slot-take,cluster-failover,primary-stop,kill-tracked,flushall,follower-kill";

#[test]
fn slots_that_move_and_primaries_that_change_break_no_rule() {
    let faults = format!("instance-stop,{OF_A_CLUSTER}");
    let report = sound("24", &["--topology", "cluster", "--faults", &faults]);
    assert!(
        OF_A_CLUSTER.split(',').all(|fault| was_made(&report, fault)),
        "{report:#}"
    );
}

#[test]
fn a_primary_of_a_cluster_that_dies_loses_nothing_that_its_replica_had() {
    let report = sound("14", &["--topology", "cluster", "--faults", "primary-kill"]);
    assert!(was_made(&report, "primary-kill"), "{report:#}");
}

#[test]
fn without_a_cache_reads_at_the_replicas_of_a_cluster_keep_every_rule() {
    let faults = "cluster-failover,follower-kill,slot-move,replica-link";
    let args = ["--topology", "cluster", "--mode", "off", "--faults", faults];
    sound_at_replicas("14", &args);
}
