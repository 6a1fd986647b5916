//! What one user may read is cached for that user, and served to nobody else.

mod identity_support;
mod session_support;
mod support;

use identity_support::{login, nearhit, server, wait_for_hit_of};
use session_support::{hits, wait_for_cache};
use std::time::Duration;
use support::redis::info_field;
use support::{Nearhit, Resp, SOON, wait_for};

const ALICE: &str = "AUTH alice wonderland";
const BOB: &str = "AUTH bob builder";

/// Alice and Bob, who both have the key cached that both may read.
fn both_with_a_hit(nearhit: &Nearhit) -> (Resp, Resp) {
    let (mut alice, mut bob) = (login(nearhit, ALICE), login(nearhit, BOB));
    wait_for_hit_of(nearhit, &mut alice, "GET s:1", "both");
    wait_for_hit_of(nearhit, &mut bob, "GET s:1", "both");
    (alice, bob)
}

#[test]
fn users_with_rights_of_their_own_have_hits_of_their_own() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut alice, mut bob) = (login(&nearhit, ALICE), login(&nearhit, BOB));
    wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
    wait_for_hit_of(&nearhit, &mut bob, "GET b:1", "his");
    for _ in 0..20 {
        assert!(bob.line("GET a:1").is_error_with("NOPERM"));
        assert!(alice.line("GET b:1").is_error_with("NOPERM"));
        assert!(nearhit.connect().line("GET a:1").is_error_with("NOAUTH"));
    }
    assert_eq!(alice.line("MGET a:1 a:1").items().len(), 2);
    assert!(alice.line("MGET a:1 b:1").is_error_with("NOPERM"));
}

#[test]
fn sessions_of_one_user_share_what_is_cached_for_her() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut one, mut two) = (login(&nearhit, ALICE), login(&nearhit, ALICE));
    wait_for_hit_of(&nearhit, &mut one, "GET a:1", "hers");
    let before = hits(&nearhit);
    assert_eq!(two.line("GET a:1"), "hers");
    assert_eq!(hits(&nearhit), before + 1.0);
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
}

#[test]
fn a_write_of_one_user_is_seen_by_all_at_once() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut alice, mut bob) = both_with_a_hit(&nearhit);
    for round in 0..100 {
        let (writer, reader) = match round % 2 {
            0 => (&mut alice, &mut bob),
            _ => (&mut bob, &mut alice),
        };
        assert_eq!(writer.line(&format!("SET s:1 {round}")), "OK");
        assert_eq!(reader.line("GET s:1"), round.to_string());
        assert_eq!(writer.line("GET s:1"), round.to_string());
    }
    assert!(bob.line("FLUSHALL").is_error_with("NOPERM"));
}

#[test]
fn who_becomes_another_user_still_reads_what_was_written_before() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let _both = both_with_a_hit(&nearhit);
    let mut client = nearhit.connect();
    let mut foreign = redis.client();
    foreign.lines_ok(&["AUTH opensesame"]);
    for round in 0..100 {
        client.send_raw(format!(
            "{ALICE}\r\nSET s:1 {round}\r\n{BOB}\r\nGET s:1\r\n{ALICE}\r\nGET s:1\r\n"
        ));
        let replies: Vec<_> = (0..6).map(|_| client.reply().text()).collect();
        assert_eq!((&replies[3], &replies[5]), (&round.to_string(), &round.to_string()));
        // What she has seen of another's write, he has seen as well.
        foreign.lines_ok(&[&format!("SET s:1 f{round}")]);
        client.send_raw(format!("{ALICE}\r\nGET s:1\r\n{BOB}\r\nGET s:1\r\n"));
        let replies: Vec<_> = (0..4).map(|_| client.reply().text()).collect();
        assert!(
            replies[1] != format!("f{round}") || replies[3] == replies[1],
            "back in time: {replies:?}"
        );
    }
}

#[test]
fn all_share_one_partition_where_the_operator_says_so() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &["--cache.partition-by", "none"]);
    wait_for_cache(&nearhit);
    let mut plain = nearhit.connect();
    wait_for_hit_of(&nearhit, &mut plain, "GET a:1", "hers");
    let mut bob = login(&nearhit, BOB);
    wait_for_hit_of(&nearhit, &mut bob, "GET a:1", "hers");
    // What is not answered from memory is still his own affair with Redis.
    assert!(bob.line("STRLEN a:1 x").is_error_with("ERR wrong number"));
    assert!(bob.line("SET a:1 x").is_error_with("NOPERM"));
    let tracked = || nearhit.stderr().matches("tracking is on").count();
    assert_eq!(tracked(), 1);
}

#[test]
fn nothing_is_cached_for_all_when_the_one_who_reads_for_all_is_not_let_in() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &["--cache.partition-by", "none"]);
    nearhit.wait_for_stderr("no tracked connection");
    let mut alice = login(&nearhit, ALICE);
    for _ in 0..10 {
        assert_eq!(alice.line("GET a:1"), "hers");
    }
    assert_eq!(hits(&nearhit), 0.0);
}

#[test]
fn a_user_without_clients_is_forgotten_after_a_while() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &["--upstream.idle-identity-timeout", "1s"]);
    let mut admin = redis.client();
    admin.lines_ok(&["AUTH opensesame"]);
    let mut connections = || {
        let list = admin.line("CLIENT LIST").text();
        list.lines().filter(|line| line.contains(" user=alice ")).count()
    };
    let mut alice = login(&nearhit, ALICE);
    wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
    assert!(connections() >= 2, "one to ask over and a tracked one");
    drop(alice);
    // The doorman may still be who was let in last.
    wait_for("her connections to be closed", SOON, || connections() <= 1);
    wait_for("her entries to be gone", SOON, || {
        nearhit.metric("nearhit_cache_entries", &[]) == 0.0
    });
    let mut again = login(&nearhit, ALICE);
    wait_for_hit_of(&nearhit, &mut again, "GET a:1", "hers");
}

#[test]
fn a_user_with_clients_is_not_forgotten() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &["--upstream.idle-identity-timeout", "100ms"]);
    let mut ada = login(&nearhit, "AUTH ada lovelace");
    // What was cached before anybody watched rights is gone a second later.
    for _ in 0..2 {
        wait_for_hit_of(&nearhit, &mut ada, "GET a:1", "hers");
        ada.expect_silence(Duration::from_millis(1500));
    }
    let before = hits(&nearhit);
    assert_eq!(ada.line("GET a:1"), "hers");
    assert_eq!(hits(&nearhit), before + 1.0);
}

#[test]
fn a_user_who_may_not_have_herself_tracked_is_served_without_a_cache() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let _watches = login(&nearhit, "AUTH ada lovelace");
    let mut eve = login(&nearhit, "AUTH eve dropper");
    nearhit.wait_for_stderr("NOPERM");
    for _ in 0..10 {
        assert_eq!(eve.line("GET k"), "plain");
    }
    assert_eq!(hits(&nearhit), 0.0);
    let mut admin = redis.client();
    admin.lines_ok(&["AUTH opensesame"]);
    let mut opened = || {
        let text = admin.line("INFO stats").text();
        info_field(&text, "total_connections_received")
            .expect("a field")
            .parse::<u64>()
            .expect("a number")
    };
    let before = opened();
    eve.expect_silence(Duration::from_millis(2500));
    // Two attempts, each with the connections of every mode it tries, and a canary's.
    assert!(
        opened() <= before + 16,
        "the server is not asked again and again: {} times",
        opened() - before
    );
    // When she may, she is served from memory at once.
    assert_eq!(admin.line("ACL SETUSER eve +@connection"), "OK");
    wait_for_hit_of(&nearhit, &mut eve, "GET k", "plain");
}
