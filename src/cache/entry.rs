//! One cached reply, in RESP3 as it was fetched, packed: there may be millions.
//!
//! ```text
//! Entry, 64 bytes in its slot ── text: name, arguments behind the key and reply in one allocation
//!                             └─ or, for a large reply or one that differs in RESP2, each in its own
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::eviction::Heat;
use super::weight::allocated;
use crate::resp::{Shape, Version, to_resp2};
use crate::time::Instant;

/// Replies up to this many bytes are copied to clients; larger ones are shared. A copy of 16 KiB takes about as long as
/// the two atomic operations and the cache misses of sharing. Chosen, not measured.
pub const COPY_LIMIT: usize = 16 * 1024;

/// Bytes that count the owners of bytes that are shared.
const OWNERS: usize = 24;

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
    /// The database it was read in.
    pub db: u32,
    /// Index of the command in the command table.
    pub command: u16,
    /// Canonical bytes of the arguments behind the key.
    pub rest: &'a [u8],
}

/// One cached reply.
#[derive(Debug)]
pub struct Entry {
    text: Text,
    /// The stamp's halves, which fit: see [`Entry::new`].
    epoch: u32,
    flush: u32,
    /// When its fetch was handed to the socket.
    pub fetched_at: Instant,
    /// Unique in the process: the same serial is the same entry.
    pub serial: u64,
    db: u32,
    /// Milliseconds after its fetch from which on it is not served.
    keep: u32,
    /// How often and how lately its slot was served, if it is the slot's first entry.
    pub(super) heat: Heat,
    origin: u16,
    command: u16,
    /// Lengths within a [`Text::Together`].
    name_len: u16,
    rest_len: u16,
    shape: Shape,
    /// The key did not exist.
    pub negative: bool,
    /// [`SERVED`] and [`HOT`]. Relaxed: being late or early by a hit does not matter.
    hit: AtomicU8,
}

/// The bytes of an entry.
#[derive(Debug)]
enum Text {
    /// Name, arguments and reply, one behind the other.
    Together(Box<[u8]>),
    Apart(Box<Apart>),
}

#[derive(Debug)]
struct Apart {
    name: Box<[u8]>,
    rest: Box<[u8]>,
    resp3: Bytes,
    /// Unset until a RESP2 client asks; never set when the bytes are the same in both protocols.
    resp2: OnceLock<Bytes>,
    /// What its allocations take, both forms of the reply included.
    weight: u64,
}

impl Entry {
    /// An entry of `reply` (RESP3 bytes) about the key `name`, to be told apart by `id`, that is served for ever.
    ///
    /// `None`: the stamp does not fit into 2 × 32 bits, after four thousand million lost connections or flushes.
    pub fn new(name: &[u8], id: &EntryId<'_>, reply: Bytes, shape: Shape, stamp: Stamp, serial: u64) -> Option<Self> {
        let lens = (u16::try_from(name.len()), u16::try_from(id.rest.len()));
        let (text, (name_len, rest_len)) = match lens {
            (Ok(name_len), Ok(rest_len)) if reply.len() <= COPY_LIMIT && same_in_both(shape, &reply) => {
                let together = [name, id.rest, &reply].concat();
                (Text::Together(together.into_boxed_slice()), (name_len, rest_len))
            }
            _ => (Text::Apart(Box::new(Apart::new(name, id.rest, reply, shape))), (0, 0)),
        };
        Some(Self {
            text,
            epoch: u32::try_from(stamp.epoch).ok()?,
            flush: u32::try_from(stamp.flush).ok()?,
            fetched_at: Instant::ZERO,
            serial,
            db: id.db,
            keep: FOR_EVER,
            heat: Heat::default(),
            origin: id.origin,
            command: id.command,
            name_len,
            rest_len,
            shape,
            negative: false,
            hit: AtomicU8::new(0),
        })
    }

    /// It was fetched at `fetched_at`, and is served for `keep` from then on: whole milliseconds of it, and for 49 days
    /// unless it is for ever.
    pub fn served_for(mut self, fetched_at: Instant, keep: Duration) -> Self {
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

    /// The key's name.
    pub fn name(&self) -> &[u8] {
        match &self.text {
            Text::Together(text) => text.get(..self.name_len.into()).unwrap_or_default(),
            Text::Apart(apart) => &apart.name,
        }
    }

    fn rest(&self) -> &[u8] {
        match &self.text {
            Text::Together(text) => text.get(self.name_len.into()..self.head_len()).unwrap_or_default(),
            Text::Apart(apart) => &apart.rest,
        }
    }

    fn resp3(&self) -> &[u8] {
        match &self.text {
            Text::Together(text) => text.get(self.head_len()..).unwrap_or_default(),
            Text::Apart(apart) => &apart.resp3,
        }
    }

    fn head_len(&self) -> usize {
        usize::from(self.name_len) + usize::from(self.rest_len)
    }

    /// The reply's bytes for a client that speaks `version`.
    pub fn reply(&self, version: Version) -> &[u8] {
        match &self.text {
            Text::Together(_) => self.resp3(),
            Text::Apart(apart) => apart.reply(self.shape, version),
        }
    }

    /// The same to share, if it is more than [`COPY_LIMIT`].
    pub fn shared(&self, version: Version) -> Option<Bytes> {
        match &self.text {
            Text::Together(_) => None,
            Text::Apart(apart) => Some(apart.reply(self.shape, version))
                .filter(|reply| reply.len() > COPY_LIMIT)
                .cloned(),
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

    /// The same entry once more, if its name, arguments and reply are one text of at most `longest` bytes.
    pub fn duplicate(&self, longest: usize) -> Option<Self> {
        let Text::Together(text) = &self.text else { return None };
        (text.len() <= longest).then(|| Self {
            text: Text::Together(text.clone()),
            heat: self.heat.copied(),
            hit: AtomicU8::new(self.hit.load(Ordering::Relaxed)),
            ..*self
        })
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
        self.resp3().len()
    }

    /// Bytes of memory it is accounted for. Both forms of the reply count from the start, so that a RESP2 reader never
    /// grows the cache.
    pub fn weight(&self) -> u64 {
        size_of::<Self>() as u64 + self.text_weight()
    }

    /// The same without the struct itself.
    pub(super) fn text_weight(&self) -> u64 {
        match &self.text {
            Text::Together(text) => allocated(text.len()),
            Text::Apart(apart) => apart.weight,
        }
    }
}

impl Apart {
    fn new(name: &[u8], rest: &[u8], resp3: Bytes, shape: Shape) -> Self {
        let mut apart = Self {
            name: name.into(),
            rest: rest.into(),
            resp3,
            resp2: OnceLock::new(),
            weight: 0,
        };
        let shared = |len: usize| allocated(len) + allocated(OWNERS);
        let resp2 = if same_in_both(shape, &apart.resp3) {
            0
        } else {
            shared(apart.derive(shape).len())
        };
        let head = allocated(size_of::<Self>()) + allocated(name.len()) + allocated(rest.len());
        apart.weight = head + shared(apart.resp3.len()) + resp2;
        apart
    }

    fn reply(&self, shape: Shape, version: Version) -> &Bytes {
        if version == Version::V3 || same_in_both(shape, &self.resp3) {
            return &self.resp3;
        }
        self.resp2.get_or_init(|| self.derive(shape))
    }

    fn derive(&self, shape: Shape) -> Bytes {
        let mut out = Vec::with_capacity(self.resp3.len() + 8);
        match to_resp2(shape, &self.resp3, &mut out) {
            Ok(()) => out.into(),
            // It was scanned when it was fetched, so this cannot happen; the client then gets the RESP3 bytes.
            Err(_) => self.resp3.clone(),
        }
    }
}

fn same_in_both(shape: Shape, reply: &[u8]) -> bool {
    // A bulk string, an integer or a simple string reads the same in both protocols whatever the command.
    shape == Shape::Same || matches!(reply.first(), Some(b'$' | b':' | b'+'))
}
