//! Commands about the server: they reach it, whatever else is on its way, and its bytes come back.

mod session_support;
mod support;

use session_support::{Pair, commands, line_bytes};
use support::{Nearhit, RedisServer, Reply, SOON, eventually, wait_for};

const SETTINGS: &[(&str, &str)] = &[("--enable-debug-command", "yes"), ("--latency-monitor-threshold", "0")];

#[test]
fn administration_is_the_servers() {
    let pair = Pair::start_with(SETTINGS, &[]);
    pair.foreign("MSET a 1 b hello");
    pair.foreign("RPUSH l 1 2 3");
    let lists = [
        "DEBUG | DEBUG NOSUCH | DEBUG SLEEP 0 | DEBUG OBJECT none | DEBUG SET-ACTIVE-EXPIRE 1 | DEBUG JMAP | DEBUG HELP",
        "CONFIG GET maxmemory | CONFIG GET save nosuch* | CONFIG GET | CONFIG SET | CONFIG SET nosuch 1 | \
         CONFIG SET maxmemory-samples 7 | CONFIG GET maxmemory-samples | CONFIG RESETSTAT | CONFIG REWRITE x | CONFIG HELP",
        "OBJECT ENCODING a | OBJECT ENCODING l | OBJECT REFCOUNT b | OBJECT FREQ a | OBJECT NOSUCH a | OBJECT HELP | \
         OBJECT ENCODING none | OBJECT IDLETIME none",
        "MEMORY USAGE a | MEMORY USAGE l SAMPLES 0 | MEMORY USAGE none | MEMORY HELP | MEMORY NOSUCH | MEMORY PURGE x",
        "LATENCY LATEST | LATENCY HISTORY command | LATENCY RESET | LATENCY GRAPH x | LATENCY HELP | LATENCY HISTOGRAM nosuch",
        "SLOWLOG RESET | SLOWLOG LEN | SLOWLOG GET 0 | SLOWLOG GET x | SLOWLOG HELP | SLOWLOG NOSUCH",
        "ACL WHOAMI | ACL LIST | ACL USERS | ACL GETUSER nobody | ACL CAT nosuch | ACL SETUSER x nosuch | ACL DELUSER nobody | \
         ACL DRYRUN default get a | ACL DRYRUN nobody get a | ACL LOG RESET | ACL LOG | ACL LOAD | ACL SAVE | ACL HELP | ACL NOSUCH",
        "MODULE LIST | MODULE LOAD /none | MODULE UNLOAD none | MODULE HELP | MODULE NOSUCH",
        "SCRIPT KILL | SCRIPT EXISTS a b | SCRIPT LOAD ( | SCRIPT FLUSH x | SCRIPT HELP | EVALSHA ffff 0 | EVALSHA_RO ffff 0 | \
         EVAL_RO x 0 | SCRIPT FLUSH | SCRIPT DEBUG x | SCRIPT NOSUCH",
        "FUNCTION LIST | FUNCTION KILL | FUNCTION STATS | FUNCTION DELETE none | FUNCTION LOAD x | FUNCTION DUMP | \
         FUNCTION FLUSH x | FUNCTION HELP | FCALL none 0 | FCALL_RO none 0 | FUNCTION RESTORE x",
        "SCAN 0 COUNT 100 TYPE list | SCAN x | SCAN 0 TYPE | HSCAN none 0 | SSCAN none 0 | ZSCAN none 0 | HSCAN a 0 | SCAN 0 MATCH l",
        "SHUTDOWN x | SHUTDOWN ABORT | FAILOVER ABORT | SAVE x | BGSAVE x | LASTSAVE x | DBSIZE | SWAPDB 0 x | LOLWUT VERSION 5 1 1 1",
        "WAIT 0 0 | WAIT 0 10 | WAIT x 0 | WAIT 0 x | WAIT 0 -1 | WAIT | WAITAOF 0 0 0 | RESET | REPLICAOF | TIME x",
        "OBJECT | MEMORY | LATENCY | SLOWLOG | ACL | MODULE | SCRIPT | FUNCTION | CONFIG | CLUSTER | CLIENT | PUBSUB | XINFO",
    ];
    for version in [2, 3] {
        for list in lists {
            pair.twin_in(version).table(&commands(list), 1);
        }
    }
}

#[test]
fn a_script_that_does_not_end_is_ended_by_another_client_of_any_database() {
    let redis = RedisServer::builder().arg("--busy-reply-threshold", "50").start();
    let nearhit = Nearhit::serve_with(
        &redis.url(),
        &["--server.threads", "1", "--upstream.command-timeout", "0s"],
    );
    let library = "#!lua name=l\nredis.register_function('forever', function() while true do end end)";
    redis.cmd(&["FUNCTION", "LOAD", library]);
    for (endless, kill, db) in [
        (line_bytes("FCALL forever 0"), "FUNCTION KILL", 0),
        (
            support::resp::encode(&["EVAL", "while true do end", "0"]),
            "SCRIPT KILL",
            0,
        ),
        (
            support::resp::encode(&["EVAL", "while true do end", "0"]),
            "SCRIPT KILL",
            3,
        ),
    ] {
        let (mut stuck, mut killer, mut behind) = (nearhit.connect(), nearhit.connect(), nearhit.connect());
        killer.lines_ok(&[&format!("SELECT {db}"), "SET where here"]);
        stuck.send_raw(&endless);
        wait_for("the script", SOON, || redis.client().line("PING").is_error_with("BUSY"));
        behind.send_raw(line_bytes("PING"));
        assert_eq!(killer.line(kill), "OK", "{db}");
        assert!(stuck.reply().is_error(), "the script was killed");
        assert_eq!(behind.reply(), "PONG");
        assert_eq!(killer.line("GET where"), "here", "in its own database again");
        killer.send_raw([line_bytes(kill), line_bytes("GET where")].concat());
        assert!(killer.reply().is_error_with("NOTBUSY"));
        assert_eq!(killer.reply(), "here");
    }
}

#[test]
fn shutdown_reaches_the_server_while_a_script_runs() {
    let mut redis = RedisServer::builder().arg("--busy-reply-threshold", "50").start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.threads", "1"]);
    let (mut stuck, mut other) = (nearhit.connect(), nearhit.connect());
    other.line("SELECT 2");
    stuck.send_raw(support::resp::encode(&["EVAL", "while true do end", "0"]));
    wait_for("the script", SOON, || redis.client().line("PING").is_error_with("BUSY"));
    other.send_raw(line_bytes("SHUTDOWN NOSAVE"));
    assert!(eventually(SOON, || !redis.is_running()));
}

#[test]
fn wait_counts_the_replicas_that_have_what_this_client_wrote() {
    let primary = RedisServer::start();
    let replicas = [RedisServer::replica_of(&primary), RedisServer::replica_of(&primary)];
    let nearhit = Nearhit::serve_with(&primary.url(), &["--server.threads", "2"]);
    for version in ["HELLO 2", "HELLO 3"] {
        let mut client = nearhit.connect();
        client.line(version);
        assert_eq!(client.line("WAIT 2 5000"), 2, "nothing was written yet");
        client.send_raw([line_bytes("SET k 1"), line_bytes("INCR k"), line_bytes("WAIT 2 5000")].concat());
        assert_eq!(
            [client.reply(), client.reply(), client.reply()],
            [Reply::Status("OK".into()), Reply::Int(2), Reply::Int(2)]
        );
        replicas[0].pause();
        client.line("SET k 3");
        assert_eq!(client.line("WAIT 2 300"), 1, "one does not answer");
        replicas[0].resume();
        assert_eq!(client.line("WAIT 2 5000"), 2);
        client.lines_ok(&["MULTI", "SET k 4", "WAIT 2 0"]);
        assert_eq!(client.line("EXEC").items().len(), 2, "it does not wait inside");
    }
    // WAIT of one client is not about what another one wrote a moment before.
    let (mut writer, mut other) = (nearhit.connect(), nearhit.connect());
    assert_eq!(other.line("WAIT 2 5000"), 2);
    writer.line("SET k 5");
    assert_eq!(writer.line("WAIT 2 5000"), 2);
}

#[test]
fn reset_ends_everything_that_the_server_would_end() {
    let pair = Pair::start();
    for version in [2, 3] {
        for state in [
            "CLIENT SETNAME me | SELECT 4 | HELLO 3",
            "MULTI | SET k 1",
            "WATCH k | MULTI | GET k",
            "CLIENT REPLY SKIP",
            "CLIENT TRACKING on BCAST",
            "CLIENT NO-EVICT on",
            "HELLO 3 | SUBSCRIBE c",
        ] {
            let mut twin = pair.twin_in(version);
            let lines = [
                commands(state),
                commands("RESET | CLIENT GETNAME | GET none | CLIENT TRACKINGINFO | EXEC | PING"),
            ];
            let bytes: Vec<u8> = lines.concat().into_iter().flat_map(line_bytes).collect();
            twin.send(&[bytes, line_bytes("QUIT")].concat());
            twin.closes(state.as_bytes());
        }
    }
    let mut client = pair.nearhit.connect();
    client.lines_ok(&["MONITOR", "RESET", "SET k v"]);
    pair.nearhit.connect().line("PING");
    assert_eq!(client.line("GET k"), "v", "no line of MONITOR comes any more");
}
