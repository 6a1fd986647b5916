//! `pubsub.causal`: who is told by a message that something changed reads the change, on any connection to this nearhit,
//! although the invalidation is late.

mod coherence_support;
mod support;

use std::time::Duration;

use coherence_support::laggard::Laggard;
use coherence_support::{Bench, PROTOCOLS, Protocol, front_at, run};
use support::Resp;
use support::resp::decode;

/// A message may take so long where nothing holds it.
const SHORT: Duration = Duration::from_millis(150);

struct Stage {
    bench: Bench,
    laggard: Laggard,
    subscriber: Resp,
    reader: Resp,
}

/// `k` is cached as `old`; what the server says of changes is late from here on.
fn stage(mode: &str, protocol: Protocol, causal: &str, staleness: &str) -> Stage {
    let word = if mode == "redirect" { "__redis__" } else { "TRACKING" };
    let redis = support::RedisServer::start();
    let laggard = Laggard::before(redis.addr(), word);
    let args = ["--pubsub.causal", causal, "--invalidation.max-staleness", staleness];
    let nearhit = front_at(&laggard.url(), mode, &args);
    let bench = Bench { redis, nearhit };
    let (mut subscriber, mut reader) = (bench.client(protocol), bench.client(Protocol::Resp2));
    subscriber.send(&["SUBSCRIBE", "news"]);
    hear(&mut subscriber).expect("a confirmation");
    run(&mut bench.direct(Protocol::Resp2), "SET k old");
    bench.read_from_memory(&mut reader, "GET k");
    laggard.hold();
    Stage {
        bench,
        laggard,
        subscriber,
        reader,
    }
}

/// The next thing a subscriber hears: what a message says, or the kind of a confirmation.
fn hear(subscriber: &mut Resp) -> Option<String> {
    let items = decode(&subscriber.try_read_frame()?).items();
    let said = if items[0] == "message" { &items[2] } else { &items[0] };
    Some(said.text())
}

impl Stage {
    fn changes_and_tells(&mut self) {
        let mut direct = self.bench.direct(Protocol::Resp2);
        run(&mut direct, "SET k new");
        run(&mut direct, "PUBLISH news k");
    }

    fn hears_soon(&mut self) -> bool {
        self.subscriber.patience(SHORT);
        let heard = hear(&mut self.subscriber).is_some();
        self.subscriber.patience(Duration::from_secs(10));
        heard
    }
}

#[test]
fn without_it_a_message_may_be_ahead_of_its_cause() {
    let mut stage = stage("tracking", Protocol::Resp3, "false", "10s");
    stage.changes_and_tells();
    assert_eq!(hear(&mut stage.subscriber).as_deref(), Some("k"));
    assert_eq!(stage.reader.cmd(&["GET", "k"]), "old");
}

#[test]
fn a_message_waits_for_what_changed_before_it() {
    for mode in ["tracking", "redirect"] {
        for protocol in PROTOCOLS {
            let mut stage = stage(mode, protocol, "true", "10s");
            stage.changes_and_tells();
            assert!(!stage.hears_soon(), "{mode}: a message that is ahead of its cause");
            stage.laggard.release();
            assert_eq!(hear(&mut stage.subscriber).as_deref(), Some("k"));
            assert_eq!(stage.reader.cmd(&["GET", "k"]), "new");
        }
    }
}

#[test]
fn messages_do_not_wait_for_a_connection_that_is_given_up() {
    let mut stage = stage("tracking", Protocol::Resp3, "true", "100ms");
    stage.changes_and_tells();
    // Nothing is heard of it until it is given up, and then nothing is served from before.
    assert_eq!(hear(&mut stage.subscriber).as_deref(), Some("k"));
    assert_eq!(stage.reader.cmd(&["GET", "k"]), "new");
}

#[test]
fn messages_and_confirmations_keep_their_order() {
    let redis = support::RedisServer::start();
    let nearhit = front_at(&redis.url(), "tracking", &["--pubsub.causal", "true"]);
    let bench = Bench { redis, nearhit };
    let (mut subscriber, mut publisher) = (bench.client(Protocol::Resp3), bench.client(Protocol::Resp2));
    for round in 0..50 {
        subscriber.send(&["SUBSCRIBE", "news"]);
        hear(&mut subscriber).expect("a confirmation");
        for number in 0..3 {
            publisher.cmd(&["PUBLISH", "news", &format!("{round}.{number}")]);
        }
        subscriber.send(&["UNSUBSCRIBE", "news"]);
        let heard: Vec<_> = (0..4).map_while(|_| hear(&mut subscriber)).collect();
        let messages = (0..3).map(|number| format!("{round}.{number}"));
        assert_eq!(heard, messages.chain(["unsubscribe".into()]).collect::<Vec<_>>());
    }
}
