//! Everything kept for one key name. Most names have one entry, which then lies in the slot itself and holds the name.

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

/// Everything kept for one key name, in all databases and for all commands.
#[derive(Debug)]
pub struct Slot<S> {
    /// Generation and flights.
    pub state: S,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// No entry yet, or none any more: only the name.
    Name(Box<[u8]>),
    One(Entry),
    /// Invariant: two or more. The heat of the first one counts.
    Many(Vec<Entry>),
}

impl<S: SlotState> Slot<S> {
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            state: S::create(),
            held: Held::Name(name.into()),
        }
    }

    /// Bytes of memory it is accounted for, entries included.
    pub(super) fn weight(&self) -> u64 {
        let owned = match &self.held {
            Held::Name(name) => allocated(name.len()),
            Held::One(entry) => entry.text_weight(),
            Held::Many(entries) => {
                let texts = entries.iter().map(Entry::text_weight).sum::<u64>();
                allocated(entries.capacity() * size_of::<Entry>()) + texts
            }
        };
        size_of::<Option<Self>>() as u64 + SHARES + allocated(self.state.owned()) + owned
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
    /// The key's name.
    pub fn name(&self) -> &[u8] {
        match &self.held {
            Held::Name(name) => name,
            Held::One(entry) => entry.name(),
            Held::Many(entries) => entries.first().map(Entry::name).unwrap_or_default(),
        }
    }

    /// What is cached for it.
    pub fn entries(&self) -> &[Entry] {
        match &self.held {
            Held::Name(_) => &[],
            Held::One(entry) => std::slice::from_ref(entry),
            Held::Many(entries) => entries,
        }
    }

    /// The entry of `id`.
    pub fn entry(&self, id: &EntryId<'_>) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.is(id))
    }

    /// How hot it is, if it has entries.
    pub(super) fn heat(&self) -> Option<&Heat> {
        self.entries().first().map(|entry| &entry.heat)
    }

    /// Stores `entry`, and gives back the one it replaces.
    pub(super) fn insert(&mut self, entry: Entry, is: &EntryId<'_>) -> Option<Entry> {
        match &mut self.held {
            Held::Name(_) => self.held = Held::One(entry),
            Held::One(held) if held.is(is) => return Some(replace(held, entry)),
            Held::One(_) => {
                let Held::One(first) = std::mem::replace(&mut self.held, Held::Many(Vec::new())) else {
                    return None;
                };
                self.held = Held::Many(vec![first, entry]);
            }
            Held::Many(entries) => match entries.iter_mut().find(|held| held.is(is)) {
                Some(held) => return Some(replace(held, entry)),
                None => {
                    // A vector that grows by itself makes room for as many again.
                    entries.reserve_exact(entries.len().div_ceil(8));
                    entries.push(entry);
                }
            },
        }
        None
    }

    /// Takes all entries out; the name stays.
    pub(super) fn clear(&mut self) -> Vec<Entry> {
        if matches!(self.held, Held::Name(_)) {
            return Vec::new();
        }
        let name = Held::Name(self.name().into());
        match std::mem::replace(&mut self.held, name) {
            Held::Name(_) => Vec::new(),
            Held::One(entry) => vec![entry],
            Held::Many(entries) => entries,
        }
    }

    /// Takes the entries out for which `dead` holds.
    pub(super) fn clear_if(&mut self, mut dead: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        match &mut self.held {
            Held::Name(_) => Vec::new(),
            Held::One(entry) if dead(entry) => self.clear(),
            Held::One(_) => Vec::new(),
            Held::Many(entries) => {
                let heat = entries.first().map(|entry| entry.heat.copied());
                // In front of what is kept, so that the name is still there when nothing is.
                let gone: Vec<_> = entries.iter().map(&mut dead).collect();
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
    }
}

/// The new entry is as hot as the old one was.
fn replace(held: &mut Entry, mut entry: Entry) -> Entry {
    entry.heat = held.heat.copied();
    std::mem::replace(held, entry)
}
