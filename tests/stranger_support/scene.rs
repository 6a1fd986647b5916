//! What all sessions of the test share.

use crate::support::resp::frame_length;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A reply that takes longer than this will never come: many times every time-out of nearhit.
pub const STUCK: Duration = Duration::from_secs(20);

/// Shared by all tasks. The atomics are counters and flags of their own: Relaxed, except where noted.
pub struct Scene {
    pub addr: SocketAddr,
    /// Replies that were exactly what their session asked for.
    pub checked: AtomicU64,
    /// Replies that were errors, or never came, because the upstream was not there.
    pub failed: AtomicU64,
    /// Sessions that left in the middle of something.
    pub left: AtomicU64,
    /// Odd while the upstream is being disturbed, and one more each time that begins or ends. SeqCst: a session that saw
    /// the same even number before and after saw no fault in between.
    pub unrest: AtomicU64,
    /// Nobody begins anything new.
    pub over: AtomicBool,
    /// The first few things that went wrong.
    pub wrong: Mutex<Vec<String>>,
}

impl Scene {
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            checked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            left: AtomicU64::new(0),
            unrest: AtomicU64::new(0),
            over: AtomicBool::new(false),
            wrong: Mutex::new(Vec::new()),
        }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A moment without faults, which [`Scene::calm_since`] takes.
    pub fn moment(&self) -> u64 {
        self.unrest.load(Ordering::SeqCst)
    }

    /// Whether there was no fault at `moment` and none began since.
    pub fn calm_since(&self, moment: u64) -> bool {
        moment.is_multiple_of(2) && self.moment() == moment
    }

    /// Notes what must not have happened; the test ends soon and fails.
    pub fn accuse(&self, what: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < 10 {
            wrong.push(what);
        }
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One connection, and what it has heard and not looked at.
pub struct Client {
    stream: TcpStream,
    heard: Vec<u8>,
    at: usize,
}

/// Why a reply did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Closed,
    Stuck,
}

impl Client {
    pub async fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            heard: Vec::new(),
            at: 0,
        })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.stream.write_all(bytes).await.map_err(|_| Gone::Closed)
    }

    /// The next bytes, if they are these; they are taken then.
    pub async fn hears(&mut self, expected: &[u8]) -> Result<bool, Gone> {
        while self.unread().len() < expected.len() {
            if !expected.starts_with(self.unread()) {
                return Ok(false);
            }
            self.listen().await?;
        }
        let hears = self.unread().starts_with(expected);
        if hears {
            self.at += expected.len();
        }
        Ok(hears)
    }

    /// The next frame, whatever it is.
    pub async fn frame(&mut self) -> Result<Vec<u8>, Gone> {
        loop {
            if let Some(length) = frame_length(self.unread()) {
                let frame = self.unread()[..length].to_vec();
                self.at += length;
                return Ok(frame);
            }
            self.listen().await?;
        }
    }

    /// Reads what comes next, and puts it behind what was heard.
    pub async fn listen(&mut self) -> Result<(), Gone> {
        if self.at > 0 {
            self.heard.drain(..self.at);
            self.at = 0;
        }
        match tokio::time::timeout(STUCK, self.stream.read_buf(&mut self.heard)).await {
            Err(_) => Err(Gone::Stuck),
            Ok(Ok(0) | Err(_)) => Err(Gone::Closed),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// Leaves with a reset instead of a farewell.
    pub fn reset(self) {
        drop(self.stream.set_zero_linger());
    }

    /// Says that it will send no more, and waits until the other side has closed.
    pub async fn half_close(mut self) {
        drop(self.stream.shutdown().await);
        while self.listen().await.is_ok() {
            self.at = self.heard.len();
        }
    }

    fn unread(&self) -> &[u8] {
        &self.heard[self.at..]
    }
}
