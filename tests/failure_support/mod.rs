//! A fake upstream: it greets like a server and answers everything else as a test's script says, byte by byte.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What follows the bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    GoOn,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// What the fake answers to one request: bytes, then what follows them.
pub type Answer = (Vec<u8>, Then);

/// Asked for every request, in capitals and split at spaces (`GET K`); `None`: as the greeting has it.
type Script = dyn Fn(&str) -> Option<Answer> + Send + Sync;

/// A listener that pretends to be Redis 7.0. Dropping it closes it.
pub struct Fake {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Answers greetings itself and everything else by `script`.
    pub fn start(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::saying(move |request| Some(greeting(request).unwrap_or_else(|| script(request))))
    }

    /// Answers by `script`, and where that has nothing to say, greetings itself; other commands it does not know.
    pub fn saying(script: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        Self::listen(move |stream| converse(stream, &*script))
    }

    /// Does `with` to every connection, each on a thread of its own.
    pub fn listen(with: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let with = Arc::new(with);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (accepted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&accepted), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (stream, with) = (stream.expect("accept"), Arc::clone(&with));
                // Ends with its connection, at the latest with the process under test.
                std::thread::spawn(move || with(stream));
            }
        });
        Self {
            addr,
            accepted,
            stop,
            thread: Some(thread),
        }
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The listener wakes up by one more connection.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Closes with RST, so that what was sent may be lost.
pub fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    drop(socket.set_linger(Some(Duration::ZERO)));
}

fn converse(mut stream: TcpStream, script: &Script) {
    drop(stream.set_nodelay(true));
    let (mut input, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        while let Some((request, length)) = request(&input) {
            input.drain(..length);
            let answer = script(&request).or_else(|| greeting(&request));
            let unknown = || (b"-ERR unknown command\r\n".to_vec(), Then::GoOn);
            let (bytes, then) = answer.unwrap_or_else(unknown);
            let sent = stream.write_all(&bytes);
            match then {
                Then::GoOn if sent.is_ok() => {}
                Then::Reset => return reset(&stream),
                _ => return,
            }
        }
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => input.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
}

/// The first whole request, and its length in bytes.
fn request(input: &[u8]) -> Option<(String, usize)> {
    let line = |at: usize| {
        let end = input.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        Some((std::str::from_utf8(&input[at + 1..at + end]).ok()?, at + end + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count.parse().ok()? {
        let (length, body) = line(at)?;
        let end = body + length.parse::<usize>().ok()?;
        words.push(String::from_utf8_lossy(input.get(body..end)?).into_owned());
        at = end + 2;
    }
    (at <= input.len()).then(|| (words.join(" ").to_uppercase(), at))
}

fn greeting(request: &str) -> Option<Answer> {
    const HELLO: &str =
        "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n";
    let bytes = match request.split(' ').next()? {
        "HELLO" => HELLO,
        "CLIENT" | "SELECT" => "+OK\r\n",
        "INFO" => "$20\r\nredis_version:7.0.15\r\n",
        "COMMAND" => "*0\r\n",
        "PING" => "+PONG\r\n",
        "PTTL" => ":-1\r\n",
        _ => return None,
    };
    Some((bytes.into(), Then::GoOn))
}
