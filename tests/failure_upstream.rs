//! Redis is away, restarts, hangs: what clients are told, and what they are never told.

mod support;

use nearhit::time;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, eventually, free_port, wait_for};

const ALWAYS: [&str; 2] = ["--cache.admission", "always"];
/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_millis(700);

fn hits(proxy: &Nearhit) -> f64 {
    proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""])
}

/// Reads `key` until it is answered from memory.
#[track_caller]
fn warm(proxy: &Nearhit, client: &mut Resp, key: &str, value: &str) {
    let before = hits(proxy);
    wait_for("a hit", SOON, || {
        client.cmd(&["GET", key]) == value && hits(proxy) > before
    });
}

/// The reply and how long it took.
fn timed(client: &mut Resp, line: &str) -> (Reply, Duration) {
    let start = time::now();
    let reply = client.line(line);
    (reply, time::now().since(start))
}

#[test]
fn redis_may_come_after_nearhit() {
    let port = free_port();
    let mut proxy = Nearhit::serve_with(&format!("redis://127.0.0.1:{port}"), &ALWAYS);
    let mut client = proxy.connect();
    for line in [
        "GET k",
        "SET k v",
        "MULTI",
        "BLPOP l 0",
        "SUBSCRIBE c",
        "MGET a b",
        "EVAL return_1 0",
    ] {
        let (reply, took) = timed(&mut client, line);
        let wanted = format!("ERR nearhit: connect to 127.0.0.1:{port}: ");
        assert!(reply.is_error_with(&wanted), "{line}: {reply:?}");
        assert!(took < SLACK, "{line} took {took:?}");
        client = proxy.connect();
    }
    let redis = RedisServer::builder().port(port).start();
    wait_for("Redis to be found", SOON, || client.line("SET k v") == "OK");
    warm(&proxy, &mut client, "k", "v");
    redis.cmd(&["SET", "k", "w"]);
    wait_for("the foreign write", SOON, || client.line("GET k") == "w");
    assert!(proxy.is_running());
}

#[test]
fn after_a_restart_of_redis_hits_resume_and_nothing_old_is_served() {
    let mut redis = RedisServer::start();
    let proxy = Nearhit::serve_with(&redis.url(), &ALWAYS);
    let mut client = proxy.connect();
    client.line("SET k old");
    warm(&proxy, &mut client, "k", "old");
    redis.kill9();
    redis.restart();
    redis.cmd(&["SET", "k", "new"]);
    let answers_again = eventually(SOON, || {
        let reply = client.line("GET k");
        assert!(reply.is_error() || reply == "new", "{reply:?}");
        !reply.is_error()
    });
    assert!(answers_again);
    warm(&proxy, &mut client, "k", "new");
}

/// What one writer was told.
#[derive(Default)]
struct Told {
    done: HashSet<String>,
    uncertain: HashSet<String>,
    refused: HashSet<String>,
}

fn write_until(proxy: &Nearhit, writer: usize, stop: &AtomicBool) -> Told {
    let (mut client, mut told) = (proxy.connect(), Told::default());
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let ids: Vec<String> = (0..4).map(|step| format!("{writer}-{number}-{step}")).collect();
        let (list, counter) = (format!("list:{writer}"), format!("counter:{writer}"));
        let pushes = ids.iter().map(|id| vec!["RPUSH", &list, id]);
        let batch: Vec<_> = pushes.chain([vec!["INCR", &counter]]).collect();
        let replies = client.pipeline(&batch);
        for (id, reply) in ids.into_iter().chain([format!("incr-{number}")]).zip(replies) {
            let kind = match reply {
                Reply::Int(_) => &mut told.done,
                reply if reply.is_error_with("UNCERTAIN ") => &mut told.uncertain,
                reply if reply.is_error_with("ERR nearhit: ") || reply.is_error_with("LOADING ") => &mut told.refused,
                other => panic!("{id}: {other:?}"),
            };
            kind.insert(id);
        }
    }
    told
}

#[test]
fn no_write_is_applied_twice_or_lost_when_redis_restarts_under_load() {
    let builder = RedisServer::builder()
        .arg("--appendonly", "yes")
        .arg("--appendfsync", "always");
    let mut redis = builder.start();
    let proxy = Nearhit::serve_with(&redis.url(), &ALWAYS);
    let stop = AtomicBool::new(false);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn({
                    let (proxy, stop) = (&proxy, &stop);
                    move || write_until(proxy, writer, stop)
                })
            })
            .collect();
        for _ in 0..4 {
            let before: i64 = redis.cmd(&["LLEN", "list:0"]).int();
            wait_for("writes", SOON, || redis.cmd(&["LLEN", "list:0"]).int() > before + 200);
            redis.kill9();
            redis.restart();
        }
        stop.store(true, Ordering::SeqCst);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect()
    });
    for (writer, told) in told.iter().enumerate() {
        let stored: Vec<String> = redis
            .cmd(&["LRANGE", &format!("list:{writer}"), "0", "-1"])
            .items()
            .iter()
            .map(Reply::text)
            .collect();
        let unique: HashSet<&String> = stored.iter().collect();
        assert_eq!(unique.len(), stored.len(), "a push was applied twice");
        assert!(
            stored.iter().all(|id| !told.refused.contains(id)),
            "a refused push was applied"
        );
        let lost: Vec<_> = told
            .done
            .iter()
            .filter(|id| !id.starts_with("incr") && !unique.contains(id))
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let incrs = |ids: &HashSet<String>| {
            i64::try_from(ids.iter().filter(|id| id.starts_with("incr")).count()).expect("a count")
        };
        let counter: i64 = redis
            .cmd(&["GET", &format!("counter:{writer}")])
            .text()
            .parse()
            .expect("a number");
        let (least, most) = (incrs(&told.done), incrs(&told.done) + incrs(&told.uncertain));
        assert!((least..=most).contains(&counter), "{least} ≤ {counter} ≤ {most}");
    }
    let uncertain: usize = told.iter().map(|told| told.uncertain.len()).sum();
    assert!(uncertain > 0, "no write was in flight when Redis went away");
}

#[test]
fn a_hanging_redis_is_an_error_in_time_and_late_replies_reach_nobody() {
    let redis = RedisServer::start();
    let args = ["--upstream.command-timeout", "300ms", "--cache.mode", "off"];
    let proxy = Nearhit::serve_with(&redis.url(), &args);
    let mut clients: Vec<(String, Resp)> = (0..8)
        .map(|number| (format!("mark-{number}"), proxy.connect()))
        .collect();
    for (mark, client) in &mut clients {
        assert_eq!(client.cmd(&["SET", mark, mark]), "OK");
    }
    redis.pause();
    let start = time::now();
    for (mark, client) in &mut clients {
        client.send_raw(format!("GET {mark}\r\nINCR n:{mark}\r\nGET {mark}\r\n"));
    }
    for (mark, client) in &mut clients {
        let [first, second, third] = [(); 3].map(|()| client.reply());
        assert!(
            first.is_error_with("ERR nearhit: no answer from 127.0.0.1:"),
            "{mark}: {first:?}"
        );
        assert!(
            second.is_error_with("UNCERTAIN no answer from 127.0.0.1:"),
            "{mark}: {second:?}"
        );
        assert_eq!(first, third);
    }
    let took = time::now().since(start);
    assert!(
        (Duration::from_millis(300)..Duration::from_millis(300) + SLACK).contains(&took),
        "{took:?}"
    );
    redis.resume();
    for round in 0..50 {
        for (mark, client) in &mut clients {
            assert_eq!(client.cmd(&["GET", mark.as_str()]), *mark, "round {round}");
        }
    }
    assert_eq!(redis.cmd(&["GET", "n:mark-0"]), "1", "an uncertain write ran once");
}

#[test]
fn a_redis_that_hangs_for_long_loses_its_connections_and_is_found_again() {
    let redis = RedisServer::start();
    let args = ["--upstream.command-timeout", "100ms", "--cache.mode", "off"];
    let proxy = Nearhit::serve_with(&redis.url(), &args);
    let mut client = proxy.connect();
    assert_eq!(client.line("SET k v"), "OK");
    let before = redis
        .info("total_connections_received")
        .parse::<u64>()
        .expect("a number");
    redis.pause();
    // Five times the limit, and some looks more.
    let (start, mut errors) = (time::now(), 0);
    while time::now().since(start) < Duration::from_millis(900) {
        assert!(client.line("GET k").is_error());
        errors += 1;
    }
    redis.resume();
    wait_for("an answer", SOON, || client.line("GET k") == "v");
    let connections = redis
        .info("total_connections_received")
        .parse::<u64>()
        .expect("a number")
        - before;
    assert!(
        (2..=6).contains(&connections),
        "{connections} connections for {errors} errors"
    );
}

#[test]
fn hits_stop_when_redis_has_been_silent_for_the_staleness_bound() {
    let redis = RedisServer::start();
    let mut args = ALWAYS.to_vec();
    args.extend([
        "--invalidation.max-staleness",
        "200ms",
        "--upstream.command-timeout",
        "300ms",
    ]);
    let proxy = Nearhit::serve_with(&redis.url(), &args);
    let mut client = proxy.connect();
    client.line("SET k v");
    warm(&proxy, &mut client, "k", "v");
    redis.pause();
    let paused = time::now();
    let mut last_hit = Duration::ZERO;
    wait_for("an error instead of a hit", SOON, || {
        let asked = time::now().since(paused);
        let reply = client.line("GET k");
        if !reply.is_error() {
            assert_eq!(reply, "v");
            last_hit = asked;
        }
        reply.is_error()
    });
    assert!(
        last_hit < Duration::from_millis(250),
        "served from memory {last_hit:?} after the last proof"
    );
    redis.resume();
    redis.cmd(&["SET", "k", "w"]);
    wait_for("an answer", SOON, || client.line("GET k") == "w");
    warm(&proxy, &mut client, "k", "w");
}

#[test]
fn a_fetch_for_the_cache_is_no_slower_to_fail_than_other_commands() {
    let redis = RedisServer::start();
    let mut args = ALWAYS.to_vec();
    args.extend(["--upstream.command-timeout", "300ms"]);
    let proxy = Nearhit::serve_with(&redis.url(), &args);
    let mut clients = [proxy.connect(), proxy.connect3()];
    clients[0].line("SET warm v");
    warm(&proxy, &mut clients[0], "warm", "v");
    redis.cmd(&["SET", "cold", "c"]);
    redis.pause();
    // The first one leads the fetch, the second one shares it.
    for client in &mut clients {
        client.send(&["GET", "cold"]);
    }
    let start = time::now();
    for client in &mut clients {
        let reply = client.reply();
        assert!(reply.is_error_with("ERR nearhit: no answer from "), "{reply:?}");
    }
    let took = time::now().since(start);
    assert!(took < Duration::from_millis(300) + SLACK, "{took:?}");
    redis.resume();
    for client in &mut clients {
        wait_for("an answer", SOON, || client.line("GET cold") == "c");
        assert_eq!(client.line("GET warm"), "v");
    }
}

#[test]
fn who_waits_or_listens_learns_that_the_connection_is_gone() {
    let mut redis = RedisServer::start();
    let proxy = Nearhit::serve_with(&redis.url(), &["--facade.monitor", "upstream"]);
    for (line, confirmed) in [
        ("SUBSCRIBE c", true),
        ("PSUBSCRIBE c*", true),
        ("MONITOR", true),
        ("BLPOP l 0", false),
    ] {
        let mut client = proxy.connect();
        client.send_raw(format!("{line}\r\n"));
        if confirmed {
            client.reply();
        } else {
            wait_for("a blocked client", SOON, || redis.info("blocked_clients") == "1");
        }
        redis.kill9();
        let rest = String::from_utf8_lossy(&client.read_to_close()).into_owned();
        let wanted = if confirmed {
            ""
        } else {
            "-UNCERTAIN upstream connection lost "
        };
        assert!(
            rest.starts_with(wanted) && (confirmed <= rest.is_empty()),
            "{line}: {rest:?}"
        );
        redis.restart();
        wait_for("Redis to be found", SOON, || proxy.connect().line("GET k").is_nil());
    }
}

#[test]
fn a_transaction_whose_connection_is_lost_is_not_committed() {
    let mut redis = RedisServer::builder().arg("--appendonly", "yes").start();
    let proxy = Nearhit::serve(&redis.url());
    for lines in [&["MULTI", "INCR n"][..], &["WATCH n", "GET n"]] {
        let mut client = proxy.connect();
        for line in lines {
            client.line(line);
        }
        redis.kill9();
        redis.restart();
        client.send_raw(if lines.len() == 2 && lines[0] == "MULTI" {
            "EXEC\r\n"
        } else {
            "MULTI\r\nINCR n\r\nEXEC\r\n"
        });
        let rest = String::from_utf8_lossy(&client.read_to_close()).into_owned();
        assert!(!rest.contains("*1\r\n"), "{lines:?}: {rest:?}");
        assert!(
            rest.is_empty() || rest.starts_with("-ERR nearhit: "),
            "{lines:?}: {rest:?}"
        );
        assert!(redis.cmd(&["GET", "n"]).is_nil(), "{lines:?} ran");
    }
}

/// What stood behind such a MULTI used to run as single commands when Redis came back in the middle of the pipeline.
#[test]
fn a_transaction_that_cannot_begin_ends_the_connection_with_all_that_is_behind_it() {
    let mut redis = RedisServer::start();
    let proxy = Nearhit::serve(&redis.url());
    proxy.connect().line("PING");
    redis.kill9();
    wait_for("no connection", SOON, || {
        proxy.connect().line("GET k").is_error_with("ERR nearhit: ")
    });
    // Between two attempts to connect nothing is sent at all, during one all of it is lost together.
    for first in ["MULTI", "WATCH k"].iter().cycle().take(20) {
        let mut client = proxy.connect();
        client.send_raw(format!("{first}\r\nSET k v\r\nEXEC\r\n"));
        let rest = String::from_utf8_lossy(&client.read_to_close()).into_owned();
        assert!(rest.lines().all(|line| line.starts_with("-ERR nearhit: ")), "{rest:?}");
    }
}

/// Found by the live checker: a SELECT that got no answer, and FLUSHDB behind it emptied the database before it.
#[test]
fn nothing_behind_a_select_or_a_login_that_nobody_answered_is_done_in_its_place() {
    let redis = RedisServer::start();
    for ahead in ["SELECT 1", "AUTH default x", "HELLO 3 AUTH default x"] {
        let proxy = Nearhit::serve_with(&redis.url(), &["--upstream.command-timeout", "300ms"]);
        let mut client = proxy.connect();
        client.lines_ok(&["SET k v"]);
        redis.pause();
        client.send_raw(format!("{ahead}\r\nSET k w\r\n"));
        let heard = client.read_to_close();
        redis.resume();
        let text = String::from_utf8_lossy(&heard);
        assert!(
            text.starts_with("-ERR nearhit: ") && text.lines().count() == 1,
            "{ahead}: {text}"
        );
        assert_eq!(redis.cmd(&["GET", "k"]), "v", "{ahead}");
    }
}
