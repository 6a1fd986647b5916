//! A client's socket: TCP, Unix, or a pipe inside the process.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::upstream::UnixSocket;

/// A client's socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixSocket),
    /// The other end is in this process (`Proxy::connect`).
    Duplex(DuplexStream),
}

impl Socket {
    /// Its number in this process; -1 when it has none.
    pub(super) fn fd(&self) -> i32 {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Duplex(_) => -1,
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

macro_rules! each {
    ($self:expr, $stream:ident => $work:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $work,
            Self::Unix($stream) => $work,
            Self::Duplex($stream) => $work,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
