//! The application channel: what applications say they changed is dropped, whatever else they say.

mod coherence_support;
mod support;

use coherence_support::{Bench, Protocol, bytes, run};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

const CHANNEL: &str = "changes";
const ARGS: [&str; 4] = ["--cache.admission", "always", "--invalidation.channel", CHANNEL];

/// A proxy that hears the channel, a client of it and a publisher.
struct Scene {
    bench: Bench,
    client: Resp,
    publisher: Resp,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new(RedisServer::start(), "tracking", &ARGS);
        wait_for("the channel", SOON, || is_heard(&bench.nearhit));
        let (client, publisher) = (bench.client(Protocol::Resp2), bench.redis.client());
        Self {
            bench,
            client,
            publisher,
        }
    }

    /// Each key has a value, and it is in memory.
    fn warm(&mut self, keys: &[&str]) {
        for key in keys {
            // Nothing changes where it is there already, so no news of it comes behind the hit.
            run(&mut self.publisher, &format!("SET {key} v NX"));
            self.bench.read_from_memory(&mut self.client, &format!("GET {key}"));
        }
    }

    /// Whether a read is answered from memory.
    fn is_hit(&mut self, key: &str) -> bool {
        let before = self.bench.hits();
        assert_eq!(bytes(&mut self.client, &format!("GET {key}")), b"$1\r\nv\r\n");
        self.bench.hits() > before
    }

    /// Publishes, and waits until it was counted as `(op, outcome)`.
    fn say(&mut self, message: impl AsRef<[u8]>, op: &str, outcome: &str) {
        let labels = [format!("op=\"{op}\""), format!("outcome=\"{outcome}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let nearhit = &self.bench.nearhit;
        let count = || nearhit.metric("nearhit_channel_messages_total", &labels);
        let before = count();
        let heard = self
            .publisher
            .cmd(&[b"PUBLISH".as_slice(), CHANNEL.as_bytes(), message.as_ref()]);
        assert_eq!(heard, 1);
        wait_for("the message to be counted", SOON, || count() > before);
    }
}

fn is_heard(nearhit: &Nearhit) -> bool {
    nearhit.metric("nearhit_channel_connected", &[]) > 0.0
}

fn flushes(nearhit: &Nearhit) -> f64 {
    nearhit.metric("nearhit_cache_flushes_total", &["application"])
}

#[test]
fn what_a_message_names_is_dropped_and_nothing_else() {
    let mut scene = Scene::new();
    for (message, op, outcome, dropped) in [
        (r#"{"op":"SET","key":"user:1"}"#, "set", "removed", &["user:1"][..]),
        (
            r#"{"op":"DELETE","keys":["user:1","a"],"by":"us"}"#,
            "delete",
            "removed",
            &["user:1", "a"],
        ),
        (r#"{"op":"SET","key_base64":"YQ=="}"#, "set", "removed", &["a"]),
        (
            r#"{"op":"CLEAR","pattern":"user:*"}"#,
            "clear",
            "removed",
            &["user:1", "user:2"],
        ),
        (r#"{"op":"CLEAR"}"#, "clear", "removed", &["user:1", "user:2", "a"]),
        (r#"{"op":"SET","key":"nobody"}"#, "set", "absent", &[]),
        (r#"{"op":"CLEAR","pattern":"nobody:*"}"#, "clear", "absent", &[]),
        (r#"{"op":"RENAME","key":"a"}"#, "other", "refused", &[]),
        ("no JSON", "other", "refused", &[]),
    ] {
        let keys = ["user:1", "user:2", "a"];
        scene.warm(&keys);
        scene.say(message, op, outcome);
        for key in keys {
            assert_eq!(scene.is_hit(key), !dropped.contains(&key), "{key} after {message}");
        }
    }
}

#[test]
fn keys_are_dropped_in_all_databases_and_may_be_binary() {
    let mut scene = Scene::new();
    let key = b"\x00\xff\r\n".as_slice();
    for db in ["0", "3"] {
        for connection in [&mut scene.publisher, &mut scene.client] {
            connection.cmd(&["SELECT", db]);
        }
        scene.publisher.cmd(&[b"SET".as_slice(), key, b"v"]);
        let before = scene.bench.hits();
        wait_for("a hit", SOON, || {
            scene.client.cmd(&[b"GET".as_slice(), key]);
            scene.bench.hits() > before
        });
    }
    scene.say(r#"{"op":"DELETE","key_base64":"AP8NCg=="}"#, "delete", "removed");
    for db in ["0", "3"] {
        scene.client.cmd(&["SELECT", db]);
        let before = scene.bench.hits();
        scene.client.cmd(&[b"GET".as_slice(), key]);
        assert_eq!(scene.bench.hits(), before, "database {db}");
    }
}

#[test]
fn messages_nobody_can_read_are_logged_once_in_a_while_and_never_repeated() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        scene.say(r#"{"op":"secret","key":"secret"}"#, "other", "refused");
    }
    let log = scene.bench.nearhit.stderr();
    assert_eq!(log.matches("cannot be read").count(), 1, "{log}");
    assert!(!log.contains("secret"), "{log}");
    scene.warm(&["a"]);
    scene.say(r#"{"op":"SET","key":"a"}"#, "set", "removed");
}

#[test]
fn after_a_loss_everything_is_dropped_and_the_channel_is_heard_again() {
    let mut scene = Scene::new();
    for round in 1..=2 {
        scene.warm(&["a"]);
        let before = flushes(&scene.bench.nearhit);
        scene.publisher.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let nearhit = &scene.bench.nearhit;
        wait_for("the channel", SOON, || flushes(nearhit) > before && is_heard(nearhit));
        assert!(!scene.is_hit("a"), "round {round}");
        scene.warm(&["a"]);
        scene.say(r#"{"op":"SET","key":"a"}"#, "set", "removed");
    }
}

#[test]
fn a_message_too_large_to_read_may_mean_everything() {
    let mut scene = Scene::new();
    scene.warm(&["a"]);
    let before = flushes(&scene.bench.nearhit);
    let large = "x".repeat(2 << 20);
    assert_eq!(scene.publisher.cmd(&["PUBLISH", CHANNEL, &large]), 1);
    let nearhit = &scene.bench.nearhit;
    wait_for("a flush", SOON, || flushes(nearhit) > before && is_heard(nearhit));
    assert!(!scene.is_hit("a"));
}

#[test]
fn a_channel_that_may_not_be_heard_is_said_once_and_caching_goes_on() {
    let redis = RedisServer::start();
    redis.cmd(&["ACL", "SETUSER", "default", "resetchannels"]);
    let bench = Bench::new(redis, "tracking", &ARGS);
    wait_for("the refusal", SOON, || bench.nearhit.stderr().contains("NOPERM"));
    let mut client = bench.client(Protocol::Resp2);
    run(&mut client, "SET k v");
    bench.read_from_memory(&mut client, "GET k");
    assert!(!is_heard(&bench.nearhit));
}

#[test]
fn nothing_is_subscribed_to_unless_it_is_asked_for() {
    let bench = Bench::always("tracking");
    bench.read_from_memory(&mut bench.client(Protocol::Resp2), "GET k");
    assert!(
        !bench
            .redis
            .cmd(&["CLIENT", "LIST", "TYPE", "pubsub"])
            .text()
            .contains("id=")
    );
}
