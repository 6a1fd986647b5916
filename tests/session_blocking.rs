//! Blocking commands: served by whoever writes, given up with their client, and nothing overtakes them.

mod session_support;
mod support;

use session_support::{Pair, caching, line_bytes};
use std::time::Duration;
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// A command that blocks, and one that serves it.
const SERVED: &[(&str, &str)] = &[
    ("BLPOP l 0", "RPUSH l x"),
    ("BRPOP a l 5", "RPUSH l x"),
    ("BLMOVE l l2 LEFT RIGHT 0", "RPUSH l x"),
    ("BRPOPLPUSH l l2 0", "RPUSH l x"),
    ("BLMPOP 0 1 l LEFT", "RPUSH l x"),
    ("BZPOPMIN z 0", "ZADD z 1 x"),
    ("BZPOPMAX z 5", "ZADD z 1 x"),
    ("BZMPOP 0 1 z MIN", "ZADD z 1 x"),
    ("XREAD BLOCK 0 STREAMS x $", "XADD x 9-1 f v"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS x >", "XADD x 9-2 f v"),
];

/// A way to leave.
type Leave = (&'static str, fn(Resp));

fn wait_for_blocked(redis: &RedisServer, count: usize) {
    wait_for("the server to say who is blocked", SOON, || {
        redis.info("blocked_clients") == count.to_string()
    });
}

#[test]
fn a_blocked_client_is_served_by_whoever_writes() {
    let pair = Pair::start();
    pair.foreign("XGROUP CREATE x g $ MKSTREAM");
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for (blocks, serves) in SERVED {
            for directly in [false, true] {
                twin.send(&line_bytes(blocks));
                wait_for_blocked(&pair.direct, 1);
                wait_for_blocked(&pair.behind, 1);
                match directly {
                    true => pair.foreign(serves),
                    false => drop(pair.twin().line(serves)),
                }
                twin.reply(blocks.as_bytes());
                twin.lines(&["GET l2x", "PING", "LRANGE l2 0 -1", "EXISTS l z"]);
                pair.foreign("DEL l l2 z x");
                pair.foreign("XGROUP CREATE x g $ MKSTREAM");
            }
        }
    }
}

#[test]
fn what_stands_behind_a_blocked_command_waits_for_it() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    twin.lines(&["SET k 1", "GET k", "GET k"]);
    let lines = [
        "GET k",
        "BLPOP l 0",
        "GET k",
        "CLIENT GETNAME",
        "SET k 2",
        "GET k",
        "SELECT 1",
        "GET k",
        "HELLO 3",
        "GET k",
    ];
    twin.send(&lines.iter().flat_map(|line| line_bytes(line)).collect::<Vec<_>>());
    assert_eq!(twin.reply(b"GET k"), "1");
    wait_for_blocked(&pair.behind, 1);
    assert_eq!(pair.behind.cmd(&["GET", "k"]), "1", "nothing overtakes");
    pair.foreign("RPUSH l served");
    twin.frames(lines.len() - 1);
    twin.lines(&["SELECT 0", "GET k", "GET k"]);
}

#[test]
fn a_time_out_is_the_servers() {
    let pair = Pair::start_with(&[("--hz", "100")], &[]);
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for line in [
            "BLPOP none 0.05",
            "BLMOVE none l2 LEFT LEFT 0.05",
            "BZPOPMIN none 0.05",
            "XREAD BLOCK 50 STREAMS none 0",
        ] {
            twin.lines(&[line, "PING"]);
        }
        twin.lines(&["WAIT 0 10", "SET k 1", "WAIT 1 20", "BLMPOP 0.05 1 none LEFT", "PING"]);
    }
}

#[test]
fn a_client_may_be_blocked_for_longer_than_any_time_out_of_nearhit() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--upstream.command_timeout", "200ms"]);
    let (mut blocked, mut behind) = (nearhit.connect(), nearhit.connect());
    blocked.send_raw([line_bytes("BLPOP l 0"), line_bytes("GET k")].concat());
    wait_for_blocked(&redis, 1);
    blocked.expect_silence(Duration::from_millis(1200));
    behind.line("RPUSH l late");
    assert_eq!(blocked.reply().items()[1], "late");
    assert!(blocked.reply().is_nil());
}

#[test]
fn a_client_that_leaves_takes_no_element_with_it() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    redis.cmd(&["XGROUP", "CREATE", "x", "g", "$", "MKSTREAM"]);
    let leave: [Leave; 3] = [
        ("closes", drop),
        ("closes its sending side", |client| {
            client.close_write();
            std::mem::forget(client);
        }),
        ("says QUIT first", |mut client| client.send(&["QUIT"])),
    ];
    for (how, leave) in leave {
        for (blocks, serves) in SERVED.iter().filter(|(blocks, _)| !blocks.starts_with("XREAD ")) {
            let mut client = nearhit.connect();
            client.send_raw(line_bytes(blocks));
            wait_for_blocked(&redis, 1);
            leave(client);
            let what = format!("the ghost of {blocks} to vanish when its client {how}");
            wait_for(&what, Duration::from_millis(500), || {
                redis.info("blocked_clients") == "0"
            });
            redis.client().line(serves);
            let left = redis.client().line("EXISTS l z l2").int();
            let pending = redis.client().line("XPENDING x g").items()[0].int();
            assert!(left == 1 || serves.starts_with("XADD"), "{blocks}: the element stays");
            assert_eq!(pending, 0, "{blocks}: nothing was delivered");
            redis.client().line("DEL l z l2");
            redis.client().line("XGROUP SETID x g $");
        }
    }
    wait_for("nobody to be pinned", SOON, || {
        nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
    });
}

#[test]
fn a_client_that_leaves_is_noticed_however_much_it_sent_behind_its_blocking_command() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    for behind in [100_000, 3_000_000] {
        let mut client = nearhit.connect();
        client.send_raw([line_bytes("BLPOP l 0"), line_bytes("CLIENT ID")].concat());
        wait_for_blocked(&redis, 1);
        client.send_raw(line_bytes("PING").repeat(behind / 6));
        drop(client);
        wait_for("the end of its call", SOON, || redis.info("blocked_clients") == "0");
        redis.cmd(&["RPUSH", "l", "element"]);
        assert_eq!(redis.cmd(&["LLEN", "l"]), 1, "{behind} bytes behind it");
        redis.cmd(&["DEL", "l"]);
    }
}

#[test]
fn many_blocked_clients_are_served_once_each() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut clients: Vec<_> = (0..50).map(|_| nearhit.connect()).collect();
    clients
        .iter_mut()
        .for_each(|client| client.send(&["BLPOP", "queue", "0"]));
    wait_for_blocked(&redis, 50);
    let mut writer = nearhit.connect();
    for number in 0..50 {
        writer.line(&format!("RPUSH queue {number}"));
    }
    let mut got: Vec<_> = clients
        .iter_mut()
        .map(|client| client.reply().items()[1].text())
        .collect();
    got.sort_by_key(|number| number.parse::<u32>().expect("a number"));
    assert_eq!(got, (0..50).map(|number: u32| number.to_string()).collect::<Vec<_>>());
    assert_eq!(writer.line("LLEN queue"), 0);
}
