//! Who a connection is at the server.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::Credentials;

/// Who a connection is at the server: a user, or nobody in particular. Clones are the same identity; two that were made
/// apart are different ones even when they say the same, so that connections of one are never used for the other.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    number: u64,
    credentials: Option<Credentials>,
    retired: AtomicBool,
}

impl Identity {
    /// Somebody who says `credentials`; `None`: who says nothing, and is the server's default user if that needs no
    /// password.
    pub fn new(credentials: Option<Credentials>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Inner {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            credentials,
            retired: AtomicBool::new(false),
        }))
    }

    /// Its number, unique in this process.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// What it says to the server.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.0.credentials.as_ref()
    }

    /// The user's name; nobody in particular is the default user, as far as the server goes.
    pub fn user(&self) -> &[u8] {
        match &self.0.credentials {
            Some(credentials) if !credentials.username.is_empty() => &credentials.username,
            _ => b"default",
        }
    }

    /// Nobody will ask for a connection of it again: those that are open are closed.
    pub fn retire(&self) {
        // Relaxed: pools look again every 100 ms.
        self.0.retired.store(true, Ordering::Relaxed);
    }

    /// Whether nobody will ask for a connection of it again.
    pub fn is_retired(&self) -> bool {
        self.0.retired.load(Ordering::Relaxed)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number.hash(state);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {})", self.0.number, self.user().escape_ascii())
    }
}
