//! Requests and the exact bytes that must answer them, made before any clock starts.

use super::workload::{Keys, Verb};

/// Length of every value.
pub(crate) const VALUE_BYTES: usize = 64;
/// Keys that fit any cache: all of them hot.
const HOT_KEYS: usize = 1_000;
/// Keys read in turn. At two million reads a second a key comes round every 25 ms.
const KEYS_IN_TURN: usize = 50_000;

/// All scripts of a run.
pub(crate) struct Scripts {
    get_hot: Script,
    get_in_turn: Script,
    set_hot: Script,
    set_in_turn: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            get_hot: Script::new(Verb::Get, Keys::Hot),
            get_in_turn: Script::new(Verb::Get, Keys::InTurn),
            set_hot: Script::new(Verb::Set, Keys::Hot),
            set_in_turn: Script::new(Verb::Set, Keys::InTurn),
        }
    }

    /// The script that does this to those keys.
    pub(crate) fn of(&self, verb: Verb, keys: Keys) -> &Script {
        match (verb, keys) {
            (Verb::Get, Keys::Hot) => &self.get_hot,
            (Verb::Get, Keys::InTurn) => &self.get_in_turn,
            (Verb::Set, Keys::Hot) => &self.set_hot,
            (Verb::Set, Keys::InTurn) => &self.set_in_turn,
        }
    }
}

/// One request for each key and the reply it must get. Every value names its key, so an answer to somebody else's
/// question is noticed; SET writes the value that is there, so it changes no answer.
pub(crate) struct Script {
    pub(crate) keys: Keys,
    count: usize,
    /// All requests, one after the other. Invariant: each has the same length, and so has each reply.
    requests: Vec<u8>,
    replies: Vec<u8>,
}

impl Script {
    fn new(verb: Verb, keys: Keys) -> Self {
        let (count, kind) = match keys {
            Keys::Hot => (HOT_KEYS, "hot"),
            Keys::InTurn => (KEYS_IN_TURN, "turn"),
        };
        let mut script = Self {
            keys,
            count,
            requests: Vec::new(),
            replies: Vec::new(),
        };
        for number in 0..count {
            script.add(verb, &format!("bench:{kind}:{number:08}"));
        }
        assert!(script.requests.len().is_multiple_of(count) && script.replies.len().is_multiple_of(count));
        script
    }

    fn add(&mut self, verb: Verb, key: &str) {
        let value = format!("{key:.<VALUE_BYTES$}");
        let key = format!("${}\r\n{key}\r\n", key.len());
        let value = format!("${}\r\n{value}\r\n", value.len());
        let (request, reply) = match verb {
            Verb::Get => (format!("*2\r\n$3\r\nGET\r\n{key}"), value),
            Verb::Set => (format!("*3\r\n$3\r\nSET\r\n{key}{value}"), "+OK\r\n".to_owned()),
        };
        self.requests.extend_from_slice(request.as_bytes());
        self.replies.extend_from_slice(reply.as_bytes());
    }

    /// How many exchanges there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The bytes to send for exchange `index`.
    pub(crate) fn request(&self, index: usize) -> &[u8] {
        let length = self.requests.len() / self.count;
        &self.requests[index * length..][..length]
    }

    /// The bytes that must come back.
    pub(crate) fn reply(&self, index: usize) -> &[u8] {
        let length = self.replies.len() / self.count;
        &self.replies[index * length..][..length]
    }

    /// Chooses exchanges for as long as anyone asks.
    pub(crate) fn picker(&self) -> Picker {
        match self.keys {
            Keys::Hot => Picker::Random {
                count: self.count as u64,
                state: 1,
            },
            Keys::InTurn => Picker::InTurn {
                count: self.count,
                next: 0,
            },
        }
    }
}

/// Which exchange comes next.
pub(crate) enum Picker {
    /// Uniform. The same seed in every cell: both sides of a ratio get the same sequence.
    Random { count: u64, state: u64 },
    /// One after the other, then from the start.
    InTurn { count: usize, next: usize },
}

impl Picker {
    pub(crate) fn pick(&mut self) -> usize {
        match self {
            Self::Random { count, state } => {
                // splitmix64 (Steele, Lea, Flood 2014); the upper half scaled to the range.
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let scaled = (((mixed ^ (mixed >> 31)) >> 32) * *count) >> 32;
                usize::try_from(scaled).unwrap_or(0)
            }
            Self::InTurn { count, next } => {
                let picked = *next;
                *next = (picked + 1) % *count;
                picked
            }
        }
    }
}
