//! What happens in a sequence, step by step.

use super::gaps;
use super::wanted::Alike;
use crate::support::resp::encode;

/// What a connection sends at once: a request, or bytes that look like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Words(Vec<Vec<u8>>),
    Raw(Vec<u8>),
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A connection sends; it is opened first if it is not open.
    Send(Send),
    /// A connection is closed without a word.
    Leave { connection: usize },
    /// Both servers are written to past nearhit, in these words.
    Foreign { requests: Vec<Vec<Vec<u8>>> },
}

/// What a connection sends in one step.
#[derive(Clone, Debug)]
pub struct Send {
    pub connection: usize,
    pub requests: Vec<Request>,
    /// The longest piece that is written at once; the seed of where it is cut.
    pub piece: usize,
    pub cuts: u64,
    /// Contains a command that waits for a few milliseconds.
    pub timed: bool,
    /// Writes keys that it does not name.
    pub hidden: bool,
    /// How the replies are compared.
    pub alike: Alike,
}

impl Request {
    pub fn line(line: &str) -> Self {
        Self::Words(
            line.split_ascii_whitespace()
                .map(|word| word.as_bytes().to_vec())
                .collect(),
        )
    }

    /// The bytes on the wire, before anybody is named.
    pub fn bytes(&self) -> Vec<u8> {
        self.naming(|_| String::new())
    }

    /// The bytes on the wire; `id` is what a side calls a connection's client.
    pub fn naming(&self, mut id: impl FnMut(usize) -> String) -> Vec<u8> {
        match self {
            Self::Words(words) => {
                let name = |word: &Vec<u8>| match named_client(word) {
                    Some(connection) => id(connection).into_bytes(),
                    None => word.clone(),
                };
                encode(&words.iter().map(name).collect::<Vec<_>>())
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let short = |bytes: &[u8]| match bytes.len() {
            0 => "''".to_owned(),
            1..=120 => bytes.escape_ascii().to_string(),
            length => format!("{}…({length} bytes)", bytes[..20].escape_ascii()),
        };
        match self {
            Self::Words(words) => words.iter().map(|word| short(word)).collect::<Vec<_>>().join(" "),
            Self::Raw(bytes) => format!("raw:{}", short(bytes)),
        }
    }
}

/// Which connection's client a word stands for.
pub fn named_client(word: &[u8]) -> Option<usize> {
    let digits = word.strip_prefix(gaps::CLIENT.as_bytes())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
