//! Everything kept for one key name. Most names have one entry, which then holds the name, and the slot is only where it is:
//! 24 bytes, of which a processor keeps those of many names close by.

use super::eviction::{Candidate, Heat};
use super::weight::allocated;
use super::{Entry, EntryId};

/// What a slot takes of memory beside what it owns: its share of its page, of the table (five bytes, at a load of 0.44 to
/// 0.88) and of the default policy's sketch (a word for two to four).
const SHARES: u64 = 1 + 8 + 6;

/// What `coherence/` keeps per key name.
pub trait SlotState {
    /// The state of a name that was just met.
    fn create() -> Self;
    /// Whether nothing refers to the slot, so that it may go when it has no entries.
    fn is_idle(&self) -> bool;
    /// Bytes of memory it owns.
    fn owned(&self) -> usize;
}

/// Everything kept for one key name, in all databases and for all commands; or a free place for it.
#[derive(Debug)]
pub struct Slot<S> {
    /// Generation and flights.
    pub state: S,
    held: Held,
}

#[derive(Debug)]
enum Held {
    One(Box<Entry>),
    /// `None`: the place is free. It is told here because there is no room for it around a slot.
    Other(Option<Box<Other>>),
}

#[derive(Debug)]
enum Other {
    /// No entry yet, or none any more: only the name.
    Name(Box<[u8]>),
    /// Invariant: two or more. The heat of the first one counts.
    Many(Vec<Box<Entry>>),
}

const _: () = assert!(size_of::<Slot<Option<Box<u8>>>>() == 24, "a third of a line");

impl Held {
    fn name(name: &[u8]) -> Self {
        Self::Other(Some(Box::new(Other::Name(name.into()))))
    }

    fn many(entries: Vec<Box<Entry>>) -> Self {
        Self::Other(Some(Box::new(Other::Many(entries))))
    }
}

impl<S: SlotState> Slot<S> {
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            state: S::create(),
            held: Held::name(name),
        }
    }

    /// A place for a slot.
    pub(super) fn free() -> Self {
        Self {
            state: S::create(),
            held: Held::Other(None),
        }
    }

    /// Bytes of memory it is accounted for, entries included.
    pub(super) fn weight(&self) -> u64 {
        let other = allocated(size_of::<Other>());
        let owned = match &self.held {
            Held::One(entry) => entry.weight(),
            Held::Other(None) => 0,
            Held::Other(Some(held)) => match &**held {
                Other::Name(name) => other + allocated(name.len()),
                Other::Many(entries) => {
                    let each = entries.iter().map(|entry| entry.weight()).sum::<u64>();
                    other + allocated(entries.capacity() * size_of::<Box<Entry>>()) + each
                }
            },
        };
        size_of::<Self>() as u64 + SHARES + allocated(self.state.owned()) + owned
    }

    /// Whether nothing is left of it that somebody needs.
    pub(super) fn is_spent(&self) -> bool {
        self.entries().is_empty() && self.state.is_idle()
    }

    pub(super) fn candidate(&self) -> Option<Candidate<'_>> {
        let (heat, weight) = (self.heat()?, self.weight());
        Some(Candidate { heat, weight })
    }
}

impl<S> Slot<S> {
    /// Whether it is none, only a place for one.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.held, Held::Other(None))
    }

    /// The key's name.
    pub fn name(&self) -> &[u8] {
        match &self.held {
            Held::One(entry) => entry.name(),
            Held::Other(held) => match held.as_deref() {
                None => &[],
                Some(Other::Name(name)) => name,
                Some(Other::Many(entries)) => entries.first().map(|entry| entry.name()).unwrap_or_default(),
            },
        }
    }

    /// Whether that is its name.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        if let Held::One(entry) = &self.held {
            entry.call();
        }
        self.name() == name
    }

    /// What is cached for it.
    pub fn entries(&self) -> &[Box<Entry>] {
        match &self.held {
            Held::One(entry) => std::slice::from_ref(entry),
            Held::Other(held) => match held.as_deref() {
                None | Some(Other::Name(_)) => &[],
                Some(Other::Many(entries)) => entries,
            },
        }
    }

    /// The entry of `id`.
    pub fn entry(&self, id: &EntryId<'_>) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.is(id)).map(|entry| &**entry)
    }

    /// How hot it is, if it has entries.
    pub(super) fn heat(&self) -> Option<&Heat> {
        self.entries().first().map(|entry| &entry.heat)
    }

    /// Stores `entry`, and gives back the one it replaces, as hot as which it is.
    pub(super) fn insert(&mut self, mut entry: Box<Entry>, is: &EntryId<'_>) -> Option<Box<Entry>> {
        if let Some(held) = self.entry_mut(is) {
            entry.heat = held.heat.copied();
            return Some(std::mem::replace(held, entry));
        }
        self.held = match std::mem::replace(&mut self.held, Held::Other(None)) {
            Held::One(first) => Held::many(vec![first, entry]),
            Held::Other(None) => Held::One(entry),
            Held::Other(Some(mut held)) => match &mut *held {
                Other::Name(_) => Held::One(entry),
                Other::Many(entries) => {
                    // A vector that grows by itself makes room for as many again.
                    entries.reserve_exact(entries.len().div_ceil(8));
                    entries.push(entry);
                    Held::Other(Some(held))
                }
            },
        };
        None
    }

    fn entry_mut(&mut self, id: &EntryId<'_>) -> Option<&mut Box<Entry>> {
        let entries = match &mut self.held {
            Held::One(entry) => std::slice::from_mut(entry),
            Held::Other(held) => match held.as_deref_mut() {
                None | Some(Other::Name(_)) => &mut [],
                Some(Other::Many(entries)) => entries.as_mut_slice(),
            },
        };
        entries.iter_mut().find(|entry| entry.is(id))
    }

    /// Takes all entries out; the name stays.
    pub(super) fn clear(&mut self) -> Vec<Box<Entry>> {
        if self.entries().is_empty() {
            return Vec::new();
        }
        let name = Held::name(self.name());
        match std::mem::replace(&mut self.held, name) {
            Held::One(entry) => vec![entry],
            Held::Other(held) => match held.map(|held| *held) {
                None | Some(Other::Name(_)) => Vec::new(),
                Some(Other::Many(entries)) => entries,
            },
        }
    }

    /// Takes the entries out for which `dead` holds.
    pub(super) fn clear_if(&mut self, mut dead: impl FnMut(&Entry) -> bool) -> Vec<Box<Entry>> {
        let entries = match &mut self.held {
            Held::One(entry) if dead(entry) => return self.clear(),
            Held::One(_) | Held::Other(None) => return Vec::new(),
            Held::Other(Some(held)) => match &mut **held {
                Other::Name(_) => return Vec::new(),
                Other::Many(entries) => entries,
            },
        };
        let heat = entries.first().map(|entry| entry.heat.copied());
        // In front of what is kept, so that the name is still there when nothing is.
        let gone: Vec<_> = entries.iter().map(|entry| dead(entry)).collect();
        if gone.iter().all(|gone| *gone) {
            return self.clear();
        }
        let mut gone = gone.into_iter();
        let out = entries.extract_if(.., |_| gone.next() == Some(true)).collect();
        if let (Some(first), Some(heat)) = (entries.first_mut(), heat) {
            first.heat = heat;
        }
        if entries.len() == 1
            && let Some(last) = entries.pop()
        {
            self.held = Held::One(last);
        }
        out
    }
}
