//! How often names were asked for lately, those that left included: a count-min sketch of four-bit counters, as in
//! TinyLFU (Einziger, Friedman, Manes 2017). A name that comes back is not a stranger.

/// What all counters may count to.
const MOST: u64 = 15;

/// Lowest bit of each counter.
const ONES: u64 = 0x1111_1111_1111_1111;

/// After this many additions for each word all counters are halved, so that what was popular once is forgotten.
const AGE: u64 = 10;

/// Four rows of four counters a word; a name has one counter in each row of one word, so it costs one cache miss.
#[derive(Debug)]
pub(super) struct Sketch {
    /// Invariant: a power of two of them.
    words: Vec<u64>,
    additions: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            words: vec![0; 64],
            additions: 0,
        }
    }
}

impl Sketch {
    /// Makes room for `names` at a time: a word for each. Counts are kept, each in both places its name may now have.
    pub(super) fn fit(&mut self, names: usize) {
        while self.words.len() < names {
            self.words.extend_from_within(..);
        }
    }

    /// Counts a name once, and says how often it was counted before.
    pub(super) fn add(&mut self, hash: u64) -> u8 {
        let before = self.count(hash);
        self.raise(hash, before + 1);
        self.additions += 1;
        if self.additions >= AGE * self.words.len() as u64 {
            self.age();
        }
        before
    }

    /// A name is known to have been asked for `count` times.
    pub(super) fn raise(&mut self, hash: u64, count: u8) {
        let count = u64::from(count).min(MOST);
        let (at, shifts) = self.place(hash);
        let Some(word) = self.words.get_mut(at) else { return };
        for shift in shifts {
            if (*word >> shift) & MOST < count {
                *word = *word & !(MOST << shift) | count << shift;
            }
        }
    }

    /// How often a name was counted, or more where names collide.
    pub(super) fn count(&self, hash: u64) -> u8 {
        let (at, shifts) = self.place(hash);
        let word = self.words.get(at).copied().unwrap_or_default();
        let least = shifts.into_iter().map(|shift| (word >> shift) & MOST).min();
        least.and_then(|least| u8::try_from(least).ok()).unwrap_or_default()
    }

    fn age(&mut self) {
        for word in &mut self.words {
            *word = (*word >> 1) & !(ONES << 3);
        }
        self.additions /= 2;
    }

    fn place(&self, hash: u64) -> (usize, [u32; 4]) {
        // The shard's table and the choice of the shard use the hash's bits as they are.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = usize::try_from(mixed >> 32).unwrap_or_default() & (self.words.len() - 1);
        let [a, b, ..] = (mixed ^ mixed >> 24).to_le_bytes();
        let row = |row: u32, pick: u8| 16 * row + 4 * u32::from(pick & 3);
        (word, [row(0, a), row(1, a >> 2), row(2, a >> 4), row(3, b)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: u64) -> u64 {
        let name = (name ^ name >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        name ^ name >> 27
    }

    #[test]
    fn a_name_that_is_asked_for_often_counts_more_than_those_asked_for_once() {
        let mut sketch = Sketch::default();
        sketch.fit(1000);
        for round in 0..8 {
            sketch.add(hash(7));
            for name in 0..500 {
                sketch.add(hash(1000 + round * 500 + name));
            }
        }
        assert!(sketch.count(hash(7)) >= 8);
        let strangers: u32 = (50_000..51_000).map(|name| u32::from(sketch.count(hash(name)))).sum();
        assert!(strangers < 2500, "{strangers} for a thousand strangers");
    }

    #[test]
    fn counts_survive_growth_and_fade_with_age() {
        let mut sketch = Sketch::default();
        sketch.raise(hash(7), 12);
        sketch.fit(10_000);
        assert_eq!(sketch.count(hash(7)), 12);
        sketch.age();
        assert_eq!(sketch.count(hash(7)), 6);
    }
}
