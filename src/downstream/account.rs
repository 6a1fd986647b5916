//! Who a session is at the server, and what it has in common with every other session that is the same.
//!
//! ```text
//! AUTH accepted by Redis → Accounts::login ─ known → the account ─ no session for a while, user changed → retired
//!                                          └ new → its partitions are opened (identity → tracked connections)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use super::holdings::{Held, Holdings};
use crate::coherence::Origin;
use crate::time::Instant;
use crate::topology::NodeId;
use crate::tracking::Tracking;
use crate::upstream::Identity;

/// A part of the near-cache, and who fetches for it.
#[derive(Clone)]
pub struct Partition {
    /// What its entries are kept true by.
    pub origin: Arc<Origin>,
    /// The tracked connection.
    pub tracking: Tracking,
}

impl Partition {
    /// Whether every change made before `read_at` is known, so that nobody is served what was there before it. If not,
    /// `task` is woken when there is news.
    pub(super) fn knows_all_before(&self, read_at: Instant, task: &Waker) -> bool {
        let knows = || {
            let stream = self.origin.stream();
            // Where entries live by age nothing is ever proved, and nothing is promised beyond their age.
            !stream.is_live() || stream.reach().by_age || stream.fresh() >= read_at
        };
        if knows() {
            return true;
        }
        self.tracking.when_proved(task);
        self.tracking.kick();
        knows()
    }
}

/// Who a session is at the server, and what all sessions of all workers that are the same share.
pub struct Account {
    identity: Identity,
    holdings: Holdings,
    /// Nothing is sent to the server for it: its clients have to say who they are first.
    barred: bool,
    /// The server wants a password and this account says none. Relaxed: it is learned from replies.
    locked_out: AtomicBool,
    pub(super) rights: Rights,
}

impl Account {
    /// An account whose replies are cached in `partition`.
    pub fn new(identity: Identity, partition: Option<Partition>) -> Self {
        Self::holding(identity, Holdings::one(partition))
    }

    /// An account whose replies are cached there.
    pub(super) fn holding(identity: Identity, holdings: Holdings) -> Self {
        Self {
            identity,
            holdings,
            barred: false,
            locked_out: AtomicBool::new(false),
            rights: Rights::default(),
        }
    }

    /// The account of clients that must say who they are before anything is done for them.
    pub(super) fn barred() -> Self {
        Self {
            barred: true,
            ..Self::new(Identity::new(None), None)
        }
    }

    /// As whom its connections log in.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The user's name, as CLIENT LIST shows it.
    pub fn user_name(&self) -> String {
        String::from_utf8_lossy(self.identity.user()).into_owned()
    }

    /// Whether the server would call its connections authenticated, as far as that is known: all are but those of nobody
    /// in particular at a server that wants a password.
    pub fn is_authenticated(&self) -> bool {
        !self.barred && !self.locked_out.load(Ordering::Relaxed)
    }

    /// Whether nothing may be sent to the server before AUTH.
    pub(super) fn is_barred(&self) -> bool {
        self.barred
    }

    /// What a reply to it tells: a server that wants a password says so in every reply to a stranger, and nowhere else.
    #[cold]
    pub(super) fn learn(&self, reply: &[u8]) {
        let refused = reply.starts_with(b"-NOAUTH ");
        if refused || !reply.starts_with(b"-") {
            self.set_locked_out(refused);
        }
    }

    /// The server said whether a password is missing.
    pub fn set_locked_out(&self, locked_out: bool) {
        let nobody = self.identity.credentials().is_none();
        self.locked_out.store(nobody && locked_out, Ordering::Relaxed);
    }

    /// What it may do may have changed.
    pub(super) fn forget(&self) {
        self.rights.forget();
        for partition in self.holdings.all() {
            partition.origin.flush_for_rights();
            partition.tracking.retry();
        }
    }

    /// What is cached for it, and where.
    pub(super) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// The part of the near-cache for what is read of `node`, which is named in a cluster; `None`: nothing is cached.
    pub fn partition(&self, node: Option<NodeId>) -> Option<Held<'_>> {
        self.holdings.at(node)
    }

    /// What the entries of that part are told apart by.
    pub(super) fn origin_number(&self, node: Option<NodeId>) -> Option<u16> {
        self.holdings.origin_at(node)
    }

    /// All its parts of the near-cache; none: nothing is cached for this account.
    pub fn partitions(&self) -> Vec<Partition> {
        self.holdings.all()
    }

    /// Whether anything may be cached for it.
    pub fn caches(&self) -> bool {
        !matches!(self.holdings, Holdings::Nothing)
    }

    /// Whether invalidations of all that may be cached for it arrive.
    pub fn is_tracked(&self) -> bool {
        let parts = self.holdings.all();
        let is_up = |partition: &Partition| partition.tracking.is_connected();
        !parts.is_empty() && parts.iter().all(is_up)
    }
}

/// Which of the commands that nearhit answers the server lets a user run, by their place in a table, as far as it was
/// asked since rights changed last.
///
/// How often they were forgotten is in the upper half, one bit for each command in the lower one. SeqCst: whoever has
/// seen the reply to a change of rights finds nothing from before it.
#[derive(Default)]
pub(super) struct Rights(AtomicU64);

/// Since when rights are known: what was asked before they were forgotten is not remembered after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since(u64);

impl Rights {
    /// Whether the server allowed the command at `place` (below 32).
    pub(super) fn allows(&self, place: u8) -> bool {
        self.0.load(Ordering::SeqCst) >> place & 1 == 1
    }

    /// To be taken before the server is asked.
    pub(super) fn since(&self) -> Since {
        Since(self.0.load(Ordering::SeqCst) >> 32)
    }

    /// The server, asked after `since` was taken, allowed the command at `place`.
    pub(super) fn remember(&self, since: Since, place: u8) {
        let remember = |rights: u64| (rights >> 32 == since.0).then_some(rights | 1 << place);
        let _forgotten_meanwhile = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, remember);
    }

    /// Rights may have changed.
    pub(super) fn forget(&self) {
        let forget = |rights: u64| Some(((rights >> 32).wrapping_add(1) & u64::from(u32::MAX)) << 32);
        let _always = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_rights_changed_is_not_remembered_after_it() {
        let rights = Rights::default();
        let (before, place) = (rights.since(), 31);
        rights.remember(before, place);
        assert!(rights.allows(place) && !rights.allows(0));
        rights.forget();
        assert!(!rights.allows(place));
        rights.remember(before, place);
        assert!(!rights.allows(place));
        rights.remember(rights.since(), 0);
        assert!(rights.allows(0) && !rights.allows(place));
    }
}
