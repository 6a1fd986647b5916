//! What may be stored: keys read twice, replies that are small enough, keys a policy allows; and who fetches it.

mod coherence_support;
mod support;

use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, bytes, run};
use nearhit::time;
use std::time::Duration;
use support::{RedisServer, SOON, wait_for};

fn tracked_keys(bench: &Bench) -> u64 {
    bench.redis.info("tracking_total_keys").parse().expect("a number")
}

/// Fetches for the cache the server has seen.
fn fills(bench: &Bench) -> u64 {
    bench.calls("pttl")
}

#[test]
fn a_key_read_once_is_only_read() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::new(RedisServer::start(), mode, &[]);
            let mut client = bench.client(protocol);
            for key in 0..200 {
                client.cmd(&["GET", &format!("once{key}")]);
            }
            assert_eq!((fills(&bench), tracked_keys(&bench)), (0, 0));
            assert_eq!(bench.calls("get"), 200);
            assert_eq!(bench.calls("pttl"), 0);
        }
    }
}

#[test]
fn the_second_read_is_fetched_and_the_third_is_a_hit() {
    // Not by prefixes: there the news of the first write may come after the fetch, which is repeated then.
    for mode in ["tracking", "redirect"] {
        for protocol in PROTOCOLS {
            let bench = Bench::new(RedisServer::start(), mode, &[]);
            let (mut client, mut other) = (bench.client(protocol), bench.client(Protocol::Resp2));
            run(&mut other, "SET k v");
            assert_eq!(client.cmd(&["GET", "k"]), "v");
            assert_eq!(fills(&bench), 0);
            assert_eq!(other.cmd(&["GET", "k"]), "v");
            assert_eq!((fills(&bench), tracked_keys(&bench)), (1, 1));
            bench.read_from_memory(&mut client, "GET k");
            let calls = bench.calls("get");
            (0..10).for_each(|_| assert_eq!(client.cmd(&["GET", "k"]), "v"));
            assert_eq!((bench.calls("get"), fills(&bench)), (calls, 1));
        }
    }
}

#[test]
fn a_second_read_after_the_window_is_a_first_one() {
    let bench = Bench::new(RedisServer::start(), "tracking", &["--cache.admission-window", "50ms"]);
    let mut client = bench.client(Protocol::Resp2);
    for _ in 0..3 {
        client.cmd(&["GET", "k"]);
        let read = time::now();
        wait_for("the window to pass", SOON, || {
            time::now().since(read) > Duration::from_millis(100)
        });
    }
    assert_eq!(fills(&bench), 0);
    client.cmd(&["GET", "k"]);
    client.cmd(&["GET", "k"]);
    assert_eq!(fills(&bench), 1);
}

#[test]
fn locks_are_never_cached() {
    let policies = "[{name=\"locks\",match=\"lock:*\",cache=false},{name=\"short\",match=\"short:*\",ttl=\"100ms\"}]";
    for mode in MODES {
        let bench = Bench::new(
            RedisServer::start(),
            mode,
            &["--cache.admission", "always", "--policy", policies],
        );
        for protocol in PROTOCOLS {
            let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
            for round in 0..50 {
                run(&mut direct, &format!("SET lock:a {round}"));
                assert_eq!(client.cmd(&["GET", "lock:a"]), round.to_string());
                assert_eq!(
                    client.cmd(&["MGET", "lock:a", "lock:a"]),
                    [round.to_string(), round.to_string()]
                );
                run(&mut direct, &format!("HSET lock:h f {round}"));
                assert_eq!(client.cmd(&["HGET", "lock:h", "f"]), round.to_string());
            }
        }
        assert_eq!((bench.hits(), fills(&bench)), (0.0, 0));
        // Others are.
        bench.read_from_memory(&mut bench.client(Protocol::Resp2), "GET locks");
    }
}

#[test]
fn a_policy_bounds_the_life_of_its_entries() {
    let policies = "[{name=\"short\",match=\"short:*\",ttl=\"100ms\"}]";
    let bench = Bench::new(
        RedisServer::start(),
        "tracking",
        &["--cache.admission", "always", "--policy", policies],
    );
    let mut client = bench.client(Protocol::Resp3);
    for key in ["short:k", "long:k"] {
        run(&mut client, &format!("SET {key} v"));
        bench.read_from_memory(&mut client, &format!("GET {key}"));
    }
    let filled = fills(&bench);
    let begun = time::now();
    wait_for("the short entry to end", SOON, || {
        assert_eq!(client.cmd(&["GET", "short:k"]), "v");
        assert_eq!(client.cmd(&["GET", "long:k"]), "v");
        time::now().since(begun) > Duration::from_millis(550)
    });
    let more = fills(&bench) - filled;
    assert!(
        (4..=6).contains(&more),
        "{more} fetches in 550 ms of a key kept for 100 ms"
    );
}

#[test]
fn a_policy_names_the_commands_that_are_cached() {
    let policies = "[{name=\"some\",match=\"h:*\",commands=[\"HGET\"]}]";
    let bench = Bench::new(
        RedisServer::start(),
        "tracking",
        &["--cache.admission", "always", "--policy", policies],
    );
    let mut client = bench.client(Protocol::Resp2);
    run(&mut client, "HSET h:k f v");
    bench.read_from_memory(&mut client, "HGET h:k f");
    let hits = bench.hits();
    (0..5).for_each(|_| drop(bytes(&mut client, "HGETALL h:k")));
    assert_eq!(bench.hits(), hits);
}

#[test]
fn missing_keys_are_remembered_for_as_long_as_was_asked() {
    for (ttl, expected) in [("0s", 0), ("100ms", 1), ("10s", 1)] {
        let bench = Bench::new(
            RedisServer::start(),
            "tracking",
            &["--cache.admission", "always", "--cache.negative-ttl", ttl],
        );
        let mut client = bench.client(Protocol::Resp2);
        let begun = time::now();
        wait_for("the time to pass", SOON, || {
            assert!(client.cmd(&["GET", "nosuch"]).is_nil());
            time::now().since(begun) > Duration::from_millis(450)
        });
        let hits = bench.nearhit.metric("nearhit_cache_requests_total", &["negative_hit"]);
        assert_eq!(u32::from(hits > 0.0), expected, "{hits} with {ttl}");
        let filled = fills(&bench);
        match ttl {
            "100ms" => assert!((4..=6).contains(&filled), "{filled}"),
            "10s" => assert_eq!(filled, 1),
            _ => {}
        }
        let mut direct = bench.direct(Protocol::Resp2);
        run(&mut direct, "SET nosuch such");
        bench.converges(&mut client, &mut direct, "GET nosuch");
    }
}

#[test]
fn replies_that_are_too_large_pass_around_the_cache() {
    for mode in MODES {
        for protocol in PROTOCOLS {
            let bench = Bench::new(
                RedisServer::start(),
                mode,
                &["--cache.admission", "always", "--cache.max-entry", "1kb"],
            );
            let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
            for size in [2_000, 70_000, 3_000_000] {
                let (key, value) = (format!("k{size}"), "x".repeat(size));
                direct.cmd(&["SET", &key, &value]);
                let filled = fills(&bench);
                for _ in 0..5 {
                    assert!(client.cmd(&["GET", &key]) == value, "{size} bytes");
                }
                assert_eq!(
                    fills(&bench) - filled,
                    1,
                    "{size} bytes are fetched for the cache once, to learn their size"
                );
                direct.cmd(&["SET", &key, "small"]);
                assert_eq!(client.cmd(&["GET", &key]), "small");
            }
            assert_eq!(bench.hits(), 0.0);
            bench.read_from_memory(&mut client, "STRLEN k2000");
        }
    }
}

#[test]
fn a_policy_may_allow_larger_replies() {
    let policies = "[{name=\"large\",match=\"large:*\",max_entry=\"1mb\"}]";
    let args = [
        "--cache.admission",
        "always",
        "--cache.max-entry",
        "1kb",
        "--policy",
        policies,
    ];
    let bench = Bench::new(RedisServer::start(), "tracking", &args);
    let mut client = bench.client(Protocol::Resp3);
    let value = "x".repeat(500_000);
    for key in ["large:k", "small:k"] {
        client.cmd(&["SET", key, &value]);
    }
    assert_eq!(
        bench.read_from_memory(&mut client, "GET large:k").len(),
        value.len() + 11
    );
    let hits = bench.hits();
    (0..3).for_each(|_| assert!(client.cmd(&["GET", "small:k"]) == value));
    assert_eq!(bench.hits(), hits);
}

#[test]
fn the_memory_bound_holds_under_load() {
    let args = [
        "--cache.admission",
        "always",
        "--cache.max-memory",
        "1mb",
        "--cache.max-entry",
        "64kb",
    ];
    for mode in MODES {
        let bench = Bench::new(RedisServer::start(), mode, &args);
        let load = |mut client: support::Resp, seed: u64| {
            let value = "x".repeat(60_000);
            for round in 0..60 {
                let key = |number: u64| format!("k{}", (seed * 7919 + round * 31 + number * 17) % 500);
                let writes: Vec<_> = (0..10_u8)
                    .map(|number| {
                        vec![
                            "SET".to_owned(),
                            key(number.into()),
                            value[..usize::from(number) * 6000].to_owned(),
                        ]
                    })
                    .collect();
                client.pipeline(&writes);
                let reads: Vec<_> = (0..200)
                    .map(|number| vec!["GET".to_owned(), key(number % 10)])
                    .collect();
                client.pipeline(&reads);
                client.cmd(&["GET", &value.repeat(8)]);
                let missing: Vec<_> = (0..100)
                    .map(|number| vec!["GET".to_owned(), format!("no{}", number * round)])
                    .collect();
                client.pipeline(&missing);
            }
        };
        std::thread::scope(|scope| {
            let loads: Vec<_> = (0..4_u8)
                .map(|seed| {
                    let client = bench.client(PROTOCOLS[usize::from(seed % 2)]);
                    scope.spawn(move || load(client, seed.into()))
                })
                .collect();
            let mut most = 0.0_f64;
            while loads.iter().any(|load| !load.is_finished()) {
                most = most.max(bench.nearhit.metric("nearhit_cache_bytes", &[]));
                assert!(most <= 1024.0 * 1024.0, "{most} bytes");
            }
            assert!(most > 512.0 * 1024.0, "only {most} bytes were used: this tests nothing");
        });
        assert!(bench.hits() > 0.0);
    }
}

/// What is counted is what the process takes: room for entries and fetches that were never used once made it twice that.
#[test]
fn the_process_grows_by_what_is_counted() {
    let args = ["--cache.admission", "always", "--cache.max-memory", "32mb"];
    let bench = Bench::new(RedisServer::start(), MODES[0], &args);
    let mut client = bench.client(PROTOCOLS[0]);
    let status = || support::read(format!("/proc/{}/status", bench.nearhit.pid()));
    let resident = || {
        let kib = status()
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned));
        kib.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<f64>().ok())
            .expect("VmRSS")
            * 1024.0
    };
    let mut read = |keys: std::ops::Range<u32>| {
        for from in keys.step_by(1000) {
            let each = |verb: &[&str]| -> Vec<Vec<String>> {
                let key = |number: u32| {
                    verb.iter()
                        .map(|word| word.replace("KEY", &format!("key:{number}")))
                        .collect()
                };
                (from..from + 1000).map(key).collect()
            };
            bench.redis.client().pipeline(&each(&["SET", "KEY", &"x".repeat(100)]));
            client.pipeline(&each(&["GET", "KEY"]));
        }
    };
    // Buffers of such pipelines, threads' first allocations and what was learned of the server are no part of the cache.
    read(0..20_000);
    let start = (resident(), bench.nearhit.metric("nearhit_cache_bytes", &[]));
    read(20_000..160_000);
    let counted = bench.nearhit.metric("nearhit_cache_bytes", &[]);
    assert!(counted > 30e6, "{counted} bytes were counted: this tests nothing");
    let (grown, counted) = (resident() - start.0, counted - start.1);
    println!("the process grew by {grown:.0} bytes for {counted:.0} counted ones");
    assert!(grown < 1.15 * counted, "{grown} bytes for {counted}");
}

#[test]
fn many_readers_of_one_cold_key_are_answered_by_one_fetch() {
    for mode in MODES {
        for (admission, most) in [("always", 1), ("second-read", 2)] {
            let bench = Bench::new(RedisServer::start(), mode, &["--cache.admission", admission]);
            run(&mut bench.direct(Protocol::Resp2), "SET k v");
            let mut clients: Vec<_> = (0..50).map(|number| bench.client(PROTOCOLS[number % 2])).collect();
            // Everybody is known to the server's side, and the server answers nobody until all have asked.
            clients.iter_mut().for_each(|client| drop(client.cmd(&["PING"])));
            bench.redis.pause();
            clients.iter_mut().for_each(|client| client.send(&["GET", "k"]));
            wait_for("all requests to be taken", SOON, || {
                bench.nearhit.metric("nearhit_cache_requests_total", &[]) >= 50.0
            });
            bench.redis.resume();
            clients.iter_mut().for_each(|client| assert_eq!(client.reply(), "v"));
            let calls = bench.calls("get");
            assert!(calls <= most, "{calls} reads for 50 clients with {admission}");
        }
    }
}

/// Without a pause: whatever the timing, nobody is forgotten.
#[test]
fn readers_of_cold_keys_at_once_all_get_the_value() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let mut clients: Vec<_> = (0..50).map(|number| bench.client(PROTOCOLS[number % 2])).collect();
        for round in 0..40 {
            let (key, value) = (format!("k{round}"), format!("v{round}"));
            run(&mut bench.direct(Protocol::Resp2), &format!("SET {key} {value}"));
            clients.iter_mut().for_each(|client| client.send(&["GET", &key]));
            clients.iter_mut().for_each(|client| assert_eq!(client.reply(), value));
        }
        let calls = bench.calls("get");
        // What is told of every write may be told behind the fetch of what was written, and whoever joined it asks again.
        assert!(calls <= 40 * 2 || mode == "broadcast", "{calls} reads of 40 keys");
    }
}

/// A hash is read by its fields: fetching one must not cost the others.
#[test]
fn several_reads_of_one_key_are_all_kept() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let mut client = bench.client(Protocol::Resp2);
        run(&mut client, "HSET k f 1 g 2 h 3");
        let reads = ["HGET k f", "HGET k g", "HGET k h", "HGETALL k"];
        for read in reads {
            bench.read_from_memory(&mut client, read);
        }
        let (hits, filled) = (bench.hits(), fills(&bench));
        for _ in 0..10 {
            reads.iter().for_each(|read| drop(bytes(&mut client, read)));
        }
        assert_eq!((bench.hits() - hits, fills(&bench) - filled), (40.0, 0), "{mode}");
    }
}

fn barred(bench: &Bench) -> f64 {
    bench
        .nearhit
        .metric("nearhit_cache_bypass_total", &["reason=\"write_hot\""])
}

#[test]
fn a_key_written_as_often_as_read_is_not_fetched_for_the_cache_until_it_is_only_read() {
    for mode in ["tracking", "redirect"] {
        let bench = Bench::new(RedisServer::start(), mode, &[]);
        let mut clients = [bench.client(Protocol::Resp2), bench.client(Protocol::Resp3)];
        let mut told = false;
        for round in 0..200 {
            // Half of the writes come from elsewhere.
            let value = round.to_string();
            match round % 2 {
                0 => bench.redis.cmd(&["SET", "k", &value]),
                _ => clients[0].cmd(&["SET", "k", &value]),
            };
            let value = clients[round % 2].cmd(&["GET", "k"]);
            assert!(
                round % 2 == 0 || value == round.to_string().as_str(),
                "{value:?} in round {round}"
            );
            let explained = clients[0].cmd(&["PROXY", "EXPLAIN", "GET", "k"]).to_string();
            told |= explained.contains("written about as often as it is read");
        }
        // A few, and one again whenever it was barred for long enough: fifty milliseconds, a hundred, two hundred …
        let fetched = fills(&bench);
        assert!(fetched <= 60, "{fetched} fetches");
        assert!(barred(&bench) >= 100.0, "{} reads passed on", barred(&bench));
        assert!(told, "PROXY EXPLAIN never said why");
        wait_for("the key to be cached again", Duration::from_secs(40), || {
            clients.iter_mut().for_each(|client| drop(client.cmd(&["GET", "k"])));
            let before = bench.hits();
            clients[0].cmd(&["GET", "k"]);
            bench.hits() > before
        });
    }
}

#[test]
fn a_key_read_more_often_than_written_stays_cached() {
    let bench = Bench::new(RedisServer::start(), "tracking", &[]);
    let mut client = bench.client(Protocol::Resp2);
    for round in 0..100 {
        client.cmd(&["SET", "k", &round.to_string()]);
        (0..10).for_each(|_| assert_eq!(client.cmd(&["GET", "k"]), round.to_string().as_str()));
    }
    assert_eq!(barred(&bench), 0.0);
    assert!(bench.hits() >= 850.0, "{} hits of 1000 reads", bench.hits());
}

#[test]
fn always_means_that_no_key_is_barred() {
    let bench = Bench::new(RedisServer::start(), "tracking", &["--cache.admission", "always"]);
    let mut client = bench.client(Protocol::Resp2);
    for round in 0..50 {
        bench.redis.cmd(&["SET", "k", &round.to_string()]);
        client.cmd(&["GET", "k"]);
    }
    assert_eq!(barred(&bench), 0.0);
}
