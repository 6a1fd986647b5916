//! The union of HyperLogLogs that lie on several nodes: PFCOUNT's reply, of the keys' values instead of the keys.
//!
//! As `hyperloglog.c` of Redis 7.0 reads them: 16 bytes of header (`HYLL`, the encoding, a count that is not looked at),
//! then 16,384 registers of 6 bits, either all of them (dense) or as runs (sparse).

/// Registers of a HyperLogLog.
const COUNT: usize = 1 << 14;
/// Bits of a hash that a register counts zeros in.
const RANKS: usize = 64 - 14;
const HEADER: usize = 16;
const DENSE: usize = HEADER + COUNT * 6 / 8;
/// 1 / (2 ln 2).
const ALPHA: f64 = 0.721_347_520_444_481_7;

const NOT_ONE: &str = "WRONGTYPE Key is not a valid HyperLogLog string value.";
const CORRUPTED: &str = "INVALIDOBJ Corrupted HLL object detected";

/// The registers of a union, each the largest of those at its place.
#[derive(Debug)]
pub(in crate::downstream) struct Union(Box<[u8]>);

impl Default for Union {
    fn default() -> Self {
        Self(vec![0; COUNT].into())
    }
}

impl Union {
    /// Adds what a key holds.
    ///
    /// # Errors
    /// What the server says of a value that is no HyperLogLog.
    pub(in crate::downstream) fn add(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let (header, registers) = value.split_at_checked(HEADER).ok_or(NOT_ONE)?;
        match header {
            [b'H', b'Y', b'L', b'L', 0, ..] if value.len() == DENSE => {
                self.add_dense(registers);
                Ok(())
            }
            [b'H', b'Y', b'L', b'L', 1, ..] => self.add_sparse(registers).ok_or(CORRUPTED),
            _ => Err(NOT_ONE),
        }
    }

    fn add_dense(&mut self, registers: &[u8]) {
        // Four registers lie in three bytes, the lowest bits first.
        for (four, bytes) in self.0.chunks_mut(4).zip(registers.chunks(3)) {
            let bits = bytes.iter().rev().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
            for (place, register) in four.iter_mut().enumerate() {
                let rank = u8::try_from(bits >> (6 * place) & 63).unwrap_or_default();
                *register = rank.max(*register);
            }
        }
    }

    fn add_sparse(&mut self, mut runs: &[u8]) -> Option<()> {
        let mut at = 0;
        while let Some((&first, rest)) = runs.split_first() {
            runs = rest;
            let low = usize::from(first & 63);
            let (rank, count) = match first >> 6 {
                0 => (0, low + 1),
                1 => {
                    let (&second, rest) = runs.split_first()?;
                    runs = rest;
                    (0, (low << 8 | usize::from(second)) + 1)
                }
                _ => ((first >> 2 & 31) + 1, usize::from(first & 3) + 1),
            };
            for register in self.0.get_mut(at..at + count)? {
                *register = rank.max(*register);
            }
            at += count;
        }
        (at == COUNT).then_some(())
    }

    /// How many different elements were seen, about: the estimate of the server, to the last digit.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "the server rounds the same way, and no count comes near 2^53"
    )]
    pub(in crate::downstream) fn count(&self) -> i64 {
        let mut ranks = [0u32; 64];
        for &register in &self.0 {
            if let Some(count) = ranks.get_mut(usize::from(register)) {
                *count += 1;
            }
        }
        let of = |rank: usize| f64::from(ranks.get(rank).copied().unwrap_or_default());
        let all = COUNT as f64;
        let mut z = all * tau((all - of(RANKS + 1)) / all);
        for rank in (1..=RANKS).rev() {
            z = (z + of(rank)) * 0.5;
        }
        z += all * sigma(of(0) / all);
        (ALPHA * all * all / z).round() as i64
    }
}

/// Registers that nothing has reached, as Ertl corrects for them ("New cardinality estimation algorithms for HyperLogLog
/// sketches", 2017).
#[allow(clippy::float_cmp, reason = "it ends when a step changes nothing")]
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// The same for registers that are full.
#[allow(clippy::float_cmp, reason = "it ends when a step changes nothing")]
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(runs: &[u8]) -> Vec<u8> {
        [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", runs].concat()
    }

    fn dense(register: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut value = b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80".to_vec();
        for four in 0..COUNT / 4 {
            let bits = (0..4).fold(0u32, |bits, place| {
                bits | u32::from(register(four * 4 + place)) << (6 * place)
            });
            value.extend_from_slice(&bits.to_le_bytes()[..3]);
        }
        value
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        let mut union = Union::default();
        assert_eq!(union.count(), 0);
        union.add(&sparse(&[0x7f, 0xff])).unwrap();
        union.add(&dense(|_| 0)).unwrap();
        assert_eq!(union.count(), 0);
    }

    #[test]
    fn runs_and_registers_say_the_same() {
        // 16,000 without anything, two of 3, 382 without.
        let mut runs = Union::default();
        runs.add(&sparse(&[0x7e, 0x7f, 0x89, 0x41, 0x7d])).unwrap();
        let mut registers = Union::default();
        registers.add(&dense(|at| if at / 2 == 8000 { 3 } else { 0 })).unwrap();
        assert_eq!(runs.0, registers.0);
        assert_eq!(runs.count(), 2);
    }

    #[test]
    fn the_larger_of_two_registers_stays() {
        let mut union = Union::default();
        union.add(&dense(|at| u8::from(at % 2 == 0) * 9)).unwrap();
        union.add(&dense(|at| if at % 4 < 2 { 5 } else { 12 })).unwrap();
        assert_eq!(union.0[..8], [9, 5, 12, 12, 9, 5, 12, 12]);
    }

    #[test]
    fn what_is_none_is_refused_in_the_servers_words() {
        let mut union = Union::default();
        let short = &dense(|_| 1)[..DENSE - 1];
        for value in [
            b"".as_slice(),
            b"HYLL",
            b"a string of sixteen",
            short,
            b"HYLL\x02\0\0\0\0\0\0\0\0\0\0\0\x7f\xff",
        ] {
            assert_eq!(union.add(value), Err(NOT_ONE), "{}", value.escape_ascii());
        }
        for runs in [
            &[0x7f][..],
            &[],
            &[0x7f, 0xfe],
            &[0x7f, 0xff, 0x00],
            &[0x7f, 0xff, 0xff],
        ] {
            assert_eq!(union.add(&sparse(runs)), Err(CORRUPTED), "{runs:?}");
        }
    }
}
