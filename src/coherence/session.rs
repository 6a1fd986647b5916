//! The rules of one session: what of its own is still on its way, and what it has seen.
//!
//! Rule P: a read is not answered from the cache while the session has a command on the same key, or one with unknown
//! effects, on its way to the server. Rule H: while a read of a key is being fetched over the tracked connection, no
//! later command of the session on that key leaves, so that nothing overtakes it.
//!
//! A strict session sees keys in the order in which they changed: who read a new value of one key reads no older state of
//! another. For it both rules hold whatever the key, and every reply that did not come from the cache is something it
//! saw. What comes over the tracked connection is in order already, with the entries and among itself.

use std::hash::BuildHasherDefault;
use std::hash::Hasher;

use hashbrown::HashMap;

use crate::command::Effect;
use crate::metrics::Bypass;
use crate::mutants::{Mutant, mutated};
use crate::time::Instant;

/// Room for more keys than this is given back when there are none.
const KEPT: usize = 1024;

/// Hashes of the key names of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// It names no key.
    #[default]
    None,
    /// One key, the usual case: nothing is allocated.
    One(u64),
    /// Several keys.
    Many(Box<[u64]>),
}

impl Keys {
    /// The hashes.
    pub fn as_slice(&self) -> &[u64] {
        match self {
            Self::None => &[],
            Self::One(hash) => std::slice::from_ref(hash),
            Self::Many(hashes) => hashes,
        }
    }
}

impl From<&[u64]> for Keys {
    fn from(hashes: &[u64]) -> Self {
        match hashes {
            [] => Self::None,
            [hash] => Self::One(*hash),
            many => Self::Many(many.into()),
        }
    }
}

/// What one session has on its way and has seen.
#[derive(Debug, Default)]
pub struct Causality {
    /// Keys of commands forwarded on the session's home connection, reads included, until their replies.
    out: Counts,
    /// Keys of reads that wait for a fetch over the tracked connection, or for a replica.
    off: Counts,
    /// Reads that wait for a replica and of which the keys do not tell what they read.
    off_unnamed: u32,
    /// Commands on their way of which the keys do not tell what they do or tell.
    unknown: u32,
    /// The session saw effects that name no key at this time: nothing older may be served to it.
    must_see: Instant,
    /// Its reads keep the order of changes across keys.
    strict: bool,
}

impl Causality {
    /// The rules of a strict session.
    pub fn strict() -> Self {
        Self {
            strict: true,
            ..Self::default()
        }
    }

    /// Rule H: whether a command on `keys` may leave, or be looked up, now. A command that names no key, or whose effects
    /// are not told by its keys, waits for all reads that are being fetched; and every command waits for a read elsewhere
    /// that may read any key.
    pub fn may_proceed(&self, keys: &[u64], effect: Effect) -> bool {
        if self.off.is_empty() || mutated(Mutant::NoHold) {
            return true;
        }
        // It names a key, too: one that names none is asked where all commands go.
        if self.off_unnamed > 0 {
            return false;
        }
        if effect == Effect::Write && mutated(Mutant::NoHoldWrite) {
            return true;
        }
        let told = !self.strict && !hides(effect);
        told && !keys.is_empty() && !keys.iter().any(|&key| self.off.contains(key))
    }

    /// Whether nothing of the session waits for a fetch.
    pub fn nothing_fetching(&self) -> bool {
        self.off.is_empty() && self.off_unnamed == 0
    }

    /// Whether nothing of the session is on its way to where all its commands go.
    pub fn nothing_forwarded(&self) -> bool {
        self.out.is_empty() && self.unknown == 0
    }

    /// Rule P: whether a read of `key` may be answered from the cache.
    ///
    /// # Errors
    /// Why not.
    pub fn may_look(&self, key: u64) -> Result<(), Bypass> {
        if mutated(Mutant::NoPipelineRule) {
            return Ok(());
        }
        if self.unknown > 0 {
            return Err(Bypass::UnknownEffects);
        }
        let outstanding = if self.strict {
            !self.out.is_empty()
        } else {
            self.out.contains(key)
        };
        if outstanding {
            return Err(Bypass::Pipelined);
        }
        Ok(())
    }

    /// Whether the oldest forwarded command, which is on `keys`, is the only one that could change what it reads: if it is
    /// asked once more, it sees nothing of what the session sent behind it.
    pub fn is_alone(&self, keys: &Keys) -> bool {
        self.unknown == 0 && keys.as_slice().iter().all(|&key| self.out.count(key) == 1)
    }

    /// What a cached reply must be at least as new as.
    pub fn must_see(&self) -> Instant {
        self.must_see
    }

    /// A command on `keys` was forwarded.
    pub fn forwarded(&mut self, keys: &Keys, effect: Effect) {
        for &key in keys.as_slice() {
            self.out.add(key);
        }
        self.unknown += u32::from(hides(effect));
    }

    /// A forwarded command was answered, or its connection is gone.
    pub fn answered(&mut self, keys: &Keys, effect: Effect) {
        for &key in keys.as_slice() {
            self.out.remove(key);
        }
        self.unknown = self.unknown.saturating_sub(u32::from(hides(effect)));
    }

    /// Whether it is a strict session's.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The session saw something at `now` (read after the reply was) that no key can be blamed for.
    pub fn saw(&mut self, now: Instant) {
        self.must_see = self.must_see.max(now);
    }

    /// A read of `key` waits for a fetch.
    pub fn fetching(&mut self, key: u64) {
        self.off.add(key);
    }

    /// A command on all these keys waits for a node that others are not asked at.
    pub fn all_fetching(&mut self, keys: &Keys, effect: Effect) {
        keys.as_slice().iter().for_each(|&key| self.fetching(key));
        self.off_unnamed += u32::from(hides(effect));
    }

    /// It was answered, or was sent home.
    pub fn all_fetched(&mut self, keys: &Keys, effect: Effect) {
        keys.as_slice().iter().for_each(|&key| self.fetched(key));
        self.off_unnamed = self.off_unnamed.saturating_sub(u32::from(hides(effect)));
    }

    /// A fetch of `key` answered, or was sent home.
    pub fn fetched(&mut self, key: u64) {
        self.off.remove(key);
    }
}

/// Until such a command is answered nothing may be read from the cache: what it does, or what it tells of any key, is not
/// told by its keys.
fn hides(effect: Effect) -> bool {
    match effect {
        Effect::Unknown | Effect::Admin => true,
        Effect::KeylessRead => !mutated(Mutant::KeylessOvertaken),
        Effect::Read | Effect::Write | Effect::None => false,
    }
}

/// A multiset of hashes.
#[derive(Debug, Default)]
struct Counts(HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>);

impl Counts {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, key: u64) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key)
    }

    fn count(&self, key: u64) -> u32 {
        self.0.get(&key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: u64) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    fn remove(&mut self, key: u64) {
        if let Some(count) = self.0.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&key);
                if self.0.is_empty() && self.0.capacity() > KEPT {
                    // One long pipeline must not cost its client forever.
                    self.0 = HashMap::default();
                }
            }
        }
    }
}

/// Keys are hashes already (seeded per process), so they hash to themselves.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
