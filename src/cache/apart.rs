//! What does not lie behind an entry's own fields: a long text, a reply that differs in RESP2, one that is compressed.

use std::sync::OnceLock;

use bytes::Bytes;

use super::packed::{Packed, SharedReply};
use super::weight::allocated;
use crate::resp::{Shape, Version, to_resp2};

/// Replies up to this many bytes are copied to clients; larger ones are shared. A copy of 16 KiB takes about as long as
/// the two atomic operations and the cache misses of sharing. Chosen, not measured.
pub const COPY_LIMIT: usize = 16 * 1024;

/// Bytes that count the owners of bytes that are shared.
const OWNERS: usize = 24;

/// Name, arguments and reply of an entry.
#[derive(Debug)]
pub(super) struct Apart {
    name: Box<[u8]>,
    rest: Box<[u8]>,
    body: Body,
    /// What its allocations take, both forms of the reply included.
    weight: u64,
}

#[derive(Debug)]
enum Body {
    Plain {
        resp3: Bytes,
        /// Unset until a RESP2 client asks; never set when the bytes are the same in both protocols.
        resp2: OnceLock<Bytes>,
    },
    /// Converted for each RESP2 client that asks.
    Packed(Packed),
}

impl Apart {
    /// Of a reply in RESP3 bytes.
    pub(super) fn new(name: &[u8], rest: &[u8], resp3: Bytes, shape: Shape) -> Self {
        let shared = |len: usize| allocated(len) + allocated(OWNERS);
        let resp2 = if same_in_both(shape, &resp3) {
            0
        } else {
            shared(to_share_in_resp2(shape, &resp3).len())
        };
        let weight = shared(resp3.len()) + resp2;
        let resp2 = OnceLock::new();
        Self::of(name, rest, Body::Plain { resp3, resp2 }, weight)
    }

    /// Of a reply that is kept compressed.
    pub(super) fn packed(name: &[u8], rest: &[u8], packed: Packed) -> Self {
        let weight = packed.weight() + allocated(OWNERS);
        Self::of(name, rest, Body::Packed(packed), weight)
    }

    /// `weight`: that of the body's allocations.
    fn of(name: &[u8], rest: &[u8], body: Body, weight: u64) -> Self {
        let head = allocated(size_of::<Self>()) + allocated(name.len()) + allocated(rest.len());
        Self {
            name: name.into(),
            rest: rest.into(),
            body,
            weight: head + weight,
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The arguments behind the key.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Length of the RESP3 reply in bytes.
    pub(super) fn reply_len(&self) -> usize {
        match &self.body {
            Body::Plain { resp3, .. } => resp3.len(),
            Body::Packed(packed) => packed.whole(),
        }
    }

    /// Bytes of memory it takes, both forms of the reply included.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Appends the reply to `out`, or gives it back to share.
    pub(super) fn append(&self, shape: Shape, version: Version, out: &mut Vec<u8>) -> Option<SharedReply> {
        let reply = match &self.body {
            Body::Packed(packed) => return Some(SharedReply::packed(packed, shape, version)),
            Body::Plain { resp3, .. } if version == Version::V3 || same_in_both(shape, resp3) => resp3,
            Body::Plain { resp3, resp2 } => resp2.get_or_init(|| to_share_in_resp2(shape, resp3)),
        };
        if reply.len() > COPY_LIMIT {
            return Some(SharedReply::Whole(reply.clone()));
        }
        out.extend_from_slice(reply);
        None
    }
}

fn to_share_in_resp2(shape: Shape, resp3: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(resp3.len() + 8);
    match to_resp2(shape, resp3, &mut out) {
        Ok(()) => out.into(),
        // It was scanned when it was fetched, so this cannot happen; the client then gets the RESP3 bytes.
        Err(_) => resp3.clone(),
    }
}

/// Whether the reply's bytes are the same in both protocols.
pub(super) fn same_in_both(shape: Shape, reply: &[u8]) -> bool {
    // A bulk string, an integer or a simple string reads the same in both protocols whatever the command.
    shape == Shape::Same || matches!(reply.first(), Some(b'$' | b':' | b'+'))
}
