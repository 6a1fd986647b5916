//! Invalidations on a second connection. The byte strings are what redis-server 7.0.15 sends.

use super::super::Subscriber;
use super::*;

const MESSAGE_K: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n";
const PONG: &[u8] = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n";

struct Redirected {
    bench: Bench,
    subscriber: Subscriber<u32>,
}

impl Redirected {
    fn new() -> Self {
        let bench = Bench::build(eager(), Policies::default(), false);
        let subscriber = Subscriber::new(Arc::clone(&bench.cache), bench.origin.stream());
        Self { bench, subscriber }
    }

    /// Both connections prove everything up to now.
    fn prove(&mut self) {
        self.bench.ping();
        self.bench.server("+PONG\r\n");
        self.subscriber.ping(self.bench.now, &mut Vec::new());
        self.subscriber.receive(PONG).unwrap();
    }

    fn message(&mut self, bytes: &[u8]) {
        self.subscriber.receive(bytes).unwrap();
    }
}

#[test]
fn a_message_kills_the_name() {
    let mut at = Redirected::new();
    at.bench.fill("$1\r\nv\r\n", -1);
    at.prove();
    assert_eq!(at.bench.get("k"), hit("$1\r\nv\r\n"));
    at.message(MESSAGE_K);
    assert_eq!(at.bench.get("k"), Seen::Lead(3));
}

#[test]
fn a_message_that_overtakes_the_reply_revokes_the_lease() {
    let mut at = Redirected::new();
    at.bench.get("k");
    at.message(MESSAGE_K);
    at.bench.server("+OK\r\n$3\r\nold\r\n:-1\r\n");
    at.prove();
    assert_eq!(at.bench.get("k"), Seen::Lead(2));
}

#[test]
fn null_in_any_spelling_drops_everything() {
    // The null is spelled in the protocol of the connection that fills: a FLUSHALL on 7.0.15 put RESP3's on a RESP2
    // connection, and the subscriber took it for garbage.
    for null in ["_\r\n", "$-1\r\n", "*-1\r\n"] {
        let mut at = Redirected::new();
        at.bench.fill("$1\r\nv\r\n", -1);
        at.prove();
        at.message(format!("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n{null}").as_bytes());
        assert_eq!(at.bench.get("k"), Seen::Lead(2), "{null:?}");
    }
}

#[test]
fn only_both_connections_together_renew() {
    // The server had closed the filling connection, whose end was still on its way: it told nobody of changes any more, and
    // the PONGs of the subscribed one kept the entries alive.
    let mut at = Redirected::new();
    at.bench.fill("$1\r\nv\r\n", -1);
    at.prove();
    at.bench.pass(millis(900));
    at.subscriber.ping(at.bench.now, &mut Vec::new());
    at.message(PONG);
    at.bench.pass(millis(101));
    assert!(matches!(at.bench.get("k"), Seen::Lead(_)));
    let mut at = Redirected::new();
    at.bench.fill("$1\r\nv\r\n", -1);
    at.bench.ping();
    at.bench.server("+PONG\r\n");
    assert!(matches!(at.bench.get("k"), Seen::Lead(_)));
}

#[test]
fn the_older_proof_of_the_two_counts() {
    let mut at = Redirected::new();
    at.bench.fill("$1\r\nv\r\n", -1);
    let first = at.bench.now;
    at.prove();
    at.bench.pass(millis(5));
    at.subscriber.ping(at.bench.now, &mut Vec::new());
    at.message(PONG);
    assert_eq!(at.bench.origin.stream().fresh(), first);
    at.bench.ping();
    at.bench.server("+PONG\r\n");
    assert_eq!(at.bench.origin.stream().fresh(), at.bench.now);
}

#[test]
fn anything_else_fences() {
    let others: [&[u8]; 7] = [
        b"*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n",
        b"*3\r\n$11\r\nunsubscribe\r\n$20\r\n__redis__:invalidate\r\n:0\r\n",
        b"*3\r\n$7\r\nmessage\r\n$5\r\nother\r\n*1\r\n$1\r\nk\r\n",
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$2\r\nhi\r\n",
        b"-ERR no\r\n",
        b"+PONG\r\n",
        PONG,
    ];
    for bytes in others {
        let mut at = Redirected::new();
        let fence = at.subscriber.receive(bytes);
        assert!(matches!(fence, Err(Fence::Protocol(_))), "{}", text(bytes));
    }
}

#[test]
fn a_message_too_large_to_read_drops_everything() {
    let mut at = Redirected::new();
    at.bench.fill("$1\r\nv\r\n", -1);
    at.prove();
    let name = "n".repeat(1 << 20);
    let large = format!("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1048576\r\n{name}\r\n");
    at.message(large.as_bytes());
    assert_eq!(at.bench.get("k"), Seen::Lead(2));
}

#[test]
fn the_subscribed_connection_is_pinged_when_idle_and_given_up_when_silent() {
    let mut at = Redirected::new();
    let mut sent = Vec::new();
    at.subscriber.tick(at.bench.now, &mut sent).unwrap();
    at.subscriber.tick(at.bench.now, &mut sent).unwrap();
    assert_eq!(text(&sent), "*1\r\n$4\r\nPING\r\n");
    at.bench.pass(millis(2001));
    assert_eq!(at.subscriber.tick(at.bench.now, &mut sent), Err(Fence::Silent));
}

#[test]
fn a_fetched_reply_waits_for_the_invalidations_before_it() {
    // GET and STRLEN of one key are cached, the key changes, and GET's new reply arrives before the invalidation does:
    // whoever got it must not be served the old length.
    let mut at = Redirected::new();
    let strlen = Read::of("k").command(STRLEN, Shape::Same);
    at.bench.fill_of(strlen, ":3\r\n", -1);
    at.prove();
    at.bench.get("k");
    let mut sent = Vec::new();
    at.subscriber.hold(b"+OK\r\n$1\r\nv\r\n", at.bench.now, &mut sent);
    assert_eq!(text(&sent), "*1\r\n$4\r\nPING\r\n");
    at.message(MESSAGE_K);
    at.message(PONG);
    assert_eq!(
        at.subscriber.release().as_deref(),
        Some(b"+OK\r\n$1\r\nv\r\n".as_slice())
    );
    assert!(matches!(at.bench.read(strlen), Seen::Lead(_)));
}

#[test]
fn held_replies_are_released_in_order_as_far_as_is_proved() {
    let mut at = Redirected::new();
    at.subscriber.hold(b"1", at.bench.now, &mut Vec::new());
    assert_eq!(at.subscriber.release(), None);
    at.bench.pass(millis(1));
    at.subscriber.hold(b"2", at.bench.now, &mut Vec::new());
    at.message(PONG);
    assert_eq!(at.subscriber.release().as_deref(), Some(b"1".as_slice()));
    assert_eq!(at.subscriber.release(), None);
    at.message(PONG);
    assert_eq!(at.subscriber.release().as_deref(), Some(b"2".as_slice()));
}

#[test]
fn the_messages_mean_the_same_wherever_they_are_cut() {
    let mut stream = MESSAGE_K.to_vec();
    stream.extend_from_slice(PONG);
    stream.extend_from_slice(b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n_\r\n");
    for cut in 0..stream.len() {
        let mut at = Redirected::new();
        at.bench.fill("$1\r\nv\r\n", -1);
        at.subscriber.ping(at.bench.now, &mut Vec::new());
        let (left, right) = stream.split_at(cut);
        at.message(left);
        at.message(right);
        assert_eq!(at.bench.entries(), 0);
        let stream = at.bench.origin.stream();
        assert_eq!(
            (stream.fresh(), stream.stamp().flush),
            (at.bench.now, 1),
            "cut at {cut}"
        );
    }
}
