//! Replicas that die, hang, or are copied to anew: their reads are answered by the master, and no client sees an error.

mod replica_support;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearhit::time;

use replica_support::{Ends, calls, prefer_replica, replicas, routed, wait_for_replicas, warm};
use support::{Nearhit, RedisServer, SOON, wait_for};

/// Clients that read and write for as long as `fault` takes, and one that runs scripts, and check every reply: gives how long
/// the slowest took.
fn under_load(proxy: &Nearhit, fault: impl FnOnce()) -> Duration {
    let stop = &AtomicBool::new(false);
    assert_eq!(proxy.connect().cmd(&["SET", "scripted", "value"]), "OK");
    std::thread::scope(|scope| {
        let ending = Ends(stop);
        let client = |number: usize| {
            let mut client = proxy.connect();
            client.patience(Duration::from_secs(30));
            let (mut slowest, mut count) = (Duration::ZERO, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let (key, begun) = (format!("client:{number}:{}", count % 50), time::now());
                let value = count.to_string();
                assert_eq!(client.cmd(&["SET", &key, &value]), "OK");
                let keys: Vec<_> = (0..50).map(|at| format!("client:{number}:{at}")).collect();
                let gets: Vec<_> = keys.iter().map(|key| vec!["GET", key]).collect();
                let replies = client.pipeline(&gets);
                assert_eq!(replies[(count % 50) as usize], value.as_str());
                for (at, reply) in replies.iter().enumerate() {
                    let newest = (0..=count).rev().find(|count| count % 50 == at as u64);
                    assert_eq!(
                        reply.bytes(),
                        newest.map(|count| count.to_string()).as_deref().map(str::as_bytes)
                    );
                }
                slowest = slowest.max(time::now().since(begun));
                count += 1;
            }
            slowest
        };
        scope.spawn(|| {
            let mut client = proxy.connect();
            client.patience(Duration::from_secs(30));
            let script = ["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "scripted"];
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.cmd(&script), "value");
            }
        });
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
        fault();
        drop(ending);
        let slowest = clients.into_iter().map(|client| client.join().expect("a client"));
        slowest.max().unwrap_or_default()
    })
}

/// Waits until reads are answered by `replica` while others go on.
#[track_caller]
fn wait_for_reads(replica: &RedisServer) {
    let before = calls(replica, "get");
    wait_for("reads of the replica", Duration::from_secs(20), || {
        calls(replica, "get") > before + 100
    });
}

#[test]
fn a_replica_that_is_killed_is_replaced_by_the_master_without_an_error() {
    let master = RedisServer::start();
    let mut replica = RedisServer::replica_of(&master);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    let again = || proxy.metric("nearhit_retries_total", &["reason=\"replica\""]);
    let slowest = under_load(&proxy, || {
        // Until one of them had something on its way.
        for round in 0.. {
            if round >= 2 && again() >= 1.0 {
                break;
            }
            assert!(round < 20, "some are asked again");
            wait_for_reads(&replica);
            replica.kill9();
            let before = calls(&master, "get");
            wait_for("reads of the master", SOON, || calls(&master, "get") > before + 1000);
            replica.restart();
            replica.wait_for_link();
        }
        wait_for_reads(&replica);
    });
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    assert!(routed(&proxy, "primary", "away") >= 1.0);
}

#[test]
fn a_replica_that_hangs_is_left_and_what_waits_there_is_asked_of_the_master() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    let slowest = under_load(&proxy, || {
        wait_for_reads(&replica);
        replica.pause();
        let before = calls(&master, "get");
        wait_for("reads of the master", Duration::from_secs(10), || {
            calls(&master, "get") > before + 1000
        });
        replica.resume();
        wait_for_reads(&replica);
    });
    // Two looks of a second, and what a busy machine adds.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
}

#[test]
fn a_replica_that_runs_somebody_s_script_for_long_is_no_loss() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    replica.cmd(&["CONFIG", "SET", "busy-reply-threshold", "50"]);
    under_load(&proxy, || {
        for _ in 0..3 {
            wait_for_reads(&replica);
            let before = calls(&master, "get");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut endless = replica.client();
                    endless.patience(Duration::from_secs(30));
                    assert!(endless.cmd(&["EVAL_RO", "while true do end", "0"]).is_error_with("ERR"));
                });
                wait_for("reads of the master", Duration::from_secs(10), || {
                    calls(&master, "get") > before + 1000
                });
                wait_for("the script to be stopped", SOON, || {
                    replica.cmd(&["SCRIPT", "KILL"]) == "OK"
                });
            });
        }
    });
}

#[test]
fn a_replica_that_is_copied_to_anew_is_not_read_from_meanwhile() {
    let master = RedisServer::builder().arg("--enable-debug-command", "yes").start();
    let replica = RedisServer::replica_of(&master);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    under_load(&proxy, || {
        for _ in 0..3 {
            wait_for_reads(&replica);
            // What the replica has is of no known history now, so it is sent everything.
            let full = || master.info("sync_full").parse::<u32>().expect("a number");
            let before = full();
            assert_eq!(master.cmd(&["DEBUG", "CHANGE-REPL-ID"]), "OK");
            master.cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
            wait_for("a full copy", Duration::from_secs(20), || full() > before);
            wait_for_replicas(&proxy, 1);
        }
        wait_for_reads(&replica);
    });
}

#[test]
fn a_node_that_follows_another_master_is_not_read_from() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let other = RedisServer::start();
    other.cmd(&["SET", "whose", "another master's"]);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    let mut client = proxy.connect();
    client.cmd(&["SET", "whose", "ours"]);
    let port = other.port().to_string();
    replica.cmd(&["REPLICAOF", "127.0.0.1", &port]);
    wait_for("it to be no replica of ours", SOON, || {
        replicas(&proxy)
            .iter()
            .all(|node| node.get("state").is_some_and(|state| state != "ok"))
    });
    wait_for("it to have the other's data", SOON, || {
        replica.cmd(&["GET", "whose"]) == "another master's"
    });
    (0..100).for_each(|_| assert_eq!(proxy.connect().cmd(&["GET", "whose"]), "ours"));
    let port = master.port().to_string();
    replica.cmd(&["REPLICAOF", "127.0.0.1", &port]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    (0..100).for_each(|_| assert_eq!(proxy.connect().cmd(&["GET", "whose"]), "ours"));
}

#[test]
fn while_the_master_is_away_replicas_answer_if_they_may_lack_something() {
    let mut master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let proxies = [
        prefer_replica(&master, &[]),
        prefer_replica(&master, &["--routing.stale_reads", "true"]),
    ];
    for proxy in &proxies {
        wait_for_replicas(proxy, 1);
        warm(proxy, &replica);
    }
    proxies[0].connect().cmd(&["SET", "k", "v"]);
    wait_for("the replica to have it", SOON, || replica.cmd(&["GET", "k"]) == "v");
    master.kill9();
    let [careful, available] = proxies.each_ref().map(|proxy| proxy.connect());
    let (mut careful, mut available) = (careful, available);
    wait_for("the replica to be of no use", Duration::from_secs(10), || {
        careful.cmd(&["GET", "k"]).is_error_with("ERR nearhit")
    });
    wait_for(
        "the replica to answer although nobody knows what it lacks",
        SOON,
        || {
            let answered = available.cmd(&["GET", "k"]) == "v";
            answered && routed(&proxies[1], "replica", "degraded") >= 1.0
        },
    );
    let begun = time::now();
    assert!(
        available.cmd(&["SET", "k", "w"]).is_error_with("ERR nearhit"),
        "writes fail at once"
    );
    assert!(time::now().since(begun) < Duration::from_secs(1));
    master.restart();
    wait_for("the master to be asked again", SOON, || {
        careful.cmd(&["GET", "k"]).is_nil()
    });
}
