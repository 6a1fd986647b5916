//! A connection that is subscribed: frames come when they come. RESP2.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::handshake::send;
use super::loss::Loss;
use super::socket::Socket;
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};

/// A subscribed connection.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    input: BytesMut,
    /// Bytes of `input` the scanner has seen.
    scanned: usize,
    scanner: ReplyScanner,
    largest: usize,
    patience: Duration,
}

impl Link {
    /// On a socket where nothing is on its way. A frame of more than `largest` bytes ends it, and so does a request that the
    /// server does not take within `patience`.
    pub fn new(socket: Socket, largest: usize, patience: Duration) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            scanned: 0,
            scanner: ReplyScanner::new(ReplyLimits::default()),
            largest,
            patience,
        }
    }

    /// Sends a command; what it answers is a frame like any other.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn send(&mut self, args: &[&[u8]]) -> Result<(), Loss> {
        let mut request = Vec::new();
        encode::request(&mut request, args.iter().copied());
        let written = tokio::time::timeout(self.patience, send(&mut self.socket, &request)).await;
        let written = written.map_err(|_| Loss::Timeout(self.patience))?;
        written.map_err(|error| Loss::Io(error.to_string()))
    }

    /// The next frame. Safe to cancel: what was read stays.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn next(&mut self) -> Result<Value, Loss> {
        let protocol = |error: crate::resp::ReplyError| Loss::Protocol(error.to_string());
        loop {
            let fresh = self.input.get(self.scanned..).unwrap_or_default();
            if !fresh.is_empty() {
                if let ReplyScan::Complete { consumed } = self.scanner.scan(fresh).map_err(protocol)? {
                    let frame = self.input.split_to(self.scanned + consumed);
                    self.scanned = 0;
                    return Value::decode(&frame, Version::V2).map_err(protocol);
                }
                self.scanned = self.input.len();
            }
            if self.input.len() > self.largest {
                return Err(Loss::Protocol(format!("a message of more than {} bytes", self.largest)));
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) => return Err(Loss::Closed),
                Ok(_) => {}
                Err(error) => return Err(Loss::Io(error.to_string())),
            }
        }
    }
}
