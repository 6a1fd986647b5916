//! Replies that are kept compressed (LZ4), so that more of them fit: memory for the time that unpacking takes on every hit.

use bytes::Bytes;

use super::weight::allocated;
use crate::resp::{Shape, Version, to_resp2};

/// What packing must save at least: an eighth. Chosen, not measured: less is not worth unpacking.
const LEAST: usize = 8;

/// A reply in RESP3 bytes, compressed. Clones share them.
#[derive(Clone, Debug)]
pub struct Packed {
    bytes: Bytes,
    /// Length of the reply.
    whole: usize,
}

impl Packed {
    /// `reply` compressed; `None`: that saves less than an eighth.
    pub fn of(reply: &[u8]) -> Option<Self> {
        let bytes = lz4_flex::block::compress(reply);
        if bytes.len() > reply.len() - reply.len() / LEAST {
            return None;
        }
        let packed = Self {
            bytes: bytes.into_boxed_slice().into(),
            whole: reply.len(),
        };
        // Once, so that reading it needs no answer to what cannot be.
        let mut read = Vec::new();
        (packed.unpack(&mut read) && read == reply).then_some(packed)
    }

    /// Length of the reply in bytes.
    pub(super) fn whole(&self) -> usize {
        self.whole
    }

    /// Compressed length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "nothing is packed into nothing")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What it takes of memory.
    pub(super) fn weight(&self) -> u64 {
        allocated(self.bytes.len())
    }

    fn unpack(&self, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.resize(start + self.whole, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        lz4_flex::block::decompress_into(&self.bytes, room).is_ok_and(|len| len == self.whole)
    }
}

/// A reply that is shared with the near-cache instead of being copied out of it.
#[derive(Clone, Debug)]
pub enum SharedReply {
    /// As the client is to read it.
    Whole(Bytes),
    /// Compressed.
    Packed {
        /// The reply.
        packed: Packed,
        /// How to convert it for this client; `None`: it reads the same in both protocols, or the client speaks RESP3.
        convert: Option<Shape>,
    },
}

impl SharedReply {
    /// A compressed reply of this shape for a client that speaks `version`.
    pub(super) fn packed(packed: &Packed, shape: Shape, version: Version) -> Self {
        Self::Packed {
            packed: packed.clone(),
            convert: (version == Version::V2 && shape != Shape::Same).then_some(shape),
        }
    }

    /// Appends it to `out`. One that is compressed takes as long as unpacking does, so not under a lock.
    #[allow(
        clippy::unreachable,
        reason = "it was unpacked once when it was packed, and its bytes do not change"
    )]
    pub fn append(&self, out: &mut Vec<u8>) {
        let (packed, convert) = match self {
            Self::Whole(reply) => return out.extend_from_slice(reply),
            Self::Packed { packed, convert } => (packed, convert),
        };
        let Some(shape) = convert else {
            if !packed.unpack(out) {
                unreachable!("a reply that was packed cannot be unpacked");
            }
            return;
        };
        let mut reply = Vec::new();
        if !packed.unpack(&mut reply) || to_resp2(*shape, &reply, out).is_err() {
            unreachable!("a reply that was packed cannot be unpacked");
        }
    }

    /// It in a buffer of its own.
    pub fn into_bytes(self) -> Bytes {
        if let Self::Whole(reply) = self {
            return reply;
        }
        let mut out = Vec::new();
        self.append(&mut out);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_as_it_was_in_both_protocols() {
        let map = format!("%2\r\n+a\r\n${}\r\n{}\r\n+b\r\n_\r\n", 3000, "x".repeat(3000));
        let packed = Packed::of(map.as_bytes()).unwrap();
        assert!(packed.weight() < 200 && packed.whole() == map.len());
        let read = |version| SharedReply::packed(&packed, Shape::Generic, version).into_bytes();
        assert_eq!(read(Version::V3), map.as_bytes());
        let flat = map.replace("%2", "*4").replace("_\r\n", "$-1\r\n");
        assert_eq!(read(Version::V2), flat.as_bytes());
        let mut behind = b"before".to_vec();
        SharedReply::packed(&packed, Shape::Generic, Version::V3).append(&mut behind);
        assert_eq!(behind, ["before", &map].concat().as_bytes());
    }

    #[test]
    fn what_saves_too_little_is_not_packed() {
        let mut seed = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(5000)
        .collect();
        assert!(Packed::of(&noise).is_none() && Packed::of(b"").is_none());
        // A part of noise small enough, and it is worth it.
        let some = [noise.get(..4000).unwrap_or_default(), &[b'x'; 1000]].concat();
        assert!(Packed::of(&some).is_some());
    }
}
