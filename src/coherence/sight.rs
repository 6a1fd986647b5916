//! What a lookup starts from: how far the stream has proved anything, and who reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::near_cache::NearCache;
use super::stream::{Origin, Stream};
use crate::resp::Version;
use crate::time::Instant;

/// What a lookup needs to know about the stream, loaded once for a group of requests and always before any entry.
///
/// `fresh` may be older than the stream's: that only claims less. Whether the stream is live and how often it was
/// flushed is read again by every lookup, because a session must see its own flush at once.
#[derive(Clone, Debug)]
pub struct Sight {
    pub(super) stream: Arc<Stream>,
    pub(super) fresh: Instant,
    /// The stream proves nothing: an entry proves as much as its own age does.
    pub(super) by_age: bool,
    pub(super) now: Instant,
    /// It is known what users may do.
    pub(super) rights: bool,
}

impl Sight {
    /// When it was taken.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Everything written before this moment has been invalidated here, as far as the stream has proved.
    pub fn fresh(&self) -> Instant {
        self.fresh
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// A session with this sight that has seen what `must_see` says and speaks `version`.
    pub fn reader(&self, must_see: Instant, version: Version) -> Reader<'_> {
        Reader {
            sight: self,
            must_see,
            version,
            owned: true,
        }
    }
}

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// What its worker knows of the stream.
    pub(super) sight: &'a Sight,
    /// What its session has seen ([`super::Causality::must_see`]).
    pub(super) must_see: Instant,
    /// The protocol it speaks.
    pub(super) version: Version,
    /// In a cluster: it is proved that the node still has the key's slot.
    pub(super) owned: bool,
}

impl Reader<'_> {
    /// The same for a key of which it is not proved that the node still has it, unless `owned`: no entry is served, but what
    /// the node is about to say may be shared.
    #[must_use]
    pub fn of_slot(self, owned: bool) -> Self {
        Self { owned, ..self }
    }

    /// What an entry must be as new as.
    pub(super) fn entry_must_see(&self) -> Instant {
        if self.owned { self.must_see } else { Instant::MAX }
    }
}

impl<W> NearCache<W> {
    /// What a group of lookups in one origin's partition starts from. `now` must have been read after the requests were.
    pub fn sight(&self, origin: &Origin, now: Instant) -> Sight {
        let stream = origin.stream();
        let rights = now.as_nanos() < self.rights_until.load(Ordering::Acquire);
        let by_age = stream.is_live() && stream.reach().by_age;
        let fresh = match (rights, by_age) {
            // It is as if nothing had ever been proved.
            (false, _) => Instant::ZERO,
            (true, true) => now,
            (true, false) => stream.fresh(),
        };
        Sight {
            stream,
            fresh,
            by_age,
            now,
            rights,
        }
    }
}
