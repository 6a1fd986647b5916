//! Where the operator wants everybody to say who they are.

mod identity_support;
mod session_support;
mod support;

use identity_support::{nearhit, server, wait_for_hit_of};
use session_support::{Pair, Twin, wait_for_cache};
use support::{Nearhit, RedisServer};

/// A client is answered as by a server that wants a password, whatever the server behind nearhit wants.
#[test]
fn nothing_is_done_for_who_has_not_said_who_they_are() {
    for login in ["", "default:opensesame@", "ada:lovelace@"] {
        let (direct, behind) = (server(true), server(true));
        let url = format!("redis://{login}{}", behind.addr());
        let nearhit = Nearhit::serve_with(&url, &["--server.require-auth", "true"]);
        for line in [
            "GET k|SET k x|MGET k|PING|PING a b|ECHO x|SELECT 1|SELECT x|GET|NOSUCH|NOSUCH x y|CONFIG NOSUCH|INFO|DBSIZE",
            "EVAL x|CLIENT ID|CLIENT ID x|CLIENT|CLIENT NOSUCH|CLIENT LIST|CLIENT REPLY OFF|MULTI|EXEC|EXEC x|DISCARD",
            "HELLO|HELLO 2|HELLO 3|HELLO 3 SETNAME x|HELLO 9|HELLO x|HELLO 3 AUTH x|HELLO 3 BAD|HELLO 3 SETNAME a\tb",
            "WATCH k|SUBSCRIBE c|BLPOP k 0|MONITOR|CLIENT TRACKING ON|WAIT 0 0|RESET|RESET x|GET k|SYNC|PSYNC ? -1",
            "AUTH|AUTH wrong|AUTH default wrong|AUTH a b c|GET k|AUTH opensesame|GET k|ACL WHOAMI|AUTH wrong|GET k",
            "AUTH alice wonderland|GET a:1|GET k|RESET|GET a:1|HELLO 3 AUTH alice wonderland|GET a:none|RESET|GET k",
        ] {
            let lines: Vec<_> = line.split('|').collect();
            let twin = || Twin {
                direct: direct.client(),
                proxied: nearhit.connect(),
            };
            let mut one = twin();
            for line in &lines {
                one.line(line);
            }
            twin().pipeline(&lines);
        }
        assert!(nearhit.connect().line("PROXY STATS").is_error_with("NOAUTH"));
    }
}

#[test]
fn a_password_is_wanted_where_the_server_wants_none() {
    let redis = server(false);
    let nearhit = nearhit(&redis, &["--server.require-auth", "true"]);
    for line in ["GET k", "PING", "HELLO 3", "SUBSCRIBE c", "PROXY KEYS *", "CLIENT LIST"] {
        assert!(nearhit.connect().line(line).is_error_with("NOAUTH"), "{line}");
    }
    let mut client = nearhit.connect();
    assert!(
        client
            .line("AUTH x")
            .is_error_with("ERR AUTH <password> called without any password configured")
    );
    assert!(client.line("GET k").is_error_with("NOAUTH"));
    assert_eq!(client.line("AUTH alice wonderland"), "OK");
    wait_for_hit_of(&nearhit, &mut client, "GET a:1", "hers");
}

#[test]
fn who_says_what_nearhit_says_shares_its_cache() {
    let redis = RedisServer::start();
    redis
        .client()
        .lines_ok(&["SET k v", "CONFIG SET requirepass opensesame"]);
    let url = format!("redis://:opensesame@{}", redis.addr());
    let nearhit = Nearhit::serve_with(&url, &["--server.require-auth", "true", "--cache.admission", "always"]);
    wait_for_cache(&nearhit);
    let mut client = nearhit.connect();
    assert_eq!(client.line("AUTH opensesame"), "OK");
    wait_for_hit_of(&nearhit, &mut client, "GET k", "v");
    assert_eq!(nearhit.stderr().matches("tracking is on").count(), 1);
}

#[test]
fn strangers_have_the_small_limits_from_the_first_request_on() {
    let (direct, behind) = (server(true), server(false));
    let nearhit = nearhit(&behind, &["--server.require-auth", "true"]);
    let pair = Pair {
        direct,
        behind,
        nearhit,
    };
    for bytes in [&b"*11\r\n"[..], b"*2\r\n$16385\r\n", b"*2\r\n$3\r\nGET\r\n$16385\r\n"] {
        let mut twin = pair.twin();
        twin.send(bytes);
        assert!(!twin.closes(bytes).is_empty());
    }
}
