//! `invalidation.mode = "auto"` takes the first source of invalidations that works, and says why it passed the others over.

mod coherence_support;
mod invalidation_support;
mod support;

use coherence_support::{Bench, Protocol, front_at, run};
use invalidation_support::Deaf;
use support::redis::Builder;
use support::{Nearhit, RedisServer, SOON, eventually, wait_for};

/// A server whose only user may do everything but `denied`, and that notifies of `events`.
fn server(denied: &str, events: &str) -> RedisServer {
    with_user(RedisServer::builder(), denied)
        .arg("--notify-keyspace-events", events)
        .start()
}

fn with_user(builder: Builder, denied: &str) -> Builder {
    builder.arg("--user", &format!("default on nopass ~* &* +@all {denied}"))
}

/// Whether invalidations come by `mode`.
fn is_at(nearhit: &Nearhit, mode: &str) -> bool {
    nearhit.metric("nearhit_invalidation_source", &[&format!("\"{mode}\"")]) == 1.0
}

#[track_caller]
fn passed_over(nearhit: &Nearhit, mode: &str, reason: &str) {
    let labels = [format!("mode=\"{mode}\""), format!("reason=\"{reason}\"")];
    let value = nearhit.metric("nearhit_invalidation_refused", &[&labels[0], &labels[1]]);
    assert_eq!(value, 1.0, "{mode} {reason}:\n{}", nearhit.stderr());
    let said = nearhit.stderr();
    let is_it = |line: &&str| line.contains("cannot come this way") && line.contains(&format!("source={mode}"));
    let count = said.to_lowercase().lines().filter(is_it).count();
    assert_eq!(count, 1, "it is said once:\n{said}");
}

/// A foreign write is seen through the proxy, and so is one's own.
#[track_caller]
fn works(bench: &Bench) {
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    run(&mut direct, "SET k a");
    bench.read_from_memory(&mut client, "GET k");
    run(&mut direct, "SET k b");
    bench.converges(&mut client, &mut direct, "GET k");
    run(&mut client, "SET k c");
    assert_eq!(client.cmd(&["GET", "k"]), "c");
}

#[test]
fn tracking_is_taken_where_it_works() {
    let bench = Bench::always("auto");
    assert!(is_at(&bench.nearhit, "tracking"));
    assert_eq!(bench.nearhit.metric("nearhit_invalidation_refused", &[]), 0.0);
    works(&bench);
}

/// What keeps pushes from coming on some connections, what else there is, and where that leads.
#[test]
fn what_the_canary_finds_silent_is_passed_over() {
    let cases: [(&[&str], &[&str], &str, &str); 4] = [
        (&["OPTIN"], &[], "", "redirect"),
        (
            &["OPTIN", "__redis__:invalidate"],
            &["--invalidation.prefixes", "k"],
            "",
            "broadcast",
        ),
        (
            &["OPTIN", "__redis__:invalidate", "BCAST"],
            &["--invalidation.prefixes", "k"],
            "KA",
            "keyspace",
        ),
        (
            &["OPTIN", "__redis__:invalidate"],
            &["--invalidation.fallback-ttl", "300ms"],
            "",
            "ttl-only",
        ),
    ];
    for (words, args, events, expected) in cases {
        let redis = server("", events);
        let relay = Deaf::before(redis.addr(), words);
        relay.turn_deaf();
        let args = [&["--cache.admission", "always"], args].concat();
        let nearhit = front_at(&relay.url(), "auto", &args);
        assert!(is_at(&nearhit, expected), "{expected}:\n{}", nearhit.stderr());
        passed_over(&nearhit, "tracking", "silent");
        works(&Bench { redis, nearhit });
    }
}

#[test]
fn a_user_who_may_not_track_is_told_by_notifications() {
    for denied in ["-client|tracking", "-client|tracking -config"] {
        let bench = Bench::new(server(denied, "KA"), "auto", &["--cache.admission", "always"]);
        assert!(is_at(&bench.nearhit, "keyspace"), "{denied}");
        passed_over(&bench.nearhit, "tracking", "denied");
        passed_over(&bench.nearhit, "redirect", "denied");
        works(&bench);
        assert_eq!(bench.redis.cmd(&["DBSIZE"]), 1, "the trial leaves nothing behind");
    }
}

#[test]
fn notifications_that_lack_something_are_not_relied_on() {
    // Whether the server tells its setting or it has to be tried out.
    for denied in ["-client|tracking", "-client|tracking -config"] {
        for events in ["", "KE", "EA", "Kg$lshzet"] {
            let tried = denied.contains("config");
            if tried && events.ends_with("et") {
                // An expiry cannot be tried out; entries never outlive their keys anyway.
                continue;
            }
            let redis = server(denied, events);
            let args = ["--cache.admission", "always", "--invalidation.fallback-ttl", "300ms"];
            let bench = Bench::new(redis, "auto", &args);
            assert!(is_at(&bench.nearhit, "ttl-only"), "{denied} {events}");
            passed_over(&bench.nearhit, "keyspace", "notifications");
            works(&bench);
        }
    }
}

#[test]
fn nothing_is_cached_where_nothing_works() {
    let redis = server("-client|tracking", "");
    let nearhit = Nearhit::serve_with(&redis.url(), &["--cache.admission", "always"]);
    nearhit.wait_for_stderr("nothing is cached until there is one");
    wait_for("the mode to be off", SOON, || is_at(&nearhit, "off"));
    let mut client = nearhit.connect();
    redis.cmd(&["SET", "k", "a"]);
    for value in ["a", "b"] {
        redis.cmd(&["SET", "k", value]);
        assert_eq!(client.cmd(&["GET", "k"]), value);
        assert_eq!(client.cmd(&["GET", "k"]), value);
    }
    assert_eq!(nearhit.metric("nearhit_cache_requests_total", &["hit\""]), 0.0);
    let info = client.cmd(&["INFO"]).text();
    assert!(
        info.contains("proxy_invalidation_refused:tracking=denied,redirect=denied,keyspace=notifications\r\n"),
        "{info}"
    );
}

#[test]
fn a_mode_that_was_chosen_is_not_left() {
    let redis = server("-client|tracking", "KA");
    let args = [
        "--invalidation.mode",
        "tracking",
        "--invalidation.fallback-ttl",
        "300ms",
    ];
    let nearhit = Nearhit::serve_with(&redis.url(), &args);
    nearhit.wait_for_stderr("nothing is cached until there is one");
    assert!(is_at(&nearhit, "off"));
    passed_over(&nearhit, "tracking", "denied");
}

#[test]
fn a_server_that_is_away_or_busy_is_no_reason_to_go_down() {
    let mut redis = RedisServer::builder().arg("--notify-keyspace-events", "KA").start();
    let nearhit = front_at(&redis.url(), "auto", &["--cache.admission", "always"]);
    redis.kill9();
    nearhit.wait_for_stderr("tracked connection lost");
    nearhit.wait_for_stderr("no tracked connection");
    redis.restart();
    let again = eventually(SOON, || nearhit.metric("nearhit_tracking_connected", &[]) == 1.0);
    assert!(again && is_at(&nearhit, "tracking"), "{}", nearhit.stderr());
    assert_eq!(nearhit.metric("nearhit_invalidation_refused", &[]), 0.0);
}

#[test]
fn a_user_who_may_track_after_all_is_tracked() {
    let redis = server("-client|tracking", "KA");
    let nearhit = front_at(&redis.url(), "auto", &["--cache.admission", "always"]);
    assert!(is_at(&nearhit, "keyspace"));
    redis.cmd(&["ACL", "SETUSER", "default", "+client|tracking"]);
    wait_for("tracking", SOON, || is_at(&nearhit, "tracking"));
    assert_eq!(nearhit.metric("nearhit_invalidation_refused", &[]), 0.0);
}
