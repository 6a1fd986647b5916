//! Scripts and functions that only read, and SORT_RO, at replicas. They may read keys that they do not name, so what their
//! session has seen and written counts for them whatever the key.

mod coherence_support;
mod replica_support;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearhit::time;

use coherence_support::laggard::Laggard;
use replica_support::{Ends, Late, LateLink, calls, prefer_replica, replica_over, routed, wait_for_replicas, warm};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// Reads the key that it names.
const NAMED: &str = "return redis.call('GET', KEYS[1])";
/// Reads another one.
const UNNAMED: &str = "return redis.call('GET', 'unnamed')";

/// Nearhit before a master and a replica of it that is in use.
fn served() -> (RedisServer, RedisServer, Nearhit) {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_link();
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    (master, replica, proxy)
}

/// Waits until the command is answered at the replica by new connections, each time with this reply.
#[track_caller]
fn wait_until_at_replica(proxy: &Nearhit, replica: &RedisServer, command: &[&str], reply: &str) {
    let name = command[0].to_lowercase();
    let before = calls(replica, &name);
    wait_for("the replica to be asked", SOON, || {
        assert_eq!(proxy.connect().cmd(command), reply);
        calls(replica, &name) > before
    });
}

/// Waits until each of them has answered a read.
#[track_caller]
fn warm_all(proxy: &Nearhit, replicas: &[RedisServer]) {
    wait_for("reads of all replicas", SOON, || {
        (0..16).for_each(|key| drop(proxy.connect().cmd(&["PTTL", &format!("warm:{key}")])));
        replicas.iter().all(|replica| calls(replica, "pttl") > 0)
    });
}

fn asked_again(proxy: &Nearhit) -> f64 {
    proxy.metric("nearhit_retries_total", &["reason=\"replica\""])
}

#[test]
fn what_only_reads_goes_to_a_replica_and_what_may_write_to_the_master() {
    let (master, replica, proxy) = served();
    master.cmd(&["SET", "k", "v"]);
    master.cmd(&["RPUSH", "list", "2", "1"]);
    let load = "#!lua name=lib\nredis.register_function{function_name='get', flags={'no-writes'}, \
                callback=function(keys) return redis.call('GET', keys[1]) end}";
    master.cmd(&["FUNCTION", "LOAD", load]);
    wait_for("the replica to have all of it", SOON, || {
        replica.cmd(&["FUNCTION", "LIST"]).items().len() == 1
    });
    wait_until_at_replica(&proxy, &replica, &["EVAL_RO", NAMED, "1", "k"], "v");
    wait_until_at_replica(&proxy, &replica, &["FCALL_RO", "get", "1", "k"], "v");
    let mut client = proxy.connect();
    let before = calls(&replica, "sort_ro");
    wait_for("the list to be sorted at the replica", SOON, || {
        assert_eq!(client.cmd(&["SORT_RO", "list"]).items()[0], "1");
        calls(&replica, "sort_ro") > before
    });
    // A connection that goes on asking for it goes on asking the replica.
    wait_for("scripts that only the replica sees", SOON, || {
        let before = (calls(&master, "eval_ro"), calls(&replica, "eval_ro"));
        (0..50).for_each(|_| assert_eq!(client.cmd(&["EVAL_RO", NAMED, "1", "k"]), "v"));
        (calls(&master, "eval_ro"), calls(&replica, "eval_ro")) == (before.0, before.1 + 50)
    });
    let before = calls(&replica, "eval_ro");
    for _ in 0..10 {
        assert_eq!(client.cmd(&["EVAL_RO", "return redis.call('GET', 'k')", "0"]), "v");
        assert_eq!(client.cmd(&["EVAL", NAMED, "1", "k"]), "v");
        assert_eq!(client.cmd(&["FCALL", "get", "1", "k"]), "v");
    }
    assert_eq!(
        calls(&replica, "eval_ro"),
        before,
        "one that names no key goes to the master"
    );
    assert_eq!(calls(&replica, "eval") + calls(&replica, "fcall"), 0);
    client.cmd(&["READWRITE"]);
    assert_eq!(client.cmd(&["EVAL_RO", NAMED, "1", "k"]), "v");
    assert_eq!(calls(&replica, "eval_ro"), before);
}

#[test]
fn explain_says_where_a_script_goes_and_why() {
    let (master, replica, proxy) = served();
    master.cmd(&["SET", "k", "v"]);
    wait_until_at_replica(
        &proxy,
        &replica,
        &["EVAL_RO", "return 'is there'", "1", "k"],
        "is there",
    );
    let [at_master, at_replica] = [&master, &replica].map(|server| server.addr().to_string());
    let explain = |client: &mut Resp, command: &[&str]| {
        let told = client.cmd(&[&["PROXY", "EXPLAIN"], command].concat());
        ["node", "route"].map(|field| told.get(field).expect("a field").text())
    };
    let mut client = proxy.connect3();
    wait_for("the replica to be named", SOON, || {
        let [node, why] = explain(&mut client, &["EVAL_RO", NAMED, "1", "k"]);
        node == at_replica && why.contains("routing.reads")
    });
    let [node, why] = explain(&mut client, &["EVAL_RO", UNNAMED, "0"]);
    assert_eq!(node, at_master);
    assert!(why.contains("the keys that it names"), "{why}");
    let [node, why] = explain(&mut client, &["TOUCH", "k"]);
    assert_eq!(node, at_master);
    assert!(why.contains("an access"), "{why}");
    // Somebody else's write of a key that it does not name does not matter, the session's own does.
    client.cmd(&["SET", "other", "v"]);
    client.cmd(&["GET", "other"]);
    let script = ["EVAL_RO", NAMED, "1", "k"];
    let seen = explain(&mut client, &script);
    if seen[0] == at_master {
        assert!(seen[1].contains("has seen something newer"), "{}", seen[1]);
    }
}

#[test]
fn a_script_that_a_replica_has_not_got_is_run_by_the_master() {
    let (master, replica, proxy) = served();
    master.cmd(&["SET", "k", "v"]);
    wait_for("the replica to have it", SOON, || replica.cmd(&["GET", "k"]) == "v");
    // Scripts are not replicated.
    let sha = proxy.connect().cmd(&["SCRIPT", "LOAD", NAMED]).text();
    let mut client = proxy.connect();
    let again = asked_again(&proxy);
    wait_for("the replica to be asked in vain", SOON, || {
        assert_eq!(client.cmd(&["EVALSHA_RO", &sha, "1", "k"]), "v");
        asked_again(&proxy) > again
    });
    assert!(calls(&replica, "evalsha_ro") > 0);
    // It is not asked for the same in vain again and again, but for others.
    let asked = calls(&replica, "evalsha_ro");
    wait_for("the reason to be told", SOON, || {
        assert_eq!(client.cmd(&["EVALSHA_RO", &sha, "1", "k"]), "v");
        routed(&proxy, "primary", "script") >= 1.0
    });
    assert_eq!(calls(&replica, "evalsha_ro"), asked);
    let unknown = "0".repeat(40);
    wait_for("the replica to be asked for another one", SOON, || {
        let reply = client.cmd(&["EVALSHA_RO", &unknown, "1", "k"]);
        assert!(reply.is_error_with("NOSCRIPT"), "it is the master's answer: {reply:?}");
        calls(&replica, "evalsha_ro") > asked
    });
}

#[test]
fn a_function_that_a_late_replica_has_not_got_yet_is_run_by_the_master() {
    let Late {
        master,
        link,
        replica,
        proxy,
    } = Late::serve(&["--routing.replica_max_lag", "30s"]);
    master.cmd(&["SET", "k", "v"]);
    wait_for("the replica to have it", SOON, || replica.cmd(&["GET", "k"]) == "v");
    link.be_late(Duration::from_secs(2));
    let load = "#!lua name=lib\nredis.register_function{function_name='get', flags={'no-writes'}, \
                callback=function(keys) return redis.call('GET', keys[1]) end}";
    master.cmd(&["FUNCTION", "LOAD", load]);
    let (again, mut asked) = (asked_again(&proxy), false);
    while replica.cmd(&["FUNCTION", "LIST"]).items().is_empty() {
        assert_eq!(proxy.connect().cmd(&["FCALL_RO", "get", "1", "k"]), "v");
        asked |= asked_again(&proxy) > again;
    }
    assert!(asked, "the replica was asked before it had the function");
    // Who loads it through nearhit never finds it missing.
    let mut client = proxy.connect();
    client.cmd(&[
        "FUNCTION",
        "LOAD",
        "REPLACE",
        &load.replace("keys[1])", "keys[1]) .. '2'"),
    ]);
    (0..100).for_each(|_| assert_eq!(client.cmd(&["FCALL_RO", "get", "1", "k"]), "v2"));
}

#[test]
fn what_a_replica_refuses_in_its_own_words_is_refused_in_the_master_s() {
    let (master, replica, proxy) = served();
    let may_write = "#!lua\nreturn 1";
    assert!(replica.cmd(&["EVAL_RO", may_write, "1", "k"]).is_error_with("READONLY"));
    let expected = master.cmd(&["EVAL_RO", may_write, "1", "k"]).text();
    let again = asked_again(&proxy);
    wait_for("the replica to have refused it", SOON, || {
        assert_eq!(proxy.connect().cmd(&["EVAL_RO", may_write, "1", "k"]).text(), expected);
        asked_again(&proxy) > again
    });
    let writes = "return redis.call('SET', KEYS[1], '1')";
    let refused = proxy.connect().cmd(&["EVAL_RO", writes, "1", "k"]);
    assert!(
        refused.is_error_with("ERR Write commands are not allowed"),
        "{refused:?}"
    );
}

#[test]
fn a_session_s_scripts_read_what_it_wrote_although_the_replica_is_two_seconds_behind() {
    let Late {
        master: _kept,
        link,
        replica,
        proxy,
    } = Late::serve(&["--routing.replica_max_lag", "30s"]);
    wait_until_at_replica(
        &proxy,
        &replica,
        &["EVAL_RO", "return 'is there'", "1", "k"],
        "is there",
    );
    link.be_late(Duration::from_secs(2));
    let (mut writer, mut reader) = (proxy.connect(), proxy.connect());
    for number in 0..100 {
        let value = number.to_string();
        writer.cmd(&["SET", "named", &value]);
        assert_eq!(writer.cmd(&["EVAL_RO", NAMED, "1", "named"]), value.as_str());
        // Of keys that are named whoever reads through the same nearhit reads what was written.
        assert_eq!(reader.cmd(&["EVAL_RO", NAMED, "1", "named"]), value.as_str());
        // Of others the one who wrote.
        let mut fresh = proxy.connect();
        fresh.cmd(&["EVAL_RO", UNNAMED, "1", "other"]);
        fresh.cmd(&["SET", "unnamed", &value]);
        assert_eq!(fresh.cmd(&["EVAL_RO", UNNAMED, "1", "other"]), value.as_str());
    }
    // What may have written any key was written for everybody.
    for number in 0..50 {
        let value = number.to_string();
        writer.cmd(&["EVAL", "return redis.call('SET', 'unnamed', ARGV[1])", "0", &value]);
        assert_eq!(reader.cmd(&["EVAL_RO", UNNAMED, "1", "other"]), value.as_str());
        writer.lines_ok(&["MULTI"]);
        writer.cmd(&["SET", "unnamed", "in a transaction"]);
        writer.cmd(&["EXEC"]);
        assert_eq!(writer.cmd(&["EVAL_RO", UNNAMED, "1", "another"]), "in a transaction");
    }
    assert!(routed(&proxy, "primary", "written") + routed(&proxy, "primary", "seen") >= 300.0);
    // Unless its connection is new to the worker.
    assert!(calls(&replica, "eval_ro") >= 50, "it was asked before the writes");
}

#[test]
fn neither_in_one_packet() {
    let (master, replica, proxy) = served();
    wait_until_at_replica(
        &proxy,
        &replica,
        &["EVAL_RO", "return 'is there'", "1", "k"],
        "is there",
    );
    let mut client = proxy.connect();
    for number in 0..200 {
        let (old, new) = (format!("old {number}"), format!("new {number}"));
        master.cmd(&["SET", "unnamed", &old]);
        let script = vec!["EVAL_RO", UNNAMED, "1", "k"];
        let write = vec!["SET", "unnamed", &new];
        let replies = client.pipeline(&[write, script]);
        assert_eq!(replies[1], new.as_str());
    }
}

#[test]
fn a_script_does_not_see_what_its_client_wrote_after_it_however_slow_the_replica() {
    let (master, replica, proxy) = served();
    master.cmd(&["SET", "unnamed", "old"]);
    wait_for("the replica to have it", SOON, || {
        replica.cmd(&["GET", "unnamed"]) == "old"
    });
    let script = vec!["EVAL_RO", UNNAMED, "1", "k"];
    let (mut client, again) = (proxy.connect(), asked_again(&proxy));
    let before = calls(&replica, "eval_ro");
    wait_for("its scripts to run at the replica", SOON, || {
        assert_eq!(client.cmd(&script), "old");
        calls(&replica, "eval_ro") > before
    });
    replica.pause();
    let replies = client.pipeline(&[script, vec!["SET", "unnamed", "new"], vec!["GET", "unnamed"]]);
    replica.resume();
    // The master ran it in the end, so the write must have waited for it.
    assert_eq!(replies[0], "old");
    assert_eq!(replies[1], "OK");
    assert_eq!(replies[2], "new");
    assert!(asked_again(&proxy) > again, "the replica was asked first");
}

#[test]
fn no_client_reads_backwards_through_scripts_wherever_they_run() {
    let master = RedisServer::start();
    let links = [LateLink::to(&master), LateLink::to(&master)];
    let replicas = links.each_ref().map(replica_over);
    let proxy = prefer_replica(&master, &["--routing.replica_max_lag", "30s"]);
    wait_for_replicas(&proxy, 2);
    warm_all(&proxy, &replicas);
    links[1].be_late(Duration::from_millis(150));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Ends(&stop);
        scope.spawn(|| {
            let mut foreign = master.client();
            while !stop.load(Ordering::Relaxed) {
                foreign.cmd(&["INCR", "unnamed"]);
            }
        });
        let mut client = proxy.connect();
        let (mut last, mut backwards) = (0, None);
        let before = replicas.each_ref().map(|replica| calls(replica, "eval_ro"));
        let at_both = || {
            let now = replicas.each_ref().map(|replica| calls(replica, "eval_ro"));
            now[0] > before[0] + 10 && now[1] > before[1] + 10
        };
        let begun = time::now();
        let mut round = 0;
        while backwards.is_none() && (round < 20 || !at_both()) {
            assert!(time::now().since(begun) < 3 * SOON, "both replicas are asked");
            for number in 0..40 {
                // Scripts are sent to where the key is read that they name, unless something newer was seen elsewhere.
                let key = format!("named:{}", (round + number / 20) % 8);
                let read = match number % 5 {
                    // Of the master.
                    4 => {
                        client.cmd(&["READWRITE"]);
                        let read = client.cmd(&["GET", "unnamed"]);
                        client.cmd(&["READONLY"]);
                        read
                    }
                    _ => client.cmd(&["EVAL_RO", UNNAMED, "1", &key]),
                };
                let read = if read.is_nil() {
                    0
                } else {
                    read.text().parse::<u64>().expect("a number")
                };
                backwards = backwards.or((read < last).then(|| format!("{read} after {last}")));
                last = read;
            }
            // A pause in which both get what was seen.
            client.expect_silence(Duration::from_millis(250));
            round += 1;
        }
        drop(ending);
        assert_eq!(backwards, None);
    });
}

#[test]
fn what_a_script_has_shown_at_a_replica_memory_does_not_take_back() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_link();
    let laggard = Laggard::before(master.addr(), "TRACKING");
    let args = ["--routing.reads", "prefer-replica", "--routing.replica_max_lag", "30s"];
    let proxy = Nearhit::serve_with(
        &laggard.url(),
        &[&args[..], &["--invalidation.max-staleness", "10s"]].concat(),
    );
    wait_for_replicas(&proxy, 1);
    master.cmd(&["SET", "unnamed", "old"]);
    wait_for("the replica to have it", SOON, || {
        replica.cmd(&["GET", "unnamed"]) == "old"
    });
    let script = ["EVAL_RO", UNNAMED, "1", "other"];
    wait_until_at_replica(&proxy, &replica, &script, "old");
    let hits = || proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""]);
    let mut other = proxy.connect();
    wait_for("memory to answer", SOON, || {
        let before = hits();
        assert_eq!(other.cmd(&["GET", "unnamed"]), "old");
        hits() > before
    });
    // What tells that the entry is old is late.
    laggard.hold();
    master.cmd(&["SET", "unnamed", "new"]);
    wait_for("the replica to have it", SOON, || {
        replica.cmd(&["GET", "unnamed"]) == "new"
    });
    assert_eq!(other.cmd(&["GET", "unnamed"]), "old", "memory does not know yet");
    // A client that the replica told so.
    let mut client = None;
    wait_for("the replica to be asked", SOON, || {
        let (before, mut fresh) = (calls(&replica, "eval_ro"), proxy.connect());
        assert_eq!(fresh.cmd(&script), "new");
        client = (calls(&replica, "eval_ro") > before).then_some(fresh);
        client.is_some()
    });
    let mut client = client.expect("a client");
    assert_eq!(other.cmd(&["GET", "unnamed"]), "old", "nor does it now");
    client.send(&["GET", "unnamed"]);
    laggard.release();
    assert_eq!(client.reply(), "new");
}

#[test]
fn a_strict_session_reads_keys_in_the_order_in_which_they_changed_at_whichever_replica() {
    let master = RedisServer::start();
    let links = [LateLink::to(&master), LateLink::to(&master)];
    let replicas = links.each_ref().map(replica_over);
    let args = ["--routing.replica_max_lag", "30s", "--cache.strict_sessions", "true"];
    let proxy = prefer_replica(&master, &args);
    wait_for_replicas(&proxy, 2);
    warm_all(&proxy, &replicas);
    links[1].be_late(Duration::from_millis(300));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Ends(&stop);
        scope.spawn(|| {
            let mut foreign = master.client();
            while !stop.load(Ordering::Relaxed) {
                // Whoever has read the second one has not read more of the first.
                let writes: Vec<_> = (0..16)
                    .flat_map(|pair| [format!("first:{pair}"), format!("second:{pair}")])
                    .collect();
                foreign.pipeline(&writes.iter().map(|key| vec!["INCR", key]).collect::<Vec<_>>());
            }
        });
        let number = |client: &mut Resp, key: &str| {
            let read = client.cmd(&["GET", key]);
            if read.is_nil() {
                0
            } else {
                read.text().parse::<u64>().expect("a number")
            }
        };
        wait_for("all to be there", SOON, || {
            number(&mut proxy.connect(), "second:15") > 0
        });
        let before = replicas.each_ref().map(|replica| calls(replica, "get"));
        let mut wrong = Vec::new();
        for _ in 0..20 {
            for pair in 0..16 {
                let mut client = proxy.connect();
                let second = number(&mut client, &format!("second:{pair}"));
                let first = number(&mut client, &format!("first:{pair}"));
                if first < second {
                    wrong.push((pair, first, second));
                }
            }
        }
        drop(ending);
        assert_eq!(wrong, []);
        for (replica, before) in replicas.iter().zip(before) {
            assert!(calls(replica, "get") > before + 20, "each replica was asked");
        }
    });
}
