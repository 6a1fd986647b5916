//! A redis-server of one test, and raw connections to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::RedisServer;
use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner, Version, encode};

/// A server of one test.
pub(crate) struct Server(RedisServer);

impl Server {
    pub(crate) fn start() -> Self {
        Self(RedisServer::start())
    }

    /// A connection that speaks `version`.
    pub(crate) fn connect(&self, version: Version) -> Connection {
        let stream = TcpStream::connect(self.0.addr()).expect("redis-server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let mut connection = Connection {
            stream,
            buffered: Vec::new(),
        };
        if version == Version::V3 {
            assert!(connection.call(&["HELLO", "3"]).starts_with(b"%"));
        }
        connection
    }
}

/// A raw connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffered: Vec<u8>,
}

impl Connection {
    pub(crate) fn call(&mut self, args: &[&str]) -> Vec<u8> {
        self.call_bytes(&args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>())
    }

    pub(crate) fn call_bytes(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        encode::request(&mut request, args.iter().copied());
        self.send(&request);
        self.reply()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The bytes of the next reply.
    pub(crate) fn reply(&mut self) -> Vec<u8> {
        let mut scanner = ReplyScanner::new(ReplyLimits::default());
        let mut scanned = 0;
        loop {
            match scanner
                .scan(&self.buffered[scanned..])
                .expect("the server speaks the protocol")
            {
                ReplyScan::Complete { consumed } => return self.buffered.drain(..scanned + consumed).collect(),
                ReplyScan::Incomplete => scanned = self.buffered.len(),
            }
            let mut part = [0; 4096];
            let read = self.stream.read(&mut part).expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            self.buffered.extend_from_slice(&part[..read]);
        }
    }

    /// Everything until the server closes the connection.
    pub(crate) fn until_closed(mut self, sent: &[u8]) -> Vec<u8> {
        self.send(sent);
        let mut received = Vec::new();
        // A reset is a close too: the server does not read what follows an error.
        let _closed = self.stream.read_to_end(&mut received);
        received
    }
}
