//! What is about the connection itself: HELLO, SELECT, RESET, QUIT, CLIENT, and commands nearhit does not know.

mod session_support;
mod support;

use session_support::{Pair, caching, hits, line_bytes, wait_for_hit};
use support::{Nearhit, RedisServer};

#[test]
fn client_reply_silences_what_the_server_would_silence() {
    let pair = Pair::start();
    for lines in [
        "CLIENT REPLY SKIP|PING a|PING b",
        // A second SKIP is not heard either way, and starts over.
        "CLIENT REPLY SKIP|CLIENT REPLY SKIP|PING a|PING b",
        "CLIENT REPLY SKIP|GET x|GET x|GET x",
        "CLIENT REPLY SKIP|CLIENT REPLY ON|PING",
        "CLIENT REPLY SKIP|CLIENT REPLY OFF|PING a|CLIENT REPLY ON|PING b",
        "CLIENT REPLY SKIP|CLIENT NOSUCH|PING",
        "CLIENT REPLY SKIP|SELECT 1|CLIENT GETNAME|PING",
        "CLIENT REPLY SKIP|RESET|PING",
        "CLIENT REPLY OFF|RESET|PING",
        "CLIENT REPLY OFF|SET x 1|GET x|NOSUCH|CLIENT REPLY nonsense|MULTI|GET x|EXEC|CLIENT REPLY ON|GET x",
        "CLIENT REPLY OFF|HELLO 3|CLIENT REPLY ON|CLIENT GETNAME",
        // Confirmations of subscriptions, like messages, are heard.
        "CLIENT REPLY OFF|SUBSCRIBE a b|UNSUBSCRIBE a b|CLIENT REPLY ON",
        "HELLO 3|CLIENT REPLY OFF|SUBSCRIBE a|PUBLISH a message|CLIENT REPLY ON",
    ] {
        let mut twin = pair.twin();
        let bytes: Vec<u8> = [lines, "|QUIT"].concat().split('|').flat_map(line_bytes).collect();
        twin.send(&bytes);
        twin.closes(lines.as_bytes());
    }
}

#[test]
fn hello_switches_the_protocol_of_every_later_reply() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    twin.lines(&[
        "HSET h f 1",
        "HGETALL h",
        "HGETALL h",
        "HELLO 3",
        "HGETALL h",
        "HGETALL h",
        "GET none",
        "GET none",
    ]);
    twin.lines(&[
        "CLIENT GETNAME",
        "HELLO 3 SETNAME me",
        "CLIENT GETNAME",
        "HELLO",
        "HELLO 2",
        "HGETALL h",
        "GET none",
    ]);
    twin.lines(&[
        "CLIENT GETNAME",
        "WATCH h",
        "HELLO 3 SETNAME pinned",
        "CLIENT GETNAME",
        "UNWATCH",
        "CLIENT GETNAME",
    ]);
    twin.lines(&["GET none", "HELLO 9", "HELLO 2 NOSUCH", "HELLO 2 SETNAME", "GET none"]);
    twin.pipeline(&[
        "HELLO 2",
        "GET none",
        "HGETALL h",
        "HELLO 3",
        "GET none",
        "HGETALL h",
        "CLIENT GETNAME",
    ]);
    twin.pipeline(&[
        "WATCH h",
        "HELLO 2",
        "HELLO",
        "CLIENT GETNAME",
        "GET none",
        "HELLO 3",
        "CLIENT GETNAME",
        "CLIENT GETNAME",
    ]);
}

#[test]
fn hello_says_nearhits_client_id() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect();
    for line in ["HELLO 3", "HELLO 2", "HELLO", "MULTI"] {
        let greeting = client.line(line);
        let id = client.line("CLIENT ID");
        if line == "MULTI" {
            client.line("HELLO 3");
            let parts = client.line("EXEC").items();
            assert_eq!(parts[1].get("id").as_ref(), Some(&parts[0]), "{parts:?}");
        } else {
            assert_eq!(greeting.get("id"), Some(id), "{line}");
        }
    }
}

#[test]
fn each_session_has_a_database_of_its_own_and_each_database_is_cached_on_its_own() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut clients: Vec<_> = (0..16).map(|_| nearhit.connect()).collect();
    for (db, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(&format!("SELECT {db}")), "OK");
        client.line(&format!("SET k in-{db}"));
    }
    for round in 0..3 {
        for (db, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line("GET k"), format!("in-{db}"), "round {round}");
        }
    }
    for client in &mut clients {
        wait_for_hit(&nearhit, client, "GET k");
    }
    let mut wanderer = nearhit.connect();
    for db in [3, 0, 15, 3] {
        wanderer.line(&format!("SELECT {db}"));
        assert_eq!(wanderer.line("GET k"), format!("in-{db}"));
        assert!(wanderer.line("SELECT 16").is_error_with("ERR DB index is out of range"));
        assert!(wanderer.line("SELECT x").is_error());
        assert_eq!(
            wanderer.line("GET k"),
            format!("in-{db}"),
            "a failed SELECT changes nothing"
        );
    }
}

#[test]
fn pipelined_selects_separate_what_stands_between_them() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    let mut lines = Vec::new();
    for round in 0..50 {
        let db = round % 5;
        lines.extend([
            format!("SELECT {db}"),
            format!("SET k {round}"),
            "GET k".into(),
            format!("SELECT {}", (db + 3) % 5),
        ]);
        lines.extend(["GET k".into(), "INCR n".into(), "SELECT 99".into(), "GET n".into()]);
    }
    twin.pipeline(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn reset_gives_back_a_connection_as_new() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    for before in [
        "PING",
        "SELECT 3",
        "HELLO 3",
        "CLIENT SETNAME me",
        "MULTI",
        "WATCH k",
        "SUBSCRIBE c",
        "CLIENT TRACKING ON",
        "NOSUCH",
        "AUTH wrong",
        "BLPOP none 0.01",
    ] {
        twin.lines(&[
            "SET k home",
            before,
            "RESET",
            "CLIENT GETNAME",
            "GET k",
            "GET k",
            "GET none",
            "EXEC",
            "SELECT 0",
        ]);
        twin.pipeline(&[
            "SELECT 2",
            "SET k x",
            before,
            "RESET",
            "GET k",
            "CLIENT GETNAME",
            "DISCARD",
        ]);
    }
}

#[test]
fn quit_answers_everything_before_it_and_nothing_behind() {
    let pair = Pair::start();
    for (before, behind) in [
        ("PING|SET k 1|GET k|GET k|NOSUCH|CLIENT GETNAME", "SET k 2|GET k"),
        ("MULTI|SET k 9", "EXEC"),
        ("SUBSCRIBE a b", "PING"),
        ("WATCH k|BLPOP none 0.05|GET k", "PING"),
        ("HELLO 3|SELECT 1|GET none", "PING"),
        ("", ""),
    ] {
        let mut twin = pair.twin();
        let text = [before, "QUIT", behind].join("|");
        twin.send(&text.split('|').flat_map(line_bytes).collect::<Vec<_>>());
        twin.closes(text.as_bytes());
    }
    assert_eq!(pair.twin().line("GET k"), "1");
}

#[test]
fn client_names_and_ids_are_the_sessions_own() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let (mut one, mut two) = (nearhit.connect(), nearhit.connect());
    let ids = [
        one.line("CLIENT ID").int(),
        two.line("CLIENT ID").int(),
        one.line("CLIENT ID").int(),
    ];
    assert!(ids[0] != ids[1] && ids[0] == ids[2], "{ids:?}");
    assert_eq!(one.line("CLIENT SETNAME first"), "OK");
    assert_eq!(one.line("CLIENT GETNAME"), "first");
    assert!(two.line("CLIENT GETNAME").is_nil());
    assert_eq!(one.line("CLIENT SETINFO LIB-NAME test"), "OK");
    assert!(
        one.line("CLIENT SETINFO LIB-COLOUR red")
            .is_error_with("ERR Unrecognized option 'LIB-COLOUR'")
    );
    let info = one.line("CLIENT INFO").text();
    assert!(info.contains("name=first") && info.contains("lib-name=test"), "{info}");
    assert!(two.line("CLIENT LIST").text().contains(&format!("id={} ", ids[0])));
}

#[test]
fn a_tracking_client_gets_its_pushes_and_bypasses_the_cache() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect3();
    client.lines_ok(&["SET k 1", "CLIENT TRACKING ON"]);
    let before = hits(&nearhit);
    for _ in 0..3 {
        assert_eq!(client.line("GET k"), "1");
    }
    redis.cmd(&["SET", "k", "2"]);
    let push = client.push().items();
    assert_eq!(push[0], "invalidate");
    assert_eq!(push[1].items(), vec!["k"]);
    assert_eq!(client.line("GET k"), "2");
    assert_eq!(hits(&nearhit), before, "it has its own cache");
    assert_eq!(client.line("RESET"), "RESET");
    assert_eq!(client.line("GET k"), "2");
    // After RESET it is a client like any other.
    wait_for_hit(&nearhit, &mut client, "GET k");
}

#[test]
fn commands_nearhit_does_not_know_reach_the_server_and_the_session_goes_on() {
    let pair = Pair::start_with(&[("--enable-debug-command", "yes")], &[]);
    let mut twin = pair.twin();
    for line in [
        "JSON.SET a $ 1",
        "FT.SEARCH i q",
        "nosuch.command",
        "DEBUG JMAP",
        "DEBUG SLEEP 0",
        "DEBUG OBJECT none",
    ] {
        twin.lines(&[
            "SET k 1",
            "GET k",
            line,
            "GET k",
            "SET k 2",
            "GET k",
            line,
            "CLIENT GETNAME",
            "PING",
        ]);
    }
    twin.pipeline(&["NOSUCH", "GET k", "NOSUCH", "SET k 3", "GET k", "GET k"]);
}

#[test]
fn scripts_functions_and_scans_work() {
    let pair = Pair::start();
    let mut twin = pair.twin();
    let sha = twin
        .same(&["SCRIPT", "LOAD", "return redis.call('incr', KEYS[1])"])
        .text();
    twin.lines(&[
        "SET n 1",
        "GET n",
        "GET n",
        &format!("EVALSHA {sha} 1 n"),
        "GET n",
        &format!("SCRIPT EXISTS {sha} ff"),
    ]);
    let library = "#!lua name=l\nredis.register_function('f', function(k, a) return redis.call('set', k[1], a[1]) end)";
    twin.same(&["FUNCTION", "LOAD", library]);
    twin.same(&["FUNCTION", "LOAD", library]);
    twin.lines(&[
        "FCALL f 1 n 7",
        "GET n",
        "FUNCTION LIST",
        "FCALL_RO f 1 n 8",
        "GET n",
        "FUNCTION DELETE l",
        "FCALL f 1 n 8",
    ]);
    let mut client = pair.nearhit.connect();
    for number in 0..500 {
        client.line(&format!("SET scan:{number} x"));
    }
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let page = client.line(&format!("SCAN {cursor} MATCH scan:* COUNT 50")).items();
        found.extend(page[1].items().iter().map(support::Reply::text));
        cursor = page[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 500);
}

#[test]
fn replication_is_refused_and_poisons_a_transaction() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    for line in ["SYNC", "PSYNC ? -1", "REPLCONF listening-port 1"] {
        let name = line.split(' ').next().expect("a name").to_lowercase();
        let refusal = format!("NOPERM this user has no permissions to run the '{name}' command");
        let mut client = nearhit.connect();
        assert!(client.line(line).is_error_with(&refusal));
        assert_eq!(client.line("MULTI"), "OK");
        assert!(client.line(line).is_error_with(&refusal));
        assert_eq!(client.line("SET k v"), "QUEUED");
        assert!(client.line("EXEC").is_error_with("EXECABORT"));
        assert!(client.line("GET k").is_nil(), "nothing ran");
    }
}
