//! Everything kept for one key name. Most names have one entry, which then holds the name, and the slot is only where it is:
//! 16 bytes, four to a line, of which a processor keeps many close by.

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
    /// Bytes of memory it owns. One that owns none is as it was created, and is not kept.
    fn owned(&self) -> usize;
}

/// Everything kept for one key name, in all databases and for all commands; or a free place for it.
#[derive(Debug)]
pub struct Slot<S>(Held<S>);

#[derive(Debug)]
enum Held<S> {
    /// One entry, and a state that owns nothing.
    One(Box<Entry>),
    /// `None`: the place is free. It is told here because there is no room for it around a slot.
    Other(Option<Box<Other<S>>>),
}

/// Invariant: it is not what [`Held::One`] could hold.
#[derive(Debug)]
struct Other<S> {
    /// Generation and flights.
    state: S,
    entries: Entries,
}

#[derive(Debug)]
enum Entries {
    /// No entry yet, or none any more: only the name.
    None(Box<[u8]>),
    One(Box<Entry>),
    /// Invariant: two or more. The heat of the first one counts.
    Many(Vec<Box<Entry>>),
}

const _: () = assert!(size_of::<Slot<u64>>() == 16, "a quarter of a line");

impl<S: SlotState> Slot<S> {
    pub(super) fn new(name: &[u8]) -> Self {
        Self::of(S::create(), Entries::None(name.into()))
    }

    /// A place for a slot.
    pub(super) fn free() -> Self {
        Self(Held::Other(None))
    }

    fn of(state: S, entries: Entries) -> Self {
        Self(match entries {
            Entries::One(entry) if state.owned() == 0 => Held::One(entry),
            entries => Held::Other(Some(Box::new(Other { state, entries }))),
        })
    }

    /// Bytes of memory it is accounted for, entries included.
    pub(super) fn weight(&self) -> u64 {
        let owned = match &self.0 {
            Held::One(entry) => entry.weight(),
            Held::Other(other) => other.as_deref().map_or(0, Other::weight),
        };
        size_of::<Self>() as u64 + SHARES + owned
    }

    /// Changes its state.
    pub(super) fn with_state<R>(&mut self, change: impl FnOnce(&mut S) -> R) -> R {
        if let Held::Other(Some(other)) = &mut self.0 {
            let result = change(&mut other.state);
            if matches!(other.entries, Entries::One(_)) && other.state.owned() == 0 {
                self.change_entries(|entries| entries);
            }
            return result;
        }
        let mut state = S::create();
        let result = change(&mut state);
        if state.owned() > 0
            && let Held::One(entry) = std::mem::replace(&mut self.0, Held::Other(None))
        {
            *self = Self::of(state, Entries::One(entry));
        }
        result
    }

    /// Puts others in the place of its entries.
    fn change_entries(&mut self, change: impl FnOnce(Entries) -> Entries) {
        *self = match std::mem::replace(&mut self.0, Held::Other(None)) {
            Held::One(entry) => Self::of(S::create(), change(Entries::One(entry))),
            Held::Other(None) => Self::free(),
            Held::Other(Some(mut other)) => match change(other.entries) {
                Entries::One(entry) if other.state.owned() == 0 => Self(Held::One(entry)),
                entries => {
                    other.entries = entries;
                    Self(Held::Other(Some(other)))
                }
            },
        };
    }

    /// Whether nothing is left of it that somebody needs.
    pub(super) fn is_spent(&self) -> bool {
        self.entries().is_empty() && self.state().is_none_or(S::is_idle)
    }

    pub(super) fn candidate(&self) -> Option<Candidate<'_>> {
        let (heat, weight) = (self.heat()?, self.weight());
        Some(Candidate { heat, weight })
    }

    /// Stores `entry`, and gives back the one it replaces, as hot as which it is.
    pub(super) fn insert(&mut self, mut entry: Box<Entry>, is: &EntryId<'_>) -> Option<Box<Entry>> {
        if let Some(held) = self.entries_mut().iter_mut().find(|held| held.is(is)) {
            entry.heat = held.heat.copied();
            return Some(std::mem::replace(held, entry));
        }
        self.change_entries(|entries| match entries {
            Entries::None(_) => Entries::One(entry),
            Entries::One(first) => Entries::Many(vec![first, entry]),
            Entries::Many(mut entries) => {
                // A vector that grows by itself makes room for as many again.
                entries.reserve_exact(entries.len().div_ceil(8));
                entries.push(entry);
                Entries::Many(entries)
            }
        });
        None
    }

    fn entries_mut(&mut self) -> &mut [Box<Entry>] {
        match &mut self.0 {
            Held::One(entry) => std::slice::from_mut(entry),
            Held::Other(None) => &mut [],
            Held::Other(Some(other)) => match &mut other.entries {
                Entries::None(_) => &mut [],
                Entries::One(entry) => std::slice::from_mut(entry),
                Entries::Many(entries) => entries,
            },
        }
    }

    /// Takes all entries out; the name stays.
    pub(super) fn clear(&mut self) -> Vec<Box<Entry>> {
        let mut out = Vec::new();
        if self.entries().is_empty() {
            return out;
        }
        let name = Entries::None(self.name().into());
        self.change_entries(|entries| {
            out = match entries {
                Entries::None(_) => Vec::new(),
                Entries::One(entry) => vec![entry],
                Entries::Many(entries) => entries,
            };
            name
        });
        out
    }

    /// Takes the entries out for which `dead` holds.
    pub(super) fn clear_if(&mut self, mut dead: impl FnMut(&Entry) -> bool) -> Vec<Box<Entry>> {
        let entries = self.entries();
        if let [entry] = entries {
            return if dead(entry) { self.clear() } else { Vec::new() };
        }
        // In front of what is kept, so that the name is still there when nothing is.
        let gone: Vec<_> = entries.iter().map(|entry| dead(entry)).collect();
        if gone.iter().all(|gone| *gone) {
            return self.clear();
        }
        let mut out = Vec::new();
        self.change_entries(|entries| {
            let Entries::Many(mut entries) = entries else {
                return entries;
            };
            let heat = entries.first().map(|entry| entry.heat.copied());
            let mut gone = gone.into_iter();
            out = entries.extract_if(.., |_| gone.next() == Some(true)).collect();
            if let (Some(first), Some(heat)) = (entries.first_mut(), heat) {
                first.heat = heat;
            }
            match entries.pop() {
                Some(last) if entries.is_empty() => Entries::One(last),
                last => {
                    entries.extend(last);
                    Entries::Many(entries)
                }
            }
        });
        out
    }
}

impl<S> Slot<S> {
    /// Whether it is none, only a place for one.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.0, Held::Other(None))
    }

    /// Generation and flights, if there are any.
    pub fn state(&self) -> Option<&S> {
        match &self.0 {
            Held::One(_) => None,
            Held::Other(other) => other.as_deref().map(|other| &other.state),
        }
    }

    /// The key's name.
    pub fn name(&self) -> &[u8] {
        match &self.0 {
            Held::One(entry) => entry.name(),
            Held::Other(other) => other.as_deref().map(|other| other.entries.name()).unwrap_or_default(),
        }
    }

    /// Whether that is its name.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        if let Held::One(entry) = &self.0 {
            entry.call();
        }
        self.name() == name
    }

    /// What is cached for it.
    pub fn entries(&self) -> &[Box<Entry>] {
        match &self.0 {
            Held::One(entry) => std::slice::from_ref(entry),
            Held::Other(other) => other.as_deref().map(|other| other.entries.all()).unwrap_or_default(),
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
}

impl<S: SlotState> Other<S> {
    fn weight(&self) -> u64 {
        allocated(size_of::<Self>()) + allocated(self.state.owned()) + self.entries.weight()
    }
}

impl Entries {
    fn all(&self) -> &[Box<Entry>] {
        match self {
            Self::None(_) => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }

    fn name(&self) -> &[u8] {
        match self {
            Self::None(name) => name,
            Self::One(_) | Self::Many(_) => self.all().first().map(|entry| entry.name()).unwrap_or_default(),
        }
    }

    fn weight(&self) -> u64 {
        let owned = match self {
            Self::None(name) => allocated(name.len()),
            Self::One(_) => 0,
            Self::Many(entries) => allocated(entries.capacity() * size_of::<Box<Entry>>()),
        };
        owned + self.all().iter().map(|entry| entry.weight()).sum::<u64>()
    }
}
