//! What is asked for: recorded traces, and mixes that are generated.

use std::collections::HashMap;
use std::path::Path;

/// Requests of the generated mixes.
const REQUESTS: usize = 2_000_000;

/// Keys of the generated mixes.
const KEYS: usize = 200_000;

/// Requests in order, by the number of their key: 0 up to `unique`.
pub(crate) struct Requests {
    pub(crate) name: String,
    pub(crate) keys: Vec<u32>,
    pub(crate) unique: usize,
    /// Each key's size, where it is known.
    pub(crate) sizes: Option<Vec<u32>>,
}

impl Requests {
    /// Numbers the keys in the order in which they come.
    fn new(name: &str, raw: impl IntoIterator<Item = u64>) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |key: u64| {
            let next = u32::try_from(numbers.len()).expect("fewer than 2^32 keys");
            *numbers.entry(key).or_insert(next)
        };
        let keys: Vec<_> = raw.into_iter().map(&mut number).collect();
        Self {
            name: name.to_owned(),
            unique: numbers.len(),
            keys,
            sizes: None,
        }
    }

    /// Sizes as in memory caches at large (lognormal with median 230 bytes and sigma 1.6, and 64 bytes of key): the
    /// same for a key whenever it is run.
    #[allow(clippy::cast_possible_truncation, reason = "at most a million")]
    pub(crate) fn made_up_sizes(&self) -> Vec<u32> {
        let size = |key: usize| {
            let mut random = Random(mix(key as u64 + 1));
            let (radius, turn) = (
                (-2.0 * random.unit().ln()).sqrt(),
                std::f64::consts::TAU * random.unit(),
            );
            let normal = radius * turn.cos();
            64 + (230.0 * (1.6 * normal).exp()).min(1e6) as u32
        };
        (0..self.unique).map(size).collect()
    }
}

/// Every `NAME.u64.zst` of a directory; `NAME.size.u32.zst` beside it has the sizes.
pub(crate) fn recorded(directory: &Path, quick: bool) -> Result<Vec<Requests>, String> {
    let listed = std::fs::read_dir(directory).map_err(|error| format!("list {}: {error}", directory.display()))?;
    let mut names: Vec<_> = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".u64.zst").map(str::to_owned))
        .collect();
    names.sort();
    let read = |file: String| -> Result<Vec<u8>, String> {
        let path = directory.join(file);
        let packed = std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        zstd::decode_all(packed.as_slice()).map_err(|error| format!("unpack {}: {error}", path.display()))
    };
    let mut all = Vec::new();
    for name in names {
        let raw = read(format!("{name}.u64.zst"))?;
        let (words, _) = raw.as_chunks::<8>();
        let take = if quick { words.len() / 10 } else { words.len() };
        let mut requests = Requests::new(&name, words.iter().take(take).map(|word| u64::from_le_bytes(*word)));
        if directory.join(format!("{name}.size.u32.zst")).exists() {
            let raw = read(format!("{name}.size.u32.zst"))?;
            let (words, _) = raw.as_chunks::<4>();
            let mut sizes = vec![0; requests.unique];
            for (&key, size) in requests.keys.iter().zip(words) {
                sizes[key as usize] = u32::from_le_bytes(*size).clamp(1, 1 << 20);
            }
            requests.sizes = Some(sizes);
        }
        all.push(requests);
    }
    Ok(all)
}

/// The generated mixes.
pub(crate) fn generated(quick: bool) -> Vec<Requests> {
    let requests = if quick { REQUESTS / 10 } else { REQUESTS };
    let keys = if quick { KEYS / 10 } else { KEYS };
    let (mut random, light, heavy) = (Random(42), Zipf::new(keys, 0.9), Zipf::new(keys, 1.0));
    let mut all = vec![
        Requests::new("zipf-0.9", (0..requests).map(|_| light.draw(&mut random))),
        Requests::new("zipf-1.0", (0..requests).map(|_| heavy.draw(&mut random))),
    ];
    // Now and then somebody reads many keys once, one in six requests in all.
    let scanned = (0..requests as u64).map(|at| {
        if at % 30_000 >= 25_000 {
            (1 << 40) + at
        } else {
            heavy.draw(&mut random)
        }
    });
    all.push(Requests::new("zipf-1.0-scan", scanned));
    // The hottest 2,000 keys are others after every 100,000 requests.
    let drifted = (0..requests as u64).map(|at| match heavy.draw(&mut random) {
        rank @ 0..2000 => (1 << 40) + (at / 100_000) * 2000 + rank,
        rank => rank,
    });
    all.push(Requests::new("zipf-1.0-drift", drifted));
    all
}

/// Ranks with probability proportional to 1 / (rank + 1)^s.
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let step = |rank: usize| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        Self {
            cumulated: (1..=keys).map(step).collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let target = random.unit() * self.cumulated.last().expect("a key");
        self.cumulated.partition_point(|&sum| sum < target) as u64
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((mix(self.0) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// SplitMix64's finalizer: as even as the hashes of names are.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
