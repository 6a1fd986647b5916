//! MULTI, EXEC, WATCH through nearhit: Redis' replies, no lost update, and the connection goes back afterwards.

mod session_support;
mod support;

use session_support::{Pair, caching, hits, wait_for_hit};
use support::{Nearhit, RedisServer, Reply, SOON, eventually, wait_for};

#[test]
fn transactions_answer_as_the_server_does() {
    let pair = Pair::start();
    for version in [2, 3] {
        for lines in [
            "MULTI|SET k 1|INCR k|GET k|EXEC|GET k",
            "MULTI|EXEC",
            "MULTI|SET k 1|DISCARD|GET k|EXEC|DISCARD",
            "MULTI|GET|SET k 2|EXEC|GET k",
            "MULTI|NOSUCH|SET k 2|EXEC|GET k",
            "MULTI|CONFIG NOSUCH|EXEC|EXEC",
            "MULTI|SET k a|INCR k|LPUSH k x|SET k b|EXEC|GET k",
            "MULTI|MULTI|SET k 1|EXEC|EXEC",
            "MULTI x|SET k 3|EXEC|GET k",
            "MULTI|EXEC x|SET k after|GET k|EXEC|GET k",
            "MULTI|DISCARD x|SET k 3|EXEC|GET k",
            "MULTI|WATCH k|SET k 4|EXEC|GET k",
            "MULTI|UNWATCH|EXEC",
            "MULTI|RESET|EXEC|GET k",
            "MULTI|RESET x|SET k 3|EXEC|GET k",
            "MULTI|HELLO|HELLO 3|HELLO|HELLO 2|EXEC|GET none",
            "WATCH k|SET k 5|MULTI|SET k 6|EXEC|GET k",
            "WATCH k|SET k 5|UNWATCH|MULTI|SET k 6|EXEC|GET k",
            "WATCH k|GET k|MULTI|SET k 7|EXEC|GET k",
            "WATCH k none|DISCARD|MULTI|SET none 1|DISCARD|MULTI|SET k 8|EXEC|GET k|DEL none",
            "WATCH k|SELECT 1|SET k other|MULTI|GET k|SELECT 0|GET k|EXEC|GET k",
            "MULTI|SELECT 1|SET k in-one|EXEC|GET k|SELECT 0|GET k|SELECT 1|DEL k|SELECT 0",
            "MULTI|SELECT 99|SET k 9|EXEC|GET k",
            "MULTI|SELECT 1|DISCARD|GET k",
            "MULTI|SELECT 1|NOSUCH|EXEC|GET k",
            "MULTI|BLPOP none 0|BRPOP none 0|EXEC|GET k",
            "MULTI|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME|EXEC|CLIENT GETNAME",
            "CLIENT SETNAME before|MULTI|CLIENT GETNAME|CLIENT SETNAME|EXEC|CLIENT GETNAME",
            "MULTI|HELLO 3|CLIENT GETNAME|HGETALL none|EXEC|CLIENT GETNAME|GET none|HELLO 2|GET none",
            "HELLO 3|MULTI|HELLO 2 SETNAME two|HELLO 9|GET none|EXEC|CLIENT GETNAME|GET none",
            "MULTI|PUBLISH c x|EVAL return(redis.call('incr','n')) 0|EXEC|GET n",
            "MULTI|CLIENT REPLY nonsense|PING|EXEC",
            "MULTI|CLIENT REPLY ON|PING|EXEC|PING",
            "MULTI|AUTH wrong|PING|EXEC|PING",
            "MULTI|FLUSHALL|EXEC|GET k|SET k 1",
        ] {
            let lines: Vec<_> = lines.split('|').collect();
            // One after the other, and all at once: then nothing is known of MULTI's fate when the rest is sent.
            pair.twin_in(version).lines(&lines);
            pair.twin_in(version).pipeline(&lines);
        }
    }
}

#[test]
fn what_a_transaction_wrote_is_seen_by_everybodys_next_read() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let (mut writer, mut reader) = (nearhit.connect(), nearhit.connect());
    for round in 0..200 {
        reader.line("GET k");
        reader.line("GET k");
        for line in ["MULTI", &format!("SET k {round}"), "EXEC"] {
            writer.line(line);
        }
        assert_eq!(reader.line("GET k"), format!("{round}"));
        assert_eq!(writer.line("GET k"), format!("{round}"));
    }
}

/// What WATCH promises: the value read behind it is the one EXEC checks.
#[test]
fn no_update_is_lost_while_the_key_is_cached() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    redis.cmd(&["SET", "counter", "0"]);
    let increments = |times: usize| {
        let (mut client, mut warmer) = (nearhit.connect(), nearhit.connect());
        let mut done = 0;
        while done < times {
            warmer.line("GET counter");
            client.line("WATCH counter");
            let next = client.line("GET counter").text().parse::<u64>().expect("a number") + 1;
            client.line("MULTI");
            client.line(&format!("SET counter {next}"));
            done += usize::from(matches!(client.line("EXEC"), Reply::Array(_)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| increments(100));
        }
    });
    assert_eq!(redis.cmd(&["GET", "counter"]), "600");
    assert_eq!(nearhit.connect().line("GET counter"), "600");
}

#[test]
fn a_watched_key_that_somebody_else_writes_ends_the_transaction() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    let mut other = nearhit.connect();
    for through_nearhit in [true, false] {
        client.lines_ok(&["SET k 1", "GET k", "GET k", "WATCH k", "GET k", "MULTI", "SET k mine"]);
        match through_nearhit {
            true => assert_eq!(other.line("SET k theirs"), "OK"),
            false => assert_eq!(redis.cmd(&["SET", "k", "theirs"]), "OK"),
        }
        assert!(client.line("EXEC").is_nil());
        let found = eventually(SOON, || client.line("GET k") == "theirs");
        assert!(found, "through nearhit: {through_nearhit}");
    }
}

#[test]
fn reads_between_watch_and_exec_come_from_the_server() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    client.lines_ok(&["SET k 1", "GET k", "GET k", "WATCH other"]);
    let before = hits(&nearhit);
    for value in 0..50 {
        redis.cmd(&["SET", "k", &value.to_string()]);
        assert_eq!(client.line("GET k"), value.to_string());
    }
    assert_eq!(hits(&nearhit), before);
    client.line("UNWATCH");
    wait_for_hit(&nearhit, &mut client, "GET k");
}

#[test]
fn the_connection_of_a_transaction_goes_back_to_the_pool() {
    let redis = RedisServer::start();
    // The canary opens a connection of its own now and then.
    let nearhit = caching(&redis, &["--invalidation.canary-interval", "0s"]);
    let mut clients: Vec<_> = (0..5).map(|_| nearhit.connect()).collect();
    let opened = || {
        redis
            .info("total_connections_received")
            .parse::<u64>()
            .expect("a number")
    };
    clients
        .iter_mut()
        .for_each(|client| client.lines_ok(&["MULTI", "PING", "EXEC", "PING"]));
    let before = opened();
    for round in 0..500 {
        clients[round % 5].lines_ok(&["WATCH k", "MULTI", "INCR k", "EXEC", "PING"]);
    }
    // INFO itself takes a connection each time it is asked for.
    assert!(
        opened() - before <= 5,
        "{} connections for 500 transactions",
        opened() - before
    );
    let connected: u64 = redis.info("connected_clients").parse().expect("a number");
    assert!(connected < 20, "{connected}");
    drop(clients);
    let pinned = || nearhit.metric("nearhit_clients_pinned", &[]);
    wait_for("nobody to be pinned", SOON, || pinned() == 0.0);
}

#[test]
fn what_a_transaction_does_to_its_session_comes_true_between_large_replies() {
    let pair = Pair::start();
    pair.foreign(&format!("MSET big {} other x", "v".repeat(700_000)));
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.pipeline(&[
            "MULTI",
            "CLIENT SETNAME before",
            "GET big",
            "CLIENT GETNAME",
            "PUBLISH c m",
            "SELECT 1",
            "GET big",
            "SELECT 0",
            "GET big",
            "CLIENT SETNAME two words",
            "INCR big",
            "GET big",
            "CLIENT SETNAME after",
            "EXEC",
            "CLIENT GETNAME",
            "GET other",
        ]);
        // A mistake behind it takes nothing away from its reply.
        twin.send(b"MULTI\r\nCLIENT GETNAME\r\nGET big\r\nPUBLISH c m\r\nEXEC\r\n*1\r\n$x\r\n");
        twin.frames(6);
    }
}

#[test]
fn select_in_a_transaction_moves_the_session_and_it_caches_there() {
    let redis = RedisServer::start();
    let nearhit = caching(&redis, &[]);
    let mut client = nearhit.connect();
    client.lines_ok(&["SET k zero", "MULTI", "SELECT 4", "SET k four", "EXEC"]);
    for _ in 0..3 {
        assert_eq!(client.line("GET k"), "four");
    }
    wait_for_hit(&nearhit, &mut client, "GET k");
    assert!(client.line("CLIENT INFO").text().contains("db=4"));
}

#[test]
fn client_commands_in_a_transaction_are_about_the_client_and_not_about_nearhits_connection() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect();
    let id = client.line("CLIENT ID");
    client.lines_ok(&["MULTI", "CLIENT ID", "CLIENT GETNAME", "GET x"]);
    assert_eq!(client.line("EXEC").items(), [id, Reply::Nil, Reply::Nil]);
    // A server that is told to say less than EXEC announces cannot be understood: it is never told.
    client.lines_ok(&["MULTI", "PING", "CLIENT REPLY SKIP", "PING"]);
    assert_eq!(client.line("EXEC").items().len(), 3);
    client.send(&["PING", "skipped"]);
    assert_eq!(client.line("PING heard"), "heard");
    for refused in ["SUBSCRIBE a b", "CLIENT UNBLOCK 1"] {
        client.lines_ok(&["MULTI", "SET never 1"]);
        assert!(
            client
                .line(refused)
                .is_error_with("ERR Command not allowed inside a transaction"),
            "{refused}"
        );
        assert!(client.line("EXEC").is_error_with("EXECABORT"), "{refused}");
    }
    assert!(client.line("GET never").is_nil());
}

/// Clients that think between two transactions held a connection each, up to `upstream.pinned_max` of them.
#[test]
fn idle_clients_hold_no_connection_of_their_own() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--upstream.pinned-max", "4"]);
    let mut clients: Vec<_> = (0..40).map(|_| nearhit.connect()).collect();
    for client in &mut clients {
        client.line("MULTI");
        client.line("INCR n");
        assert!(!client.line("EXEC").is_error());
        wait_for("nobody to be pinned", SOON, || {
            nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
        });
    }
    assert_eq!(redis.cmd(&["GET", "n"]), "40");
}
