//! The hash slot of a key: CRC16 modulo 16384, with hash tags.
//!
//! As the Redis Cluster specification says: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

/// How many hash slots a cluster has.
pub const SLOT_COUNT: usize = 16384;

/// A hash slot.
///
/// Invariant: below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The slot `key` belongs to.
    pub fn of(key: &[u8]) -> Self {
        // 16384 is a power of two: the remainder is the low 14 bits.
        Self(crc16(hash_tag(key)) & 0x3FFF)
    }

    /// The slot with this number, if there is one.
    pub fn new(number: u16) -> Option<Self> {
        (usize::from(number) < SLOT_COUNT).then_some(Self(number))
    }

    /// The slot's number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The part of `key` that is hashed: what stands between the first `{` and the next `}`, if anything does, else all.
fn hash_tag(key: &[u8]) -> &[u8] {
    let tag = || {
        let open = memchr::memchr(b'{', key)?;
        let rest = key.get(open + 1..)?;
        let close = memchr::memchr(b'}', rest)?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    tag().unwrap_or(key)
}

/// CRC-16/XMODEM: polynomial 0x1021, start 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        // A byte is always a valid index of 256 entries; `get` keeps that proof out of the optimiser's blind spot.
        let step = TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default();
        u16::from_be_bytes([low, 0]) ^ step
    })
}

const TABLE: [u16; 256] = table();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, where a wrong index does not build"
)]
const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut index = 0u16;
    while index < 256 {
        let mut crc = index << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_matches_the_vector_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn only_the_first_tag_that_is_not_empty_is_hashed() {
        for (key, tag) in [
            (&b"{user1000}.following"[..], &b"user1000"[..]),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"foo{bar", b"foo{bar"),
            (b"foo}bar{", b"foo}bar{"),
            (b"}{a}", b"a"),
            (b"", b""),
        ] {
            assert_eq!(hash_tag(key), tag, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn slots_are_those_of_known_keys() {
        for (key, slot) in [
            (&b"foo"[..], 12182),
            (b"bar", 5061),
            (b"hello", 866),
            (b"", 0),
            (b"{hello}x", 866),
        ] {
            assert_eq!(Slot::of(key).get(), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_slot_is_below_16384() {
        assert_eq!(Slot::new(16383).map(Slot::get), Some(16383));
        assert_eq!(Slot::new(16384), None);
    }
}
