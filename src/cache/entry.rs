//! One cached reply, in RESP3 as it was fetched, with its RESP2 form derived on first use.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::resp::{Shape, Version, to_resp2};
use crate::time::Instant;

/// What an entry costs beyond its bytes: the struct in the slot's vector, the count of the reply's owners (32 bytes), and
/// the headers and rounding of four allocations. From the layout; `tests/coherence_admission.rs` compares the sum with
/// what the process takes.
const ENTRY_OVERHEAD: u64 = size_of::<Entry>() as u64 + 32 + 4 * 16;

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
    origin: u16,
    command: u16,
    db: u32,
    rest: Box<[u8]>,
    resp3: Bytes,
    shape: Shape,
    /// Unset until a RESP2 client asks; never set when the bytes are the same in both protocols.
    resp2: OnceLock<Bytes>,
    /// What it is trusted under.
    pub stamp: Stamp,
    /// When its fetch was handed to the socket.
    pub fetched_at: Instant,
    /// From here on it is not served.
    pub deadline: Instant,
    /// Unique in the process: the same serial is the same entry.
    pub serial: u64,
    /// The key did not exist.
    pub negative: bool,
    weight: u64,
}

impl Entry {
    /// An entry of `reply` (RESP3 bytes), to be told apart by `id`.
    ///
    /// Its weight counts both forms of the reply from the start, so that a RESP2 reader never grows the cache.
    pub fn new(id: &EntryId<'_>, reply: Bytes, shape: Shape, stamp: Stamp, serial: u64) -> Self {
        let mut entry = Self {
            origin: id.origin,
            command: id.command,
            db: id.db,
            rest: id.rest.into(),
            resp3: reply,
            shape,
            resp2: OnceLock::new(),
            stamp,
            fetched_at: Instant::ZERO,
            deadline: Instant::MAX,
            serial,
            negative: false,
            weight: 0,
        };
        let derived = if entry.same_in_both() {
            0
        } else {
            entry.derive().len() + size_of::<Bytes>()
        };
        entry.weight = ENTRY_OVERHEAD + (entry.rest.len() + entry.resp3.len() + derived) as u64;
        entry
    }

    /// The reply's bytes for a client that speaks `version`.
    pub fn reply(&self, version: Version) -> &Bytes {
        if version == Version::V3 || self.same_in_both() {
            return &self.resp3;
        }
        self.resp2.get_or_init(|| self.derive())
    }

    /// Whether this is the entry of `id`.
    pub fn is(&self, id: &EntryId<'_>) -> bool {
        // Most commands have no argument behind the key. An empty comparison is not free: the pointer of an empty box is
        // no address, and a masked vector load from there costs a microcode assist (14 % of a hit, measured).
        let same_rest = self.rest.len() == id.rest.len() && (id.rest.is_empty() || *self.rest == *id.rest);
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
        self.resp3.len()
    }

    /// Bytes of memory it is accounted for.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    fn same_in_both(&self) -> bool {
        // A bulk string, an integer or a simple string reads the same in both protocols whatever the command.
        self.shape == Shape::Same || matches!(self.resp3.first(), Some(b'$' | b':' | b'+'))
    }

    fn derive(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.resp3.len() + 8);
        match to_resp2(self.shape, &self.resp3, &mut out) {
            Ok(()) => out.into(),
            // It was scanned when it was fetched, so this cannot happen; the client then gets the RESP3 bytes.
            Err(_) => self.resp3.clone(),
        }
    }
}
