//! Reads that replicas answer: which of them, and when the master is asked instead.

mod replica_support;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearhit::time;

use replica_support::{
    Ends, Late, LateLink, calls, prefer_replica, replica_over, replicas, routed, wait_for_replicas, warm,
};
use support::{Nearhit, RedisServer, SOON, wait_for};

#[test]
fn reads_go_to_a_replica_and_writes_to_the_master() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_link();
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    let mut client = proxy.connect();
    client.cmd(&["SET", "k", "v"]);
    wait_for("the replica to have the key", SOON, || {
        assert_eq!(client.cmd(&["GET", "k"]), "v");
        calls(&replica, "get") > 0
    });
    // Until it was known that the replica has it, the master was asked.
    wait_for("reads that only the replica sees", SOON, || {
        let before = (calls(&master, "get"), calls(&replica, "get"));
        for _ in 0..100 {
            assert_eq!(client.cmd(&["GET", "k"]), "v");
        }
        (calls(&master, "get"), calls(&replica, "get")) == (before.0, before.1 + 100)
    });
    assert_eq!(calls(&replica, "client|pause"), 0);
    assert!(routed(&proxy, "replica", "setting") >= 100.0);
}

#[test]
fn keys_are_spread_over_all_replicas_and_each_stays_at_one() {
    let master = RedisServer::start();
    let both = [RedisServer::replica_of(&master), RedisServer::replica_of(&master)];
    both.iter().for_each(RedisServer::wait_for_link);
    let proxy = prefer_replica(&master, &[]);
    wait_for_replicas(&proxy, 2);
    let mut client = proxy.connect();
    let read_all = |client: &mut support::Resp| {
        for key in 0..200 {
            assert!(client.cmd(&["GET", &format!("key:{key}")]).is_nil());
        }
    };
    wait_for("both replicas to be read", SOON, || {
        let before = calls(&master, "get");
        read_all(&mut client);
        calls(&master, "get") == before
    });
    let before = both.each_ref().map(|server| calls(server, "get"));
    read_all(&mut client);
    let share = |at: usize| calls(&both[at], "get") - before[at];
    assert_eq!(share(0) + share(1), 200);
    assert!(share(0) > 50 && share(1) > 50, "{} and {}", share(0), share(1));
}

#[test]
fn what_a_client_wrote_it_reads_although_the_replica_is_late() {
    let Late {
        master: _kept,
        link,
        replica,
        proxy,
    } = Late::serve(&["--routing.replica_max_lag", "30s"]);
    link.be_late(Duration::from_millis(500));
    let (mut writer, mut reader) = (proxy.connect(), proxy.connect());
    for number in 0..300 {
        let value = number.to_string();
        writer.cmd(&["SET", "k", &value]);
        assert_eq!(writer.cmd(&["GET", "k"]), value.as_str());
        // Whoever hears of it may be another client of the same nearhit.
        assert_eq!(reader.cmd(&["GETRANGE", "k", "0", "-1"]), value.as_str());
        assert_eq!(reader.cmd(&["MGET", "other", "k"]).items()[1], value.as_str());
    }
    assert!(routed(&proxy, "primary", "written") >= 900.0);
    // Other keys go on being read at the replica.
    let (before, mut number) = (calls(&replica, "get"), 0);
    wait_for("reads of keys nobody has read or written", SOON, || {
        number += 1;
        assert!(reader.cmd(&["GET", &format!("untouched:{number}")]).is_nil());
        calls(&replica, "get") > before
    });
    // What it is late by is known.
    wait_for("the lag to be shown", SOON, || {
        writer.cmd(&["INCR", "count"]);
        let lag = replicas(&proxy)[0].get("lag_ms").expect("a lag").int();
        (400..5000).contains(&lag)
    });
}

#[test]
fn writes_in_transactions_and_scripts_and_of_everything_are_read_as_well() {
    let Late {
        master: _kept,
        link,
        replica: _kept_too,
        proxy,
    } = Late::serve(&["--routing.replica_max_lag", "30s"]);
    link.be_late(Duration::from_millis(1500));
    let mut client = proxy.connect();
    client.lines_ok(&["MULTI"]);
    client.cmd(&["SET", "one", "1"]);
    client.cmd(&["EXEC"]);
    assert_eq!(client.cmd(&["GET", "one"]), "1");
    client.cmd(&["EVAL", "return redis.call('set', KEYS[1], '2')", "1", "two"]);
    assert_eq!(client.cmd(&["GET", "two"]), "2");
    // A script that names no key may have written any.
    client.cmd(&["EVAL", "return redis.call('set', 'three', '3')", "0"]);
    assert_eq!(client.cmd(&["GET", "three"]), "3");
    client.cmd(&["FLUSHALL"]);
    assert!(client.cmd(&["GET", "one"]).is_nil());
    client.cmd(&["RPUSH", "list", "a"]);
    assert_eq!(client.cmd(&["BLPOP", "list", "1"]).items()[1], "a");
    assert_eq!(client.cmd(&["LLEN", "list"]), 0);
}

#[test]
fn no_client_reads_backwards_wherever_its_reads_are_sent() {
    let Late {
        master,
        link,
        replica,
        proxy,
    } = Late::serve(&["--routing.replica_max_lag", "30s"]);
    link.be_late(Duration::from_millis(100));
    // A writer nearhit knows nothing of.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Ends(&stop);
        scope.spawn(|| {
            let mut foreign = master.client();
            while !stop.load(Ordering::Relaxed) {
                foreign.cmd(&["INCR", "count"]);
            }
        });
        let mut client = proxy.connect();
        let (mut last, before) = (0, calls(&replica, "get"));
        let begun = time::now();
        let mut replies = 0;
        let mut backwards = None;
        while time::now().since(begun) < Duration::from_secs(4) && backwards.is_none() {
            // The connection changes its mind, so that its reads go here and there.
            let way = if replies % 40 < 20 { "READWRITE" } else { "READONLY" };
            assert_eq!(client.cmd(&[way]), "OK");
            let read = client.cmd(&["GET", "count"]);
            // Nothing at first.
            let read = if read.is_nil() {
                0
            } else {
                read.text().parse::<u64>().expect("a number")
            };
            backwards = (read < last).then(|| format!("{read} after {last}"));
            (last, replies) = (read, replies + 1);
            if replies % 40 == 39 {
                // A pause in which the replica gets what was seen.
                client.expect_silence(Duration::from_millis(250));
            }
        }
        drop(ending);
        assert_eq!(backwards, None);
        assert!(calls(&replica, "get") > before + 10, "the replica was read, too");
        assert!(routed(&proxy, "primary", "seen") > 10.0);
    });
}

#[test]
fn a_replica_two_seconds_behind_is_not_read_from_and_the_metric_says_why() {
    let Late {
        master,
        link,
        replica,
        proxy,
    } = Late::serve(&[]);
    link.be_late(Duration::from_secs(2));
    let mut client = proxy.connect();
    wait_for("the replica to be too far behind", Duration::from_secs(10), || {
        // Something must be written for it to be behind.
        master.cmd(&["INCR", "count"]);
        let state = replicas(&proxy)[0].get("state").map(|state| state.text());
        state.is_some_and(|state| state == "too far behind")
    });
    let now = master.cmd(&["INCR", "count"]).int();
    let before = calls(&replica, "get");
    assert_eq!(client.cmd(&["GET", "count"]).text(), now.to_string());
    assert_eq!(calls(&replica, "get"), before);
    assert!(routed(&proxy, "primary", "lag") >= 1.0);
    let explained = proxy.connect3().cmd(&["PROXY", "EXPLAIN", "GET", "count"]);
    assert!(
        explained
            .get("route")
            .expect("a route")
            .text()
            .contains("routing.replica_max_lag")
    );
    link.be_late(Duration::ZERO);
    wait_for_replicas(&proxy, 1);
}

#[test]
fn policies_and_connections_choose_for_themselves() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_link();
    let dir = support::temp_dir();
    let file = dir.path().join("nearhit.toml");
    let text =
        "[cache]\nmode = \"off\"\n[[policy]]\nname = \"reports\"\nmatch = \"report:*\"\nreads = \"prefer-replica\"\n";
    std::fs::write(&file, text).expect("write a file");
    let proxy = Nearhit::serve_with(&master.url(), &["--config", file.to_str().expect("a path")]);
    wait_for_replicas(&proxy, 1);
    let mut client = proxy.connect();
    let where_read = |client: &mut support::Resp, key: &str| {
        let before = calls(&replica, "get");
        (0..3).for_each(|_| drop(client.cmd(&["GET", key])));
        calls(&replica, "get") - before
    };
    wait_for("reports to be read at the replica", SOON, || {
        where_read(&mut client, "report:1") == 3
    });
    assert_eq!(where_read(&mut client, "other"), 0, "routing.reads is \"master\"");
    assert_eq!(client.cmd(&["READONLY"]), "OK");
    wait_for("other keys to be read there", SOON, || {
        where_read(&mut client, "other") == 3
    });
    assert_eq!(client.cmd(&["READWRITE"]), "OK");
    assert_eq!(where_read(&mut client, "report:1"), 0);
    assert_eq!(client.cmd(&["RESET"]), "RESET");
    wait_for("RESET to forget that", SOON, || {
        where_read(&mut client, "report:1") == 3
    });
}

#[test]
fn without_a_replica_reads_say_so_if_only_replicas_may_be_read() {
    let master = RedisServer::start();
    let proxy = Nearhit::serve_with(&master.url(), &["--cache.mode", "off", "--routing.reads", "replica"]);
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
    let reply = client.cmd(&["GET", "k"]).text();
    assert!(
        reply.contains("no replica can be read from now (away) and routing.reads is \"replica\""),
        "{reply}"
    );
    assert!(routed(&proxy, "nobody", "away") >= 1.0);
}

#[test]
fn what_memory_has_shown_is_not_followed_by_an_older_answer_of_a_replica() {
    let master = RedisServer::start();
    let link = LateLink::to(&master);
    let replica = replica_over(&link);
    let args = ["--routing.reads", "prefer-replica", "--routing.replica_max_lag", "30s"];
    let proxy = Nearhit::serve_with(&master.url(), &args);
    wait_for_replicas(&proxy, 1);
    warm(&proxy, &replica);
    link.be_late(Duration::from_millis(700));
    let (mut client, mut last) = (proxy.connect(), 0);
    for round in 1..=5 {
        master.cmd(&["SET", "k", &round.to_string()]);
        wait_for("memory to have the new value", SOON, || {
            client.cmd(&["GET", "k"]) == round.to_string().as_str()
        });
        wait_for("memory to answer", SOON, || {
            let before = proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""]);
            let read = client.cmd(&["GET", "k"]).text().parse::<u64>().expect("a number");
            assert!(read >= last);
            last = read;
            proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""]) > before
        });
        proxy.connect().cmd(&["PROXY", "FLUSH", "KEY", "k"]);
        // Not cached any more, and other commands on the key never were.
        assert_eq!(client.cmd(&["GETRANGE", "k", "0", "-1"]), round.to_string().as_str());
        assert!(!client.cmd(&["BITCOUNT", "k"]).is_error());
    }
}

#[test]
fn a_client_that_reads_without_a_pause_comes_to_the_replica_as_well() {
    let master = RedisServer::start();
    let proxy = prefer_replica(&master, &[]);
    let mut client = proxy.connect();
    (0..100).for_each(|_| assert!(client.cmd(&["GET", "k"]).is_nil()));
    let replica = RedisServer::replica_of(&master);
    wait_for_replicas(&proxy, 1);
    let begun = time::now();
    while calls(&replica, "get") == 0 {
        (0..1000).for_each(|_| assert!(client.cmd(&["GET", "k"]).is_nil()));
        assert!(time::now().since(begun) < SOON, "all its reads went to the master");
    }
    // And back again after each write.
    for round in 0..3 {
        client.cmd(&["SET", "k", &round.to_string()]);
        let before = calls(&replica, "get");
        while calls(&replica, "get") == before {
            (0..1000).for_each(|_| assert_eq!(client.cmd(&["GET", "k"]), round.to_string().as_str()));
            assert!(time::now().since(begun) < 2 * SOON, "all its reads went to the master");
        }
    }
}
