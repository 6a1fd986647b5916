//! What is known of a node by the connections to it, and what tells these apart.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use super::census::Circuit;
use super::identity::Identity;
use super::loss::Loss;
use crate::resp::Version;
use crate::time::{self, Instant};

/// What tells the connections of a pool apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Home {
    pub(super) identity: Identity,
    pub(super) db: u32,
    pub(super) version: Version,
}

/// The same for a look into a table: what all workers count references of is left alone, request by request.
pub(super) type Key = (u64, u32, Version);

pub(super) fn key(identity: &Identity, db: u32, version: Version) -> Key {
    (identity.number(), db, version)
}

impl Home {
    pub(super) fn key(&self) -> Key {
        key(&self.identity, self.db, self.version)
    }

    pub(super) fn new(identity: &Identity, db: u32, version: Version) -> Self {
        Self {
            identity: identity.clone(),
            db,
            version,
        }
    }
}

/// Whether the node could be reached lately.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Some: the node is suspect.
    pub(super) last_failure: RefCell<Option<Loss>>,
    /// Before this, nothing is attempted on a suspect node.
    pub(super) retry_at: Cell<Instant>,
    /// Since when the node is suspect, while it is.
    since: Cell<Instant>,
    /// Somebody is finding out.
    probed: Cell<bool>,
    /// Handshakes that the node refused, and until when they are not tried again: that is an affair of this identity,
    /// database and protocol (a wrong password, a database that does not exist), not of the node.
    pub(super) refused: RefCell<HashMap<Home, (Loss, Instant)>>,
}

impl Health {
    /// Why no connection should be opened now; otherwise one is about to be, which may take until `deadline`.
    pub(super) fn objection(&self, home: &Home, now: Instant, deadline: Instant) -> Option<Loss> {
        let refused = self.refused.borrow();
        if let Some((loss, _)) = refused.get(home).filter(|(_, until)| now < *until) {
            return Some(loss.clone());
        }
        let failure = self.last_failure.borrow();
        if failure.is_some() {
            if now < self.retry_at.get() {
                return failure.clone();
            }
            self.retry_at.set(deadline);
            self.probed.set(true);
        }
        None
    }

    pub(super) fn failed(&self, loss: &Loss) {
        let now = time::now();
        self.retry_at.set(now.after(jittered_pause()));
        self.probed.set(false);
        if self.last_failure.borrow_mut().replace(loss.clone()).is_none() {
            self.since.set(now);
        }
    }

    /// An attempt has come to nothing that says anything about the node, or is about to: the next one may begin.
    pub(super) fn unknown(&self) {
        self.retry_at.set(Instant::ZERO);
    }

    /// Whether the node can be reached, and since when it cannot.
    pub(super) fn circuit(&self, now: Instant) -> (Circuit, Instant) {
        let circuit = match *self.last_failure.borrow() {
            None => return (Circuit::Closed, Instant::ZERO),
            Some(_) if self.probed.get() || now >= self.retry_at.get() => Circuit::HalfOpen,
            Some(_) => Circuit::Open,
        };
        (circuit, self.since.get())
    }

    pub(super) fn refused(&self, home: &Home, loss: &Loss) {
        let now = time::now();
        let mut refused = self.refused.borrow_mut();
        // Clients choose identities and databases; only what still matters is kept.
        refused.retain(|_, (_, until)| now < *until);
        refused.insert(home.clone(), (loss.clone(), now.after(jittered_pause())));
    }
}

/// 20–80 ms, so that the connections of several workers do not knock in step.
pub(crate) fn jittered_pause() -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(20 + random % 61)
}
