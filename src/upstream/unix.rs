//! A Unix socket whose writability nobody is told of unless it is waited for.
//!
//! A Unix socket becomes "writable" anew whenever its peer has read something, so a socket that is watched for both, as
//! tokio's is, wakes its task once more for nearly every reply. TCP tells only after a write had to wait. Measured: 1.9
//! epoll waits a request at pipeline 1, and 1.0 so.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Bytes of one read into a buffer that must be initialized.
const READ: usize = 8 * 1024;

/// A connected Unix socket.
#[derive(Debug)]
pub struct UnixSocket {
    /// Watched for what can be read.
    stream: AsyncFd<UnixStream>,
    /// The same socket, watched for room to write: only while a write waits.
    full: Option<AsyncFd<UnixStream>>,
}

impl UnixSocket {
    /// Takes a connected stream.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = watched(stream, Interest::READABLE)?;
        Ok(Self { stream, full: None })
    }

    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(path: &std::path::Path) -> io::Result<Self> {
        let stream = tokio::net::UnixStream::connect(path).await?.into_std()?;
        Self::new(stream)
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe because of types whose descriptor changes while they live: a stream's does not"
)]
fn watched(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

impl AsRawFd for UnixSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl UnixSocket {
    /// Reads into the unused capacity of `buf`, and says how much; 0 is the end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let wanted = buf.capacity() - buf.len();
        self.poll_read_with(cx, wanted, |stream| {
            rustix::net::recv(stream, rustix::buffer::spare_capacity(buf), RecvFlags::empty()).map(|(count, _)| count)
        })
    }

    fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut read: impl FnMut(&UnixStream) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.stream.poll_read_ready(cx))?;
            match read(self.stream.get_ref()) {
                Ok(count) => {
                    // A short read emptied the socket: what comes next makes it readable anew. Not so its end.
                    if 0 < count && count < wanted {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // It is initialized first, which takes as long as a copy: where that matters, `poll_recv` is used.
        let wanted = buf.remaining().min(READ);
        let room = buf.initialize_unfilled_to(wanted);
        let read = self.poll_read_with(cx, wanted, |stream| {
            rustix::net::recv(stream, &mut *room, RecvFlags::empty()).map(|(count, _)| count)
        });
        let count = ready!(read)?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                let mut ready = ready!(full.poll_write_ready(cx))?;
                ready.clear_ready();
            }
            match rustix::net::send(self.stream.get_ref(), buf, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.full = None;
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.full.is_some() => {}
                Err(Errno::AGAIN) => {
                    let again = self.stream.get_ref().try_clone()?;
                    self.full = Some(watched(again, Interest::WRITABLE)?);
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (UnixSocket, UnixSocket) {
        let (one, other) = UnixStream::pair().unwrap();
        (UnixSocket::new(one).unwrap(), UnixSocket::new(other).unwrap())
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_until_the_peer_reads() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..8_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            one.write_all(&sent).await.unwrap();
            let watched = one.full.is_some();
            one.shutdown().await.unwrap();
            watched
        });
        // The writer runs until the socket is full: they take turns on this thread.
        tokio::task::yield_now().await;
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
        assert!(!writer.await.unwrap(), "nobody waits for room any more");
    }

    #[tokio::test]
    async fn a_peer_that_left_is_an_end_and_then_an_error() {
        let (mut one, other) = pair();
        drop(other);
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(one.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
