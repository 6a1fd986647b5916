//! A socket to a node: TCP, TLS over it, or Unix.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::resolve::Resolver;
use super::tls::TlsSocket;
use super::unix::UnixSocket;
use crate::config::Address;
use crate::tls::ClientTls;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixSocket),
    /// TLS over TCP; boxed, because it is many times as large.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Connects to `address`; a host name is resolved now by `resolver`, and all its addresses are tried.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(address: &Address, resolver: &Resolver) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let found = resolver.resolve(host, *port).await?;
                let stream = TcpStream::connect(found.as_slice()).await?;
                resolver.connected(host, *port, stream.peer_addr()?);
                stream.set_nodelay(true)?;
                // A peer that vanished is found by the kernel even when nothing is written.
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(std::time::Duration::from_secs(5))
                    .with_interval(std::time::Duration::from_secs(1))
                    .with_retries(3);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixSocket::connect(path).await?)),
        }
    }

    /// Does the TLS handshake with the node it leads to. A Unix socket stays as it is: its URL cannot say TLS.
    ///
    /// # Errors
    /// In words, what failed.
    pub(super) async fn secured(self, tls: &ClientTls, address: &Address) -> Result<Self, String> {
        match (self, address) {
            (Self::Tcp(stream), Address::Tcp { host, .. }) => {
                let socket = TlsSocket::connect(stream, tls, host).await?;
                Ok(Self::Tls(Box::new(socket)))
            }
            (other, _) => Ok(other),
        }
    }

    /// Where it comes from; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Tls(stream) => stream.local_addr(),
            Self::Unix(_) => None,
        }
    }

    /// Where it leads; `None` for a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.peer_addr(),
            Self::Unix(_) => None,
        }
    }

    /// Reads into the unused capacity of `buf`, and says how much; 0 is the end.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        match self {
            Self::Unix(socket) => socket.poll_recv(cx, buf),
            other => std::pin::pin!(other.read_buf(buf)).poll(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            // The kernel has what was written.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
