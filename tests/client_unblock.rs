//! CLIENT UNBLOCK reaches what a client waits in at the server, and nothing else.

mod session_support;
mod support;

use session_support::{Pair, line_bytes};
use support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// Unblocks until the server says that it did: the client may not wait yet.
#[track_caller]
fn unblock(asker: &mut Resp, id: i64, how: &str) {
    wait_for("a blocked client", SOON, || {
        asker.line(&format!("CLIENT UNBLOCK {id} {how}")) == 1
    });
}

#[test]
fn mistakes_are_told_in_the_servers_words() {
    let pair = Pair::start();
    pair.twin().table(
        &[
            "CLIENT UNBLOCK",
            "CLIENT UNBLOCK x",
            "CLIENT UNBLOCK 99999",
            "CLIENT UNBLOCK 1 foo",
            "CLIENT UNBLOCK x foo",
            "CLIENT UNBLOCK 99999 error",
            "CLIENT UNBLOCK 1 error x",
            "CLIENT UNBLOCK -1",
        ],
        1,
    );
}

#[test]
fn the_blocked_client_gets_what_the_server_would_give_it() {
    let pair = Pair::start();
    let mut askers = pair.twin();
    pair.foreign("XGROUP CREATE s g $ MKSTREAM");
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        let ids = [&mut twin.direct, &mut twin.proxied].map(|client| client.line("CLIENT ID").int());
        for blocking in [
            "BLPOP q 0",
            "BRPOPLPUSH q r 0",
            "BLMOVE q r left right 0",
            "BLMPOP 0 1 q left",
            "BZPOPMIN z 0",
            "XREAD BLOCK 0 STREAMS s $",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
            "WAIT 1 0",
        ] {
            for how in ["", "TIMEOUT", "error"] {
                twin.send(&line_bytes(blocking));
                unblock(&mut askers.direct, ids[0], how);
                unblock(&mut askers.proxied, ids[1], how);
                twin.reply(format!("{blocking}, {how}").as_bytes());
            }
        }
        let line = |id| format!("CLIENT UNBLOCK {id}");
        assert_eq!(askers.direct.line(&line(ids[0])), 0);
        assert_eq!(askers.proxied.line(&line(ids[1])), 0, "it waits for nothing");
        twin.lines(&["SET k v", "GET k"]);
    }
}

#[test]
fn a_pipeline_behind_the_blocked_command_goes_on() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let (mut blocked, mut asker) = (nearhit.connect(), nearhit.connect());
    let id = blocked.line("CLIENT ID").int();
    let lines = ["BLPOP a 0", "SET k 1", "BLPOP b 0", "GET k"];
    blocked.send_raw(lines.iter().flat_map(|line| line_bytes(line)).collect::<Vec<_>>());
    unblock(&mut asker, id, "");
    assert!(blocked.reply().is_nil());
    assert_eq!(blocked.reply(), "OK");
    unblock(&mut asker, id, "ERROR");
    assert!(
        blocked
            .reply()
            .is_error_with("UNBLOCKED client unblocked via CLIENT UNBLOCK")
    );
    assert_eq!(blocked.reply(), "1");
}

/// A connection that a client waited on goes to the next one. Asked too late for the first, the second must not notice.
#[test]
fn only_the_client_that_is_named_is_unblocked() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let mut asker = nearhit.connect();
    let (mut first, mut second) = (nearhit.connect(), nearhit.connect());
    let id = first.line("CLIENT ID").int();
    for round in 0..100 {
        first.send_raw(line_bytes("BLPOP first 0"));
        wait_for("the first to wait", SOON, || redis.info("blocked_clients") == "1");
        asker.send_raw(line_bytes(&format!("CLIENT UNBLOCK {id}")));
        redis.cmd(&["RPUSH", "first", "x"]);
        drop(first.reply());
        second.send_raw(line_bytes("BLPOP second 0"));
        drop(asker.reply());
        redis.cmd(&["DEL", "first"]);
        wait_for("the second to wait", SOON, || redis.info("blocked_clients") == "1");
        redis.cmd(&["RPUSH", "second", "y"]);
        assert_eq!(second.reply().items()[1], "y", "round {round}");
    }
}

#[test]
fn who_leaves_while_the_server_is_asked_harms_nobody() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "2"]);
    let mut asker = nearhit.connect();
    for _ in 0..50 {
        let mut blocked = nearhit.connect();
        let id = blocked.line("CLIENT ID").int();
        blocked.send_raw(line_bytes("BLPOP q 0"));
        asker.send_raw(line_bytes(&format!("CLIENT UNBLOCK {id}")));
        drop(blocked);
        let answer = asker.reply().int();
        assert!(answer == 0 || answer == 1);
        let mut hasty = nearhit.connect();
        hasty.send_raw(line_bytes(&format!("CLIENT UNBLOCK {id}")));
        drop(hasty);
    }
    assert_eq!(asker.line("PING"), "PONG");
    wait_for("nobody to wait", SOON, || redis.info("blocked_clients") == "0");
}

#[test]
fn nobody_unblocks_itself() {
    // The order reached the session when it had gone on to what stood behind the request.
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect();
    let id = client.line("CLIENT ID").int();
    for _ in 0..20 {
        client.send_raw(
            [
                line_bytes(&format!("CLIENT UNBLOCK {id} ERROR")),
                line_bytes("BLPOP none 0.01"),
            ]
            .concat(),
        );
        assert_eq!(client.reply(), 0);
        assert!(client.reply().is_nil(), "timed out");
    }
}
