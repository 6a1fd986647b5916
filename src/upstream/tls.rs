//! A TCP socket that speaks TLS.
//!
//! What is written goes into the session first, and from there to the socket as far as that takes it; the rest leaves with
//! the next write, flush **or read**: whoever waits for an answer by reading pushes out what the answer is to. So nobody
//! has to flush who reads. A read gives what is deciphered already before the socket is asked for more, so "pending" means
//! that nothing is left on this side.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::ClientTls;

/// A connected socket whose handshake is done.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<TcpStream>,
    /// To say what an error means: a server that wants a certificate says so only after the handshake, in TLS 1.3.
    tls: ClientTls,
    host: Box<str>,
}

impl TlsSocket {
    /// Does the handshake with the node at `host`.
    ///
    /// # Errors
    /// In words, what failed: the node's certificate, what it says of ours, or the connection.
    pub(super) async fn connect(stream: TcpStream, tls: &ClientTls, host: &str) -> Result<Self, String> {
        let (config, expected) = tls.session(host)?;
        let connecting = TlsConnector::from(config).connect(expected, stream);
        match connecting.await {
            Ok(stream) => Ok(Self {
                stream,
                tls: tls.clone(),
                host: host.into(),
            }),
            Err(error) => Err(tls.explain_handshake(&error, host)),
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.get_ref().0.local_addr().ok()
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.get_ref().0.peer_addr().ok()
    }

    /// Whether the session has what the kernel had no room for.
    pub(super) fn holds_unwritten(&self) -> bool {
        self.stream.get_ref().1.wants_write()
    }

    /// An error that says what it means.
    fn told(&self, error: io::Error) -> io::Error {
        match error.get_ref().is_some() {
            true => io::Error::new(error.kind(), self.tls.explain(&error, &self.host)),
            false => error,
        }
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.holds_unwritten() {
            // If it fails the read finds out why: what the peer said before it went away is still there.
            let _failed_or_waits = Pin::new(&mut self.stream).poll_flush(cx);
        }
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            // A server that is killed does not say goodbye. Nothing is lost by that: every reply says how long it is.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.told(error))),
            Ok(()) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(wrote.map_err(|error| self.told(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.told(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for TlsSocket {
    /// Says goodbye if the socket takes it at once: a server may write down connections that break off.
    fn drop(&mut self) {
        let (stream, session) = self.stream.get_mut();
        session.send_close_notify();
        while session.wants_write() {
            match session.write_tls(&mut AtOnce(stream)) {
                Ok(1..) => {}
                _ => return,
            }
        }
    }
}

/// Writes what goes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
