//! MONITOR shows what goes through nearhit as the server shows what it does.

mod session_support;
mod support;

use session_support::{Pair, caching, line_bytes, wait_for_cache, wait_for_hit};
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

/// The lines until the one of `PING end`, without their times and ports: `[0 127.0.0.1] "GET" "k"`.
fn lines(watcher: &mut Resp, end: &mut Resp) -> Vec<String> {
    end.line("PING end");
    let mut lines = Vec::new();
    loop {
        let line = match watcher.reply() {
            Reply::Status(line) => line,
            other => panic!("not a line: {other:?}"),
        };
        if line.ends_with("\"PING\" \"end\"") {
            return lines;
        }
        // Scripts' own lines are the server's business.
        if !line.contains(" lua] ") {
            lines.push(without_time(&line));
        }
    }
}

fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once(' ').expect("a time");
    let (seconds, micros) = time.split_once('.').expect("a fraction");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(digits(seconds) && digits(micros) && micros.len() == 6, "{line}");
    let (address, command) = rest.split_once("] ").expect("an address");
    let (host, port) = address.rsplit_once(':').expect("a port");
    assert!(digits(port), "{line}");
    format!("{host}] {command}")
}

/// What a request is, as one line or as words that may hold anything.
fn do_all(pair: &Pair, version: u8, requests: &[Vec<&[u8]>]) {
    let mut watchers = pair.twin_in(version);
    watchers.line("MONITOR");
    let (mut twin, mut end) = (pair.twin(), pair.twin());
    for words in requests {
        twin.send(&support::resp::encode(words));
        twin.direct.read_frame_bytes();
        twin.proxied.read_frame_bytes();
        let direct = lines(&mut watchers.direct, &mut end.direct);
        let proxied = lines(&mut watchers.proxied, &mut end.proxied);
        let shown: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
        assert_eq!(proxied, direct, "{}", shown.join(" "));
    }
}

fn words(list: &[&'static str]) -> Vec<Vec<&'static [u8]>> {
    list.iter()
        .map(|line| line.split(' ').map(str::as_bytes).collect())
        .collect()
}

#[test]
fn each_command_is_shown_as_the_server_shows_it() {
    let pair = Pair::start();
    let script = "EVAL redis.call('set',KEYS[1],'1') 1 k";
    do_all(
        &pair,
        2,
        &words(&[
            "SET k v",
            "GET k",
            "GET k",
            "get K",
            "NOSUCH a",
            "GET",
            "LPUSH k x",
            "SELECT 3",
            "SELECT 99",
            "GET k",
            "AUTH foo",
            "AUTH u p",
            "HELLO 3 AUTH default x SETNAME q",
            "HELLO 2",
            "HELLO 9",
            "CLIENT ID",
            "CLIENT SETNAME x",
            "CLIENT GETNAME",
            "CLIENT LIST ID 99999",
            "CONFIG GET port",
            "PING",
            "ECHO hello",
            "DBSIZE",
            "PUBLISH a b",
            script,
            "EVALSHA ffff 0",
            "BLPOP nolist 0.01",
            "RESET",
            "ACL WHOAMI",
            "ACL SETUSER u1 >pass",
            "MIGRATE 127.0.0.1 1 k 0 10 AUTH2 u p",
            "COMMAND COUNT",
            "INFO server",
            "OBJECT ENCODING k",
            "WAIT 0 10",
            "SCRIPT EXISTS a",
            "CLIENT NO-EVICT on",
            "MGET a b",
            "FLUSHALL",
            "SUBSCRIBE ch",
            "UNSUBSCRIBE ch",
            "WATCH k",
            "UNWATCH",
            "CLIENT TRACKING on",
            "CLIENT GETREDIR",
        ]),
    );
}

#[test]
fn a_transaction_is_shown_when_it_runs() {
    let pair = Pair::start();
    for version in [2, 3] {
        do_all(
            &pair,
            version,
            &words(&[
                "MULTI",
                "SET a 1",
                "LPUSH a 2",
                "CLIENT ID",
                "CLIENT LIST",
                "GET a",
                "EXEC",
                "MULTI",
                "SET a 2",
                "DISCARD",
                "MULTI",
                "NOSUCH",
                "SET a 3",
                "EXEC",
                "EXEC",
                "MULTI",
                "MONITOR",
                "PING",
                "EXEC",
            ]),
        );
    }
    let mut watchers = pair.twin();
    watchers.line("MONITOR");
    let (mut twin, mut end) = (pair.twin(), pair.twin());
    twin.lines(&["WATCH a"]);
    pair.twin().line("SET a 9");
    twin.lines(&["MULTI", "GET a", "EXEC"]);
    let direct = lines(&mut watchers.direct, &mut end.direct);
    assert_eq!(
        lines(&mut watchers.proxied, &mut end.proxied),
        direct,
        "what did not run is not shown"
    );
}

#[test]
fn any_byte_is_quoted_as_the_server_quotes_it() {
    let pair = Pair::start();
    let all: Vec<u8> = (0..=255).collect();
    do_all(&pair, 2, &[vec![b"SET", &all, b""], vec![b"ECHO", b"\"\\'\x7f \r\n"]]);
}

#[test]
fn who_watches_sees_itself_and_may_do_nothing_to_keys() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.line("MONITOR");
        for line in ["PING", "CLIENT GETNAME", "SELECT 2", "ECHO x"] {
            twin.line(line);
            let own = [&mut twin.direct, &mut twin.proxied].map(|client| without_time(&client.reply().text()));
            assert_eq!(own[1], own[0], "{line}");
        }
        twin.lines(&["GET k", "SET k v", "PUBLISH a b", "EVAL 1 0", "GET"]);
        for client in [&mut twin.direct, &mut twin.proxied] {
            client.send_raw([line_bytes("MONITOR"), line_bytes("CONFIG GET nothing")].concat());
        }
        twin.frames(1);
        twin.lines(&["RESET", "GET k", "SET k v"]);
        pair.foreign("PING");
        twin.lines(&["MULTI", "MONITOR", "EXEC", "MONITOR", "QUIT"]);
        twin.closes(b"QUIT");
    }
}

#[test]
fn answers_from_memory_are_shown_too_and_those_of_all_workers() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &["--server.threads", "3"]);
    let mut clients: Vec<_> = (0..6).map(|_| nearhit.connect()).collect();
    clients[0].lines_ok(&["SET k v"]);
    clients
        .iter_mut()
        .for_each(|client| wait_for_hit(&nearhit, client, "GET k"));
    let mut watchers: Vec<_> = (0..3).map(|_| nearhit.connect()).collect();
    watchers
        .iter_mut()
        .for_each(|watcher| assert_eq!(watcher.line("MONITOR"), "OK"));
    for client in &mut clients {
        client.line("GET k");
    }
    for watcher in &mut watchers {
        let mut from: Vec<_> = (0..6)
            .map(|_| {
                let line = watcher.reply().text();
                assert!(line.ends_with("] \"GET\" \"k\""), "{line}");
                line.split(' ')
                    .nth(2)
                    .expect("an address")
                    .trim_end_matches(']')
                    .to_owned()
            })
            .collect();
        let mut addresses: Vec<_> = clients.iter().map(|client| client.local_addr().to_string()).collect();
        from.sort();
        addresses.sort();
        assert_eq!(from, addresses);
    }
    let line = clients[0].line("CLIENT LIST").text();
    assert_eq!(line.lines().filter(|line| line.contains(" flags=O ")).count(), 3);
}

#[test]
fn a_watcher_that_does_not_read_loses_lines_and_stops_nobody() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    wait_for_cache(&nearhit);
    let mut watcher = nearhit.connect();
    assert_eq!(watcher.line("MONITOR"), "OK");
    let value = "x".repeat(10_000);
    let mut client = nearhit.connect();
    let lost = || nearhit.metric("nearhit_monitor_lines_lost_total", &[]);
    wait_for("lost lines", SOON * 4, || {
        for _ in 0..100 {
            assert_eq!(client.cmd(&["ECHO", value.as_str()]), value.as_str());
        }
        lost() > 100.0
    });
    assert_eq!(client.line("PING still"), "still");
    // What it does get are whole lines, and after them new ones.
    let mut client = nearhit.connect();
    wait_for("the end", SOON * 2, || {
        client.line("PING end");
        let line = watcher.reply().text();
        assert!(line.ends_with('"') && line.contains("] \""), "a whole line");
        line.ends_with("\"PING\" \"end\"")
    });
}

#[test]
fn monitor_can_be_the_servers_or_nobodys() {
    let redis = RedisServer::start();
    let upstream = Nearhit::serve_with(&redis.url(), &["--facade.monitor", "upstream"]);
    let mut watcher = upstream.connect();
    assert_eq!(watcher.line("MONITOR"), "OK");
    redis.cmd(&["SET", "seen", "by monitor"]);
    wait_for("the line", SOON, || {
        watcher.reply().text().contains("\"seen\" \"by monitor\"")
    });
    let deny = Nearhit::serve_with(&redis.url(), &["--facade.monitor", "deny"]);
    let mut client = deny.connect();
    let refusal = "NOPERM this user has no permissions to run the 'monitor' command";
    assert!(client.line("MONITOR").is_error_with(refusal));
    client.line("MULTI");
    client.line("MONITOR");
    assert!(client.line("EXEC").items()[0].is_error());
}
