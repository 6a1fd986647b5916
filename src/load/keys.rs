//! Which key comes next, and whether it is read or written.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::script::{Exchange, Verb};
use super::zipf::Zipf;
use crate::error::{Error, Kind, Result, Side};

/// In which order keys are asked for.
#[derive(Clone, Debug)]
pub enum Order {
    /// Each as likely as any other.
    Uniform,
    /// One after the other, then from the start.
    InTurn,
    /// By Zipf's law with this exponent; key 0 is the hottest.
    Zipf(f64),
    /// As somebody's clients asked, then from the start.
    Trace(Arc<Trace>),
}

/// Keys in the order of a recording, numbered as they first appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    keys: Vec<u32>,
    unique: u32,
}

impl Trace {
    /// Reads a file: one key a line, or, where the name ends in `.u64`, eight little-endian bytes a key.
    ///
    /// # Errors
    /// It cannot be read, names no key, or more keys than fit a number of 32 bits.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let bytes = std::fs::read(path)
            .map_err(|error| Error::new(Side::Config, Kind::Io, format!("read the trace {name}")).with_source(error))?;
        let binary = path.extension().is_some_and(|extension| extension == "u64");
        let trace = match binary {
            true => Self::new(bytes.chunks_exact(size_of::<u64>())),
            false => Self::new(bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())),
        };
        trace.ok_or_else(|| {
            Error::new(
                Side::Config,
                Kind::Invalid,
                format!("read the trace {name}: no keys in it"),
            )
        })
    }

    fn new<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let mut keys = Vec::new();
        for name in names {
            let next = u32::try_from(numbers.len()).ok()?;
            keys.push(*numbers.entry(name).or_insert(next));
        }
        let unique = u32::try_from(numbers.len()).ok()?;
        (unique > 0).then_some(Self { keys, unique })
    }

    /// How many different keys there are.
    pub fn unique(&self) -> u32 {
        self.unique
    }
}

/// Chooses exchanges for as long as anyone asks. The same arguments give the same sequence: both sides of a comparison
/// get the same one.
#[derive(Clone, Debug)]
pub struct Picker {
    order: Ordered,
    keys: u32,
    /// SETs of every 1,000 requests.
    sets: u32,
    random: Random,
}

#[derive(Clone, Debug)]
enum Ordered {
    Uniform,
    InTurn(u32),
    Zipf(Zipf),
    Trace(Arc<Trace>, usize),
}

impl Picker {
    /// Chooses among keys below `keys`, and writes `sets` of every 1,000 times.
    pub fn new(order: &Order, keys: u32, sets: u32, seed: u64) -> Self {
        let order = match order {
            Order::Uniform => Ordered::Uniform,
            Order::InTurn => Ordered::InTurn(0),
            Order::Zipf(exponent) => Ordered::Zipf(Zipf::new(keys, *exponent)),
            Order::Trace(trace) => Ordered::Trace(Arc::clone(trace), 0),
        };
        Self {
            order,
            keys: keys.max(1),
            sets,
            random: Random(seed),
        }
    }

    /// The same choices in another random sequence.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = Random(seed);
        self
    }

    /// The next one.
    pub fn pick(&mut self) -> Exchange {
        let key = match &mut self.order {
            Ordered::Uniform => self.random.below(self.keys),
            Ordered::InTurn(next) => in_turn(next, self.keys),
            Ordered::Zipf(zipf) => zipf.draw(|| self.random.fraction()) - 1,
            Ordered::Trace(trace, at) => {
                let key = trace.keys.get(*at).copied().unwrap_or(0);
                *at = if *at + 1 < trace.keys.len() { *at + 1 } else { 0 };
                key
            }
        };
        let set = self.sets > 0 && self.random.below(1000) < self.sets;
        Exchange::new(if set { Verb::Set } else { Verb::Get }, key)
    }
}

fn in_turn(next: &mut u32, keys: u32) -> u32 {
    let picked = *next;
    *next = (picked + 1) % keys;
    picked
}

/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The upper half, scaled to the range.
    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(limit)) >> 32).unwrap_or(0)
    }

    /// From 0 up to but not 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn keys(order: &Order, keys: u32, count: usize) -> Vec<Exchange> {
        let mut picker = Picker::new(order, keys, 0, 1);
        (0..count).map(|_| picker.pick()).collect()
    }

    fn gets(numbers: &[u32]) -> Vec<Exchange> {
        numbers.iter().map(|key| Exchange::new(Verb::Get, *key)).collect()
    }

    #[test]
    fn in_turn_begins_again_behind_the_last() {
        assert_eq!(keys(&Order::InTurn, 3, 5), gets(&[0, 1, 2, 0, 1]));
    }

    #[test]
    fn a_trace_is_played_as_it_was_recorded_in_both_formats() {
        let mut text = tempfile::NamedTempFile::new().unwrap();
        text.write_all(b"user:7\nuser:1\nuser:7\n").unwrap();
        let mut binary = tempfile::Builder::new().suffix(".u64").tempfile().unwrap();
        for key in [900_u64, 2, 900] {
            binary.write_all(&key.to_le_bytes()).unwrap();
        }
        for file in [text, binary] {
            let trace = Trace::read(file.path()).unwrap();
            assert_eq!(trace.unique(), 2);
            assert_eq!(keys(&Order::Trace(Arc::new(trace)), 2, 4), gets(&[0, 1, 0, 0]));
        }
    }

    #[test]
    fn an_empty_trace_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Trace::read(file.path()).unwrap_err().to_string();
        assert!(error.contains("no keys") && error.contains(&file.path().display().to_string()));
    }

    #[test]
    fn writes_come_as_often_as_wished() {
        let mut picker = Picker::new(&Order::Uniform, 10, 91, 1);
        let sets = (0..100_000).filter(|_| picker.pick().verb == Verb::Set).count();
        assert!((8_700..9_500).contains(&sets), "{sets}");
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        for order in [Order::Uniform, Order::Zipf(0.99)] {
            assert_eq!(keys(&order, 1000, 50), keys(&order, 1000, 50));
        }
    }
}
