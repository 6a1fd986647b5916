//! The harness itself: the servers it starts are real, and its client reads every reply type exactly.

mod support;

use support::{RedisServer, Reply, Resp, SOON, Sentinel, eventually, resp};

#[test]
fn a_server_starts_from_the_conf_and_answers() {
    let redis = RedisServer::start();
    assert_eq!(redis.cmd(&["PING"]), "PONG");
    assert_eq!(redis.cmd(&["CONFIG", "GET", "save"]), ["save", ""]);
    assert_eq!(redis.info("process_id"), redis.pid().to_string());
}

#[test]
fn a_setting_of_the_builder_reaches_the_server() {
    let redis = RedisServer::builder()
        .arg("--maxmemory", "1mb")
        .arg("--maxmemory-policy", "allkeys-lru")
        .start();
    assert_eq!(redis.cmd(&["CONFIG", "GET", "maxmemory"]), ["maxmemory", "1048576"]);
}

#[test]
fn a_killed_server_comes_back_on_its_port() {
    let mut redis = RedisServer::start();
    let (port, pid) = (redis.port(), redis.pid());
    redis.kill9();
    assert!(Resp::try_connect(redis.addr()).is_err());
    redis.restart();
    assert_eq!(redis.port(), port);
    assert_ne!(redis.pid(), pid);
    assert_eq!(redis.cmd(&["PING"]), "PONG");
}

#[test]
fn a_paused_server_answers_after_it_is_resumed() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    redis.pause();
    client.send(&["PING"]);
    client.expect_silence(std::time::Duration::from_millis(50));
    redis.resume();
    assert_eq!(client.reply(), "PONG");
}

#[test]
fn a_replica_follows_its_primary() {
    let primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    primary.cmd(&["SET", "k", "v"]);
    assert!(eventually(SOON, || replica.cmd(&["GET", "k"]) == "v"));
    assert!(replica.cmd(&["SET", "k", "w"]).is_error_with("READONLY"));
}

#[test]
fn a_sentinel_knows_the_primary() {
    let primary = RedisServer::start();
    let sentinel = Sentinel::watch(&primary, 1);
    assert_eq!(sentinel.primary(), ("127.0.0.1".to_owned(), primary.port()));
}

#[test]
fn the_client_keeps_pushes_apart_from_replies() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    client.hello3();
    client.line("CLIENT TRACKING ON");
    client.line("GET k");
    redis.cmd(&["SET", "k", "v"]);
    assert_eq!(client.line("PING"), "PONG");
    let push = client.push().items();
    assert_eq!(push[0], "invalidate");
    assert_eq!(push[1], ["k"]);
}

#[test]
fn the_client_reads_every_reply_type_of_a_real_server() {
    let redis = RedisServer::builder().arg("--enable-debug-command", "yes").start();
    let mut client = redis.client();
    client.hello3();
    let mut ask = |kind: &str| client.cmd(&["DEBUG", "PROTOCOL", kind]);
    assert_eq!(ask("double"), Reply::Double("3.141".into()));
    assert_eq!(ask("null"), Reply::Null);
    assert_eq!(ask("true"), Reply::Bool(true));
    assert_eq!(
        ask("bignum"),
        Reply::BigNumber("1234567999999999999999999999999999999".into())
    );
    assert_eq!(
        ask("verbatim"),
        Reply::Verbatim {
            format: "txt".into(),
            text: b"This is a verbatim\nstring".to_vec()
        }
    );
    assert_eq!(ask("set"), [0, 1, 2]);
    assert!(matches!(ask("map"), Reply::Map(pairs) if pairs.len() == 3));
    assert!(
        matches!(ask("attrib"), Reply::Attributed(_, reply) if *reply == "Some real reply following the attribute")
    );
}

#[test]
fn decoding_keeps_the_three_nothings_apart() {
    assert_eq!(resp::decode(b"$-1\r\n"), Reply::Nil);
    assert_eq!(resp::decode(b"*-1\r\n"), Reply::NilArray);
    assert_eq!(resp::decode(b"_\r\n"), Reply::Null);
    assert_eq!(
        resp::decode(b"*2\r\n$0\r\n\r\n-ERR x\r\n").items()[1],
        Reply::Error("ERR x".into())
    );
}
