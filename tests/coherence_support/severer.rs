//! A TCP relay before a server that loses a connection in the middle: the client's side ends when a certain word passes,
//! and the bytes with that word reach the server when a test says so, if the server's side is still open by then.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The relay; it ends with the connections that go through it.
pub struct Severer {
    addr: SocketAddr,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The server's side of the severed connection, and what did not reach it.
    side: Mutex<Option<(TcpStream, Vec<u8>)>>,
    closed_by_server: AtomicBool,
}

impl Severer {
    /// Relays to `server`, and severs the first connection on which a client says `word`.
    pub fn before(server: SocketAddr, word: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a relay");
        let addr = listener.local_addr().expect("a local address");
        let kept = Arc::new(Kept::default());
        let shared = Arc::clone(&kept);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                relay(client, server, word, &shared);
            }
        });
        Self { addr, kept }
    }

    /// Its address as `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Whether the server has closed its side of the severed connection.
    pub fn is_closed_by_server(&self) -> bool {
        self.kept.closed_by_server.load(Ordering::SeqCst)
    }

    /// What was lost reaches the server now, if that still listens.
    pub fn deliver(&self) {
        let kept = self.kept.side.lock().take();
        let (mut server, bytes) = kept.expect("a severed connection");
        drop(server.write_all(&bytes));
    }
}

fn relay(client: TcpStream, server: SocketAddr, word: &'static str, kept: &Arc<Kept>) {
    let Ok(server) = TcpStream::connect(server) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
    }
    let share = |stream: &TcpStream| stream.try_clone().expect("share a socket");
    let (from_client, to_client, from_server, to_server) = (share(&client), client, share(&server), server);
    let (severed, keeping) = (Arc::new(AtomicBool::new(false)), Arc::clone(kept));
    let is_severed = Arc::clone(&severed);
    std::thread::spawn(move || up(from_client, to_server, word, &severed, &keeping));
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        down(from_server, to_client);
        if is_severed.load(Ordering::SeqCst) {
            kept.closed_by_server.store(true, Ordering::SeqCst);
        }
    });
}

/// To the server, until the word comes for the first time.
fn up(mut from: TcpStream, mut to: TcpStream, word: &str, severed: &AtomicBool, kept: &Kept) {
    let mut chunk = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let bytes = &chunk[..count];
        let mut side = kept.side.lock();
        if side.is_none() && bytes.windows(word.len()).any(|part| part == word.as_bytes()) {
            severed.store(true, Ordering::SeqCst);
            *side = Some((to, bytes.to_vec()));
            drop(from.shutdown(Shutdown::Both));
            return;
        }
        drop(side);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

/// From the server until it closes, whether or not somebody hears it.
fn down(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        drop(to.write_all(&chunk[..count]));
    }
    drop(to.shutdown(Shutdown::Both));
}
