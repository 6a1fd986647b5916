//! CLIENT TRACKING in all its modes: a client that caches by itself hears what the server would tell it.

mod session_support;
mod support;

use session_support::{Pair, Twin, hits, line_bytes};
use std::time::Duration;
use support::{Reply, Resp, SOON, wait_for};

/// The frames that come before the answer to a PING: no more can come because of what was done before.
fn pushes(client: &mut Resp) -> Vec<Reply> {
    let answer = client.line("PING");
    assert!(matches!(answer.bytes(), Some(b"PONG")), "{answer:?}");
    client.kept_pushes()
}

/// Foreign writes, and then both clients must have heard the same of them.
fn same_pushes(pair: &Pair, twin: &mut Twin, writes: &[&str], what: &str) {
    for write in writes {
        pair.foreign(write);
    }
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    let same = support::eventually(SOON, || {
        direct.extend(pushes(&mut twin.direct));
        proxied.extend(pushes(&mut twin.proxied));
        direct == proxied
    });
    assert!(same, "{what}:\n direct:  {direct:?}\n proxied: {proxied:?}");
}

#[test]
fn each_mode_tells_of_what_it_is_asked_for() {
    let pair = Pair::start();
    for (mode, lines) in [
        ("on", "GET a | GET b | SET c 1"),
        ("on NOLOOP", "GET a | SET a 1 | GET b"),
        ("on BCAST", "PING"),
        ("on BCAST PREFIX a PREFIX c", "SET c 1"),
        ("on BCAST NOLOOP", "SET a 1"),
        ("on OPTIN", "GET a | CLIENT CACHING yes | GET b | GET c"),
        ("on OPTIN", "CLIENT CACHING yes | MULTI | GET a | GET b | EXEC | GET c"),
        ("on OPTOUT", "CLIENT CACHING no | GET a | GET b"),
        ("off", "GET a"),
    ] {
        pair.foreign("MSET a 0 b 0 c 0");
        let mut twin = pair.twin_in(3);
        twin.lines(&[
            &format!("CLIENT TRACKING {mode}"),
            "CLIENT TRACKINGINFO",
            "CLIENT GETREDIR",
        ]);
        let before = pair.hits();
        twin.lines(&lines.split(" | ").collect::<Vec<_>>());
        same_pushes(&pair, &mut twin, &["SET a x", "SET b x", "SET c x"], mode);
        twin.lines(&[
            "CLIENT TRACKING off",
            "CLIENT TRACKINGINFO",
            "CLIENT TRACKING off",
            "GET a",
        ]);
        same_pushes(&pair, &mut twin, &["SET a y"], "off");
        assert!(mode == "off" || pair.hits() == before, "it has its own cache: {mode}");
    }
}

#[test]
fn mistakes_are_told_in_the_servers_words() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.table(
            &[
                "CLIENT GETREDIR",
                "CLIENT TRACKINGINFO",
                "CLIENT CACHING yes",
                "CLIENT CACHING",
                "CLIENT TRACKING",
                "CLIENT TRACKING foo",
                "CLIENT TRACKING on REDIRECT 99999",
                "CLIENT TRACKING on REDIRECT x",
                "CLIENT TRACKING on REDIRECT",
                "CLIENT TRACKING on PREFIX a",
                "CLIENT TRACKING on OPTIN OPTOUT",
                "CLIENT TRACKING on BCAST PREFIX ab PREFIX a",
                "CLIENT TRACKING on REDIRECT 0",
                "CLIENT TRACKING on REDIRECT -1",
                "CLIENT TRACKING on REDIRECT 99999 REDIRECT 99999",
                "CLIENT TRACKING off REDIRECT 99999",
                "CLIENT TRACKING on BCAST OPTIN",
                "CLIENT TRACKINGINFO",
            ],
            1,
        );
        twin.lines(&[
            "CLIENT TRACKING on BCAST",
            "CLIENT TRACKING on",
            "CLIENT CACHING yes",
            "CLIENT TRACKING off",
        ]);
        twin.lines(&[
            "MULTI",
            "CLIENT GETREDIR",
            "CLIENT TRACKINGINFO",
            "CLIENT CACHING yes",
            "EXEC",
        ]);
    }
}

/// A nearhit client that asked about itself, or made a mistake, held a connection of its own for good.
#[test]
fn asking_about_tracking_costs_no_connection() {
    let pair = Pair::start();
    let mut client = pair.nearhit.connect();
    for line in [
        "CLIENT TRACKINGINFO",
        "CLIENT GETREDIR",
        "CLIENT CACHING yes",
        "CLIENT TRACKING on OPTIN OPTOUT",
    ] {
        client.line(line);
    }
    wait_for("no pinned client", SOON, || {
        pair.nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
    });
    client.lines_ok(&["SET k v"]);
    session_support::wait_for_hit(&pair.nearhit, &mut client, "GET k");
}

fn ids(twin: &mut Twin) -> [i64; 2] {
    [&mut twin.direct, &mut twin.proxied].map(|client| client.line("CLIENT ID").int())
}

/// Has each side's `teller` redirect to its own `listener`.
fn redirect(tellers: &mut Twin, listeners: [i64; 2], options: &str) {
    for (client, id) in [&mut tellers.direct, &mut tellers.proxied].into_iter().zip(listeners) {
        let reply = client.line(&format!("CLIENT TRACKING on REDIRECT {id} {options}"));
        assert_eq!(reply, "OK", "{options}");
        assert_eq!(client.line("CLIENT GETREDIR"), id);
        assert_eq!(client.line("CLIENT TRACKINGINFO").get("redirect"), Some(Reply::Int(id)));
        let line = client.line("CLIENT INFO").text();
        assert!(line.contains(&format!(" redir={id} ")), "{line}");
    }
}

#[test]
fn invalidations_go_to_a_subscribed_client_of_resp2() {
    let pair = Pair::start();
    for options in ["", "NOLOOP", "BCAST PREFIX k"] {
        let (mut tellers, mut listeners) = (pair.twin(), pair.twin());
        let targets = ids(&mut listeners);
        listeners.line("SUBSCRIBE __redis__:invalidate");
        redirect(&mut tellers, targets, options);
        pair.foreign("SET k 0");
        if options.starts_with("BCAST") {
            listeners.reply(b"the write before");
        }
        tellers.lines(&["GET k", "GET k", "GET k"]);
        pair.foreign("SET k 1");
        let message = listeners.reply(b"the message");
        assert_eq!(message.items()[1], "__redis__:invalidate");
        listeners.lines(&[
            "UNSUBSCRIBE __redis__:invalidate",
            "GET k",
            "SUBSCRIBE __redis__:invalidate",
        ]);
        tellers.line("GET k");
        pair.foreign("SET k 2");
        listeners.reply(b"the message after it came back");
        tellers.line("GET k");
        pair.foreign("FLUSHALL");
        listeners.reply(b"everything");
    }
}

#[test]
fn invalidations_go_to_any_client_of_resp3_and_its_end_is_told() {
    let pair = Pair::start_with(&[], &["--server.threads", "3"]);
    let (mut tellers, mut listeners) = (pair.twin_in(3), pair.twin_in(3));
    listeners.lines(&["SET k 0", "GET k"]);
    let targets = ids(&mut listeners);
    redirect(&mut tellers, targets, "");
    tellers.line("GET k");
    same_pushes(&pair, &mut listeners, &["SET k 1"], "the target");
    assert!(pushes(&mut tellers.proxied).is_empty(), "not the one that asked");
    drop(listeners);
    for (server, client, id) in [
        (&pair.direct, &mut tellers.direct, targets[0]),
        (&pair.behind, &mut tellers.proxied, targets[1]),
    ] {
        let mut heard = Vec::new();
        wait_for("the push", SOON, || {
            client.line("GET k");
            server.cmd(&["SET", "k", "2"]);
            heard.extend(pushes(client));
            !heard.is_empty()
        });
        assert_eq!(heard[0].items()[0], "tracking-redir-broken");
        assert_eq!(heard[0].items()[1], id);
        let line = client.line("CLIENT INFO").text();
        assert!(line.contains(" flags=tR "), "{line}");
        assert_eq!(client.line("CLIENT GETREDIR"), id);
    }
}

#[test]
fn what_stands_behind_a_redirection_in_one_packet_is_answered_behind_it() {
    let pair = Pair::start_with(&[], &["--server.threads", "2"]);
    for busy in [false, true] {
        let (mut tellers, mut listeners) = (pair.twin_in(3), pair.twin_in(3));
        let targets = ids(&mut listeners);
        for (client, listener, id) in [
            (&mut tellers.direct, &mut listeners.direct, targets[0]),
            (&mut tellers.proxied, &mut listeners.proxied, targets[1]),
        ] {
            if busy {
                listener.send_raw(line_bytes("GET k").repeat(2000));
            }
            let lines = format!("CLIENT TRACKING on REDIRECT {id}\r\nPING\r\nGET k\r\nCLIENT TRACKING off\r\n");
            client.send_raw(lines);
            assert_eq!(client.reply(), "OK");
            assert_eq!(client.reply(), "PONG");
            assert!(!client.reply().is_error());
            assert_eq!(client.reply(), "OK");
            client.send_raw("CLIENT TRACKING on REDIRECT 99999\r\nPING\r\n");
            assert!(client.reply().is_error_with("ERR"));
            assert_eq!(client.reply(), "PONG");
        }
    }
}

#[test]
fn a_client_may_be_its_own_target() {
    let pair = Pair::start();
    let mut twin = pair.twin_in(3);
    let own = ids(&mut twin);
    redirect(&mut twin, own, "");
    twin.lines(&["SET k 0", "GET k"]);
    same_pushes(&pair, &mut twin, &["SET k 1"], "itself");
}

/// What was a target's connection must not become another client's: it would hear what it never asked for.
#[test]
fn nobody_inherits_a_targets_invalidations() {
    let pair = Pair::start();
    let mut teller = pair.nearhit.connect();
    for round in 0..20 {
        let mut target = pair.nearhit.connect();
        let id = target.line("CLIENT ID").int();
        target.line("SUBSCRIBE __redis__:invalidate");
        assert_eq!(teller.line(&format!("CLIENT TRACKING on REDIRECT {id}")), "OK");
        target.line("UNSUBSCRIBE");
        drop(target);
        let mut heir = pair.nearhit.connect();
        heir.line("SUBSCRIBE other");
        teller.line("GET k");
        pair.behind.cmd(&["SET", "k", "x"]);
        heir.send_raw(line_bytes("PING heard"));
        assert_eq!(heir.reply().items()[1], "heard", "round {round}");
        teller.line("CLIENT TRACKING off");
    }
}

#[test]
fn a_pause_of_everything_stops_hits_too_and_a_pause_of_writes_does_not() {
    let pair = Pair::start();
    let (mut client, mut pauser) = (pair.nearhit.connect(), pair.nearhit.connect());
    client.lines_ok(&["SET k v"]);
    session_support::wait_for_hit(&pair.nearhit, &mut client, "GET k");
    pauser.lines_ok(&["CLIENT PAUSE 60000 WRITE"]);
    session_support::wait_for_hit(&pair.nearhit, &mut client, "GET k");
    pauser.lines_ok(&["CLIENT UNPAUSE", "MULTI", "CLIENT PAUSE 500 ALL", "EXEC"]);
    let before = hits(&pair.nearhit);
    client.send_raw(line_bytes("GET k"));
    client.expect_silence(Duration::from_millis(100));
    assert_eq!(client.reply(), "v", "once the pause is over");
    assert_eq!(hits(&pair.nearhit), before);
    session_support::wait_for_hit(&pair.nearhit, &mut client, "GET k");
}

#[test]
fn mistakes_about_pauses_are_told_in_the_servers_words() {
    let pair = Pair::start();
    pair.twin().table(
        &[
            "CLIENT PAUSE",
            "CLIENT PAUSE x",
            "CLIENT PAUSE -1",
            "CLIENT PAUSE 1 foo",
            "CLIENT UNPAUSE",
            "CLIENT UNPAUSE x",
            "CLIENT PAUSE 0",
            "CLIENT PAUSE 1 WRITE",
            "PING",
        ],
        1,
    );
}

#[test]
fn nobody_is_late_because_of_a_pause() {
    let pair = Pair::start_with(&[], &["--upstream.command-timeout", "200ms", "--server.threads", "1"]);
    let (mut client, mut pauser) = (pair.nearhit.connect(), pair.nearhit.connect());
    client.lines_ok(&["SET k 0"]);
    pauser.lines_ok(&["CLIENT PAUSE 1500"]);
    client.send_raw(line_bytes("SET k v"));
    assert_eq!(client.reply(), "OK");
}
