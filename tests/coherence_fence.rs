//! A SWAPDB that was lost on its way and runs later: Redis tells nobody, so it must not run, or nothing must be cached.

mod coherence_support;
mod support;

use coherence_support::severer::Severer;
use coherence_support::{BOUND, bytes, front_at, run};
use support::{Nearhit, RedisServer, Resp, SOON, eventually, wait_for};

const ZERO: &[u8] = b"$4\r\nzero\r\n";
const ONE: &[u8] = b"$3\r\none\r\n";

/// `k` is `zero` in one database and `one` in the other; between nearhit and the server a SWAPDB gets lost.
struct Scene {
    redis: RedisServer,
    relay: Severer,
    nearhit: Nearhit,
    client: Resp,
}

impl Scene {
    fn new(may_kill: bool, hold: &str) -> Self {
        Self::losing("SWAPDB", may_kill, hold)
    }

    /// What is lost is the first packet with `word` in it.
    fn losing(word: &'static str, may_kill: bool, hold: &str) -> Self {
        let redis = RedisServer::start();
        if !may_kill {
            redis.cmd(&["ACL", "SETUSER", "default", "-client|kill"]);
        }
        let mut direct = redis.client();
        run(&mut direct, "SET k zero");
        run(&mut direct, "SELECT 1");
        run(&mut direct, "SET k one");
        let relay = Severer::before(redis.addr(), word);
        // Without the canary's transactions: only the test's own is to be lost.
        let args = ["--cache.admission", "always", "--invalidation.canary-interval", "0s"];
        let args = [args.as_slice(), &["--invalidation.fence-hold", hold]].concat();
        let nearhit = front_at(&relay.url(), "tracking", &args);
        let client = nearhit.connect();
        let mut scene = Self {
            redis,
            relay,
            nearhit,
            client,
        };
        scene.read_from_memory(ZERO);
        scene
    }

    fn hits(&self) -> f64 {
        self.nearhit.metric("nearhit_cache_requests_total", &["\"hit\""])
    }

    /// Reads until the answer comes from memory.
    fn read_from_memory(&mut self, expected: &[u8]) {
        let before = self.hits();
        wait_for("a hit", SOON, || {
            assert_eq!(bytes(&mut self.client, "GET k"), expected);
            self.hits() > before
        });
    }

    /// Nobody knows whether a SWAPDB has run.
    fn lose_a_swap(&self) {
        let reply = bytes(&mut self.nearhit.connect(), "SWAPDB 0 1");
        assert!(reply.starts_with(b"-UNCERTAIN "), "{}", reply.escape_ascii());
    }

    /// What was lost reaches the server, and runs.
    fn swap_late(&self) {
        self.relay.deliver();
        let mut direct = self.redis.client();
        wait_for("the swap", SOON, || bytes(&mut direct, "GET k") == ONE);
    }

    fn fences(&self, result: &str) -> f64 {
        self.nearhit.metric("nearhit_kill_fences_total", &[result])
    }

    fn held(&self) -> f64 {
        self.nearhit.metric("nearhit_kill_fences_held", &[])
    }
}

#[test]
fn the_connection_of_a_lost_swap_is_killed_before_anything_is_cached_again() {
    let mut scene = Scene::new(true, "1h");
    scene.lose_a_swap();
    wait_for("the kill", SOON, || scene.fences("killed") == 1.0);
    assert!(eventually(SOON, || scene.relay.is_closed_by_server()));
    scene.relay.deliver();
    assert_eq!(scene.held(), 0.0);
    scene.read_from_memory(ZERO);
    assert_eq!(bytes(&mut scene.redis.client(), "GET k"), ZERO, "the swap has not run");
}

#[test]
fn nothing_is_cached_for_a_while_where_the_connection_may_not_be_killed() {
    let mut scene = Scene::new(false, "1h");
    scene.lose_a_swap();
    wait_for("the hold", SOON, || scene.fences("held") == 1.0);
    let before = scene.hits();
    (0..50).for_each(|_| assert_eq!(bytes(&mut scene.client, "GET k"), ZERO));
    scene.swap_late();
    (0..50).for_each(|_| assert_eq!(bytes(&mut scene.client, "GET k"), ONE));
    assert_eq!((scene.hits(), scene.held()), (before, 1.0));
    assert_eq!(scene.nearhit.stderr().matches("may not be killed").count(), 1);
}

#[test]
fn what_is_cached_when_the_while_is_over_is_fetched_then() {
    let mut scene = Scene::new(false, "300ms");
    scene.lose_a_swap();
    wait_for("the hold", SOON, || scene.fences("held") == 1.0);
    scene.swap_late();
    wait_for("the end of the hold", SOON, || scene.held() == 0.0);
    scene.read_from_memory(ONE);
}

/// Why all this is done: with no hold at all, what is read from memory is the other database's.
#[test]
fn without_a_fence_a_late_swap_leaves_stale_entries() {
    let mut scene = Scene::new(false, "0s");
    scene.lose_a_swap();
    wait_for("the end of the hold", SOON, || {
        scene.fences("held") == 1.0 && scene.held() == 0.0
    });
    scene.read_from_memory(ZERO);
    scene.swap_late();
    let right = eventually(BOUND, || bytes(&mut scene.client, "GET k") == ONE);
    assert!(!right, "the scene shows nothing: the swap was heard of");
}

#[test]
fn a_lost_exec_with_a_swap_in_it_is_fenced_too() {
    let mut scene = Scene::losing("EXEC", true, "1h");
    let mut other = scene.nearhit.connect();
    run(&mut other, "MULTI");
    run(&mut other, "SWAPDB 0 1");
    assert!(bytes(&mut other, "EXEC").starts_with(b"-UNCERTAIN "));
    wait_for("the kill", SOON, || scene.fences("killed") == 1.0);
    scene.read_from_memory(ZERO);
}

#[test]
fn a_server_that_died_is_waited_for_and_then_cached_from() {
    let mut scene = Scene::new(true, "1h");
    let mut other = scene.nearhit.connect();
    run(&mut other, "SET other v");
    scene.redis.pause();
    let sent = || scene.nearhit.metric("nearhit_upstream_bytes_total", &["out"]);
    let before = sent();
    other.send(&["FLUSHALL"]);
    wait_for("the command to be sent", SOON, || sent() > before);
    scene.redis.kill9();
    assert!(other.read_reply_bytes().starts_with(b"-UNCERTAIN "));
    wait_for("the hold", SOON, || scene.held() == 1.0);
    scene.redis.restart();
    wait_for("the end of the hold", SOON, || scene.held() == 0.0);
    run(&mut scene.redis.client(), "SET k zero");
    scene.read_from_memory(ZERO);
}
