//! One cached reply, in RESP3 as it was fetched, packed: there may be millions.
//!
//! ```text
//! Slot ── Entry, one allocation: 54 bytes of its own ── text: name, arguments behind the key, reply
//!                                                    └─ or apart: a long text, a reply that differs in RESP2 or is
//!                                                       compressed
//! ```
//! All of it lies side by side, so that a hit on an entry that is in no cache of the processor waits for memory once: what
//! it is judged by, its name and its reply are on their way at the same time.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::apart::{Apart, same_in_both};
use super::eviction::Heat;
use super::packed::{Packed, SharedReply};
use super::weight::allocated;
use crate::resp::{Shape, Version};
use crate::time::Instant;

/// It was served; it was served since its key was last touched at the server.
const SERVED: u8 = 1;
const HOT: u8 = 2;

/// No bound on an entry's life.
const FOR_EVER: u32 = u32::MAX;

/// Under which trust an entry was filled. It is servable only while the stream still has this stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Incarnation of the tracked connection.
    pub epoch: u64,
    /// Flushes that incarnation had seen when the fetch began.
    pub flush: u64,
}

/// What tells the entries of one key name apart. Everything that changes the reply's bytes is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId<'a> {
    /// Which node and identity the reply comes from.
    pub origin: u16,
    /// The database it was read in. In a cluster, which has one: the life of the key's hash slot.
    pub db: u32,
    /// Index of the command in the command table.
    pub command: u16,
    /// Canonical bytes of the arguments behind the key.
    pub rest: &'a [u8],
}

/// One cached reply.
///
/// It is always made in a box. Its text has one of the lengths of which `allocated` wastes nothing.
#[derive(Debug)]
pub struct Entry<Text: ?Sized = [u8]> {
    /// Its text is there instead.
    apart: Option<Box<Apart>>,
    /// When its fetch was handed to the socket.
    pub fetched_at: Instant,
    /// Unique in the process: the same serial is the same entry.
    pub serial: u64,
    /// The stamp's halves, which fit: see [`Entry::new`].
    epoch: u32,
    flush: u32,
    db: u32,
    /// Milliseconds after its fetch from which on it is not served.
    keep: u32,
    /// How often and how lately its slot was served, if it is the slot's first entry.
    pub(super) heat: Heat,
    origin: u16,
    command: u16,
    /// Lengths within the text.
    name_len: u8,
    rest_len: u8,
    /// Bytes of the text behind the reply that are not used.
    slack: u8,
    shape: Shape,
    /// The key did not exist.
    pub negative: bool,
    /// [`SERVED`] and [`HOT`]. Relaxed: being late or early by a hit does not matter.
    hit: AtomicU8,
    /// Name, arguments and reply, one behind the other; not used when they are apart.
    text: Text,
}

const _: () = assert!(size_of::<Entry<[u8; FIRST]>>() == 56, "54 bytes and the text");

/// The shortest text there is room for, and by how much more there is in the next.
const FIRST: usize = 2;
const STEP: usize = 16;

/// Makes an entry of `$head` with room for `$len` bytes of text. The list is of all rooms there are, in steps: text that
/// lies behind other fields needs a type for each of its lengths, as long as the compiler is to see that it is sound.
macro_rules! with_room {
    ($head:expr, $len:expr, $($step:literal)*) => {
        match ($len + STEP - 1 - FIRST) / STEP {
            $($step => Some($head.with_room::<{ FIRST + STEP * $step }>()),)*
            _ => None,
        }
    };
}

impl Entry<[u8; 0]> {
    /// An entry of nothing yet; `None`: the stamp does not fit.
    fn head(id: &EntryId<'_>, shape: Shape, stamp: Stamp, serial: u64) -> Option<Self> {
        Some(Self {
            apart: None,
            fetched_at: Instant::ZERO,
            serial,
            epoch: u32::try_from(stamp.epoch).ok()?,
            flush: u32::try_from(stamp.flush).ok()?,
            db: id.db,
            keep: FOR_EVER,
            heat: Heat::default(),
            origin: id.origin,
            command: id.command,
            name_len: 0,
            rest_len: 0,
            slack: 0,
            shape,
            negative: false,
            hit: AtomicU8::new(0),
            text: [],
        })
    }

    /// The same with its text elsewhere.
    fn with_apart(mut self, apart: Apart) -> Option<Box<Entry>> {
        self.apart = Some(Box::new(apart));
        self.with_text([&[]; 3])
    }

    /// The same with `text` behind it; `None` when it is too long.
    fn with_text(mut self, text: [&[u8]; 3]) -> Option<Box<Entry>> {
        let [name, rest, reply] = text;
        self.name_len = u8::try_from(name.len()).ok()?;
        self.rest_len = u8::try_from(rest.len()).ok()?;
        let len = name.len() + rest.len() + reply.len();
        let mut entry = with_room!(self, len,
             0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
        )?;
        entry.slack = u8::try_from(entry.text.len().checked_sub(len)?).ok()?;
        let mut left = &mut entry.text;
        for part in text {
            let (here, behind) = left.split_at_mut_checked(part.len())?;
            here.copy_from_slice(part);
            left = behind;
        }
        Some(entry)
    }

    fn with_room<const LEN: usize>(self) -> Box<Entry> {
        Box::new(Entry {
            apart: self.apart,
            fetched_at: self.fetched_at,
            serial: self.serial,
            epoch: self.epoch,
            flush: self.flush,
            db: self.db,
            keep: self.keep,
            heat: self.heat,
            origin: self.origin,
            command: self.command,
            name_len: self.name_len,
            rest_len: self.rest_len,
            slack: self.slack,
            shape: self.shape,
            negative: self.negative,
            hit: self.hit,
            text: [0; LEN],
        })
    }
}

impl Entry {
    /// An entry of `reply` (RESP3 bytes) about the key `name`, to be told apart by `id`, that is served for ever.
    ///
    /// `None`: the stamp does not fit into 2 × 32 bits, after four thousand million lost connections or flushes.
    pub fn new(
        name: &[u8],
        id: &EntryId<'_>,
        reply: Bytes,
        shape: Shape,
        stamp: Stamp,
        serial: u64,
    ) -> Option<Box<Self>> {
        let head = Entry::head(id, shape, stamp, serial)?;
        if !same_in_both(shape, &reply) {
            return head.with_apart(Apart::new(name, id.rest, reply, shape));
        }
        if let Some(entry) = head.with_text([name, id.rest, &reply]) {
            return Some(entry);
        }
        // The lengths of a text that is too long are of no use.
        let head = Entry::head(id, shape, stamp, serial)?;
        head.with_apart(Apart::new(name, id.rest, reply, shape))
    }

    /// The same of a reply that begins with `kind` and is kept compressed.
    pub fn packed(
        name: &[u8],
        id: &EntryId<'_>,
        (packed, kind): (Packed, u8),
        shape: Shape,
        stamp: Stamp,
        serial: u64,
    ) -> Option<Box<Self>> {
        // What reads the same needs no conversion, whatever the command.
        let shape = if same_in_both(shape, &[kind]) {
            Shape::Same
        } else {
            shape
        };
        let head = Entry::head(id, shape, stamp, serial)?;
        head.with_apart(Apart::packed(name, id.rest, packed))
    }

    /// It was fetched at `fetched_at`, and is served for `keep` from then on: whole milliseconds of it, and for 49 days
    /// unless it is for ever.
    pub fn served_for(mut self: Box<Self>, fetched_at: Instant, keep: Duration) -> Box<Self> {
        self.fetched_at = fetched_at;
        self.keep = if keep == Duration::MAX {
            FOR_EVER
        } else {
            u32::try_from(keep.as_millis()).unwrap_or(FOR_EVER - 1)
        };
        self
    }

    /// From here on it is not served.
    pub fn deadline(&self) -> Instant {
        match self.keep {
            FOR_EVER => Instant::MAX,
            millis => self.fetched_at.after(Duration::from_millis(millis.into())),
        }
    }

    /// What it is trusted under.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            epoch: self.epoch.into(),
            flush: self.flush.into(),
        }
    }

    /// Has the end of its text brought while the name is compared: it is what a hit needs next.
    pub(super) fn call(&self) {
        // Read, and not used: the processor goes on without waiting for it.
        std::hint::black_box(self.text.last());
    }

    /// The key's name.
    pub fn name(&self) -> &[u8] {
        match &self.apart {
            None => self.text.get(..self.name_len.into()).unwrap_or_default(),
            Some(apart) => apart.name(),
        }
    }

    fn rest(&self) -> &[u8] {
        match &self.apart {
            None => self.text.get(self.name_len.into()..self.head_len()).unwrap_or_default(),
            Some(apart) => apart.rest(),
        }
    }

    /// The reply, if it is not apart.
    fn resp3(&self) -> &[u8] {
        self.text.get(self.head_len()..self.text_len()).unwrap_or_default()
    }

    fn head_len(&self) -> usize {
        usize::from(self.name_len) + usize::from(self.rest_len)
    }

    fn text_len(&self) -> usize {
        self.text.len() - usize::from(self.slack)
    }

    /// Appends the reply to `out`, for a client that speaks `version`; unless it is to be shared, which is given back: it is
    /// more than [`COPY_LIMIT`](super::COPY_LIMIT), or compressed.
    #[must_use = "nothing was appended if a reply is given back"]
    pub fn append(&self, version: Version, out: &mut Vec<u8>) -> Option<SharedReply> {
        match &self.apart {
            None => {
                out.extend_from_slice(self.resp3());
                None
            }
            Some(apart) => apart.append(self.shape, version, out),
        }
    }

    /// Notes that it was served. It is written for the first of many hits only, so that a hot entry is shared without
    /// writes.
    pub fn note_hit(&self) {
        if !self.was_hit() {
            self.hit.store(SERVED | HOT, Ordering::Relaxed);
        }
    }

    /// Whether it was ever served.
    pub fn was_served(&self) -> bool {
        self.hit.load(Ordering::Relaxed) & SERVED != 0
    }

    /// Whether it was served since that was forgotten last.
    pub fn was_hit(&self) -> bool {
        self.hit.load(Ordering::Relaxed) & HOT != 0
    }

    /// Its key is about to be touched at the server.
    pub fn forget_hit(&self) {
        self.hit.fetch_and(!HOT, Ordering::Relaxed);
    }

    /// The same entry once more, if its name, arguments and reply are not apart.
    pub fn duplicate(&self) -> Option<Box<Self>> {
        if self.apart.is_some() {
            return None;
        }
        let head = Entry {
            apart: None,
            heat: self.heat.copied(),
            hit: AtomicU8::new(self.hit.load(Ordering::Relaxed)),
            text: [],
            fetched_at: self.fetched_at,
            serial: self.serial,
            epoch: self.epoch,
            flush: self.flush,
            db: self.db,
            keep: self.keep,
            origin: self.origin,
            command: self.command,
            name_len: 0,
            rest_len: 0,
            slack: 0,
            shape: self.shape,
            negative: self.negative,
        };
        head.with_text([self.name(), self.rest(), self.resp3()])
    }

    /// Whether this is the entry of `id`.
    pub fn is(&self, id: &EntryId<'_>) -> bool {
        // Most commands have no argument behind the key, and an empty comparison is not free.
        let rest = self.rest();
        let same_rest = rest.len() == id.rest.len() && (id.rest.is_empty() || rest == id.rest);
        self.command == id.command && self.db == id.db && self.origin == id.origin && same_rest
    }

    /// Which node and identity the reply comes from.
    pub fn origin(&self) -> u16 {
        self.origin
    }

    /// The database it was read in.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Index of its command in the command table.
    pub fn command(&self) -> u16 {
        self.command
    }

    /// Length of the RESP3 reply in bytes.
    pub fn reply_len(&self) -> usize {
        match &self.apart {
            None => self.resp3().len(),
            Some(apart) => apart.reply_len(),
        }
    }

    /// Bytes of memory it is accounted for. Both forms of the reply count from the start, so that a RESP2 reader never
    /// grows the cache.
    pub fn weight(&self) -> u64 {
        allocated(size_of_val(self)) + self.apart.as_ref().map_or(0, |apart| apart.weight())
    }
}

#[cfg(test)]
mod tests {
    use super::super::apart::COPY_LIMIT;
    use super::*;

    const ID: EntryId<'_> = EntryId {
        origin: 1,
        db: 2,
        command: 3,
        rest: b"0 -1",
    };

    fn entry(name: &[u8], reply: &str) -> Box<Entry> {
        let stamp = Stamp { epoch: 4, flush: 5 };
        Entry::new(name, &ID, Bytes::from(reply.to_owned()), Shape::Generic, stamp, 6).unwrap()
    }

    fn read(entry: &Entry, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(shared) = entry.append(version, &mut out) {
            shared.append(&mut out);
        }
        out
    }

    #[test]
    fn a_text_of_any_length_is_kept_whole() {
        for (name, len) in (0..1100)
            .map(|len| (10, len))
            .chain([(255, 9), (256, 9), (1, COPY_LIMIT)])
        {
            let (name, reply) = ("n".repeat(name), format!("+{}\r\n", "x".repeat(len)));
            let entry = entry(name.as_bytes(), &reply);
            for held in [Some(&entry), entry.duplicate().as_ref()].into_iter().flatten() {
                assert_eq!((held.name(), held.reply_len()), (name.as_bytes(), reply.len()), "{len}");
                assert!(held.is(&ID) && read(held, Version::V2) == reply.as_bytes(), "{len}");
            }
        }
    }

    #[test]
    fn a_short_entry_is_one_allocation_that_wastes_nothing() {
        // 54 bytes, 9 of name and arguments, 3 around the reply, and the allocator's own 8.
        for (len, weight) in [(0, 80), (6, 80), (7, 96), (1014, 1088)] {
            let entry = entry(b"key:0", &format!("+{}\r\n", "x".repeat(len)));
            assert!(entry.apart.is_none());
            assert_eq!(entry.weight(), weight, "{len}");
        }
    }

    #[test]
    fn a_reply_that_differs_in_resp2_is_apart_and_is_not_copied() {
        let entry = entry(b"k", "_\r\n");
        assert_eq!(
            (read(&entry, Version::V3), read(&entry, Version::V2)),
            (b"_\r\n".to_vec(), b"$-1\r\n".to_vec())
        );
        assert!(entry.duplicate().is_none());
    }

    #[test]
    fn a_compressed_reply_is_counted_as_what_it_takes_and_read_as_what_it_was() {
        let stamp = Stamp { epoch: 4, flush: 5 };
        for (reply, resp2) in [
            ("$4000\r\n".to_owned() + &"x".repeat(4000) + "\r\n", None),
            ("~1\r\n+".to_owned() + &"x".repeat(4000) + "\r\n", Some("*1\r\n+")),
        ] {
            let packed = Packed::of(reply.as_bytes()).unwrap();
            let kind = reply.as_bytes()[0];
            let entry = Entry::packed(b"k", &ID, (packed, kind), Shape::Generic, stamp, 6).unwrap();
            assert!(entry.is(&ID) && entry.name() == b"k" && entry.duplicate().is_none());
            assert!(
                entry.weight() < 400 && entry.reply_len() == reply.len(),
                "{}",
                entry.weight()
            );
            assert_eq!(read(&entry, Version::V3), reply.as_bytes());
            let expected = resp2.map_or(reply.clone(), |head| reply.replace("~1\r\n+", head));
            assert_eq!(read(&entry, Version::V2), expected.as_bytes());
        }
    }
}
