//! Redis judges every AUTH and HELLO AUTH, in its own words.

mod identity_support;
mod session_support;
mod support;

use identity_support::{PASSWORD, login, nearhit, pair, server};
use nearhit::time;
use session_support::{Twin, line_bytes};
use std::time::Duration;
use support::{Nearhit, RedisServer, SOON, wait_for};

/// What clients say about themselves, each line on a connection of its own, and who they are then.
const CASES: &[&str] = &[
    "AUTH|AUTH a b c|AUTH a b c d|AUTH a b c d e f g h i j k l",
    "AUTH opensesame|ACL WHOAMI|GET k",
    "AUTH wrong|ACL WHOAMI|AUTH opensesame|AUTH wrong|ACL WHOAMI",
    "AUTH default opensesame|ACL WHOAMI",
    "AUTH alice wonderland|ACL WHOAMI|GET a:1|GET b:1|GET k",
    "auth alice wonderland|AUTH alice wrong|ACL WHOAMI|AUTH bob builder|ACL WHOAMI|GET b:1|GET a:1",
    "AUTH off pw|AUTH nobody pw|AUTH Alice wonderland|ACL WHOAMI",
    "AUTH free x|ACL WHOAMI|AUTH free y|GET f:1|AUTH free|GET f:1",
    "AUTH eve dropper|GET k|SET k x|PING|ECHO x|SELECT 1|ACL WHOAMI|MULTI|AUTH alice wonderland|ACL WHOAMI",
    "HELLO 2 AUTH alice wonderland|ACL WHOAMI|GET a:none",
    "HELLO 3 AUTH alice wonderland|ACL WHOAMI|GET a:none|HELLO 2|GET a:none|HELLO",
    "HELLO 3 AUTH alice wrong|HELLO 3 AUTH alice wonderland|HELLO 3 AUTH alice wrong|ACL WHOAMI|GET a:none",
    "HELLO 3 AUTH default opensesame SETNAME d|CLIENT GETNAME|GET none",
    "HELLO 3 SETNAME x AUTH alice wonderland|CLIENT GETNAME|ACL WHOAMI",
    "HELLO 3 SETNAME x AUTH alice wrong|AUTH alice wonderland|CLIENT GETNAME",
    "HELLO 3 AUTH alice wrong SETNAME x|AUTH alice wonderland|CLIENT GETNAME",
    "HELLO 3 AUTH alice wonderland SETNAME x SETNAME y|CLIENT GETNAME",
    "HELLO 3 AUTH alice wonderland AUTH bob builder|ACL WHOAMI",
    "HELLO 3 AUTH alice wrong AUTH bob builder|AUTH alice wonderland|ACL WHOAMI",
    "HELLO 3 AUTH alice wonderland BAD|ACL WHOAMI|GET a:none",
    "HELLO 3 AUTH alice wrong BAD|HELLO 3 BAD|HELLO 3 AUTH|HELLO 3 AUTH alice|HELLO 3 SETNAME",
    "HELLO 3 AUTH alice wonderland SETNAME|ACL WHOAMI|CLIENT GETNAME",
    "HELLO 4 AUTH alice wonderland|HELLO x AUTH alice wonderland|HELLO 1|GET a:1",
    "HELLO 3|HELLO 2|HELLO|HELLO 3 SETNAME x|GET k|AUTH alice wonderland|CLIENT GETNAME|HELLO 3|GET a:none",
    "AUTH alice wonderland|SELECT 3|AUTH bob builder|SET b:3 x|SELECT 0|GET b:3|SELECT 3|GET b:3|DEL b:3",
    "AUTH alice wonderland|RESET|ACL WHOAMI|GET a:1|AUTH opensesame|GET a:1",
    "HELLO 3 AUTH alice wonderland SETNAME x|RESET|GET a:none|AUTH opensesame|CLIENT GETNAME|GET none",
    "AUTH alice wonderland|MULTI|AUTH bob builder|GET b:1|EXEC|GET b:1|GET a:1|ACL WHOAMI",
    "AUTH alice wonderland|MULTI|AUTH bob wrong|GET a:1|EXEC|GET a:1|ACL WHOAMI",
    "AUTH alice wonderland|MULTI|GET a:1|AUTH bob builder|DISCARD|ACL WHOAMI",
    "AUTH alice wonderland|MULTI|HELLO 3 AUTH bob builder|EXEC|GET b:none|ACL WHOAMI",
    "AUTH alice wonderland|WATCH a:1|AUTH bob builder|GET b:1|MULTI|GET b:1|EXEC|ACL WHOAMI",
    "AUTH alice wonderland|SUBSCRIBE c|AUTH bob builder|HELLO 3 AUTH bob builder|UNSUBSCRIBE c|ACL WHOAMI",
    "AUTH alice wonderland|CLIENT TRACKING ON|AUTH bob builder|GET b:1|ACL WHOAMI|RESET|GET b:1",
    "AUTH alice wonderland|BLPOP a:none 0.01|AUTH bob builder|BLPOP b:none 0.01|BLPOP a:none 0.01",
    "AUTH alice wonderland|NOSUCH|GET|CONFIG GET x|ACL GETUSER alice|ACL LIST|CLIENT NOSUCH",
    "PING|ECHO x|SELECT 1|GET k|NOSUCH|GET|CLIENT GETNAME|CLIENT|MULTI|EXEC|SUBSCRIBE c|MONITOR|WAIT 0 0|RESET|QUIT",
];

fn check(twin: &mut Twin, lines: &[&str]) {
    for line in lines {
        if *line == "QUIT" {
            twin.send(&line_bytes(line));
            twin.closes(line.as_bytes());
        } else {
            twin.line(line);
        }
    }
}

#[test]
fn what_clients_say_about_themselves_is_answered_by_redis() {
    for locked in [true, false] {
        let pair = pair(locked, &[]);
        for case in CASES {
            check(&mut pair.twin(), &case.split('|').collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_pipeline_waits_for_the_answer_to_who_the_client_is() {
    let pair = pair(true, &[]);
    for case in CASES.iter().filter(|case| !case.ends_with("QUIT")) {
        pair.twin().pipeline(&case.split('|').collect::<Vec<_>>());
    }
}

#[test]
fn a_client_may_log_in_where_the_url_names_a_database() {
    let (direct, behind) = (server(true), server(true));
    let nearhit = Nearhit::serve(&format!("{}/5", behind.url()));
    // The first stranger is told that there is a password.
    assert!(nearhit.connect().line("PING").is_error_with("NOAUTH"));
    for case in [
        "GET|NOSUCH|CLIENT NOSUCH|GET k|HELLO 3|HELLO 9|MULTI|AUTH wrong|GET k|AUTH opensesame|GET none|SELECT 0|GET k",
        "HELLO 3 AUTH alice wonderland|GET a:1|SET a:5 five|GET a:5|SELECT 0|GET a:1",
        "AUTH alice wonderland|RESET|GET a:5|AUTH bob builder|GET b:5",
    ] {
        let mut twin = Twin {
            direct: direct.client(),
            proxied: nearhit.connect(),
        };
        for line in case.split('|') {
            twin.line(line);
            if line.contains("AUTH") && !line.contains("wrong") {
                assert_eq!(twin.direct.line("SELECT 5"), "OK");
            }
        }
    }
}

#[test]
fn a_password_may_be_any_bytes_of_any_length_that_redis_takes() {
    let pair = pair(false, &[]);
    let long = "p".repeat(20_000);
    for password in [&b"\x00\xff\r\n +-"[..], b"", "пароль".as_bytes(), long.as_bytes()] {
        let mut rule = b">".to_vec();
        rule.extend_from_slice(password);
        for server in [&pair.direct, &pair.behind] {
            let args: [&[u8]; 7] = [b"ACL", b"SETUSER", b"odd", b"reset", b"on", &rule, b"+@all"];
            assert_eq!(server.cmd(&args), "OK");
        }
        let mut twin = pair.twin();
        assert_eq!(twin.same(&[&b"AUTH"[..], b"odd", password]), "OK");
        assert_eq!(twin.line("ACL WHOAMI"), "odd");
        assert!(twin.same(&[&b"AUTH"[..], b"odd", b"x"]).is_error_with("WRONGPASS"));
        assert!(!twin.same(&[&b"HELLO"[..], b"3", b"AUTH", b"odd", password]).is_error());
        assert_eq!(twin.line("ACL WHOAMI"), "odd");
    }
}

#[test]
fn a_password_that_was_changed_lets_nobody_in_although_connections_from_before_are_open() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let mut old = login(&nearhit, "AUTH alice wonderland");
    assert_eq!(old.line("GET a:1"), "hers");
    let mut admin = redis.client();
    admin.lines_ok(&["AUTH opensesame", "ACL SETUSER alice <wonderland >changed"]);
    assert!(
        nearhit
            .connect()
            .line("AUTH alice wonderland")
            .is_error_with("WRONGPASS")
    );
    let mut new = login(&nearhit, "AUTH alice changed");
    assert_eq!(new.line("GET a:1"), "hers");
    // As Redis does: who is in stays in.
    assert_eq!(old.line("GET a:1"), "hers");
}

#[test]
fn a_lost_doorman_is_replaced() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    login(&nearhit, "AUTH alice wonderland");
    let mut admin = redis.client();
    admin.line(&format!("AUTH {PASSWORD}"));
    admin.line("CLIENT KILL TYPE normal SKIPME yes");
    wait_for("another doorman", SOON, || {
        nearhit.connect().line("AUTH alice wonderland") == "OK"
    });
}

#[test]
fn who_waits_for_a_server_that_hangs_is_told_so_in_time() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &["--upstream.command-timeout", "300ms"]);
    let mut clients: Vec<_> = (0..40).map(|_| nearhit.connect()).collect();
    assert_eq!(clients[0].line("AUTH alice wonderland"), "OK");
    redis.pause();
    let since = time::now();
    for client in &mut clients {
        client.send(&["AUTH", "bob", "builder"]);
    }
    for client in &mut clients {
        let reply = client.reply();
        assert!(reply.is_error_with("ERR nearhit: no answer from "), "{reply:?}");
        // What is behind it would run as somebody else.
        client.expect_closed();
    }
    assert!(
        time::now().since(since) < Duration::from_secs(2),
        "{:?}",
        time::now().since(since)
    );
    redis.resume();
    wait_for("an answer", SOON, || {
        let mut client = nearhit.connect();
        client.line("AUTH bob builder") == "OK" && client.line("ACL WHOAMI") == "bob"
    });
}

#[test]
fn a_storm_of_wrong_passwords_opens_one_connection() {
    let redis = server(true);
    let nearhit = nearhit(&redis, &[]);
    let mut clients: Vec<_> = (0..200).map(|_| nearhit.connect()).collect();
    assert!(clients[0].line("AUTH alice wrong").is_error_with("WRONGPASS"));
    let opened = || nearhit.metric("nearhit_upstream_connects_total", &[]);
    let before = opened();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_raw(line_bytes(&format!("AUTH alice wrong{number}")).repeat(10));
    }
    for client in &mut clients {
        for _ in 0..10 {
            let reply = client.reply();
            assert!(reply.is_error_with("WRONGPASS"), "{reply:?}");
        }
    }
    assert_eq!(opened(), before);
}

#[test]
fn a_user_who_needs_no_password_cannot_take_all_connections_with_a_thousand_of_them() {
    let redis: RedisServer = server(true);
    let nearhit = nearhit(&redis, &[]);
    let mut client = nearhit.connect();
    for number in 0..1000 {
        assert_eq!(client.line(&format!("AUTH free {number}")), "OK");
        assert_eq!(client.line("GET f:1"), "free");
    }
    let open = || nearhit.metric("nearhit_upstream_connections", &[]);
    wait_for("unused connections to be closed", SOON, || open() < 600.0);
}
