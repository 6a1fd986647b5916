//! The tools that come with Redis: redis-cli says the same through nearhit as without it, in all its modes; redis-benchmark
//! finds no error.

mod clients_support;
mod support;

use clients_support::{Stage, entry};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use support::child::{self, Finished};
use support::wait_for;

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
COMMAND GETKEYS GET a
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

/// A server and nearhit before another one, each with a Unix socket.
struct Sides {
    stages: [Stage; 2],
}

impl Sides {
    #[track_caller]
    fn start() -> Self {
        Self {
            stages: [Stage::direct(), Stage::proxied()],
        }
    }

    /// What redis-cli prints on both sides with `input` as its standard input; it must be equal, but for ports.
    #[track_caller]
    fn same(&self, args: &[&str], input: &str) -> String {
        let [direct, proxied] = self.stages.each_ref().map(|stage| {
            let done = cli(stage, args, input);
            let said = format!("{}{}exit {:?}", done.stdout, done.stderr, done.code());
            said.replace(&stage.port().to_string(), "PORT")
        });
        assert_eq!(proxied, direct, "redis-cli {args:?}");
        direct
    }

    /// The lines that redis-cli prints, which never ends by itself, until one contains `last`; `meanwhile` is sent to
    /// redis-cli's server again and again until then.
    #[track_caller]
    fn endless(&self, args: &[&str], last: &str, meanwhile: &[&str]) -> [Vec<String>; 2] {
        self.stages.each_ref().map(|stage| watch(stage, args, last, meanwhile))
    }
}

fn cli(stage: &Stage, args: &[&str], input: &str) -> Finished {
    let mut file = tempfile::NamedTempFile::new().expect("make a file");
    file.write_all(input.as_bytes()).expect("write a file");
    // The shell gives it its input, the harness a limit.
    let mut command = Command::new("sh");
    command.args(["-c", r#"input=$1; shift; exec redis-cli "$@" <"$input""#, "redis-cli"]);
    command.arg(file.path());
    // Only a Unix socket replaces the port.
    if args.first() == Some(&"-s") {
        command.arg("-s").arg(stage.socket()).args(&args[1..]);
    } else {
        command.args(["-p", &stage.port().to_string()]).args(args);
    }
    child::run(&mut command, LIMIT)
}

#[track_caller]
fn watch(stage: &Stage, args: &[&str], last: &str, meanwhile: &[&str]) -> Vec<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &stage.port().to_string()]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = command.spawn().expect("start redis-cli");
    let output = BufReader::new(running.stdout.take().expect("a pipe"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        output
            .lines()
            .map_while(Result::ok)
            .all(|line| sender.send(line).is_ok())
    });
    let mut seen: Vec<String> = Vec::new();
    wait_for(&format!("{last:?} from redis-cli {args:?}"), LIMIT, || {
        if !meanwhile.is_empty() {
            cli(stage, meanwhile, "");
        }
        seen.extend(lines.try_iter());
        seen.iter().any(|line| line.contains(last))
    });
    child::end(&mut running, Duration::from_secs(5));
    seen
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
        let sides = Sides::start();
        let said = sides.same(args, SESSION);
        assert!(said.lines().count() > 40, "{said}");
    }
}

#[test]
fn the_modes_of_redis_cli_work() {
    entry("redis-cli", "", |_| {
        let sides = Sides::start();
        let load: String = (0..2000)
            .map(|number| format!("SET key:{number} {number}\r\n"))
            .collect();
        assert!(sides.same(&["--pipe"], &load).contains("errors: 0, replies: 2000"));
        sides.same(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"], "");
        for (args, input, wanted) in MODES {
            let said = sides.same(args, input);
            assert!(said.contains(wanted), "redis-cli {args:?}: {said}");
        }
        for stage in &sides.stages {
            for (args, wanted) in SCANS {
                let done = cli(stage, args, "");
                assert!(done.stdout.contains(wanted), "redis-cli {args:?}: {}", done.output());
            }
            let found = cli(stage, &["--scan", "--pattern", "key:1*"], "").stdout;
            assert_eq!(found.lines().count(), 1111, "{found}");
        }
        version("redis-cli")
    });
}

#[test]
fn redis_cli_does_not_become_a_replica_of_nearhit() {
    let stage = Stage::proxied();
    for mode in ["--rdb", "--functions-rdb"] {
        let done = cli(&stage, &[mode, "/dev/null"], "");
        assert_eq!(done.code(), Some(1), "{}", done.output());
        assert!(done.output().contains("NOPERM"), "{}", done.output());
    }
}

/// Arguments, standard input, and what must be among what both sides print.
const MODES: &[(&[&str], &str, &str)] = &[
    (&["-r", "3", "GET", "key:7"], "", "7\n7\n7\n"),
    (&["-r", "2", "-i", "0.01", "GET", "key:8"], "", "8\n8\n"),
    (&["-n", "2", "DBSIZE"], "", "0\n"),
    (&["-n", "99", "PING"], "", "out of range"),
    (&["-x", "SET", "from stdin"], "a\0b\n", "OK"),
    (&["-X", "tag", "SET", "tagged", "tag"], "value", "OK"),
    (&["-3", "--json", "MGET", "from stdin", "tagged"], "", "value"),
    (&["-d", ";", "LRANGE", "none", "0", "-1"], "", ""),
    (
        &["--eval", "/dev/stdin", "key:1", ",", "x"],
        "return {KEYS[1], ARGV[1]}",
        "key:1\nx\n",
    ),
    (&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all"], "", "OK"),
    (
        &[
            "--user",
            "app",
            "--pass",
            "secret",
            "--no-auth-warning",
            "ACL",
            "WHOAMI",
        ],
        "",
        "app",
    ),
    (
        &["--user", "app", "--pass", "wrong", "--no-auth-warning", "PING"],
        "",
        "WRONGPASS",
    ),
    (&["-a", "nobody asked", "PING"], "", "AUTH failed"),
    (
        &[
            "-3",
            "--user",
            "app",
            "-a",
            "secret",
            "--no-auth-warning",
            "GET",
            "key:9",
        ],
        "",
        "9",
    ),
    (&["-c", "GET", "key:10"], "", "10"),
    (&["-e", "NOSUCH"], "", "exit Some(1)"),
    (&["-s", "GET", "key:11"], "", "11"),
    (&["-s", "-n", "3", "SET", "third", "x"], "", "OK"),
    (&["SCRIPT", "DEBUG", "YES"], "", "OK"),
    (&["--ldb", "--eval", "/dev/stdin"], "", "exit"),
];

/// What prints numbers of its own or an order of its own.
const SCANS: &[(&[&str], &str)] = &[
    (&["--bigkeys"], "Sampled 2002 keys in the keyspace!"),
    (&["--memkeys"], "Sampled 2002 keys in the keyspace!"),
    (&["--hotkeys"], "Sampled 2002 keys in the keyspace!"),
    (&["--latency", "--raw", "-i", "1"], " "),
];

#[test]
fn what_redis_cli_watches_it_watches_through_nearhit() {
    let sides = Sides::start();
    for lines in sides.endless(&["MONITOR"], "\"SET\" \"seen\" \"1\"", &["SET", "seen", "1"]) {
        assert_eq!(lines[0], "OK");
        assert!(lines.iter().any(|line| line.contains("[0 127.0.0.1:")), "{lines:?}");
    }
    let [direct, proxied] = sides.endless(&["SUBSCRIBE", "news"], "last", &["EVAL", PUBLISH, "0"]);
    assert_eq!(direct[..6], proxied[..6]);
    for lines in sides.endless(&["--stat", "-i", "0.01"], "M", &[]) {
        assert!(lines[1].starts_with("keys       mem      clients"), "{lines:?}");
    }
}

/// Two messages once somebody listens.
const PUBLISH: &str = "return redis.call('PUBLISH', 'news', 'first') + redis.call('PUBLISH', 'news', 'last')";

#[test]
fn redis_benchmark_finds_no_error() {
    entry("redis-benchmark", "", |_| {
        let stage = Stage::proxied();
        let port = stage.port().to_string();
        for (more, tests) in BENCHMARKS {
            let mut command = Command::new("redis-benchmark");
            command
                .args(["-p", &port, "-n", "2000", "-c", "10", "-d", "64"])
                .args(*more);
            let done = child::run(&mut command, LIMIT);
            let output = done.output();
            assert_eq!(done.code(), Some(0), "{more:?}: {output}");
            for wrong in ["rror", "WARNING: C", "failed"] {
                assert!(!output.contains(wrong), "{more:?}: {output}");
            }
            assert_eq!(
                output.matches("requests completed").count(),
                *tests,
                "{more:?}: {output}"
            );
        }
        version("redis-benchmark")
    });
}

/// What `redis-cli 7.0.15` or `redis-benchmark 7.0.15` says.
fn version(tool: &str) -> String {
    let said = child::run(Command::new(tool).arg("--version"), LIMIT).stdout;
    said.split_whitespace().nth(1).expect("a version").to_owned()
}

/// Arguments, and how many tests they run. Without -t it runs all it has.
const BENCHMARKS: &[(&[&str], usize)] = &[
    (&["-P", "1"], 20),
    (&["-P", "16", "-r", "100"], 20),
    (&["-3", "-t", "get,set,incr,lpush,mset"], 5),
    (&["-3", "-t", "get,set,incr,lpush,mset", "-P", "16"], 5),
    (&["-t", "get,set", "-k", "0", "-n", "500"], 2),
    (&["-t", "get,set", "--threads", "2", "-c", "50"], 2),
    (&["--dbnum", "3", "-t", "get,set", "-P", "4"], 2),
    (&["eval", "return redis.call('INCR', KEYS[1])", "1", "counter"], 1),
];
