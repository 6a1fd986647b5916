//! The trust in one node's invalidation stream: an incarnation of its tracked connection, and what it has proved.

use std::sync::atomic::{self, Ordering};
use std::sync::{Arc, OnceLock};

use super::near_cache::Tally;
use super::reach::{Canary, Reach};
use crate::cache::Stamp;
use crate::mutants::{Mutant, mutated};
use crate::sync::{AtomicU8, AtomicU64, Shared};
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
    /// The same of each of two connections, where invalidations are lost with either. Relaxed: one thread writes and reads.
    filling: atomic::AtomicU64,
    subscribed: atomic::AtomicU64,
    /// How far its word goes; set before it goes live, if it is not all the way.
    reach: OnceLock<Reach>,
    /// Set before anything is read from the connection, if there is one.
    canary: OnceLock<Canary>,
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
            filling: atomic::AtomicU64::new(0),
            subscribed: atomic::AtomicU64::new(0),
            reach: OnceLock::new(),
            canary: OnceLock::new(),
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

    /// The same for a stream whose word does not go all the way.
    pub fn go_live_within(&self, reach: Reach) {
        // A second time it is live, or given up, already.
        let _set_already = self.reach.set(reach);
        self.go_live();
    }

    /// How far its word goes.
    pub fn reach(&self) -> &Reach {
        self.reach.get().unwrap_or(Reach::full())
    }

    /// Counts what is said of `key` apart from what is said of clients' keys.
    pub fn set_canary(&self, key: Box<[u8]>) {
        let _set_already = self.canary.set(Canary::new(key));
    }

    /// The key that is written to see whether the stream speaks of it.
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.get()
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

    /// The same on the connection whose tracking is redirected: it lived at `sent_at`, so what it had read was registered.
    pub(super) fn renew_filling(&self, sent_at: Instant) {
        self.filling.fetch_max(sent_at.as_nanos(), Ordering::Relaxed);
        self.renew_both();
    }

    /// The same on the connection it is redirected to.
    pub(super) fn renew_subscribed(&self, sent_at: Instant) {
        self.subscribed.fetch_max(sent_at.as_nanos(), Ordering::Relaxed);
        self.renew_both();
    }

    fn renew_both(&self) {
        let filling = self.filling.load(Ordering::Relaxed);
        let subscribed = self.subscribed.load(Ordering::Relaxed);
        self.renew(Instant::from_nanos(filling.min(subscribed)));
    }
}

/// One node under one identity: where entries come from, and the stream that keeps them true.
#[derive(Debug)]
pub struct Origin {
    number: u16,
    current: Shared<Stream>,
    tally: Arc<Tally>,
}

/// Epochs never repeat in this process: an origin may have the number of one that is gone, and its entries are dead.
fn next_epoch() -> u64 {
    static NEXT: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Origin {
    pub(super) fn new(number: u16, tally: Arc<Tally>) -> Self {
        Self {
            number,
            tally,
            current: Shared::from_pointee(Stream::new(next_epoch())),
        }
    }

    /// What its entries are told apart by.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The current incarnation.
    pub fn stream(&self) -> Arc<Stream> {
        self.current.load_full()
    }

    /// Gives the current incarnation up: all its entries and flights are dead. The new one is not live yet.
    pub fn fence(&self) -> Arc<Stream> {
        // Before the swap, so that nothing is served over it while the next one takes its place.
        self.current.load().give_up();
        let next = Arc::new(self.successor());
        // After it too: another fence may have come between, and what it made current is given up here.
        self.current.swap(Arc::clone(&next)).give_up();
        next
    }

    fn successor(&self) -> Stream {
        if mutated(Mutant::NoFlushOnDeath) {
            let stamp = self.stream().stamp();
            let next = Stream::new(stamp.epoch);
            next.flush.store(stamp.flush, Ordering::SeqCst);
            return next;
        }
        Stream::new(next_epoch())
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

    /// What its user may do may have changed: nothing that was read before is served.
    pub fn flush_for_rights(&self) {
        self.flush();
        Tally::add(&self.tally.flushed_by_rights, 1);
    }

    /// Whether `stream` is the current incarnation.
    pub fn is_current(&self, stream: &Arc<Stream>) -> bool {
        Arc::ptr_eq(stream, &self.current.load())
    }
}
