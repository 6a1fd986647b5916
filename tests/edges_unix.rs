//! Unix socket listeners: who may connect, whose place may be taken, and what is left behind.

mod support;

use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use support::{Nearhit, RedisServer, SOON, child, temp_dir, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

fn listening(redis: &RedisServer, path: &Path, query: &str) -> Nearhit {
    let url = format!("[\"127.0.0.1:0\", \"unix://{}{query}\"]", path.display());
    Nearhit::serve_with(&redis.url(), &["--server.listen", &url])
}

/// The first line of the reply.
fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("connect");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(request.as_bytes()).expect("send");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let first = lines.next().expect("a reply");
    if first.starts_with('$') {
        lines.next().expect("a text")
    } else {
        first
    }
}

#[test]
fn a_socket_has_its_permissions_and_is_gone_after_a_stop() {
    let (redis, dir) = (RedisServer::start(), temp_dir());
    let path = dir.path().join("n.sock");
    for (query, mode) in [("?mode=0600", 0o600), ("?mode=0666", 0o666)] {
        let mut nearhit = listening(&redis, &path, query);
        let there = path.metadata().expect("a socket").permissions().mode();
        assert_eq!(there & 0o777, mode);
        assert_eq!(ask(&path, "PING\r\n"), "+PONG");
        let others = std::fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(others, 1, "nothing else is left in the directory");
        nearhit.signal(Signal::TERM);
        assert_eq!(nearhit.wait(LIMIT).code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_nobody_answers_is_replaced_and_another_is_not() {
    let (redis, dir) = (RedisServer::start(), temp_dir());
    let path = dir.path().join("n.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "left behind, as by a process that was killed");
    let _first = listening(&redis, &path, "");
    assert_eq!(ask(&path, "PING\r\n"), "+PONG");
    let mut second = Nearhit::command();
    second.args([
        "serve",
        "--metrics.listen",
        "",
        "--listen",
        &format!("unix://{}", path.display()),
    ]);
    let done = child::run(&mut second, LIMIT);
    assert_eq!(done.code(), Some(73), "{}", done.output());
    assert_eq!(ask(&path, "PING\r\n"), "+PONG");
}

#[test]
fn a_stop_leaves_the_socket_of_a_successor_alone() {
    let (redis, dir) = (RedisServer::start(), temp_dir());
    let path = dir.path().join("n.sock");
    let mut first = listening(&redis, &path, "");
    std::fs::remove_file(&path).expect("an operator makes room");
    let _second = listening(&redis, &path, "");
    first.signal(Signal::TERM);
    assert_eq!(first.wait(LIMIT).code(), Some(0));
    assert_eq!(ask(&path, "PING\r\n"), "+PONG");
}

#[test]
fn a_client_is_shown_where_redis_shows_it() {
    let dir = temp_dir();
    let (path, theirs) = (dir.path().join("n.sock"), dir.path().join("r.sock"));
    let redis = RedisServer::builder()
        .arg("--unixsocket", &theirs.display().to_string())
        .start();
    let _nearhit = listening(&redis, &path, "?mode=0600");
    let shown = |path: &Path| {
        let line = ask(path, "CLIENT INFO\r\n");
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let field = |name: &str| {
            words
                .iter()
                .find(|word| word.starts_with(name))
                .expect("a field")
                .clone()
        };
        [field("addr="), field("laddr=")].map(|field| field.replace(&path.display().to_string(), "PATH"))
    };
    assert_eq!(shown(&path), shown(&theirs));
    assert_eq!(shown(&path), ["addr=PATH:0", "laddr=PATH:0"]);
}

#[test]
fn limits_hold_on_unix_sockets_too() {
    let (redis, dir) = (RedisServer::start(), temp_dir());
    let path = dir.path().join("n.sock");
    let url = format!("unix://{}", path.display());
    let listen = format!("[\"127.0.0.1:0\", \"{url}\"]");
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.listen", &listen, "--server.max-clients", "1"]);
    let mut first = nearhit.connect();
    assert_eq!(first.line("PING"), "PONG");
    assert_eq!(ask(&path, ""), "-ERR max number of clients reached");
    drop(first);
    wait_for("a place", SOON, || ask(&path, "PING\r\n") == "+PONG");
}
