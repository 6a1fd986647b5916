//! A running proxy, as its owner holds it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::builder::Builder;
use super::control::Running;
use super::worker::{Incoming, Workers};
use crate::config::Listen;
use crate::downstream::{Peer, Shared};
use crate::metrics::CacheResult;
use crate::time;
use crate::tracking::TrackingThread;

/// Bytes an in-process stream holds in each direction before its writer waits.
const STREAM_BUFFER: usize = 64 * 1024;

/// A running proxy. It stops when it is dropped; [`Proxy::shutdown`] stops it in order.
///
/// ```no_run
/// # async fn example() -> nearhit::error::Result<()> {
/// let proxy = nearhit::Proxy::builder().upstream("redis://127.0.0.1:6379").start().await?;
/// let stream = proxy.connect(); // AsyncRead + AsyncWrite: hand it to a Redis client
/// println!("{} hits", proxy.cache().stats().hits);
/// proxy.shutdown(std::time::Duration::from_secs(5)).await;
/// # drop(stream); Ok(()) }
/// ```
pub struct Proxy {
    shared: Arc<Shared>,
    workers: Workers,
    control: Running,
    tracking_thread: Option<TrackingThread>,
    listening: Vec<Listen>,
    metrics: Option<SocketAddr>,
}

impl Proxy {
    /// Begins to describe a proxy.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn new(
        shared: Arc<Shared>,
        workers: Workers,
        control: Running,
        tracking_thread: Option<TrackingThread>,
        listening: Vec<Listen>,
        metrics: Option<SocketAddr>,
    ) -> Self {
        Self {
            shared,
            workers,
            control,
            tracking_thread,
            listening,
            metrics,
        }
    }

    /// Where clients connect; port 0 of the configuration is the real port here.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// Where the metrics page is.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Waits until it is known where the master is. It is from the start where the URL names one node; otherwise discovery
    /// has to find it, which takes as long as the nodes or sentinels do. Until then commands fail and say so.
    pub async fn master_known(&self) {
        drop(self.shared.master.known().await);
    }

    /// A connection to the proxy inside this process: a RESP stream without a socket.
    pub fn connect(&self) -> Stream {
        let (ours, theirs) = tokio::io::duplex(STREAM_BUFFER);
        let peer = Peer {
            addr: "in-process:0".into(),
            laddr: "in-process:0".into(),
            resp: 2,
            since: time::now(),
            ..Peer::default()
        };
        self.workers.handle().assign(Incoming::Duplex(theirs), peer);
        Stream(ours)
    }

    /// The near-cache.
    pub fn cache(&self) -> Cache<'_> {
        Cache(&self.shared)
    }

    /// Accepts no more clients, answers what was received, and stops. Clients that are not done after `timeout`, and
    /// those that wait in a blocking command or a subscription, are cut off.
    pub async fn shutdown(mut self, timeout: Duration) {
        self.control.drain();
        self.workers.drain(timeout).await;
        self.stop();
    }

    fn stop(&mut self) {
        self.workers.close();
        self.control.stop();
        drop(self.tracking_thread.take());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("listening", &self.listening)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

/// The near-cache of a running proxy.
#[derive(Clone, Copy)]
pub struct Cache<'p>(&'p Shared);

/// What the near-cache did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads answered from memory.
    pub hits: u64,
    /// Reads fetched for the cache, those that shared another one's fetch included.
    pub misses: u64,
    /// Cacheable reads passed on without asking the cache, or that it did not take.
    pub bypassed: u64,
    /// Keys the server said had changed.
    pub invalidations: u64,
    /// Keys that are cached or being fetched.
    pub keys: usize,
    /// Cached replies.
    pub entries: usize,
    /// Bytes they are accounted for.
    pub bytes: u64,
    /// Whether the server's invalidations arrive.
    pub tracking: bool,
}

impl Cache<'_> {
    /// What it did and holds now. Takes every shard's lock once.
    pub fn stats(&self) -> CacheStats {
        let (metrics, totals) = (&self.0.metrics, self.0.cache.totals());
        CacheStats {
            hits: metrics.cache_requests(CacheResult::Hit) + metrics.cache_requests(CacheResult::NegativeHit),
            misses: metrics.cache_requests(CacheResult::Miss) + metrics.cache_requests(CacheResult::Coalesced),
            bypassed: metrics.cache_requests(CacheResult::Bypass),
            invalidations: self.0.cache.tally().invalidated_keys.load(Ordering::Relaxed),
            keys: totals.keys,
            entries: totals.entries,
            bytes: totals.bytes,
            tracking: self.0.accounts.own().is_tracked(),
        }
    }
}

/// An in-process connection to a proxy.
#[derive(Debug)]
pub struct Stream(DuplexStream);

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
