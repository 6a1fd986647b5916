//! What a connection does when the other end behaves badly.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use super::{Connection, Ended, Handshake, Identity, Loss, Room, Taken, Waiter, Watcher};
use crate::config::Address;
use crate::metrics::WorkerRecorder;
use crate::resp::Version;
use crate::time::{self, Instant};

/// Notes what became of its request.
struct Noted(mpsc::Sender<String>);

impl Waiter for Noted {
    fn frame(&mut self, _: u8, frame: &[u8], _: Instant) -> Taken {
        assert_ne!(frame, b"+panic\r\n", "as was asked for");
        self.0.send(String::from_utf8_lossy(frame).into_owned()).ok();
        Taken::Done
    }
    fn takes_parts(&self, _: u8) -> bool {
        false
    }
    fn part(&mut self, _: u8, _: &[u8], _: bool, _: bool, _: Instant) {}
    fn room(&mut self, _: &Waker) -> Room {
        Room::Open
    }
    fn stalled(&mut self, _: Duration, _: bool) {}
    fn is_same(&self, _: &Self) -> bool {
        false
    }
    fn late(&mut self, _: Duration, _: Instant) {}
    fn refused(self, reply: &[u8], request: Option<&[u8]>, _: Instant) {
        let request = request.map(|request| request.escape_ascii().to_string());
        self.0.send(format!("{} to {request:?}", reply.escape_ascii())).ok();
    }
    fn lost(self, ended: &Ended<'_>) {
        self.0.send(format!("lost: {}", ended.loss.label())).ok();
    }
}

struct Nobody;

impl Watcher for Nobody {
    fn ready(&self) {}
    fn useful(&self) {}
    fn retired(&self) {}
    fn ended(&self, _: &Loss, _: bool) {}
}

fn handshake(port: u16) -> Handshake {
    Handshake {
        address: Address::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
        tls: None,
        identity: Identity::new(None),
        version: Version::V2,
        db: 0,
        client_name: String::new(),
        timeout: Duration::from_secs(5),
        max_reply_depth: 8,
        reads_replica: false,
        resolver: super::Resolver::default(),
    }
}

#[test]
fn what_the_server_said_before_it_closed_is_heard_although_nothing_can_be_written() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (closed, is_closed) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut greeting = *b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";
        stream.read_exact(&mut greeting).expect("the handshake");
        stream.write_all(b":1\r\n").expect("sent");
        stream.read_exact(&mut [0]).expect("the beginning of a request");
        stream.write_all(b"-ERR enough\r\n").expect("sent");
        // What was not read makes the close a reset.
        drop(stream);
        closed.send(()).expect("the test waits");
    });
    let (noted, notes) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), async {
        let recorder = Arc::new(WorkerRecorder::new(0));
        let connection = Connection::open(handshake(port), recorder, Nobody);
        connection
            .send(b"first\r\n", Noted(noted.clone()), None, time::now())
            .ok();
        while connection.unwritten() > 0 {
            tokio::task::yield_now().await;
        }
        // The thread waits, so that nothing is read before the next write fails.
        is_closed.recv().expect("the server");
        connection.send(b"second\r\n", Noted(noted), None, time::now()).ok();
        while connection.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    });
    server.join().expect("the server");
    assert_eq!(notes.iter().collect::<Vec<_>>(), ["-ERR enough\r\n", "lost: io"]);
}

#[test]
fn when_its_task_panics_everybody_who_waits_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut all = *b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";
        stream.read_exact(&mut all).expect("the handshake");
        stream.write_all(b":1\r\n").expect("sent");
        stream.read_exact(&mut [0; 15]).expect("two requests");
        stream.write_all(b"+panic\r\n+late\r\n").expect("sent");
        stream.read_to_end(&mut Vec::new()).expect("the end");
    });
    let (noted, notes) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), async {
        let connection = Connection::open(handshake(port), Arc::new(WorkerRecorder::new(0)), Nobody);
        for request in [&b"first\r\n"[..], b"second\r\n"] {
            connection.send(request, Noted(noted.clone()), None, time::now()).ok();
        }
        drop(noted);
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
        drop(connection);
    });
    server.join().expect("the server");
    let notes: Vec<_> = notes.iter().collect();
    assert_eq!(notes, ["lost: protocol", "lost: protocol"]);
}

#[test]
fn a_server_that_answers_with_an_alert_of_tls_speaks_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // protocol_version, fatal.
        stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).expect("sent");
        stream.read_to_end(&mut Vec::new()).expect("the end");
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let connected = runtime.expect("a runtime").block_on(super::connect(&handshake(port)));
    server.join().expect("the server");
    let loss = connected.expect_err("no connection");
    let said = "protocol error: what answers there speaks TLS; the URL then begins with rediss://";
    assert_eq!(loss.to_string(), said);
}
