//! Trust ends with the connection that carries invalidations: when it dies, when its partner dies, when the server does,
//! and when it only falls silent.

mod coherence_support;
mod support;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, run};
use nearhit::time;
use std::time::Duration;
use support::{Resp, eventually};

/// One field of the lines of CLIENT LIST that `wanted` picks.
fn clients(direct: &mut Resp, field: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let list = direct.cmd(&["CLIENT", "LIST"]).text();
    let value = |line: &str| {
        line.split(' ')
            .find_map(|pair| pair.strip_prefix(field)?.strip_prefix('='))
            .map(str::to_owned)
    };
    list.lines().filter(|line| wanted(line)).filter_map(value).collect()
}

/// A client that tracks has a `t` among its flags.
fn tracks(line: &str) -> bool {
    line.split(' ')
        .filter_map(|pair| pair.strip_prefix("flags="))
        .any(|flags| flags.contains('t'))
}

fn listens(line: &str) -> bool {
    line.contains(" sub=1 ")
}

#[track_caller]
fn survives(bench: &Bench, protocol: Protocol, kill: impl Fn(&mut Resp)) {
    let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
    for round in 0..3 {
        run(&mut direct, &format!("SET k old{round}"));
        bench.converges(&mut client, &mut direct, "GET k");
        bench.read_from_memory(&mut client, "GET k");
        kill(&mut direct);
        run(&mut direct, &format!("SET k new{round}"));
        bench.converges(&mut client, &mut direct, "GET k");
        assert_eq!(
            bench.read_from_memory(&mut client, "GET k"),
            bytes(&mut direct, "GET k")
        );
        // What it holds now is tracked again.
        run(&mut direct, &format!("SET k newer{round}"));
        bench.converges(&mut client, &mut direct, "GET k");
    }
}

#[test]
fn a_write_right_after_the_tracked_connection_was_killed_is_seen() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::always(mode);
            survives(&bench, protocol, |direct| {
                let ids = clients(direct, "id", tracks);
                assert_eq!(ids.len(), 1, "one tracked connection");
                assert_eq!(run(direct, &format!("CLIENT KILL ID {}", ids[0])), 1);
            });
            survives(&bench, protocol, |direct| {
                let addrs = clients(direct, "addr", tracks);
                run(direct, &format!("CLIENT KILL {}", addrs[0]));
            });
        }
    }
}

#[test]
fn a_write_right_after_the_subscribed_connection_was_killed_is_seen() {
    let bench = Bench::always("redirect");
    survives(&bench, Protocol::Resp2, |direct| {
        let ids = clients(direct, "id", listens);
        assert_eq!(ids.len(), 1, "one subscribed connection");
        assert_eq!(run(direct, &format!("CLIENT KILL ID {}", ids[0])), 1);
    });
    survives(&bench, Protocol::Resp3, |direct| {
        assert_eq!(run(direct, "CLIENT KILL TYPE pubsub"), 1);
    });
}

#[test]
fn a_write_right_after_all_connections_were_killed_is_seen() {
    for mode in MODES {
        let bench = Bench::always(mode);
        survives(&bench, Protocol::Resp3, |direct| {
            run(direct, "CLIENT KILL TYPE normal");
        });
        survives(&bench, Protocol::Resp2, |direct| {
            for id in clients(direct, "id", |line| line.contains(" name=nearhit")) {
                run(direct, &format!("CLIENT KILL ID {id}"));
            }
        });
    }
}

#[test]
fn what_a_dead_server_said_is_not_said_again() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let mut bench = Bench::always(mode);
            let mut client = bench.client(protocol);
            run(&mut bench.direct(protocol), "SET k old");
            let old = bench.read_from_memory(&mut client, "GET k");
            bench.redis.kill9();
            bench.redis.restart();
            assert_ne!(bytes(&mut client, "GET k"), old, "the server that said so is gone");
            let mut direct = bench.direct(protocol);
            bench.converges(&mut client, &mut direct, "GET k");
            run(&mut direct, "SET k new");
            bench.converges(&mut client, &mut direct, "GET k");
            assert_eq!(
                bench.read_from_memory(&mut client, "GET k"),
                bytes(&mut direct, "GET k")
            );
        }
    }
}

/// The word by which the connection that carries invalidations is known.
fn carrier(mode: &str) -> &'static str {
    if mode == "redirect" { "SUBSCRIBE" } else { "TRACKING" }
}

/// Invalidations that are late by any time: a hit is never older than the bound.
#[test]
fn hits_end_when_invalidations_stay_away() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let redis = support::RedisServer::start();
            let laggard = Laggard::before(redis.addr(), carrier(mode));
            let nearhit = coherence_support::front_at(&laggard.url(), mode, &["--cache.admission", "always"]);
            let bench = Bench { redis, nearhit };
            let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
            run(&mut direct, "SET k 0");
            bench.read_from_memory(&mut client, "GET k");
            laggard.hold();
            run(&mut direct, "SET k 1");
            let written = time::now();
            let mut stale = Duration::ZERO;
            let seen = eventually(Duration::from_secs(4), || {
                let begun = time::now();
                let fresh = client.cmd(&["GET", "k"]) == "1";
                if !fresh {
                    stale = begun.since(written);
                }
                fresh
            });
            assert!(seen, "{mode}: never seen");
            assert!(stale < Duration::from_millis(1050), "{mode}: stale for {stale:?}");
            laggard.release();
            assert_eq!(bench.read_from_memory(&mut client, "GET k"), b"$1\r\n1\r\n");
        }
    }
}

/// A write that passed through the proxy is seen at once, however late its invalidation is.
#[test]
fn own_writes_do_not_wait_for_late_invalidations() {
    for mode in MODES {
        let redis = support::RedisServer::start();
        let laggard = Laggard::before(redis.addr(), carrier(mode));
        let nearhit = coherence_support::front_at(&laggard.url(), mode, &["--cache.admission", "always"]);
        let bench = Bench { redis, nearhit };
        let (mut client, mut other) = (bench.client(Protocol::Resp2), bench.client(Protocol::Resp3));
        for round in 0..3 {
            run(&mut client, &format!("SET k {round}"));
            run(&mut client, &format!("SET u {round}"));
            bench.read_from_memory(&mut client, "GET k");
            bench.read_from_memory(&mut client, "GET u");
            laggard.hold();
            run(&mut client, &format!("SET k new{round}"));
            run(
                &mut client,
                &format!("EVAL 'return redis.call(\"SET\", ARGV[1], \"new{round}\")' 0 u"),
            );
            for reader in [&mut client, &mut other] {
                reader.send(&["GET", "k"]);
            }
            client.send(&["GET", "u"]);
            laggard.release();
            assert_eq!(client.reply(), format!("new{round}"));
            assert_eq!(
                client.reply(),
                format!("new{round}"),
                "an effect of the client's own script"
            );
            assert_eq!(other.reply(), format!("new{round}"));
        }
    }
}

/// In redirect mode a fetched reply may overtake the invalidations of what was written before it. Once a client was told
/// of that state, nothing older may follow.
#[test]
fn nothing_older_follows_a_reply_that_overtook_its_invalidation() {
    for protocol in PROTOCOLS {
        let redis = support::RedisServer::start();
        let laggard = Laggard::before(redis.addr(), "SUBSCRIBE");
        let nearhit = coherence_support::front_at(&laggard.url(), "redirect", &["--cache.admission", "always"]);
        let bench = Bench { redis, nearhit };
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        run(&mut direct, "MSET k a j a");
        bench.read_from_memory(&mut client, "GET k");
        bench.read_from_memory(&mut client, "GET j");
        laggard.hold();
        run(&mut direct, "MSET k bb j bb i bb");
        // One key, two commands: the second one has seen the new value.
        client.patience(Duration::from_millis(100));
        client.send(&["STRLEN", "k"]);
        let mut length = client.try_reply();
        if length.is_some() {
            assert_eq!(client.cmd(&["GET", "k"]), "bb", "STRLEN said {length:?}");
        }
        laggard.release();
        client.patience(Duration::from_secs(10));
        assert_eq!(length.get_or_insert_with(|| client.reply()).int(), 2);
        assert_eq!(client.cmd(&["GET", "k"]), "bb");
    }
}

/// The same for values that were written together.
#[test]
fn values_written_together_are_read_together_when_one_overtook_its_invalidation() {
    for protocol in PROTOCOLS {
        let redis = support::RedisServer::start();
        let laggard = Laggard::before(redis.addr(), "SUBSCRIBE");
        let nearhit = coherence_support::front_at(&laggard.url(), "redirect", &["--cache.admission", "always"]);
        let bench = Bench { redis, nearhit };
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        run(&mut direct, "MSET k a j a");
        bench.read_from_memory(&mut client, "GET k");
        laggard.hold();
        run(&mut direct, "MSET k b j b");
        let mut fetcher = bench.client(protocol);
        fetcher.patience(Duration::from_millis(100));
        fetcher.send(&["GET", "j"]);
        let fetched = fetcher.try_reply();
        if fetched.is_some() {
            let pair = client.cmd(&["MGET", "k", "j"]).items();
            assert_eq!(pair[0], pair[1], "values written together");
        }
        laggard.release();
        let pair = client.cmd(&["MGET", "k", "j"]).items();
        assert_eq!(pair[0], pair[1], "values written together");
    }
}
