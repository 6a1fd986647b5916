//! Clients at the limits: too much at once, too many of them, half of a connection, no file descriptor left.

mod session_support;
mod support;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use session_support::{caching, line_bytes};
use std::process::Command;
use std::time::Duration;
use support::resp::encode;
use support::{Nearhit, RedisServer, Resp, SOON, eventually, wait_for};

#[test]
fn a_request_larger_than_the_query_buffer_ends_its_client_without_a_word() {
    let redis = RedisServer::start();
    let args = [
        "--server.limits.client_query_buffer",
        "256kb",
        "--server.limits.max_bulk",
        "256kb",
    ];
    let nearhit = caching(&redis, &args);
    let mut other = nearhit.connect();
    let arg = "x".repeat(60_000);
    for begin in ["", "MULTI\r\n"] {
        let mut client = nearhit.connect();
        let half: Vec<u8> = encode(&[&["MSET"], &[arg.as_str(); 20][..]].concat());
        let sent = [begin.as_bytes(), &line_bytes("SET before 1"), &half[..half.len() - 1]].concat();
        let _closed_in_the_middle = client.try_send_raw(&sent);
        let heard = String::from_utf8_lossy(&client.read_to_close()).into_owned();
        assert!(!heard.contains("ERR"), "{heard}");
        assert_eq!(other.line("PING"), "PONG");
    }
    assert_eq!(other.line("GET before"), "1");
    assert_eq!(nearhit.metric("nearhit_client_disconnects_total", &["limit"]), 2.0);
    // What fits is served, whatever the number of arguments.
    let many: Vec<String> = (0..20_000).map(|at| format!("k{at}")).collect();
    let mut client = nearhit.connect();
    client.send_raw(encode(&[vec!["DEL".to_owned()], many].concat()));
    assert_eq!(client.reply(), 0);
}

#[test]
fn who_says_no_more_is_answered_all_it_asked() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut warm = nearhit.connect();
    warm.lines_ok(&["SET hot v", "GET hot", "GET hot"]);
    let mut client = nearhit.connect();
    let lines = [
        "INCR n",
        "GET hot",
        "PING",
        "SET cold v",
        "GET cold",
        "MULTI",
        "INCR n",
        "EXEC",
        "ECHO end",
        "GET none",
    ];
    let requests: Vec<u8> = (0..1000)
        .flat_map(|_| lines.iter().flat_map(|line| line_bytes(line)))
        .collect();
    client.send_raw(&requests);
    client.close_write();
    for round in 0..1000 {
        assert_eq!(client.reply(), 2 * round + 1);
        for text in ["v", "PONG", "OK", "v", "OK", "QUEUED"] {
            assert_eq!(client.reply(), text);
        }
        assert_eq!(client.reply().items(), [2 * round + 2]);
        assert_eq!(client.reply(), "end");
        assert!(client.reply().is_nil());
    }
    client.expect_closed();
    assert_eq!(redis.cmd(&["GET", "n"]), "2000");
    // Half a request at the end is no reason to answer less.
    let mut client = nearhit.connect();
    client.send_raw("GET hot\r\nGET cold\r\n*2\r\n$3\r\nGET\r\n");
    client.close_write();
    assert_eq!([client.reply(), client.reply()], ["v", "v"]);
    client.expect_closed();
}

#[test]
fn requests_of_both_kinds_may_follow_each_other() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    let odd = b"\r\n\0*3\xff$1 ";
    for round in 0..300 {
        let bytes = [
            &b"SET inline \"a\\x00b\"\r\n"[..],
            &encode(&[&b"SET"[..], odd, odd]),
            b"GET inline\n",
            &encode(&[&b"GET"[..], odd]),
            b"\r\n*0\r\nPING\r\n",
        ];
        client.send_raw(bytes.concat());
        for reply in [&b"OK"[..], b"OK", b"a\0b", odd, b"PONG"] {
            assert_eq!(client.reply().bytes(), Some(reply), "round {round}");
        }
    }
}

/// How many files a process has open.
fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").count() as u64
}

/// Hundredths of a second a process has computed.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    let (_, behind) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = behind.split_whitespace().collect();
    fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
}

#[test]
fn without_file_descriptors_those_who_are_in_are_served_and_the_others_wait() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let mut inside: Vec<Resp> = (0..5).map(|_| nearhit.connect()).collect();
    for client in &mut inside {
        assert!(client.line("GET k").is_nil());
    }
    let pid = Pid::from_raw(i32::try_from(nearhit.pid()).expect("a pid"));
    let room = open_files(nearhit.pid()) + 2;
    let limit = |most| Rlimit {
        current: Some(most),
        maximum: Some(20_000),
    };
    prlimit(pid, Resource::Nofile, limit(room)).expect("set a limit");
    let mut outside: Vec<Resp> = (0..6).map(|_| nearhit.connect()).collect();
    nearhit.wait_for_stderr("accepting clients is paused");
    for client in &mut outside {
        client.send(&["PING"]);
    }
    let (before, start) = (ticks(nearhit.pid()), nearhit::time::now());
    let mut asked: u64 = 0;
    while nearhit::time::now().since(start) < Duration::from_millis(1500) {
        inside[0].patience(SOON);
        assert_eq!(
            inside[0].line("INCR n").int(),
            i64::try_from(asked).expect("a count") + 1
        );
        asked += 1;
        inside[1].expect_silence(Duration::from_millis(50));
    }
    let spent = ticks(nearhit.pid()) - before;
    assert!(spent < 75, "{spent} hundredths of a second in one and a half");
    prlimit(pid, Resource::Nofile, limit(10_000)).expect("lift the limit");
    for client in &mut outside {
        assert_eq!(client.reply(), "PONG");
    }
}

#[test]
fn there_are_file_descriptors_for_as_many_clients_as_are_allowed() {
    let redis = RedisServer::start();
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    for (clients, scarce) in [("100", false), ("1000000", hard.is_some_and(|most| most < 1_000_000))] {
        // As most shells and service managers have it.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "ulimit -Sn 400 && exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_nearhit"),
        ]);
        let url = redis.url();
        command.args([
            "serve",
            "--upstream",
            &url,
            "--listen",
            "127.0.0.1:0",
            "--metrics.listen",
            "127.0.0.1:0",
        ]);
        command.args([
            "--log.format",
            "text",
            "--server.max-clients",
            clients,
            "--upstream.pinned-max",
            "300",
        ]);
        let nearhit = Nearhit::start(command);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", nearhit.pid())).expect("limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .expect("a line");
        let soft: u64 = line
            .split_whitespace()
            .nth(3)
            .expect("a number")
            .parse()
            .expect("a number");
        let wanted = clients.parse::<u64>().expect("a number") + 300;
        assert_eq!(soft < wanted, scarce, "{line}");
        assert_eq!(
            nearhit.stderr().contains("fewer files may be open"),
            scarce,
            "{}",
            nearhit.stderr()
        );
    }
}

#[test]
fn a_crowd_of_idle_clients_costs_less_than_redis_would_take() {
    const CROWD: usize = 2000;
    let redis = RedisServer::start();
    // The canary opens a connection of its own now and then.
    let nearhit = caching(
        &redis,
        &["--server.threads", "1", "--invalidation.canary-interval", "0s"],
    );
    nearhit.connect().lines_ok(&["SET k v", "GET k", "GET k"]);
    let connections = || redis.info("connected_clients").parse::<usize>().expect("a number");
    let (before, connected) = (nearhit.resident(), connections());
    let storm = || -> Vec<Resp> {
        let serve = |_| {
            let mut client = nearhit.connect();
            client.send_raw("PING\r\nGET k\r\n");
            assert_eq!([client.reply(), client.reply()], ["PONG", "v"]);
            client
        };
        (0..CROWD / 4).map(serve).collect()
    };
    let crowd: Vec<Resp> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..4).map(|_| scope.spawn(storm)).collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("all are served"))
            .collect()
    });
    assert_eq!(nearhit.metric("nearhit_clients_connected", &[]), CROWD as f64);
    let each = nearhit.resident().saturating_sub(before) / CROWD as u64;
    assert!(each < 8 * 1024, "{each} bytes for each");
    // Whoever watches users' rights may still have been about to connect.
    assert!(connections() <= connected + 2, "the server does not notice");
    drop(crowd);
    wait_for("an empty house", SOON, || {
        nearhit.metric("nearhit_clients_connected", &[]) == 0.0
    });
}

#[test]
fn a_pipeline_larger_than_every_buffer_is_answered_whole() {
    let redis = RedisServer::start();
    let nearhit = caching(
        &redis,
        &[
            "--server.limits.client_output_buffer",
            "64kb",
            "--server.limits.pipeline_depth",
            "100",
        ],
    );
    let mut client = nearhit.connect();
    let value = "v".repeat(1000);
    client.cmd(&["SET", "k", &value]);
    let stream = client.stream().try_clone().expect("a handle");
    let requests = [
        line_bytes("INCR n"),
        line_bytes("GET k"),
        line_bytes("GETRANGE k 0 499"),
    ]
    .concat()
    .repeat(20_000);
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut &stream, &requests).expect("send"));
        for number in 1..=20_000 {
            assert_eq!(client.reply(), number);
            assert_eq!(client.reply(), value.as_str());
            assert_eq!(client.reply(), &value[..500]);
        }
    });
    assert!(eventually(SOON, || nearhit.metric("nearhit_clients_connected", &[]) == 1.0));
    wait_for("its answer", SOON, || client.line("PING") == "PONG");
}
