//! All origins of a near-cache. Each has a partition of its own: an entry of one is never served under another, and what
//! happens to one stream touches no other.

use std::sync::Arc;

use super::inspect::Flushed;
use super::near_cache::{NearCache, Tally};
use super::sight::Sight;
use super::stream::Origin;
use crate::metrics::FenceReason;
use crate::sync::Mutex;
use crate::time::Instant;

/// Origins at once: a tracked connection each. Chosen, not measured.
pub const MAX_ORIGINS: usize = 256;

/// The origins by number. The lock is taken when one comes or goes, when everything is flushed, and by sweeps: never on
/// the way of a request.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<Vec<Option<Arc<Origin>>>>);

impl Origins {
    fn all(&self) -> Vec<Option<Arc<Origin>>> {
        self.0.lock().clone()
    }
}

/// What each origin's entries are judged by.
pub(super) struct Sights(Vec<Option<Sight>>);

impl Sights {
    /// The sight of the origin with this number; `None`: it is gone.
    pub(super) fn of(&self, origin: u16) -> Option<&Sight> {
        self.0.get(usize::from(origin))?.as_ref()
    }
}

impl<W> NearCache<W> {
    /// A new origin, whose stream is not live yet; `None` while there are [`MAX_ORIGINS`].
    pub fn open(&self) -> Option<Arc<Origin>> {
        let mut origins = self.origins.0.lock();
        let free = origins.iter().position(Option::is_none).unwrap_or(origins.len());
        let number = u16::try_from(free).ok().filter(|_| free < MAX_ORIGINS)?;
        let origin = Arc::new(Origin::new(number, Arc::clone(&self.tally)));
        match origins.get_mut(free) {
            Some(place) => *place = Some(Arc::clone(&origin)),
            None => origins.push(Some(Arc::clone(&origin))),
        }
        Some(origin)
    }

    /// Ends an origin: its entries and flights are dead, and its number may be given to another one.
    pub fn close(&self, origin: &Arc<Origin>) {
        let mut origins = self.origins.0.lock();
        let place = origins.get_mut(usize::from(origin.number()));
        if let Some(place) = place.filter(|place| place.as_ref().is_some_and(|held| Arc::ptr_eq(held, origin))) {
            *place = None;
        }
        drop(origins);
        origin.fence();
    }

    /// The tracked connection of `origin` is given up: all its entries and flights are dead.
    pub fn fence(&self, origin: &Origin) {
        origin.fence();
        self.note_flush(Flushed::TrackingLost);
        Tally::add(&self.tally.fences, 1);
    }

    /// Says why a tracked connection is about to be given up, where it is not the connection itself that tells.
    pub fn note_fence(&self, why: FenceReason) {
        self.tally.fenced.inc(why);
    }

    /// Makes everything filled so far dead, whoever it was filled for.
    pub(super) fn flush_all(&self) {
        for origin in self.origins.all().iter().flatten() {
            origin.flush();
        }
    }

    pub(super) fn sights(&self, now: Instant) -> Sights {
        let sight = |origin: &Option<Arc<Origin>>| origin.as_ref().map(|origin| self.sight(origin, now));
        Sights(self.origins.all().iter().map(sight).collect())
    }
}
