//! Messages and replies: what comes before what, and what a message lets its reader see.

mod session_support;
mod support;

use session_support::{Pair, caching, hits, line_bytes, wait_for_hit};
use support::resp::decode;
use support::{Nearhit, RedisServer, Reply, Resp};

#[test]
fn what_was_written_before_a_message_was_published_is_seen_behind_it() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &["--server.threads", "1"]);
    let (mut writer, mut reader) = (redis.client(), nearhit.connect3());
    reader.send_raw(line_bytes("SUBSCRIBE changed"));
    reader.push();
    let before = hits(&nearhit);
    for round in 0..120 {
        wait_for_hit(&nearhit, &mut reader, "GET k");
        let round = round.to_string();
        // On one connection of a foreign writer: the invalidation has no head start.
        writer.send_raw([line_bytes(&format!("SET k {round}")), line_bytes("PUBLISH changed k")].concat());
        assert_eq!(reader.push().items()[2], "k");
        assert_eq!(reader.line("GET k"), round);
        writer.reply();
        writer.reply();
    }
    assert!(hits(&nearhit) - before >= 120.0, "the key was cached in every round");
}

#[test]
fn what_a_session_publishes_to_itself_comes_where_the_server_puts_it() {
    let pair = Pair::start_with(&[], &["--server.threads", "1"]);
    let mut twin = pair.twin_in(3);
    twin.send(&line_bytes("SUBSCRIBE a"));
    twin.send(&line_bytes("PSUBSCRIBE a*"));
    twin.send(&line_bytes("SSUBSCRIBE s"));
    twin.frames(3);
    for lines in [
        &["PUBLISH a 1"][..],
        &[
            "SET k v",
            "PUBLISH a 1",
            "GET k",
            "GET k",
            "PUBLISH a 2",
            "SPUBLISH s x",
            "GET k",
        ],
        &[
            "PUBLISH a 1",
            "PUBLISH other 2",
            "PUBLISH ab 3",
            "SUBSCRIBE b",
            "PUBLISH b 4",
            "UNSUBSCRIBE b",
            "PUBLISH b 5",
        ],
        &[
            "BLPOP none 0.01",
            "PUBLISH a 1",
            "MULTI",
            "SET k w",
            "EXEC",
            "PUBLISH a 2",
            "SELECT 0",
            "PUBLISH a 3",
        ],
        &["CLIENT REPLY SKIP", "PUBLISH a 1", "PUBLISH a 2"],
    ] {
        twin.send(&lines.iter().flat_map(|line| line_bytes(line)).collect::<Vec<_>>());
        twin.same(&["ECHO", "end"]);
        while twin.reply(b"") != "end" {}
    }
}

#[test]
fn messages_do_not_cut_a_long_reply_in_two() {
    let redis = RedisServer::start();
    // Replies that are not cached are passed on while they arrive.
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1", "--cache.mode", "off"]);
    let (value, payload) = ("v".repeat(12 << 20), "p".repeat(1000));
    redis.cmd(&["SET", "big", &value]);
    let (mut client, mut publisher) = (nearhit.connect3(), redis.client());
    client.send_raw(line_bytes("SUBSCRIBE news"));
    client.push();
    for _ in 0..5 {
        client.send(&["GET", "big"]);
        client.send(&["ECHO", "behind"]);
        for _ in 0..100 {
            assert_eq!(publisher.cmd(&["PUBLISH", "news", &payload]), 1);
        }
        assert!(client.reply() == value, "the value, whole");
        assert_eq!(client.reply(), "behind");
        for _ in 0..100 {
            assert_eq!(client.push().items()[2], payload);
        }
    }
}

#[test]
fn messages_of_every_size_reach_everybody_whole() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let mut all: Vec<Resp> = (0..6)
        .map(|at| {
            if at % 2 == 0 {
                nearhit.connect()
            } else {
                nearhit.connect3()
            }
        })
        .collect();
    for client in &mut all {
        client.send_raw(line_bytes("SUBSCRIBE news"));
        client.read_frame_bytes();
    }
    let mut publisher = redis.client();
    for size in [0, 1, 16_000, 65_536, 262_143, 262_145, 1 << 20, 5 << 20] {
        let payload = vec![b'x'; size];
        assert_eq!(publisher.cmd(&[b"PUBLISH".as_slice(), b"news", &payload]), 1);
        for client in &mut all {
            let message = decode(&client.read_frame_bytes()).items();
            assert!(message[2] == Reply::Bulk(payload.clone()), "{size} bytes");
        }
    }
}

#[test]
fn in_resp3_a_subscriber_does_everything_else_as_before() {
    let pair = Pair::start();
    let mut twin = pair.twin_in(3);
    twin.lines(&["GET k", "SUBSCRIBE c", "GET k", "SET k v", "GET k", "GET k"]);
    wait_for_hit(&pair.nearhit, &mut twin.proxied, "GET k");
    twin.lines(&[
        "MULTI",
        "INCR n",
        "SUBSCRIBE",
        "GET k",
        "EXEC",
        "WATCH k",
        "SUBSCRIBE d",
        "MULTI",
        "GET k",
        "EXEC",
    ]);
    twin.lines(&[
        "BLPOP none 0.01",
        "SELECT 1",
        "GET k",
        "PING",
        "PING x",
        "CLIENT GETNAME",
        "HELLO 2",
        "GET k",
        "PING",
    ]);
    twin.lines(&["RESET", "GET k", "PUBSUB CHANNELS", "QUIT"]);
    twin.closes(b"QUIT");
}
