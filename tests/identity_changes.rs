//! Users who change or are no more: through nearhit at once, elsewhere within a second.

mod identity_support;
mod session_support;
mod support;

use identity_support::{login, nearhit, server, wait_for_hit_of};
use nearhit::time;
use session_support::{Dice, hits, wait_for_cache};
use std::time::Duration;
use support::{RedisServer, Resp, SOON, wait_for};

const ALICE: &str = "AUTH alice wonderland";
const ADA: &str = "AUTH ada lovelace";
/// What the README promises for changes that do not pass through nearhit.
const SECOND: Duration = Duration::from_secs(1);

fn admin(redis: &RedisServer) -> Resp {
    let mut admin = redis.client();
    admin.line("AUTH opensesame");
    admin
}

#[test]
fn a_key_that_was_taken_from_a_user_through_nearhit_is_not_served_to_her_again() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut ada, mut alice) = (login(&nearhit, ADA), login(&nearhit, ALICE));
    for _ in 0..20 {
        wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
        assert_eq!(ada.line("ACL SETUSER alice resetkeys ~x:*"), "OK");
        assert!(alice.line("GET a:1").is_error_with("NOPERM"));
        assert_eq!(ada.line("ACL SETUSER alice ~a:*"), "OK");
    }
    // Within a transaction, too.
    wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
    for line in ["MULTI", "ACL SETUSER alice resetkeys", "EXEC"] {
        assert!(!ada.line(line).is_error());
    }
    assert!(alice.line("GET a:1").is_error_with("NOPERM"));
}

#[test]
fn a_key_that_was_taken_from_a_user_elsewhere_is_not_served_to_her_for_more_than_a_second() {
    for watched in [true, false] {
        let redis = server(true);
        let nearhit = nearhit(&redis, &[]);
        // With somebody who may ask for users' rights nearhit asks; without, it keeps nothing for long.
        let _asks = watched.then(|| login(&nearhit, ADA));
        let (mut admin, mut alice) = (admin(&redis), login(&nearhit, ALICE));
        for _ in 0..3 {
            wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
            assert_eq!(admin.line("ACL SETUSER alice resetkeys ~x:*"), "OK");
            let since = time::now();
            let served_after = || {
                let asked = time::now().since(since);
                (alice.line("GET a:1") == "hers").then_some(asked)
            };
            let last = std::iter::from_fn(served_after).last().unwrap_or_default();
            assert!(
                last < SECOND + Duration::from_millis(200),
                "watched: {watched}, {last:?}"
            );
            assert!(alice.line("GET a:1").is_error_with("NOPERM"));
            assert_eq!(admin.line("ACL SETUSER alice ~a:*"), "OK");
        }
    }
}

#[test]
fn where_somebody_may_watch_rights_entries_live_as_long_as_they_are_true() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut ada, mut alice) = (login(&nearhit, ADA), login(&nearhit, ALICE));
    // What was cached before anybody watched is gone a second later.
    for _ in 0..2 {
        wait_for_hit_of(&nearhit, &mut ada, "GET a:1", "hers");
        wait_for_hit_of(&nearhit, &mut alice, "GET a:1", "hers");
        alice.expect_silence(Duration::from_millis(1200));
    }
    let before = hits(&nearhit);
    assert_eq!(ada.line("GET a:1"), "hers");
    assert_eq!(alice.line("GET a:1"), "hers");
    assert_eq!(hits(&nearhit), before + 2.0);
}

#[test]
fn sessions_of_a_user_who_is_deleted_end() {
    for through in [true, false] {
        let redis = server(true);
        let nearhit = nearhit(&redis, &[]);
        let mut ada = login(&nearhit, ADA);
        let mut admin = if through { login(&nearhit, ADA) } else { admin(&redis) };
        let (mut idle, mut cached, mut listening, mut blocked) = (
            login(&nearhit, ALICE),
            login(&nearhit, ALICE),
            login(&nearhit, ALICE),
            login(&nearhit, ALICE),
        );
        wait_for_hit_of(&nearhit, &mut cached, "GET a:1", "hers");
        listening.line("SUBSCRIBE c");
        blocked.send(&["BLPOP", "a:none", "0"]);
        let mut bob = login(&nearhit, "AUTH bob builder");
        assert_eq!(admin.line("ACL DELUSER alice nobody").int(), 1);
        for client in [&mut idle, &mut cached, &mut listening] {
            client.expect_closed();
        }
        // Whoever waits may hear first that the connection is gone.
        blocked.read_to_close();
        assert!(nearhit.connect().line(ALICE).is_error_with("WRONGPASS"));
        assert_eq!(bob.line("GET b:1"), "his");
        assert_eq!(ada.line("GET a:1"), "hers");
        // Another one of the same name is somebody else.
        assert_eq!(
            admin.line("ACL SETUSER alice on >wonderland ~x:* +@all -@dangerous"),
            "OK"
        );
        wait_for("what the new one may not read", SOON, || {
            // A connection of the old one may be closed under the first request.
            let read = login(&nearhit, ALICE).line("GET a:1");
            assert!(read.is_error(), "through: {through}, {read:?}");
            read.is_error_with("NOPERM")
        });
    }
}

#[test]
fn a_user_who_deletes_herself_gets_her_answer_and_is_closed() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let mut ada = login(&nearhit, ADA);
    ada.send_raw("ACL DELUSER ada\r\nPING\r\n");
    assert_eq!(ada.reply().int(), 1);
    ada.expect_closed();
}

#[test]
fn a_password_for_strangers_holds_for_new_sessions_at_once() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    wait_for_cache(&nearhit);
    let (mut old, mut ada) = (nearhit.connect(), login(&nearhit, ADA));
    wait_for_hit_of(&nearhit, &mut old, "GET k", "plain");
    for change in [
        "CONFIG SET requirepass secret",
        "ACL SETUSER default resetpass >secret",
        "ACL SETUSER default off",
    ] {
        assert_eq!(ada.line(change), "OK");
        for line in ["GET k", "PING", "CLIENT ID", "HELLO 3", "SUBSCRIBE c"] {
            assert!(nearhit.connect().line(line).is_error_with("NOAUTH"), "{change}, {line}");
        }
        // As in Redis: who needed none to get in stays in.
        assert_eq!(old.line("GET k"), "plain", "{change}");
        assert_eq!(ada.line("ACL SETUSER default on nopass"), "OK");
        assert_eq!(nearhit.connect().line("GET k"), "plain", "{change}");
    }
}

#[test]
fn a_password_for_strangers_that_was_set_elsewhere_holds_within_a_second() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    wait_for_cache(&nearhit);
    let mut old = nearhit.connect();
    wait_for_hit_of(&nearhit, &mut old, "GET k", "plain");
    let mut admin = redis.client();
    for _ in 0..3 {
        assert_eq!(admin.line("CONFIG SET requirepass secret"), "OK");
        let since = time::now();
        while !nearhit.connect().line("GET k").is_error_with("NOAUTH") {
            assert!(time::now().since(since) < SECOND + Duration::from_millis(200));
        }
        assert_eq!(old.line("GET k"), "plain");
        assert_eq!(admin.cmd(&["CONFIG", "SET", "requirepass", ""]), "OK");
        wait_for("strangers to be let in", SOON, || {
            nearhit.connect().line("GET k") == "plain"
        });
    }
}

#[test]
fn nobody_reads_later_than_a_second_what_was_taken_away() {
    const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];
    let redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    let mut admin = redis.client();
    for user in USERS {
        assert_eq!(admin.line(&format!("ACL SETUSER {user} on >pw ~* +@all")), "OK");
    }
    admin.lines_ok(&["SET r:0 x", "SET r:1 x", "SET r:2 x"]);
    let mut clients: Vec<_> = USERS
        .iter()
        .map(|user| login(&nearhit, &format!("AUTH {user} pw")))
        .collect();
    // What each may read, and since when.
    let mut may = [[(true, time::now()); 3]; 4];
    let (mut dice, mut denied, since) = (Dice(7), 0, time::now());
    while time::now().since(since) < Duration::from_secs(8) {
        if dice.below(40) == 0 {
            let (user, key) = (dice.below(4), dice.below(3));
            let allowed = !may[user][key].0;
            may[user][key] = (allowed, time::now());
            let keys: Vec<_> = (0..3)
                .filter(|key| may[user][*key].0)
                .map(|key| format!("~r:{key}"))
                .collect();
            let rule = format!("ACL SETUSER {} resetkeys {}", USERS[user], keys.join(" "));
            match dice.below(2) {
                0 => assert_eq!(admin.line(&rule), "OK"),
                _ => {
                    let mut through = nearhit.connect();
                    assert_eq!(through.line(&rule), "OK");
                    // At once, then.
                    let read = clients[user].line(&format!("GET r:{key}"));
                    assert_eq!(read == "x", allowed, "{rule}: {read:?}");
                }
            }
            may[user][key].1 = time::now();
        }
        let (user, key) = (dice.below(4), dice.below(3));
        let asked = time::now();
        let read = clients[user].line(&format!("GET r:{key}"));
        let (allowed, changed) = may[user][key];
        denied += usize::from(read.is_error_with("NOPERM"));
        if asked.since(changed) > SECOND {
            assert_eq!(read == "x", allowed, "{} of r:{key}: {read:?}", USERS[user]);
        }
    }
    assert!(
        denied > 10 && hits(&nearhit) > 100.0,
        "{denied} denied, {} hits",
        hits(&nearhit)
    );
}
