//! A server of the test's own, a connection to it, and requests from plain arguments.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate and uses its own part of it"
)]

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearhit::command::LearnedCommand;
use nearhit::resp::{Arg, Request};

/// A server that lives as long as this value. `REDIS_SERVER` chooses the binary.
pub struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server with these further arguments and waits until it accepts connections.
    pub fn start(args: &[&str]) -> Self {
        Self::launch("Ready to accept connections", |_| {
            args.iter().map(ToString::to_string).collect()
        })
    }

    /// Starts a sentinel that watches nothing.
    pub fn start_sentinel() -> Self {
        Self::launch("Sentinel ID", |dir| {
            let config = dir.join("sentinel.conf");
            std::fs::write(&config, "").expect("write the configuration of the sentinel");
            vec![config.display().to_string(), "--sentinel".into()]
        })
    }

    fn launch(ready: &str, args: impl FnOnce(&std::path::Path) -> Vec<String>) -> Self {
        let binary = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        let dir = tempfile::tempdir().expect("make a directory for the server");
        let port = support::free_port();
        let mut command = Command::new(&binary);
        command
            .args(args(dir.path()))
            .arg("--dir")
            .arg(dir.path())
            .args(["--port", &port.to_string()]);
        command
            .args(["--bind", "127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if ready.starts_with("Ready") {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {binary} (REDIS_SERVER names another): {error}"));
        let mut server = Self { child, port, _dir: dir };
        let mut log = BufReader::new(server.child.stdout.take().expect("the server's log"));
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            assert!(
                log.read_line(&mut line).expect("read the server's log") > 0,
                "{binary} ended before it was ready"
            );
        }
        // The log must be read to its end, or the server would wait for us.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        server
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect to the server");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set a time-out");
        stream.set_nodelay(true).expect("set nodelay");
        Connection {
            stream: BufReader::new(stream),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A reply in RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
    NilArray,
    /// RESP3's `_`.
    Null,
    Double(Vec<u8>),
    Set(Vec<Reply>),
    /// Keys and values in turn.
    Map(Vec<Reply>),
}

impl Reply {
    pub fn items(&self) -> &[Self] {
        let Self::Array(items) = self else {
            panic!("not an array: {self:?}")
        };
        items
    }

    pub fn text(&self) -> String {
        let (Self::Bulk(bytes) | Self::Simple(bytes)) = self else {
            panic!("not a string: {self:?}")
        };
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub fn integer(&self) -> i64 {
        let Self::Integer(number) = self else {
            panic!("not an integer: {self:?}")
        };
        *number
    }
}

/// A connection; it speaks RESP2 until told otherwise.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.send(args);
        self.reply()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.stream
            .get_mut()
            .write_all(OwnedRequest::new(args).frame())
            .expect("send a request");
    }

    pub fn reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = line.split_first().expect("a reply has a type");
        let number = || String::from_utf8_lossy(rest).parse::<i64>().expect("a number");
        match kind {
            b'+' => Reply::Simple(rest.to_vec()),
            b'-' => Reply::Error(rest.to_vec()),
            b':' => Reply::Integer(number()),
            b'$' if number() < 0 => Reply::Nil,
            b'*' if number() < 0 => Reply::NilArray,
            b'_' => Reply::Null,
            b',' => Reply::Double(rest.to_vec()),
            b'~' => Reply::Set((0..number()).map(|_| self.reply()).collect()),
            b'%' => Reply::Map((0..2 * number()).map(|_| self.reply()).collect()),
            b'$' => {
                let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
                self.stream.read_exact(&mut bytes).expect("read a bulk string");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            b'*' => Reply::Array((0..number()).map(|_| self.reply()).collect()),
            other => panic!("a reply of type {:?}", char::from(*other)),
        }
    }

    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("read a reply");
        assert!(
            line.ends_with(b"\r\n"),
            "the server closed the connection: {}",
            line.escape_ascii()
        );
        line.truncate(line.len() - 2);
        line
    }

    /// What `COMMAND` reports.
    pub fn commands(&mut self) -> Vec<LearnedCommand> {
        self.call(&["COMMAND"]).items().iter().map(learned).collect()
    }
}

fn learned(entry: &Reply) -> LearnedCommand {
    let [name, arity, flags, first, last, step, rest @ ..] = entry.items() else {
        panic!("short entry: {entry:?}")
    };
    LearnedCommand {
        name: name.text(),
        arity: arity.integer(),
        flags: flags.items().iter().map(Reply::text).collect(),
        first: first.integer(),
        last: last.integer(),
        step: step.integer(),
        subcommands: rest
            .get(3)
            .map_or_else(Vec::new, |subs| subs.items().iter().map(learned).collect()),
    }
}

/// A request that owns its bytes.
pub struct OwnedRequest {
    frame: Vec<u8>,
    args: Vec<Arg>,
}

impl OwnedRequest {
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Self {
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        let args = args.iter().map(|arg| {
            let header = frame.len();
            frame.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
            let start = frame.len();
            frame.extend_from_slice(arg.as_ref());
            let end = frame.len();
            frame.extend_from_slice(b"\r\n");
            Arg { header, start, end }
        });
        let args = args.collect();
        Self { frame, args }
    }

    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    pub fn request(&self) -> Request<'_> {
        Request::new(&self.frame, &self.args)
    }
}
