//! Publish and subscribe through nearhit, in both protocols.

mod session_support;
mod support;

use session_support::{Pair, caching, line_bytes, wait_for_hit};
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

#[test]
fn subscribing_answers_as_the_server_does() {
    let pair = Pair::start();
    for version in [2, 3] {
        for lines in [
            "SUBSCRIBE a|SUBSCRIBE a|UNSUBSCRIBE a|UNSUBSCRIBE a|UNSUBSCRIBE|PING",
            "SUBSCRIBE a|PSUBSCRIBE a*|SSUBSCRIBE a|PING|PING x|UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|PING|GET k",
            "UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|GET k",
            "PSUBSCRIBE|SUBSCRIBE|SSUBSCRIBE|GET k",
            "SUBSCRIBE a|RESET|GET k|PUBLISH a x|GET k",
            "GET k|SUBSCRIBE a|UNSUBSCRIBE|GET k|GET k",
            "MULTI|PING|EXEC|SUBSCRIBE a|PING|UNSUBSCRIBE a|MULTI|GET k|EXEC",
            "WATCH k|SUBSCRIBE a|UNSUBSCRIBE a|MULTI|GET k|EXEC",
        ] {
            let lines: Vec<_> = lines.split('|').collect();
            pair.twin_in(version).lines(&lines);
            pair.twin_in(version).pipeline(&lines);
        }
        // Several channels are several confirmations.
        let mut twin = pair.twin_in(version);
        for (line, frames) in [
            ("SUBSCRIBE a b a", 3),
            ("PSUBSCRIBE x* y*", 2),
            ("UNSUBSCRIBE b nope a", 3),
            ("PUNSUBSCRIBE y* x*", 2),
        ] {
            twin.send(&line_bytes(line));
            twin.frames(frames);
        }
        twin.line("GET k");
    }
}

#[test]
fn in_resp2_a_subscriber_may_do_nothing_else() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    twin.line("SUBSCRIBE c");
    for line in [
        "GET k",
        "SET k v",
        "MULTI",
        "EXEC",
        "WATCH k",
        "SELECT 1",
        "HELLO 3",
        "AUTH x",
        "CLIENT ID",
        "CLIENT GETNAME",
        "CLIENT SETNAME me",
        "CLIENT REPLY ON",
        "CLIENT LIST",
        "INFO",
        "PUBLISH c x",
        "BLPOP l 0",
        "MONITOR",
        "CLIENT NOSUCH",
        "GET",
        "NOSUCH",
        "CLIENT TRACKING ON",
        "ECHO x",
        "PING a b",
        "CONFIG GET port",
    ] {
        twin.line(line);
    }
    twin.pipeline(&[
        "UNSUBSCRIBE",
        "GET k",
        "SELECT 1",
        "CLIENT GETNAME",
        "GET k",
        "MULTI",
        "EXEC",
        "PING",
    ]);
}

#[test]
fn messages_arrive_in_order_between_replies() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let (mut two, mut three, mut publisher) = (nearhit.connect(), nearhit.connect3(), nearhit.connect());
    two.line("SUBSCRIBE news");
    subscribe(&mut three, "news");
    for number in 0..500 {
        publisher.send_raw(line_bytes(&format!("PUBLISH news {number}")));
        if number % 5 == 0 {
            three.send(&["ECHO", &number.to_string()]);
        }
    }
    for number in (0..500).step_by(5) {
        assert_eq!(three.reply(), number.to_string());
    }
    for number in 0..500 {
        let number = number.to_string();
        assert_eq!(publisher.reply(), 2);
        assert_eq!(three.push().items()[2], number);
        assert_eq!(two.reply().items()[2], number);
    }
}

#[test]
fn a_message_may_look_like_anything() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for channel in ["subscribe", "unsubscribe", "message", "invalidate"] {
            twin.line(&format!("SUBSCRIBE {channel}"));
            for payload in [
                "subscribe",
                "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
                "+OK\r\n",
                "",
                "\0\u{ff}",
            ] {
                for server in [&pair.direct, &pair.behind] {
                    assert_eq!(server.cmd(&["PUBLISH", channel, payload]), 1);
                }
                twin.reply(payload.as_bytes());
            }
            twin.line("PING");
            twin.line(&format!("UNSUBSCRIBE {channel}"));
        }
        twin.line("GET k");
    }
}

#[test]
fn after_the_last_subscription_the_session_caches_again() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    for version in [2, 3] {
        let mut client = if version == 3 {
            nearhit.connect3()
        } else {
            nearhit.connect()
        };
        let subscribed = |client: &mut Resp, line: &str| match version {
            3 => {
                client.send_raw(line_bytes(line));
                drop(client.push());
            }
            _ => drop(client.line(line)),
        };
        for (begin, end) in [
            ("SUBSCRIBE a", "UNSUBSCRIBE"),
            ("PSUBSCRIBE *", "PUNSUBSCRIBE *"),
            ("SSUBSCRIBE s", "SUNSUBSCRIBE s"),
        ] {
            subscribed(&mut client, begin);
            assert!(!client.line("PING").is_error());
            subscribed(&mut client, end);
            wait_for_hit(&nearhit, &mut client, "GET k");
        }
    }
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
}

#[test]
fn a_subscriber_that_leaves_is_unsubscribed() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut subscriber = nearhit.connect();
    subscriber.line("SUBSCRIBE news");
    assert_eq!(redis.cmd(&["PUBLISH", "news", "x"]), 1);
    drop(subscriber);
    wait_for("the subscription to end", SOON, || {
        redis.cmd(&["PUBLISH", "news", "x"]) == 0
    });
    wait_for("nobody to be pinned", SOON, || {
        nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
    });
}

/// In RESP3 the confirmation is a push.
fn subscribe(client: &mut Resp, channel: &str) {
    client.send(&["SUBSCRIBE", channel]);
    let confirmation = client.push().items();
    assert_eq!(
        confirmation,
        [
            Reply::Bulk(b"subscribe".to_vec()),
            Reply::Bulk(channel.into()),
            Reply::Int(1)
        ]
    );
}
