//! Many subscribers share one subscription, and none of them can tell.

mod session_support;
mod support;

use session_support::{Dice, Pair, Twin, commands, line_bytes, same_bytes, wanted_alike};
use std::io::Read;
use support::resp::decode;
use support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

/// nearhit with one worker, so that all its clients share.
fn one_worker(redis: &RedisServer) -> Nearhit {
    Nearhit::serve_with(&redis.url(), &["--server.threads", "1"])
}

/// What the server itself says of a channel's subscribers.
fn counted(redis: &RedisServer, channel: &str) -> Reply {
    redis.cmd(&["PUBSUB", "NUMSUB", channel]).items()[1].clone()
}

/// So many clients in both protocols, subscribed.
fn subscribers(nearhit: &Nearhit, count: usize, line: &str) -> Vec<Resp> {
    let subscriber = |at: usize| {
        let mut client = if at.is_multiple_of(2) {
            nearhit.connect()
        } else {
            nearhit.connect3()
        };
        client.send_raw(line_bytes(line));
        client.read_frame_bytes();
        client
    };
    (0..count).map(subscriber).collect()
}

#[test]
fn five_hundred_subscribers_are_one_subscription_of_the_server() {
    let redis = RedisServer::start();
    let nearhit = one_worker(&redis);
    let mut all = subscribers(&nearhit, 500, "SUBSCRIBE news");
    assert_eq!(counted(&redis, "news"), 1);
    assert_eq!(
        redis.cmd(&["CLIENT", "LIST", "TYPE", "pubsub"]).text().lines().count(),
        1
    );
    assert_eq!(nearhit.metric("nearhit_pubsub_subscriptions", &["\"client\""]), 500.0);
    assert_eq!(nearhit.metric("nearhit_pubsub_subscriptions", &["\"shared\""]), 1.0);
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);

    // Whoever publishes through nearhit is told how many hear it.
    assert_eq!(nearhit.connect().line("PUBLISH news hello"), 500);
    for (at, client) in all.iter_mut().enumerate() {
        let kind = if at % 2 == 0 { '*' } else { '>' };
        let message = format!("{kind}3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
        assert_eq!(client.read_frame_bytes(), message.as_bytes(), "subscriber {at}");
    }
    wait_for("the messages to be counted", SOON, || {
        nearhit.metric("nearhit_pubsub_delivered_messages_total", &[]) == 500.0
    });
    assert_eq!(nearhit.metric("nearhit_pubsub_received_messages_total", &[]), 1.0);

    all.truncate(1);
    wait_for("the others to have left", SOON, || {
        nearhit.connect().line("PUBLISH news x") == 1
    });
    assert_eq!(counted(&redis, "news"), 1);
    drop(all);
    wait_for("the subscription to end", SOON, || counted(&redis, "news") == 0);
    wait_for("the gauges to be zero", SOON, || {
        nearhit.metric("nearhit_pubsub_subscriptions", &[]) == 0.0
    });
}

#[test]
fn receivers_are_counted_as_if_each_had_a_connection_of_its_own() {
    for threads in ["1", "2"] {
        let pair = Pair::start_with(&[], &["--server.threads", threads]);
        let mut twins: Vec<Twin> = (0..6).map(|at| pair.twin_in(2 + at % 2)).collect();
        for (at, line) in [
            "SUBSCRIBE a",
            "SUBSCRIBE a",
            "PSUBSCRIBE a*",
            "PSUBSCRIBE a*",
            "SSUBSCRIBE a",
            "SSUBSCRIBE a",
        ]
        .iter()
        .enumerate()
        {
            twins[at].line(line);
        }
        let mut asker = pair.twin();
        let lines = [
            "PUBSUB NUMSUB a b",
            "PUBSUB SHARDNUMSUB a b",
            "PUBSUB NUMPAT",
            "PUBSUB CHANNELS",
            "PUBSUB SHARDCHANNELS",
            "PUBLISH a x",
            "PUBLISH abc x",
            "PUBLISH b x",
            "SPUBLISH a x",
            "MULTI",
            "PUBLISH a x",
            "PUBSUB NUMSUB a",
            "SPUBLISH a x",
            "EXEC",
        ];
        asker.lines(&lines);
        for (round, twin) in twins[..2].iter_mut().enumerate() {
            // Two messages of each time they were sent.
            twin.frames(2 * (round + 1));
            twin.line("UNSUBSCRIBE a");
            asker.lines(&lines);
        }
    }
}

#[test]
fn a_subscription_ends_with_the_last_of_its_subscribers_and_begins_anew() {
    let redis = RedisServer::start();
    let nearhit = one_worker(&redis);
    for round in 0..20 {
        let mut two = subscribers(&nearhit, 2, "SUBSCRIBE a b");
        for client in &mut two {
            client.read_frame_bytes();
        }
        for (at, client) in two.iter_mut().enumerate() {
            assert_eq!(counted(&redis, "a"), 1, "round {round}");
            client.send_raw(line_bytes("UNSUBSCRIBE a"));
            if at == 1 {
                assert_eq!(decode(&client.read_frame_bytes()).items()[0], "message", "from before");
            }
            assert_eq!(decode(&client.read_frame_bytes()).items()[0], "unsubscribe");
            // Once it is confirmed it is true, everywhere.
            assert_eq!(redis.cmd(&["PUBLISH", "a", "x"]), i64::from(at == 0), "round {round}");
        }
        two[1].send_raw(line_bytes("PUNSUBSCRIBE none"));
        assert_eq!(two[1].read_frame_bytes()[..2], *b">3", "no message in between");
    }
}

/// One channel of each kind, so that no order is left to a hash table.
const LINES: &str = "\
    SUBSCRIBE c1 | SUBSCRIBE c1 c1 | SUBSCRIBE c1 c2 | PSUBSCRIBE c* | PSUBSCRIBE c* x* | SSUBSCRIBE s1 | UNSUBSCRIBE c1 | \
    UNSUBSCRIBE c2 | UNSUBSCRIBE c1 c1 none | PUNSUBSCRIBE | PUNSUBSCRIBE c* | SUNSUBSCRIBE | SUNSUBSCRIBE s1 s1 | \
    PUBLISH c1 hello | PUBLISH c2 subscribe | PUBLISH c1 x | SPUBLISH s1 x | PUBLISH nobody x | PING | PING x | GET k | \
    SET k v | SELECT 1 | HELLO 3 | HELLO 2 | RESET | PUBSUB NUMSUB c1 c2 | PUBSUB NUMPAT | PUBSUB SHARDNUMSUB s1 | ECHO x | \
    SUBSCRIBE | PUBLISH c1 | NOSUCH | PING a b | MULTI | EXEC";

/// What has arrived.
fn drain(client: &Resp) -> Vec<u8> {
    let (mut stream, mut heard, mut chunk) = (client.stream(), Vec::new(), [0; 4096]);
    stream.set_nonblocking(true).expect("change the socket");
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        heard.extend_from_slice(&chunk[..count]);
    }
    stream.set_nonblocking(false).expect("change the socket");
    heard
}

/// What arrives until it is so long, up to wanted differences, or nothing more comes.
fn read_until(client: &Resp, length: usize) -> Vec<u8> {
    let (mut stream, mut heard, mut chunk) = (client.stream(), Vec::new(), [0; 4096]);
    while wanted_alike(&heard).len() < length {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => heard.extend_from_slice(&chunk[..count]),
            _ => break,
        }
    }
    heard
}

/// Sends a batch to both sides; everything all connections hear then must be equal.
fn step(twins: &mut [Twin], beside: &mut Resp, at: usize, batch: &[&str]) {
    let bytes: Vec<u8> = batch.iter().flat_map(|line| line_bytes(line)).collect();
    twins[at].direct.send_raw(&bytes);
    // The server handles one connection after the other: after the second PONG it has handled the batch.
    beside.line("PING");
    beside.line("PING");
    twins[at].proxied.send_raw(&bytes);
    for twin in twins {
        let heard = drain(&twin.direct);
        let proxied = read_until(&twin.proxied, wanted_alike(&heard).len());
        same_bytes(&heard, &proxied, format!("{at}: {batch:?}").as_bytes());
    }
}

#[test]
fn random_sequences_over_three_connections_are_heard_as_directly() {
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let threads = *dice.pick(&["1", "1", "2"]);
        let pair = Pair::start_with(&[], &["--server.threads", threads]);
        let mut beside = pair.direct.client();
        for _ in 0..8 {
            let mut twins: Vec<Twin> = (0..3).map(|_| pair.twin_in(*dice.pick(&[2, 3]))).collect();
            let (lines, mut multi) = (commands(LINES), [false; 3]);
            for _ in 0..60 {
                let at = dice.below(twins.len());
                let batch: Vec<_> = (0..1 + dice.below(3))
                    .map(|_| allowed(dice.pick::<&str>(&lines), &mut multi[at]))
                    .collect();
                step(&mut twins, &mut beside, at, &batch);
            }
            for at in 0..twins.len() {
                step(&mut twins, &mut beside, at, &["RESET"]);
            }
        }
        assert_eq!(pair.nearhit.metric("nearhit_panics_total", &[]), 0.0);
    }
}

/// Wanted differences: within MULTI Redis lets SUBSCRIBE and what a session publishes to itself stand in the middle of
/// EXEC's reply, and nearhit does not.
fn allowed(line: &'static str, multi: &mut bool) -> &'static str {
    let line = match line {
        line if *multi && ["SUBSCRIBE", "PUBLISH", "HELLO"].iter().any(|word| line.contains(word)) => "PING",
        line => line,
    };
    *multi = (*multi || line == "MULTI") && !matches!(line, "EXEC" | "RESET");
    line
}
