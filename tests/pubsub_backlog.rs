//! Subscribers that do not read: closed as Redis closes them, and a burden to nobody else.

mod session_support;
mod support;

use session_support::line_bytes;
use support::resp::decode;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

const MESSAGE: usize = 1 << 20;

/// nearhit with one worker, so that all subscribers share one connection.
fn nearhit(redis: &RedisServer, limits: &[&str]) -> Nearhit {
    // No limit of the server's is to be met first.
    redis.cmd(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"]);
    Nearhit::serve_with(&redis.url(), &[&["--server.threads", "1"], limits].concat())
}

fn subscriber(nearhit: &Nearhit, version: u8) -> Resp {
    let mut client = if version == 3 {
        nearhit.connect3()
    } else {
        nearhit.connect()
    };
    client.send_raw(line_bytes("SUBSCRIBE flood"));
    client.read_frame_bytes();
    client
}

/// Publishes until somebody was closed for it, and has `readers` read all of it.
fn flood(redis: &RedisServer, nearhit: &Nearhit, readers: &mut [Resp]) {
    let (mut publisher, message) = (redis.client(), vec![b'x'; MESSAGE]);
    let before = closed_slow(nearhit);
    let closed = (0..100).any(|_| {
        publisher.cmd(&[b"PUBLISH".as_slice(), b"flood", &message]);
        for reader in &mut *readers {
            assert!(
                decode(&reader.read_frame_bytes()).items()[2] == Reply::Bulk(message.clone()),
                "all of it"
            );
        }
        closed_slow(nearhit) > before
    });
    assert!(closed, "100 MB for a client that reads nothing");
}

fn closed_slow(nearhit: &Nearhit) -> f64 {
    nearhit.metric("nearhit_pubsub_closed_total", &["\"slow\""])
}

#[test]
fn who_has_too_much_unread_is_closed_and_the_others_hear_everything() {
    let redis = RedisServer::start();
    let nearhit = nearhit(&redis, &["--pubsub.output_buffer_hard", "2mb"]);
    for version in [2, 3] {
        let mut slow = subscriber(&nearhit, version);
        let mut readers = [subscriber(&nearhit, 2), subscriber(&nearhit, 3)];
        flood(&redis, &nearhit, &mut readers);
        // Without a word: what is left are whole messages and half of one.
        slow.read_to_close();
        for mut reader in readers {
            redis.cmd(&["PUBLISH", "flood", "end"]);
            while decode(&reader.read_frame_bytes()).items()[2] != "end" {}
        }
    }
    assert_eq!(
        nearhit.metric("nearhit_client_disconnects_total", &["slow_reader"]),
        2.0
    );
}

#[test]
fn who_stays_behind_for_too_long_is_closed_although_nothing_more_comes() {
    let redis = RedisServer::start();
    let soft = [
        "--pubsub.output_buffer_soft",
        "1mb",
        "--pubsub.output_buffer_soft_time",
        "1s",
    ];
    let nearhit = nearhit(&redis, &soft);
    let (mut slow, mut late) = (subscriber(&nearhit, 2), subscriber(&nearhit, 2));
    let (mut publisher, message) = (redis.client(), vec![b'x'; MESSAGE]);
    // More than the kernel keeps for a connection, less than the hard limit.
    for _ in 0..24 {
        publisher.cmd(&[b"PUBLISH".as_slice(), b"flood", &message]);
    }
    for _ in 0..24 {
        late.read_frame_bytes();
    }
    wait_for("the one that does not read to be closed", SOON, || {
        closed_slow(&nearhit) == 1.0
    });
    slow.read_to_close();
    publisher.cmd(&["PUBLISH", "flood", "x"]);
    assert_eq!(late.reply().items()[2], "x", "who caught up in time stays");
}

#[test]
fn without_limits_everything_is_kept() {
    let redis = RedisServer::start();
    let nearhit = nearhit(
        &redis,
        &["--pubsub.output_buffer_hard", "0", "--pubsub.output_buffer_soft", "0"],
    );
    let (mut slow, mut publisher, message) = (subscriber(&nearhit, 3), redis.client(), vec![b'x'; MESSAGE]);
    for _ in 0..60 {
        publisher.cmd(&[b"PUBLISH".as_slice(), b"flood", &message]);
    }
    for _ in 0..60 {
        assert!(slow.push().items()[2] == Reply::Bulk(message.clone()));
    }
    assert_eq!(closed_slow(&nearhit), 0.0);
}

#[test]
fn a_subscriber_with_a_connection_of_its_own_has_the_same_limit() {
    let redis = RedisServer::start();
    let nearhit = nearhit(&redis, &["--pubsub.output_buffer_hard", "2mb"]);
    let mut slow = nearhit.connect();
    slow.line("SUBSCRIBE __redis__:invalidate");
    slow.line("SUBSCRIBE flood");
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 1.0);
    flood(&redis, &nearhit, &mut []);
    slow.read_to_close();
}
