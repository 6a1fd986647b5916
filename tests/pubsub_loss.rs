//! Subscribers whose messages come no more: the connection is lost, the server is gone, or the right to listen is.

mod session_support;
mod support;

use session_support::line_bytes;
use support::resp::decode;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

const RESUBSCRIBE: &[&str] = &["--pubsub.on_loss", "resubscribe"];

fn nearhit(redis: &RedisServer, args: &[&str]) -> Nearhit {
    Nearhit::serve_with(&redis.url(), &[&["--server.threads", "1"], args].concat())
}

/// A client that has sent these lines and read as many confirmations.
fn subscriber(nearhit: &Nearhit, version: u8, lines: &[&str]) -> Resp {
    let mut client = if version == 3 {
        nearhit.connect3()
    } else {
        nearhit.connect()
    };
    for line in lines {
        client.send_raw(line_bytes(line));
        client.read_frame_bytes();
    }
    client
}

/// The next frame, written as its items.
fn heard(client: &mut Resp) -> String {
    let items = decode(&client.read_frame_bytes()).items();
    let text = |item: &Reply| match item {
        Reply::Int(number) => number.to_string(),
        other => other.text(),
    };
    items.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Publishes until so many clients of the server hear it.
fn publish_until(redis: &RedisServer, channel: &str, payload: &str, receivers: i64) {
    wait_for(&format!("{receivers} subscribers of {channel}"), SOON, || {
        redis.cmd(&["PUBSUB", "NUMSUB", channel]).items()[1] == receivers
    });
    assert_eq!(redis.cmd(&["PUBLISH", channel, payload]), receivers);
}

#[test]
fn a_subscriber_learns_that_its_messages_are_lost_by_being_closed() {
    let redis = RedisServer::start();
    let nearhit = nearhit(&redis, &[]);
    let mut subscribers = [
        subscriber(&nearhit, 2, &["SUBSCRIBE news"]),
        subscriber(&nearhit, 3, &["SUBSCRIBE news"]),
        subscriber(&nearhit, 3, &["PSUBSCRIBE n*", "SSUBSCRIBE s"]),
    ];
    let mut other = nearhit.connect();
    other.line("PING");
    assert_eq!(redis.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]), 1);
    for client in &mut subscribers {
        client.expect_closed();
    }
    assert_eq!(nearhit.metric("nearhit_pubsub_closed_total", &["\"upstream\""]), 3.0);
    assert_eq!(other.line("PING"), "PONG");
    // Whoever comes back is subscribed anew.
    let mut again = subscriber(&nearhit, 2, &["SUBSCRIBE news"]);
    publish_until(&redis, "news", "x", 1);
    assert_eq!(heard(&mut again), "message news x");
}

#[test]
fn or_by_a_second_confirmation_of_each_subscription() {
    let redis = RedisServer::start();
    let nearhit = nearhit(&redis, RESUBSCRIBE);
    let mut two = subscriber(&nearhit, 2, &["SUBSCRIBE news", "PSUBSCRIBE w*"]);
    let mut three = subscriber(&nearhit, 3, &["SUBSCRIBE news", "SSUBSCRIBE s"]);
    for _ in 0..5 {
        assert_eq!(redis.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]), 1);
        let mut confirmations = [heard(&mut two), heard(&mut two), heard(&mut three), heard(&mut three)];
        confirmations[..2].sort();
        confirmations[2..].sort();
        assert_eq!(
            confirmations,
            [
                "psubscribe w* 2",
                "subscribe news 2",
                "ssubscribe s 1",
                "subscribe news 1"
            ]
        );
        publish_until(&redis, "news", "back", 1);
        assert_eq!([&mut two, &mut three].map(heard), ["message news back"; 2]);
        assert_eq!(nearhit.connect().line("PUBLISH news counted"), 2);
        assert_eq!([&mut two, &mut three].map(heard), ["message news counted"; 2]);
    }
    // Who leaves is not subscribed again.
    two.line("UNSUBSCRIBE news");
    two.line("PUNSUBSCRIBE");
    assert_eq!(redis.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]), 1);
    heard(&mut three);
    heard(&mut three);
    assert_eq!(two.line("PING"), "PONG");
}

#[test]
fn a_server_that_comes_back_finds_its_subscribers() {
    let mut redis = RedisServer::start();
    let nearhit = nearhit(&redis, RESUBSCRIBE);
    let mut client = subscriber(&nearhit, 3, &["SUBSCRIBE news"]);
    redis.kill9();
    // A subscription that cannot be is refused; the old one waits.
    wait_for("an error", SOON, || {
        client.send(&["SUBSCRIBE", "other"]);
        let frame = client.read_frame_bytes();
        frame.starts_with(b"-ERR nearhit: ")
    });
    redis.restart();
    assert_eq!(heard(&mut client), "subscribe news 1");
    publish_until(&redis, "news", "x", 1);
    assert_eq!(heard(&mut client), "message news x");
    client.send(&["SUBSCRIBE", "other"]);
    assert_eq!(heard(&mut client), "subscribe other 2");
}

#[test]
fn a_right_that_is_taken_away_ends_the_subscription() {
    for args in [&[][..], RESUBSCRIBE] {
        let redis = RedisServer::start();
        let nearhit = nearhit(&redis, args);
        let mut denied = subscriber(&nearhit, 3, &["SUBSCRIBE secret"]);
        let mut allowed = subscriber(&nearhit, 3, &["SUBSCRIBE open"]);
        redis.client().line("ACL SETUSER default resetchannels &open");
        denied.expect_closed();
        if args.is_empty() {
            allowed.expect_closed();
        } else {
            assert_eq!(heard(&mut allowed), "subscribe open 1");
        }
        let refused = nearhit.connect().line("SUBSCRIBE open secret");
        assert!(refused.is_error_with("NOPERM this user has no permissions to access one of the channels"));
        assert_eq!(redis.cmd(&["PUBSUB", "NUMSUB", "secret"]).items()[1], 0);
    }
}

#[test]
fn users_hear_only_what_they_may() {
    let redis = RedisServer::start();
    redis
        .client()
        .line("ACL SETUSER alice on >pw +@all ~* resetchannels &hers &both");
    let nearhit = nearhit(&redis, &[]);
    let mut default = subscriber(&nearhit, 2, &["SUBSCRIBE both", "SUBSCRIBE his"]);
    let mut alice = nearhit.connect3();
    alice.line("AUTH alice pw");
    for (line, reply) in [
        ("SUBSCRIBE both his", "-NOPERM "),
        ("PSUBSCRIBE *", "-NOPERM "),
        ("SUBSCRIBE both hers", ">3"),
    ] {
        alice.send_raw(line_bytes(line));
        assert!(alice.read_frame_bytes().starts_with(reply.as_bytes()), "{line}");
    }
    assert_eq!(heard(&mut alice), "subscribe hers 2");
    // One connection for each of the two users.
    publish_until(&redis, "both", "x", 2);
    assert_eq!([heard(&mut default), heard(&mut alice)], ["message both x"; 2]);
    // She keeps what she has when she becomes somebody else, and gets what that one may.
    redis
        .client()
        .line("ACL SETUSER bob on >pw +@all ~* resetchannels &his");
    alice.line("AUTH bob pw");
    for (line, reply) in [("SUBSCRIBE other", "-NOPERM "), ("SUBSCRIBE his", ">3")] {
        alice.send_raw(line_bytes(line));
        assert!(alice.read_frame_bytes().starts_with(reply.as_bytes()), "{line}");
    }
    publish_until(&redis, "hers", "y", 1);
    publish_until(&redis, "his", "z", 2);
    assert_eq!(
        [heard(&mut alice), heard(&mut alice)],
        ["message hers y", "message his z"]
    );
    alice.send_raw(line_bytes("UNSUBSCRIBE hers his both"));
    assert_eq!(
        [heard(&mut alice), heard(&mut alice), heard(&mut alice)],
        ["unsubscribe hers 2", "unsubscribe his 1", "unsubscribe both 0"]
    );
    publish_until(&redis, "hers", "nobody", 0);
    assert_eq!(alice.line("PING"), "PONG");
}

#[test]
fn a_server_without_resp3_gets_a_connection_for_each_subscriber() {
    let redis = RedisServer::builder().arg("--rename-command", "HELLO none").start();
    let nearhit = nearhit(&redis, &["--cache.mode", "off"]);
    let mut clients: Vec<Resp> = (0..3).map(|_| subscriber(&nearhit, 2, &["SUBSCRIBE news"])).collect();
    publish_until(&redis, "news", "x", 3);
    for client in &mut clients {
        assert_eq!(heard(client), "message news x");
        assert!(client.line("GET k").is_error_with("ERR Can't execute 'get'"));
        client.line("UNSUBSCRIBE");
        assert_eq!(client.line("GET k"), Reply::Nil);
    }
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
}
