//! CLIENT KILL ends nearhit's clients, never the server's.

mod session_support;
mod support;

use session_support::{Pair, line_bytes};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

#[test]
fn mistakes_are_told_in_the_servers_words() {
    let pair = Pair::start();
    for version in [2, 3] {
        pair.twin_in(version).table(
            &[
                "CLIENT KILL",
                "CLIENT KILL x",
                "CLIENT KILL ID",
                "CLIENT KILL ID 0",
                "CLIENT KILL ID x",
                "CLIENT KILL ID 99999",
                "CLIENT KILL ID -1",
                "CLIENT KILL ID 99999 TYPE",
                "CLIENT KILL TYPE foo",
                "CLIENT KILL TYPE pubsub",
                "CLIENT KILL TYPE replica",
                "CLIENT KILL USER nobody",
                "CLIENT KILL USER default SKIPME maybe",
                "CLIENT KILL SKIPME yes ADDR 1:1",
                "CLIENT KILL MAXAGE 10",
                "CLIENT KILL ID 99999 LADDR 1",
                "CLIENT KILL FOO BAR",
                "CLIENT KILL ID 9223372036854775807",
                "CLIENT KILL ID 1 ADDR",
                "CLIENT KILL 1.2.3.4:5 LADDR",
            ],
            1,
        );
    }
}

/// A nearhit with many workers, and a client of each kind of state.
fn kinds(nearhit: &Nearhit) -> Vec<(&'static str, Resp)> {
    let states: [&[&str]; 7] = [
        &["PING"],
        &["MULTI", "SET k v"],
        &["WATCH k"],
        &["SUBSCRIBE c"],
        &["HELLO 3", "SUBSCRIBE c", "GET k"],
        &["MONITOR"],
        &["HELLO 3", "CLIENT TRACKING on"],
    ];
    let mut clients: Vec<_> = states
        .into_iter()
        .map(|lines| {
            let mut client = nearhit.connect();
            lines.iter().for_each(|line| {
                client.send_raw(line_bytes(line));
                drop(client.read_frame_bytes());
            });
            (lines[lines.len() - 1], client)
        })
        .collect();
    let mut blocked = nearhit.connect();
    blocked.send_raw(line_bytes("BLPOP queue 0"));
    // Nothing answers it, and until nearhit has accepted it nobody can name it.
    let mut observer = nearhit.connect();
    wait_for("the blocked client", SOON, || {
        observer.line("CLIENT LIST").text().contains(" flags=b ")
    });
    clients.push(("BLPOP", blocked));
    clients
}

#[test]
fn a_client_is_killed_whatever_it_does_and_on_whichever_worker() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "3"]);
    let mut killer = nearhit.connect();
    for (state, mut client) in kinds(&nearhit) {
        let addr = client.local_addr();
        let killed = killer.line(&format!("CLIENT KILL ADDR {addr}"));
        assert_eq!(killed, 1, "{state}");
        // It is gone for everybody as soon as the killer was told.
        assert_eq!(killer.line(&format!("CLIENT KILL ADDR {addr}")), 0, "{state}");
        assert!(
            !killer.line("CLIENT LIST").text().contains(&addr.to_string()),
            "{state}"
        );
        let rest = client.read_to_close();
        assert!(
            state == "MONITOR" || rest.is_empty(),
            "{state}: {}",
            rest.escape_ascii()
        );
    }
    wait_for("the end of its call", SOON, || redis.info("blocked_clients") == "0");
    redis.cmd(&["RPUSH", "queue", "element"]);
    assert_eq!(
        redis.cmd(&["LLEN", "queue"]),
        1,
        "nothing was popped for a client that is gone"
    );
    wait_for("the count", SOON, || {
        nearhit.metric("nearhit_client_disconnects_total", &["\"kill\""]) == 8.0
    });
}

#[test]
fn filters_must_all_fit() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let mut killer = nearhit.connect();
    let own = killer.line("CLIENT ID").int();
    let mut normal: Vec<_> = (0..5).map(|_| nearhit.connect()).collect();
    let mut listeners: Vec<_> = (0..3).map(|_| nearhit.connect()).collect();
    let id = normal[0].line("CLIENT ID").int();
    normal.iter_mut().for_each(|client| drop(client.line("PING")));
    listeners.iter_mut().for_each(|client| drop(client.line("SUBSCRIBE c")));
    wait_for("the subscribers", SOON, || {
        killer.line("CLIENT LIST TYPE pubsub").text().lines().count() == 3
    });
    for (filters, count) in [
        (format!("ID {id} TYPE pubsub"), 0),
        (format!("ID {id} ADDR 1.2.3.4:5"), 0),
        (format!("ID {own}"), 0),
        (
            format!("ID {id} TYPE normal USER default LADDR {} SKIPME no", nearhit.addr()),
            1,
        ),
        ("TYPE pubsub".to_owned(), 3),
        ("TYPE replica".to_owned(), 0),
        (format!("LADDR {} SKIPME yes", nearhit.addr()), 4),
        ("USER default SKIPME yes".to_owned(), 0),
    ] {
        assert_eq!(killer.line(&format!("CLIENT KILL {filters}")), count, "{filters}");
    }
    normal.iter_mut().chain(&mut listeners).for_each(Resp::expect_closed);
}

#[test]
fn who_kills_itself_is_answered_first() {
    let pair = Pair::start();
    let twin_of_self = |twin: &mut session_support::Twin, command: &dyn Fn(&Resp, i64) -> String| {
        for client in [&mut twin.direct, &mut twin.proxied] {
            let id = client.line("CLIENT ID").int();
            let line = command(client, id);
            client.send_raw([line_bytes(&line), line_bytes("PING")].concat());
        }
    };
    let mut old = pair.twin();
    twin_of_self(&mut old, &|client, _| format!("CLIENT KILL {}", client.local_addr()));
    assert_eq!(old.reply(b"old form"), "OK");
    let mut new = pair.twin();
    twin_of_self(&mut new, &|_, id| format!("CLIENT KILL ID {id} SKIPME no"));
    assert_eq!(new.reply(b"new form"), 1);
    let mut inside = pair.twin();
    inside.lines(&["MULTI", "PING"]);
    for client in [&mut inside.direct, &mut inside.proxied] {
        let line = format!("CLIENT KILL ADDR {} SKIPME no", client.local_addr());
        client.line(&line);
        client.send_raw([line_bytes("PING"), line_bytes("EXEC"), line_bytes("PING")].concat());
    }
    inside.closes(b"in a transaction");
    for client in [&mut old.proxied, &mut new.proxied] {
        client.expect_closed();
    }
}

#[test]
fn a_killed_client_does_nothing_more() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let mut killer = nearhit.connect();
    for round in 0..200 {
        let mut client = nearhit.connect();
        let id = client.line("CLIENT ID").int();
        assert_eq!(killer.line(&format!("CLIENT KILL ID {id}")), 1);
        drop(client.try_send_raw(line_bytes(&format!("SET round:{round} x"))));
        drop(client.try_reply());
    }
    assert_eq!(redis.cmd(&["DBSIZE"]), 0);
}
