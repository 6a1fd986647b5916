//! Who a client is: nearhit has no say in it. Redis judges every password, and nobody reads what their user may not.

mod session_support;
mod support;

use session_support::{CACHE_ALL, Pair, caching, line_bytes, wait_for_cache, wait_for_hit};
use support::{Nearhit, RedisServer};

/// A pair whose servers want a password and know a user who may only read `a:*`; nearhit logs in as `login` says.
fn guarded(login: &str) -> Pair {
    let server = || {
        let server = RedisServer::start();
        for line in [
            "SET k secret",
            "SET a:1 hers",
            "ACL SETUSER alice on >wonderland ~a:* &* +@all -@dangerous",
            "ACL SETUSER off off >pw ~* +@all",
            "CONFIG SET requirepass opensesame",
        ] {
            assert_eq!(server.client().line(line), "OK");
        }
        server
    };
    let (direct, behind) = (server(), server());
    let url = format!("redis://{login}{}", behind.addr());
    let nearhit = Nearhit::serve_with(&url, CACHE_ALL);
    if !login.is_empty() {
        wait_for_cache(&nearhit);
    }
    Pair {
        direct,
        behind,
        nearhit,
    }
}

#[test]
fn without_credentials_of_its_own_nearhit_lets_nobody_in_whom_the_server_would_not() {
    let pair = guarded("");
    for lines in [
        "GET k|SET k x|MGET k|PING|ECHO x|SELECT 1|SELECT x|GET|NOSUCH|CONFIG NOSUCH|INFO|DBSIZE|EVAL x 0|CLIENT NOSUCH",
        "HELLO|HELLO 2|HELLO 3|HELLO 3 SETNAME x|HELLO 9|HELLO 3 AUTH x|GET k",
        "MULTI|GET k|EXEC|DISCARD|WATCH k|SUBSCRIBE c|BLPOP k 0|MONITOR|CLIENT TRACKING ON|GET k|RESET|GET k",
        "AUTH|AUTH wrong|AUTH default wrong|AUTH nobody wrong|AUTH off pw|AUTH a b c|GET k",
        "AUTH opensesame|GET k|GET k|AUTH wrong|GET k|SELECT 1|GET k|HELLO 3|GET k|RESET|GET k",
        "AUTH alice wonderland|GET k|GET a:1|ACL WHOAMI|AUTH default wrong|ACL WHOAMI|AUTH default opensesame|GET k",
        "HELLO 3 AUTH alice wrong|GET a:1|HELLO 3 AUTH alice wonderland|GET a:1|GET none|CLIENT GETNAME|GET k|FLUSHALL",
        "HELLO 3 AUTH alice wonderland SETNAME al|CLIENT GETNAME|GET a:1|HELLO 2|GET a:none|CLIENT GETNAME",
        "AUTH alice wonderland|MULTI|GET a:1|EXEC|MULTI|GET k|EXEC|SUBSCRIBE c|UNSUBSCRIBE c|GET a:1|RESET|GET a:1",
        "MULTI|AUTH opensesame|GET k|EXEC|GET k",
    ] {
        let lines: Vec<_> = lines.split('|').collect();
        pair.twin().lines(&lines);
        pair.twin().pipeline(&lines);
    }
}

#[test]
fn a_client_that_authenticates_as_nearhit_does_shares_its_cache() {
    for (login, auth) in [
        (":opensesame@", "AUTH opensesame"),
        (":opensesame@", "AUTH default opensesame"),
        ("default:opensesame@", "HELLO 3 AUTH default opensesame"),
        ("alice:wonderland@", "AUTH alice wonderland"),
    ] {
        let pair = guarded(login);
        let mut client = pair.nearhit.connect();
        assert!(!client.line(auth).is_error(), "{auth}");
        for _ in 0..3 {
            assert_eq!(client.line("GET a:1"), "hers");
        }
        wait_for_hit(&pair.nearhit, &mut client, "GET a:1");
        assert_eq!(pair.nearhit.metric("nearhit_clients_pinned", &[]), 0.0, "{auth}");
    }
}

#[test]
fn a_wrong_password_keeps_who_the_client_was_and_its_cache() {
    let pair = guarded(":opensesame@");
    let mut client = pair.nearhit.connect();
    for wrong in [
        "AUTH wrong",
        "AUTH alice wrong",
        "AUTH off pw",
        "HELLO 3 AUTH alice wrong",
        "AUTH opensesame2",
        "AUTH opensesam",
    ] {
        let reply = client.line(wrong);
        assert!(
            reply.is_error_with("WRONGPASS invalid username-password pair or user is disabled."),
            "{wrong}: {reply:?}"
        );
        assert_eq!(client.line("GET k"), "secret");
        wait_for_hit(&pair.nearhit, &mut client, "GET k");
        assert_eq!(client.line("ACL WHOAMI"), "default");
    }
}

#[test]
fn another_user_gets_her_own_rights_and_a_cache_of_her_own() {
    let pair = guarded(":opensesame@");
    let (mut one, mut alice) = (pair.nearhit.connect(), pair.nearhit.connect());
    one.lines_ok(&["GET k", "GET k", "GET a:1", "GET a:1"]);
    assert_eq!(alice.line("AUTH alice wonderland"), "OK");
    for _ in 0..3 {
        assert!(alice.line("GET k").is_error_with("NOPERM"));
        assert_eq!(alice.line("GET a:1"), "hers");
    }
    wait_for_hit(&pair.nearhit, &mut alice, "GET a:1");
    assert_eq!(pair.nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
    // A write of hers is seen by the others at once.
    assert_eq!(alice.line("SET a:1 new"), "OK");
    assert_eq!(one.line("GET a:1"), "new");
    // RESET makes her a client like any other.
    assert_eq!(alice.line("RESET"), "RESET");
    assert_eq!(alice.line("GET k"), "secret");
}

#[test]
fn a_transaction_that_redis_refuses_to_begin_is_none() {
    let redis = RedisServer::start();
    redis.client().line("ACL SETUSER default -multi");
    let nearhit = caching(&redis, &[]);
    let (mut client, mut reader) = (nearhit.connect(), nearhit.connect());
    for round in 0..100 {
        reader.lines_ok(&["GET k", "GET k"]);
        let set = format!("SET k {round}");
        client.send_raw(["MULTI", set.as_str(), "CLIENT GETNAME"].map(line_bytes).concat());
        assert!(client.reply().is_error_with("NOPERM"));
        assert_eq!(client.reply(), "OK", "it ran at once");
        client.reply();
        assert_eq!(client.line("GET k"), round.to_string());
        assert_eq!(reader.line("GET k"), round.to_string());
    }
    assert_eq!(nearhit.metric("nearhit_clients_pinned", &[]), 0.0);
}

#[test]
fn a_wrong_option_of_hello_is_named_up_to_its_first_zero_byte() {
    let pair = Pair::start();
    pair.twin().same(&[&b"HELLO"[..], b"3", b"\x00behind"]);
    pair.twin().same(&[&b"HELLO"[..], b"3", b"no\x00such"]);
}

#[test]
fn what_is_sent_behind_a_refused_multi_changes_nobody_elses_connection() {
    // A stranger got a connection that another one had logged in: MULTI was refused, so the AUTH behind it ran at once.
    let pair = guarded("");
    for lines in [
        &["MULTI", "AUTH opensesame", "GET k"][..],
        &["MULTI", "HELLO 3 AUTH default opensesame", "GET k"],
        &["MULTI", "NOSUCH", "CLIENT TRACKING ON", "GET k"],
    ] {
        for _ in 0..5 {
            pair.twin().pipeline(lines);
            pair.twin().pipeline(&["BLPOP none 0.01", "MULTI", "GET k", "EXEC"]);
        }
    }
}

#[test]
fn a_select_behind_a_refused_multi_moves_nobody_else() {
    let redis = RedisServer::start();
    redis
        .client()
        .lines_ok(&["SELECT 1", "RPUSH l other", "ACL SETUSER default -multi"]);
    let nearhit = caching(&redis, &[]);
    for _ in 0..5 {
        let mut client = nearhit.connect();
        client.send_raw(["MULTI", "SELECT 1", "LLEN l"].map(line_bytes).concat());
        assert!(client.reply().is_error_with("NOPERM"));
        assert_eq!(client.reply(), "OK", "it ran at once");
        assert_eq!(client.reply(), 1);
        drop(client);
        assert!(nearhit.connect().line("BLPOP l 0.01").is_nil(), "of another database");
    }
}
