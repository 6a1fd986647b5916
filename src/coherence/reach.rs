//! What is known about a stream beside its order: how far its word goes, and whether it speaks at all.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How far a stream's word goes: which keys it speaks of, and what else bounds its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Only keys that begin with one of these are spoken of; empty: all keys are.
    pub prefixes: Vec<Box<[u8]>>,
    /// No entry lives longer, because there are changes of which nobody is told.
    pub longest: Duration,
    /// Nobody is told of any change: an entry proves as much as its own age does.
    pub by_age: bool,
}

impl Reach {
    /// It speaks of every change of every key.
    pub fn full() -> &'static Self {
        static FULL: Reach = Reach {
            prefixes: Vec::new(),
            longest: Duration::MAX,
            by_age: false,
        };
        &FULL
    }

    /// Whether replies about `key` may be stored.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }
}

/// A key nobody uses, written now and then to see whether the stream speaks of it.
#[derive(Debug)]
pub struct Canary {
    key: Box<[u8]>,
    /// Times the stream spoke of it. Relaxed, as is `asked`: the reader that writes them is the one that looks.
    heard: AtomicU64,
    asked: AtomicU8,
}

/// What the server said when it was asked to speak of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing yet.
    Unanswered,
    /// That it will.
    Granted,
    /// That this user may not read it.
    Denied,
    /// Something else: it does not read now.
    Refused,
}

impl Canary {
    pub(super) fn new(key: Box<[u8]>) -> Self {
        Self {
            key,
            heard: AtomicU64::new(0),
            asked: AtomicU8::new(0),
        }
    }

    /// Its name.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How often the stream spoke of it.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// What the server said when it was asked last.
    pub fn asked(&self) -> Asked {
        match self.asked.load(Ordering::Relaxed) {
            0 => Asked::Unanswered,
            1 => Asked::Granted,
            2 => Asked::Denied,
            _ => Asked::Refused,
        }
    }

    /// The server is about to be asked again.
    pub fn ask_again(&self) {
        self.answer(Asked::Unanswered);
    }

    pub(super) fn answer(&self, asked: Asked) {
        self.asked.store(asked as u8, Ordering::Relaxed);
    }
}
