//! One connection of a load: what it has yet to send, and the replies it waits for.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::caller::Caller;
use super::replies::Replies;
use super::script::{Exchange, Script};
use super::socket::{Server, Socket};
use crate::error::{Error, Kind, Result, Side};
use crate::time::Instant;

/// Its socket does not block; who may write and who may read, an epoll says.
#[derive(Debug)]
pub(super) struct Lane {
    socket: Socket,
    name: String,
    /// Requests on their way into the socket, and how many bytes of them are in it.
    out: Vec<u8>,
    sent: usize,
    replies: Replies,
}

impl Lane {
    pub(super) fn connect(server: Server<'_>) -> Result<Self> {
        let (socket, name) = Caller::connect(server)?.into_socket();
        socket
            .set_nonblocking()
            .map_err(|error| failed("connect to", &name, error))?;
        Ok(Self {
            socket,
            name,
            out: Vec::new(),
            sent: 0,
            replies: Replies::default(),
        })
    }

    /// Adds a request; [`Lane::flush`] sends it.
    pub(super) fn ask(&mut self, script: &Script, exchange: Exchange, due: Instant) {
        script.append_request(exchange, &mut self.out);
        self.replies.expect(exchange, due);
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> Result<()> {
        while self.sent < self.out.len() {
            match self.socket.write(self.out.get(self.sent..).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("send requests to", &self.name, error)),
            }
        }
        self.out.clear();
        self.sent = 0;
        match self.socket.flush() {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Err(failed("send requests to", &self.name, error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the socket was too full for everything.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.out.len() || self.socket.is_holding()
    }

    /// Requests without a whole reply.
    pub(super) fn waiting(&self) -> usize {
        self.replies.waiting()
    }

    /// Reads until nothing is there and compares it; `answered` is told when each answered request was due.
    pub(super) fn receive(
        &mut self,
        script: &Script,
        buffer: &mut [u8],
        mut answered: impl FnMut(Instant),
    ) -> Result<()> {
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => return Err(failed("read from", &self.name, ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read from", &self.name, error)),
            };
            self.replies
                .take(script, buffer.get(..count).unwrap_or_default(), &mut answered)?;
            // A short read has emptied the socket (and TLS, which gives all it has deciphered); asking once more would only
            // cost a system call.
            if count < buffer.len() {
                return Ok(());
            }
        }
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(what: &str, name: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::UnexpectedEof => Kind::Closed,
        _ => Kind::Io,
    };
    Error::new(Side::Upstream, kind, format!("{what} {name}")).with_source(error)
}
