//! TLS to the server: everything works as in the clear, through a session that holds what the socket has no room for.

mod support;
mod tls_support;

use std::time::Duration;

use support::{Nearhit, RedisServer, Reply, SOON, eventually, run, wait_for};
use tls_support::{Authority, text, url};

/// How long a short bench may take on a busy machine.
const BENCH: Duration = Duration::from_secs(60);

/// An authority, a server with its certificate, and a nearhit that believes it.
struct Bench {
    _authority: Authority,
    redis: RedisServer,
    nearhit: Nearhit,
}

impl Bench {
    #[track_caller]
    fn start() -> Self {
        Self::with(&[])
    }

    #[track_caller]
    fn with(args: &[&str]) -> Self {
        let authority = Authority::new();
        let redis = authority.server();
        let ca = authority.ca();
        let mut all = vec!["--upstream.tls.ca-file", ca.as_str()];
        all.extend(args);
        let nearhit = Nearhit::serve_with(&url(&redis), &all);
        nearhit.wait_for_stderr(match args.contains(&"--cache.mode") {
            true => "the server is known",
            false => "tracking is on",
        });
        Self {
            _authority: authority,
            redis,
            nearhit,
        }
    }
}

/// Bytes that no compression or repetition would hide a mistake in.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let next = |_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[3]
    };
    (0..length).map(next).collect()
}

#[test]
fn all_connections_are_in_tls() {
    let bench = Bench::start();
    let mut client = bench.nearhit.connect();
    assert_eq!(client.line("SET k v"), "OK");
    assert_eq!(client.line("GET k"), "v");
    let list = bench.redis.cmd(&["CLIENT", "LIST"]).text();
    let (clear, tls) = (bench.redis.port(), bench.redis.tls_port());
    let at = |port: u16| {
        list.lines()
            .filter(|line| line.contains(&format!("laddr=127.0.0.1:{port} ")))
            .count()
    };
    assert_eq!(at(clear), 1, "only the connection that asks is in the clear:\n{list}");
    assert!(at(tls) >= 3, "requests, tracking and control are in TLS:\n{list}");
}

#[test]
fn what_others_write_is_heard_of() {
    let bench = Bench::start();
    let mut client = bench.nearhit.connect();
    for round in 0..20 {
        let value = round.to_string();
        assert_eq!(bench.redis.cmd(&["SET", "k", &value]), "OK");
        assert!(eventually(SOON, || client.line("GET k") == value.as_str()), "{round}");
        assert!(eventually(SOON, || {
            let before = bench
                .nearhit
                .metric("nearhit_cache_requests_total", &["result=\"hit\""]);
            assert_eq!(client.line("GET k"), value.as_str());
            bench
                .nearhit
                .metric("nearhit_cache_requests_total", &["result=\"hit\""])
                > before
        }));
    }
}

#[test]
fn large_values_pass_both_ways_unchanged() {
    let bench = Bench::start();
    let mut client = bench.nearhit.connect();
    for (key, length) in [("a", 16_384), ("b", 300_000), ("c", 9_000_000)] {
        let value = noise(length, length as u64);
        assert_eq!(client.cmd(&[b"SET".as_slice(), key.as_bytes(), &value]), "OK");
        assert_eq!(bench.redis.cmd(&["GET", key]), Reply::Bulk(value.clone()));
        assert_eq!(client.cmd(&["GET", key]), Reply::Bulk(value));
    }
}

#[test]
fn a_pipeline_of_large_values_comes_back_in_order() {
    let bench = Bench::start();
    let mut client = bench.nearhit.connect();
    let value = |index: u64| noise(200_000, index + 1);
    let writes: Vec<Vec<Vec<u8>>> = (0..40)
        .map(|index| vec![b"SET".to_vec(), format!("k{index}").into_bytes(), value(index)])
        .collect();
    assert!(client.pipeline(&writes).iter().all(|reply| *reply == "OK"));
    let reads: Vec<Vec<Vec<u8>>> = (0..40)
        .map(|index| vec![b"GET".to_vec(), format!("k{index}").into_bytes()])
        .collect();
    for (index, reply) in client.pipeline(&reads).into_iter().enumerate() {
        assert_eq!(reply, Reply::Bulk(value(index as u64)), "{index}");
    }
}

#[test]
fn small_requests_of_many_clients_find_their_replies() {
    let bench = Bench::with(&["--cache.mode", "off"]);
    let ask = |number: u32| {
        let mut client = bench.nearhit.connect();
        for round in 0..50 {
            let commands: Vec<Vec<String>> = (0..20)
                .map(|index| vec!["ECHO".to_owned(), format!("{number}:{round}:{index}")])
                .collect();
            for (command, reply) in commands.iter().zip(client.pipeline(&commands)) {
                assert_eq!(reply, command[1].as_str());
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || ask(number));
        }
    });
}

/// The server's socket is full, TLS holds the rest of what was written, and nothing is read meanwhile.
#[test]
fn what_a_stopped_server_did_not_take_leaves_when_it_goes_on() {
    let bench = Bench::with(&["--cache.mode", "off", "--upstream.command-timeout", "0s"]);
    let mut writer = bench.nearhit.connect();
    assert_eq!(writer.line("SET k v"), "OK");
    bench.redis.pause();
    let value = |index: u64| noise(500_000, index + 1);
    let writes: Vec<Vec<Vec<u8>>> = (0..24)
        .map(|index| vec![b"SET".to_vec(), format!("k{index}").into_bytes(), value(index)])
        .collect();
    std::thread::scope(|scope| {
        let wrote = scope.spawn(|| {
            writer.patience(Duration::from_secs(60));
            writer.pipeline(&writes)
        });
        let mut before = 0.0;
        wait_for("nothing more to be taken", Duration::from_secs(20), || {
            let written = bench
                .nearhit
                .metric("nearhit_upstream_bytes_total", &["direction=\"out\""]);
            std::mem::replace(&mut before, written) == written && written > 10_000.0
        });
        bench.redis.resume();
        assert!(wrote.join().expect("a writer").iter().all(|reply| *reply == "OK"));
    });
    for index in 0..24 {
        assert_eq!(
            bench.redis.cmd(&["GET", &format!("k{index}")]),
            Reply::Bulk(value(index))
        );
    }
}

#[test]
fn subscribers_hear_and_blocked_clients_wake() {
    let bench = Bench::start();
    let mut subscriber = bench.nearhit.connect3();
    subscriber.send(&["SUBSCRIBE", "news"]);
    assert_eq!(subscriber.push().items()[0], "subscribe");
    let mut waiter = bench.nearhit.connect();
    waiter.send(&["BLPOP", "list", "0"]);
    wait_for("the waiter to be blocked", SOON, || {
        bench.redis.info("blocked_clients") == "1"
    });
    for number in 0..100 {
        bench.redis.cmd(&["PUBLISH", "news", &number.to_string()]);
    }
    for number in 0..100 {
        assert_eq!(subscriber.push().items()[2], number.to_string().as_str());
    }
    bench.redis.cmd(&["RPUSH", "list", "x"]);
    assert_eq!(waiter.reply().items()[1], "x");
}

#[test]
fn transactions_have_their_own_connection() {
    let bench = Bench::start();
    let mut client = bench.nearhit.connect();
    client.lines_ok(&["WATCH a", "MULTI", "SET a 1", "INCR a"]);
    assert_eq!(client.line("EXEC").items()[1].int(), 2);
}

#[test]
fn a_server_that_was_killed_is_found_again() {
    let mut bench = Bench::start();
    let mut client = bench.nearhit.connect();
    assert_eq!(client.line("SET k v"), "OK");
    bench.redis.kill9();
    assert!(eventually(SOON, || client.line("SET k v").is_error()));
    bench.redis.restart();
    assert!(eventually(SOON, || client.line("SET k w") == "OK"));
    assert_eq!(client.line("GET k"), "w");
}

#[test]
fn a_connection_ends_with_a_goodbye() {
    let authority = Authority::new();
    let redis = authority
        .tls(RedisServer::builder())
        .arg("--loglevel", "verbose")
        .start();
    let nearhit = Nearhit::serve_with(&url(&redis), &["--upstream.tls.ca-file", &authority.ca()]);
    nearhit.wait_for_stderr("tracking is on");
    let mut client = nearhit.connect();
    client.lines_ok(&["MULTI", "PING", "EXEC"]);
    let mut nearhit = nearhit;
    nearhit.signal(rustix::process::Signal::TERM);
    assert!(nearhit.wait(Duration::from_secs(10)).success());
    wait_for("the connections to end", SOON, || {
        redis.info("connected_clients") == "1"
    });
    let log = redis.log();
    assert!(log.contains("Client closed connection"), "{log}");
    assert!(!log.contains("unexpected eof"), "{log}");
}

#[test]
fn nearhit_shows_its_certificate_to_a_server_that_wants_one() {
    let authority = Authority::new();
    let redis = authority.strict_server();
    let own = authority.issue("nearhit", &["nearhit"]);
    let (certificate, key, ca) = (text(&own.certificate), text(&own.key), authority.ca());
    let args = [
        "--upstream.tls.ca-file",
        &ca,
        "--upstream.tls.cert-file",
        &certificate,
        "--upstream.tls.key-file",
        &key,
    ];
    let nearhit = Nearhit::serve_with(&url(&redis), &args);
    assert_eq!(nearhit.connect().line("SET k v"), "OK");
    assert_eq!(nearhit.metric("nearhit_insecure", &[]), 0.0);
}

#[test]
fn certificates_are_verified_against_server_name_where_that_is_set() {
    let authority = Authority::new();
    let redis = authority.server_as(&authority.issue("other", &["redis.example"]));
    let (at, ca) = (format!("rediss://127.0.0.1:{}", redis.tls_port()), authority.ca());
    let args = [
        "--upstream.tls.ca-file",
        &ca,
        "--upstream.tls.server-name",
        "redis.example",
    ];
    let nearhit = Nearhit::serve_with(&at, &args);
    assert_eq!(nearhit.connect().line("SET k v"), "OK");
}

#[test]
fn an_address_is_verified_as_an_address() {
    let authority = Authority::new();
    let redis = authority.server();
    let at = format!("valkeys://127.0.0.1:{}/3", redis.tls_port());
    let nearhit = Nearhit::serve_with(&at, &["--upstream.tls.ca-file", &authority.ca()]);
    assert_eq!(nearhit.connect().line("SET k v"), "OK");
    assert_eq!(redis.info("db3").split(',').next(), Some("keys=1"));
}

#[test]
fn whoever_verifies_nothing_is_told_so() {
    let authority = Authority::new();
    let redis = authority.server_as(&authority.issue_until("old", &["elsewhere"], 2021));
    let nearhit = Nearhit::serve_with(&url(&redis), &["--upstream.tls.insecure-skip-verify", "true"]);
    assert_eq!(nearhit.connect().line("SET k v"), "OK");
    assert!(nearhit.stderr().contains("INSECURE"), "{}", nearhit.stderr());
    assert_eq!(nearhit.metric("nearhit_insecure", &[]), 1.0);
}

#[test]
fn bench_measures_both_ways_in_tls() {
    let authority = Authority::new();
    let redis = authority.strict_server();
    let own = authority.issue("nearhit", &["nearhit"]);
    let mut command = Nearhit::command();
    command.args(["bench", "--target", &url(&redis), "--seconds", "1", "--rounds", "1"]);
    command.args([
        "--connections",
        "4",
        "--size",
        "40kb",
        "--pipeline",
        "10",
        "--keys",
        "100",
        "--writes",
        "50",
    ]);
    command.args(["--upstream.tls.ca-file", &authority.ca()]);
    let without = run(
        Nearhit::command().args([
            "bench",
            "--target",
            &url(&redis),
            "--upstream.tls.ca-file",
            &authority.ca(),
        ]),
        BENCH,
    );
    assert_eq!(without.code(), Some(2), "{without:?}");
    assert!(without.stderr.contains("the server wants a certificate"), "{without:?}");
    command.args(["--upstream.tls.cert-file", &text(&own.certificate)]);
    command.args(["--upstream.tls.key-file", &text(&own.key)]);
    let done = run(&mut command, BENCH);
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert!(done.stdout.contains("direct: rediss://localhost"), "{done:?}");
    assert_eq!(redis.cmd(&["DBSIZE"]).int(), 0, "its keys are removed");
}
