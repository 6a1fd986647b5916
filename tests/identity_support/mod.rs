//! Servers with users, and nearhit in front of one.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use crate::session_support::{CACHE_ALL, Pair, hits};
use crate::support::{Nearhit, RedisServer, Resp, SOON, wait_for};

/// The users of every server here. `ada` may do everything to everything, `alice` and `bob` only with keys of their own,
/// `eve` may read and nothing else, `off` may not log in.
pub const USERS: &[&str] = &[
    "ACL SETUSER ada on >lovelace ~* &* +@all",
    "ACL SETUSER alice on >wonderland ~a:* ~s:* &* +@all -@dangerous",
    "ACL SETUSER bob on >builder ~b:* ~s:* &* +@all -@dangerous",
    "ACL SETUSER eve on >dropper ~* &* +@read",
    "ACL SETUSER off off >pw ~* +@all",
    "ACL SETUSER free on nopass ~f:* +@all -@dangerous",
];

/// The default user's password.
pub const PASSWORD: &str = "opensesame";

/// A server with [`USERS`] and some keys; `locked`: strangers need a password.
pub fn server(locked: bool) -> RedisServer {
    let server = RedisServer::start();
    let mut client = server.client();
    for line in USERS {
        assert_eq!(client.line(line), "OK");
    }
    client.lines_ok(&[
        "SET k plain",
        "SET a:1 hers",
        "SET b:1 his",
        "SET s:1 both",
        "SET f:1 free",
    ]);
    if locked {
        assert_eq!(client.line(&format!("CONFIG SET requirepass {PASSWORD}")), "OK");
    }
    server
}

/// nearhit in front of `redis`, which stores every read, with one worker so that tests know who shares what.
pub fn nearhit(redis: &RedisServer, args: &[&str]) -> Nearhit {
    Nearhit::serve_with(&redis.url(), &[CACHE_ALL, &["--server.threads", "1"], args].concat())
}

/// Two servers with users, nearhit in front of one.
pub fn pair(locked: bool, args: &[&str]) -> Pair {
    let (direct, behind) = (server(locked), server(locked));
    let nearhit = nearhit(&behind, args);
    // The first stranger is told whether there is a password.
    assert_eq!(nearhit.connect().line("PING").is_error_with("NOAUTH"), locked);
    Pair {
        direct,
        behind,
        nearhit,
    }
}

/// A client of nearhit that has said who it is.
#[track_caller]
pub fn login(nearhit: &Nearhit, auth: &str) -> Resp {
    let mut client = nearhit.connect();
    assert_eq!(client.line(auth), "OK", "{auth}");
    client
}

/// Reads `line` until it is answered from memory with `value`.
#[track_caller]
pub fn wait_for_hit_of(nearhit: &Nearhit, client: &mut Resp, line: &str, value: &str) {
    wait_for(&format!("a hit of {line}"), SOON, || {
        let before = hits(nearhit);
        assert_eq!(client.line(line), value, "{line}");
        hits(nearhit) > before
    });
}
