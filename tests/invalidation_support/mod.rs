//! A relay before a server that keeps invalidations from getting through, as proxies do that do not know what they are.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The relay; it ends with the connections that go through it.
pub struct Deaf {
    addr: SocketAddr,
    deaf: Arc<AtomicBool>,
}

impl Deaf {
    /// Relays to `server`. Invalidations do not get through on connections on which the client said one of `words`, as soon
    /// as the relay [turns deaf](Deaf::turn_deaf).
    pub fn before(server: SocketAddr, words: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a relay");
        let addr = listener.local_addr().expect("a local address");
        let deaf = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&deaf);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                relay(client, server, words, Arc::clone(&shared));
            }
        });
        Self { addr, deaf }
    }

    /// Its address as `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// From now on no invalidation gets through.
    pub fn turn_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

fn relay(client: TcpStream, server: SocketAddr, words: &'static [&'static str], deaf: Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(server) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
    }
    let chosen = Arc::new(AtomicBool::new(false));
    let (from_client, to_client) = (client.try_clone().expect("share a socket"), client);
    let (from_server, to_server) = (server.try_clone().expect("share a socket"), server);
    let says = Arc::clone(&chosen);
    std::thread::spawn(move || {
        pump(from_client, to_server, |bytes| {
            let said = |word: &&str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
            if words.iter().any(said) {
                says.store(true, Ordering::SeqCst);
            }
        });
    });
    std::thread::spawn(move || {
        pump(from_server, to_client, |bytes| {
            if deaf.load(Ordering::SeqCst) && chosen.load(Ordering::SeqCst) {
                without_invalidations(bytes);
            }
        });
    });
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut through: impl FnMut(&mut Vec<u8>)) {
    let mut chunk = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let mut bytes = chunk[..count].to_vec();
        through(&mut bytes);
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The peer may have closed first.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

/// Cuts out whole invalidations of one key; the server writes each in one piece.
fn without_invalidations(bytes: &mut Vec<u8>) {
    const HEADS: [&[u8]; 2] = [
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n",
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n",
    ];
    for head in HEADS {
        while let Some(at) = bytes.windows(head.len()).position(|part| part == head) {
            let name = at + head.len();
            let line = name + line_end(&bytes[name..]);
            let length: usize = String::from_utf8_lossy(&bytes[name + 1..line - 2])
                .parse()
                .expect("a length");
            bytes.drain(at..line + length + 2);
        }
    }
}

fn line_end(bytes: &[u8]) -> usize {
    bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line end") + 2
}
