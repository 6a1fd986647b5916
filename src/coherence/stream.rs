//! The trust in one node's invalidation stream: an incarnation of its tracked connection, and what it has proved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::cache::Stamp;
use crate::time::Instant;

/// One incarnation of a tracked connection. A new connection gets a new `Stream`, so an old reader can never renew the
/// trust in entries it did not fill.
#[derive(Debug)]
pub struct Stream {
    epoch: u64,
    /// New → Live → GivenUp, or New → GivenUp: one that was given up never goes live (again).
    phase: AtomicU8,
    /// Grows when everything filled so far is no longer to be trusted (NULL push, FLUSHALL, `PROXY FLUSH`).
    /// SeqCst on both sides: a flush by one worker must be seen by a lookup that starts after it on another.
    flush: AtomicU64,
    /// Send time of the newest answered request: every invalidation for writes before it has been handled.
    /// Stored (Release) after the frames before that answer were handled, loaded (Acquire) before an entry is looked at.
    fresh: AtomicU64,
}

const NEW: u8 = 0;
const LIVE: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Stream {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            phase: AtomicU8::new(NEW),
            flush: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
        }
    }

    /// Which incarnation this is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether entries filled over it may be served, as far as the connection goes.
    pub fn is_live(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == LIVE
    }

    /// Tracking is on: from here on it may be filled from, unless it was given up meanwhile.
    pub fn go_live(&self) {
        // Failure means that it was given up, or is live already.
        let _ = self
            .phase
            .compare_exchange(NEW, LIVE, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn give_up(&self) {
        self.phase.store(GIVEN_UP, Ordering::SeqCst);
    }

    /// What an entry filled now would be stamped with.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            epoch: self.epoch,
            flush: self.flush.load(Ordering::SeqCst),
        }
    }

    /// Everything filled so far is dead, without a sweep.
    pub fn flush(&self) {
        self.flush.fetch_add(1, Ordering::SeqCst);
    }

    /// Send time of the newest answered request.
    pub fn fresh(&self) -> Instant {
        Instant::from_nanos(self.fresh.load(Ordering::Acquire))
    }

    /// A request sent at `sent_at` was answered, and every frame before the answer was handled.
    pub fn renew(&self, sent_at: Instant) {
        self.fresh.fetch_max(sent_at.as_nanos(), Ordering::Release);
    }
}

/// One node under one identity: where entries come from, and the stream that keeps them true.
#[derive(Debug)]
pub struct Origin {
    current: ArcSwap<Stream>,
    epochs: AtomicU64,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            current: ArcSwap::from_pointee(Stream::new(0)),
            epochs: AtomicU64::new(1),
        }
    }
}

impl Origin {
    /// The current incarnation.
    pub fn stream(&self) -> Arc<Stream> {
        self.current.load_full()
    }

    /// Gives the current incarnation up: all its entries and flights are dead. The new one is not live yet.
    pub fn fence(&self) -> Arc<Stream> {
        // Before the swap, so that nothing is served over it while the next one takes its place.
        self.current.load().give_up();
        let next = Arc::new(Stream::new(self.epochs.fetch_add(1, Ordering::Relaxed)));
        // After it too: another fence may have come between, and what it made current is given up here.
        self.current.swap(Arc::clone(&next)).give_up();
        next
    }

    /// Makes everything filled so far dead, whichever incarnation is current when this returns.
    pub fn flush(&self) {
        loop {
            let stream = self.current.load_full();
            stream.flush();
            // A fence between load and flush would leave the new incarnation unflushed.
            if Arc::ptr_eq(&stream, &self.current.load()) {
                return;
            }
        }
    }

    /// Whether `stream` is the current incarnation.
    pub fn is_current(&self, stream: &Arc<Stream>) -> bool {
        Arc::ptr_eq(stream, &self.current.load())
    }
}
