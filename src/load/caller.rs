//! A connection for questions of one's own, before and after a load.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::socket::{Server, Socket};
use crate::error::{Error, Kind, Result, Side};
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};

/// How long a server may stay silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes taken by one read of an answer.
const READ_BYTES: usize = 64 * 1024;

/// A connection that waits for each answer, RESP2, already where its URL says: user and database.
#[derive(Debug)]
pub struct Caller {
    socket: Socket,
    /// For messages; without the password.
    name: String,
    read: Vec<u8>,
}

impl Caller {
    /// Connects and says who it is.
    ///
    /// # Errors
    /// Nobody listens there, its certificate is not believed, or the server refuses the user or the database.
    pub fn connect<'a>(server: impl Into<Server<'a>>) -> Result<Self> {
        let server = server.into();
        let url = server.url;
        let name = url.name();
        let Some([address]) = url.nodes() else {
            let attempt = format!("connect to {name}: that is not one node");
            return Err(Error::new(Side::Config, Kind::Invalid, attempt));
        };
        let failed = |error| Error::new(Side::Upstream, Kind::Connect, format!("connect to {name}")).with_source(error);
        let socket = Socket::open(server, address).map_err(failed)?;
        socket.set_timeouts().map_err(failed)?;
        let mut caller = Self {
            socket,
            name,
            read: Vec::new(),
        };
        let password = url.password.reveal();
        match (url.username.as_str(), password) {
            ("", []) => {}
            ("", _) => drop(caller.ask(&[b"AUTH", password])?),
            (user, _) => drop(caller.ask(&[b"AUTH", user.as_bytes(), password])?),
        }
        if url.db > 0 {
            caller.ask(&[b"SELECT", url.db.to_string().as_bytes()])?;
        }
        // In TLS 1.3 a server that wants a certificate says so behind the handshake.
        if url.tls {
            caller.answers()?;
        }
        Ok(caller)
    }

    /// Whether anything at all is answered.
    fn answers(&mut self) -> Result<()> {
        match self.ask(&[b"PING"]) {
            Err(error) if error.kind() != Kind::Refused => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks one question.
    ///
    /// # Errors
    /// The connection broke, no answer came within ten seconds, or the answer is an error.
    pub fn ask(&mut self, args: &[&[u8]]) -> Result<Value> {
        let name = args.first().copied().unwrap_or_default().escape_ascii().to_string();
        let attempt = format!("ask {} for {name}", self.name);
        let failed = |error: io::Error| Error::new(Side::Upstream, Kind::Io, attempt.clone()).with_source(error);
        let mut request = Vec::new();
        encode::request(&mut request, args.iter().copied());
        self.socket
            .write_all(&request)
            .and_then(|()| self.socket.flush())
            .map_err(failed)?;
        match self.answer().map_err(failed)? {
            Value::Error(text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                Err(Error::new(Side::Upstream, Kind::Refused, attempt).with_source(text))
            }
            value => Ok(value),
        }
    }

    fn answer(&mut self) -> io::Result<Value> {
        let garbled = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:?}"));
        let mut scanner = ReplyScanner::new(ReplyLimits::default());
        let mut chunk = vec![0; READ_BYTES];
        loop {
            if let ReplyScan::Complete { consumed } = scanner.scan(&self.read).map_err(garbled)? {
                let rest = self.read.split_off(consumed);
                let answer = std::mem::replace(&mut self.read, rest);
                return Value::decode(&answer, Version::V2).map_err(garbled);
            }
            let count = self.socket.read(&mut chunk)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    /// The socket, for a load to go on with.
    pub(super) fn into_socket(self) -> (Socket, String) {
        debug_assert!(self.read.is_empty());
        (self.socket, self.name)
    }
}
