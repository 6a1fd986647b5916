//! A TCP relay before a server that can hold back what the server says on chosen connections: on those to which a
//! client said a certain word. So an invalidation can be late for as long as a test needs it to be.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The relay; it ends with the connections that go through it.
pub struct Laggard {
    addr: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Guards nothing but the flag; held only to look at it.
    held: Mutex<bool>,
    opened: Condvar,
}

impl Laggard {
    /// Relays to `server`; [`Laggard::hold`] concerns connections on which a client said `word`.
    pub fn before(server: SocketAddr, word: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a relay");
        let addr = listener.local_addr().expect("a local address");
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                relay(client, server, word, Arc::clone(&shared));
            }
        });
        Self { addr, gate }
    }

    /// Its address as `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// From now on nothing comes from the server on the chosen connections.
    pub fn hold(&self) {
        *self.gate.held.lock() = true;
    }

    /// What was held back comes now.
    pub fn release(&self) {
        *self.gate.held.lock() = false;
        self.gate.opened.notify_all();
    }
}

impl Drop for Laggard {
    fn drop(&mut self) {
        self.release();
    }
}

fn relay(client: TcpStream, server: SocketAddr, word: &'static str, gate: Arc<Gate>) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let chosen = Arc::new(AtomicBool::new(false));
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
    }
    let (from_client, to_client) = (client.try_clone().expect("share a socket"), client);
    let (from_server, to_server) = (server.try_clone().expect("share a socket"), server);
    let says = Arc::clone(&chosen);
    std::thread::spawn(move || {
        pump(from_client, to_server, |bytes| {
            if bytes.windows(word.len()).any(|part| part == word.as_bytes()) {
                says.store(true, Ordering::SeqCst);
            }
        });
    });
    std::thread::spawn(move || {
        pump(from_server, to_client, |_| {
            let mut held = gate.held.lock();
            while *held && chosen.load(Ordering::SeqCst) {
                gate.opened.wait(&mut held);
            }
        });
    });
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut chunk = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        before(&chunk[..count]);
        if to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // The peer may have closed first.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
