//! The socket of a load or a caller: TCP, Unix, or TLS over TCP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustls::{ClientConnection, StreamOwned};

use super::caller::PATIENCE;
use crate::config::{Address, UpstreamUrl};
use crate::tls::ClientTls;

/// Whom a load is for.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Where it is, and who to be there. Invariant of whoever uses it: one node.
    pub url: &'a UpstreamUrl,
    /// How to speak TLS to it, where the URL says so.
    pub tls: Option<&'a ClientTls>,
}

impl<'a> From<&'a UpstreamUrl> for Server<'a> {
    /// A server that is spoken to in the clear.
    fn from(url: &'a UpstreamUrl) -> Self {
        Self { url, tls: None }
    }
}

/// A socket of any kind.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsSocket>),
}

/// TLS, its handshake done.
#[derive(Debug)]
pub(super) struct TlsSocket {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// To say what an error means.
    tls: ClientTls,
    host: String,
}

impl Socket {
    /// Connects to `address`, which is the server's.
    pub(super) fn open(server: Server<'_>, address: &Address) -> io::Result<Self> {
        match (address, server.url.tls) {
            (Address::Unix(path), _) => UnixStream::connect(path).map(Self::Unix),
            (Address::Tcp { host, port }, false) => tcp(host, *port).map(Self::Tcp),
            (Address::Tcp { host, port }, true) => {
                let tls = server
                    .tls
                    .ok_or_else(|| io::Error::other("the URL says TLS, and nothing says how"))?;
                secured(tcp(host, *port)?, tls, host)
            }
        }
    }

    pub(super) fn set_timeouts(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => limit(stream),
            Self::Tls(socket) => limit(socket.stream.get_ref()),
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
        }
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(true),
            Self::Tls(socket) => socket.stream.get_ref().set_nonblocking(true),
            Self::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    /// Whether TLS holds what was written and the kernel has no room for yet; [`Write::flush`] goes on with it.
    pub(super) fn is_holding(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(socket) => socket.stream.conn.wants_write(),
        }
    }
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Does the handshake, so that what goes wrong with it is told as such.
fn secured(mut stream: TcpStream, tls: &ClientTls, host: &str) -> io::Result<Socket> {
    limit(&stream)?;
    let (config, expected) = tls.session(host).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(config, expected).map_err(io::Error::other)?;
    while session.is_handshaking() {
        if let Err(error) = session.complete_io(&mut stream) {
            return Err(io::Error::new(error.kind(), tls.explain_handshake(&error, host)));
        }
    }
    Ok(Socket::Tls(Box::new(TlsSocket {
        stream: StreamOwned::new(session, stream),
        tls: tls.clone(),
        host: host.to_owned(),
    })))
}

impl TlsSocket {
    /// A server that takes no certificate, or wants one, may say so only after the handshake.
    fn told(&self, error: io::Error) -> io::Error {
        match error.get_ref().is_some() {
            true => io::Error::new(error.kind(), self.tls.explain(&error, &self.host)),
            false => error,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(socket) => socket.stream.read(buffer).map_err(|error| socket.told(error)),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(socket) => socket.stream.write(bytes).map_err(|error| socket.told(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
            Self::Tls(socket) => socket.stream.flush().map_err(|error| socket.told(error)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(socket) => socket.stream.get_ref().as_fd(),
        }
    }
}
