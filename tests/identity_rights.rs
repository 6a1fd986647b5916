//! What nearhit answers itself, it answers to those only whom Redis would.

mod identity_support;
mod session_support;
mod support;

use identity_support::{login, nearhit, pair, server};
use support::{RedisServer, SOON, wait_for};

/// Commands that nearhit answers, and whose reply is the same on every server.
const LOCAL: &str = "CLIENT GETNAME|CLIENT SETNAME x|CLIENT NO-EVICT ON|CLIENT NO-EVICT|CLIENT REPLY x|CLIENT REPLY ON|\
                     CLIENT UNBLOCK 0|CLIENT UNBLOCK x|CLIENT KILL ID 77777|CLIENT SETNAME|CLIENT GETNAME|CLIENT NOSUCH";

#[test]
fn what_a_user_may_not_run_nearhit_does_not_answer_either() {
    let pair = pair(true, &[]);
    for auth in [
        "PING",
        "AUTH eve dropper",
        "AUTH alice wonderland",
        "AUTH ada lovelace",
        "HELLO 3 AUTH eve dropper",
        "HELLO 3 AUTH ada lovelace",
    ] {
        for _ in 0..2 {
            let mut twin = pair.twin();
            twin.line(auth);
            for line in LOCAL.split('|') {
                twin.line(line);
            }
            let mut twin = pair.twin();
            twin.line(auth);
            twin.pipeline(&LOCAL.split('|').collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_error_that_a_script_makes_up_locks_nobody_out() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    let (mut liar, mut other) = (nearhit.connect(), nearhit.connect());
    for text in ["NOAUTH foo", "NOAUTH Authentication required.", "NOPERM no"] {
        for script in [
            format!("EVAL \"return redis.error_reply('{text}')\" 0"),
            format!("EVAL_RO \"return redis.error_reply('{text}')\" 0"),
            format!("EVAL \"return redis.error_reply('{text}')\" 1 k"),
        ] {
            liar.send_raw(format!("{script}\r\n"));
            assert!(liar.reply().is_error_with(&text[..6]), "{script}");
            assert_eq!(liar.line("GET k"), "plain", "{script}");
            assert_eq!(other.line("GET k"), "plain", "{script}");
            assert!(!nearhit.connect().line("CLIENT LIST").is_error(), "{script}");
        }
    }
}

#[test]
fn rights_are_asked_for_anew_when_the_server_was_started_again() {
    let mut redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    assert!(!nearhit.connect().line("CLIENT LIST").is_error());
    redis.kill9();
    redis.restart();
    // As an operator's file would say it.
    let told = redis.cmd(&["ACL", "SETUSER", "default", "-client|list"]);
    assert_eq!(told, "OK");
    redis.cmd(&["CONFIG", "RESETSTAT"]);
    wait_for("the right to be gone", SOON, || {
        nearhit.connect().line("CLIENT LIST").is_error_with("NOPERM")
    });
}

#[test]
fn databases_that_nobody_uses_any_more_are_left() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &["--upstream.idle-identity-timeout", "1s"]);
    let shared = || nearhit.metric("nearhit_upstream_connections", &["shared"]);
    let mut client = nearhit.connect();
    for db in 1..16 {
        assert_eq!(client.line(&format!("SELECT {db}")), "OK");
        assert!(client.line("GET k").is_nil());
    }
    assert!(shared() >= 15.0, "{}", shared());
    client.line("SELECT 0");
    wait_for("fewer connections", SOON, || shared() <= 3.0);
    assert_eq!(client.line("SELECT 7"), "OK");
    assert!(client.line("GET k").is_nil());
}

#[test]
fn a_user_without_the_right_learns_nothing_about_other_clients() {
    for (auth, code) in [
        ("PING", "NOAUTH"),
        ("AUTH eve dropper", "NOPERM"),
        ("AUTH alice wonderland", "NOPERM"),
    ] {
        let redis = server(true);
        let nearhit = nearhit(&redis, &[]);
        let mut client = nearhit.connect();
        client.line(auth);
        for line in [
            "CLIENT LIST",
            "MONITOR",
            "CLIENT KILL ID 1",
            "CLIENT UNBLOCK 1",
            "CLIENT LIST TYPE normal",
            "PROXY KEYS",
            "PROXY FLUSH",
        ] {
            for _ in 0..2 {
                let reply = client.line(line);
                assert!(reply.is_error_with(code), "{auth}, {line}: {reply:?}");
            }
        }
    }
}

#[test]
fn who_may_watches_and_lists_and_is_asked_about_once() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let mut watcher = login(&nearhit, "AUTH ada lovelace");
    assert!(watcher.line("CLIENT LIST").text().contains(" user=ada "));
    assert_eq!(watcher.line("MONITOR"), "OK");
    let mut other = login(&nearhit, "AUTH alice wonderland");
    other.line("GET a:1");
    let lines: Vec<_> = (0..2).map(|_| watcher.reply().text()).collect();
    assert!(
        lines[0].ends_with("\"AUTH\" \"(redacted)\" \"(redacted)\""),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("\"GET\" \"a:1\""), "{lines:?}");
    let asked = || calls(&redis, "client|list");
    let before = asked();
    for _ in 0..5 {
        let mut ada = login(&nearhit, "AUTH ada lovelace");
        for _ in 0..5 {
            assert!(!ada.line("CLIENT LIST").is_error());
        }
    }
    assert!(asked() <= before + 1, "once until rights change");
}

/// How often the server has run a command.
fn calls(redis: &RedisServer, command: &str) -> u64 {
    let mut admin = redis.client();
    admin.lines_ok(&["AUTH opensesame"]);
    let text = admin.line("INFO commandstats").text();
    let field = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    field.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_right_that_was_withdrawn_through_nearhit_is_withdrawn_at_once() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let (mut ada, mut alice) = (
        login(&nearhit, "AUTH ada lovelace"),
        login(&nearhit, "AUTH alice wonderland"),
    );
    for _ in 0..20 {
        assert!(!alice.line("CLIENT GETNAME").is_error());
        assert_eq!(ada.line("ACL SETUSER alice -client|getname"), "OK");
        assert!(alice.line("CLIENT GETNAME").is_error_with("NOPERM"));
        assert_eq!(ada.line("ACL SETUSER alice +client|getname"), "OK");
    }
}

#[test]
fn nearhits_own_command_is_for_those_who_may_see_the_other_clients() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &[]);
    let mut alice = login(&nearhit, "AUTH alice wonderland");
    alice.lines_ok(&["MULTI"]);
    assert!(alice.line("PROXY STATS").is_error_with("NOPERM"));
    assert!(alice.line("EXEC").is_error_with("EXECABORT"));
    let mut ada = login(&nearhit, "AUTH ada lovelace");
    assert!(!ada.line("PROXY STATS").is_error());
    ada.lines_ok(&["MULTI"]);
    assert_eq!(ada.line("PROXY VERSION"), "QUEUED");
    assert!(!ada.line("EXEC").is_error());
    assert!(
        !nearhit.connect().line("PROXY STATS").is_error(),
        "whom the operator lets in"
    );
}

#[test]
fn a_stranger_learns_which_command_nearhits_own_is_not() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &["--facade.admin-command", "NEARHITCTL"]);
    let (mut stranger, mut direct) = (nearhit.connect(), redis.client());
    for line in ["PING", "PROXY STATS", "PROXY STATS"] {
        assert_eq!(stranger.line(line), direct.line(line), "{line}");
    }
    assert!(stranger.line("NEARHITCTL STATS").is_error_with("NOAUTH"));
}
