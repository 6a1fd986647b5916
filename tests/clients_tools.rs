//! The tools that come with Redis: redis-cli says the same through nearhit as without it, redis-benchmark finds no error.

mod support;

use std::io::Write;
use std::process::Command;
use std::time::Duration;
use support::{Nearhit, RedisServer, child};

const LIMIT: Duration = Duration::from_secs(60);

/// One command a line, whose answers depend on nothing but what stands above them.
const SESSION: &str = r#"SET s "a b\n\x00\xff"
GET s
GET s
GET none
INCR s
HSET h a 1 b 2
HGETALL h
ZADD z 1.5 x 2 y
ZRANGE z 0 -1 WITHSCORES
ZSCORE z x
SADD set 1
SMEMBERS set
MGET s none
LPUSH l 1 2 3
LRANGE l 0 -1
EVAL "return {1, 'two', false, {3, {4}}}" 0
EVAL "redis.setresp(3) return {map = {a = true}}" 0
MULTI
INCR n
GET n
EXEC
DISCARD
NOSUCH a b
GET
SELECT 5
DBSIZE
SET five 5
SELECT 0
GET five
XADD x 1-1 f v
XRANGE x - +
TYPE x
OBJECT ENCODING n
EXPIRE n 100
TTL n
COMMAND COUNT
CONFIG GET maxmemory
PING hi
ECHO hi
BLPOP l 1
SCAN 0 COUNT 100 TYPE list
COPY s s2
RENAME s2 s3
EXISTS s s2 s3
DEL s s3
"#;

/// What redis-cli prints when `input` is its standard input.
fn cli(port: u16, args: &[&str], input: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().expect("make a file");
    file.write_all(input.as_bytes()).expect("write a file");
    // The shell gives it its input, the harness a limit.
    let mut command = Command::new("sh");
    command.args(["-c", r#"input=$1; shift; exec redis-cli "$@" <"$input""#, "redis-cli"]);
    command.arg(file.path()).args(["-p", &port.to_string()]).args(args);
    let done = child::run(&mut command, LIMIT);
    assert_eq!(
        (done.code(), done.stderr.as_str()),
        (Some(0), ""),
        "redis-cli {args:?}: {}",
        done.stdout
    );
    done.stdout
}

#[test]
fn redis_cli_prints_the_same_through_nearhit() {
    for args in [
        &["-2"][..],
        &["-3"],
        &["-3", "--no-raw"],
        &["-2", "--csv"],
        &["-3", "--json"],
    ] {
        let (direct, redis) = (RedisServer::start(), RedisServer::start());
        let proxy = Nearhit::serve_with(&redis.url(), &["--cache.admission", "always"]);
        let wanted = cli(direct.port(), args, SESSION);
        let got = cli(proxy.addr().port(), args, SESSION);
        assert!(wanted.lines().count() > 40, "{wanted}");
        assert_eq!(got, wanted, "redis-cli {args:?}");
    }
}

#[test]
fn the_modes_of_redis_cli_work() {
    let redis = RedisServer::start();
    let proxy = Nearhit::serve(&redis.url());
    let port = proxy.addr().port();
    let load: String = (0..2000)
        .map(|number| format!("SET key:{number} {number}\r\n"))
        .collect();
    let piped = cli(port, &["--pipe"], &load);
    assert!(piped.contains("errors: 0, replies: 2000"), "{piped}");
    assert_eq!(cli(port, &["--scan", "--pattern", "key:1*"], "").lines().count(), 1111);
    for mode in [&["--bigkeys"][..], &["--memkeys"]] {
        let found = cli(port, mode, "");
        assert!(
            found.contains("Sampled 2000 keys in the keyspace!"),
            "{mode:?}: {found}"
        );
    }
    assert_eq!(cli(port, &["-r", "3", "GET", "key:7"], ""), "7\n7\n7\n");
    assert_eq!(cli(port, &["-n", "2", "DBSIZE"], ""), "0\n");
    assert_eq!(
        cli(
            port,
            &["--eval", "/dev/stdin", "key:1", ",", "x"],
            "return {KEYS[1], ARGV[1]}"
        ),
        "key:1\nx\n"
    );
}

#[test]
fn redis_benchmark_finds_no_error() {
    let redis = RedisServer::start();
    let proxy = Nearhit::serve(&redis.url());
    let port = proxy.addr().port().to_string();
    for more in [
        &["-P", "1"][..],
        &["-P", "16"],
        &["-3", "-P", "1"],
        &["-3", "-P", "16"],
        &["-k", "0", "-n", "500"],
        &["-r", "100", "-P", "4"],
    ] {
        let mut command = Command::new("redis-benchmark");
        command
            .args([
                "-p",
                &port,
                "-t",
                "get,set,incr,lpush,mset",
                "-n",
                "2000",
                "-c",
                "10",
                "-d",
                "64",
            ])
            .args(more);
        let done = child::run(&mut command, LIMIT);
        let output = done.output();
        assert_eq!(done.code(), Some(0), "{more:?}: {output}");
        for wrong in ["rror", "WARNING: C", "failed"] {
            assert!(!output.contains(wrong), "{more:?}: {output}");
        }
        assert_eq!(output.matches("requests completed").count(), 5, "{more:?}: {output}");
    }
}
