//! Redis' glob patterns, on bytes.
//!
//! `*` any run of bytes (`/` and line ends too), `?` one byte, `[abc]`, `[^abc]`, `[a-z]` one byte of a set (a
//! reversed range is turned round), `\x` the byte `x`, also inside a set; a set that is not closed ends with the
//! pattern. Nothing else is special. Ranges compare bytes without sign, as Redis does where C's `char` has none (ARM);
//! on x86 its ranges that mix ASCII and other bytes differ.
//!
//! Matching goes back to the last `*` only, which is enough since everything else takes exactly one byte: at most
//! pattern × text steps and no recursion, where Redis' own matcher needed two fixes (CVE-2022-36021, CVE-2024-31228).

/// A compiled pattern.
///
/// ```
/// use nearhit::resp::Glob;
///
/// let glob = Glob::new(b"user:[0-9]*:cart");
/// assert!(glob.matches(b"user:4711:cart"));
/// assert!(!glob.matches(b"user:x:cart"));
/// assert_eq!(glob.prefix(), b"user:");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// The bytes before the first wildcard, escapes undone.
    prefix: Vec<u8>,
    /// What stands behind them.
    rest: Vec<Piece>,
    sets: Vec<ByteSet>,
    /// Whether it matches the empty text. Redis' matcher does not even start on an empty key: only the empty pattern
    /// matches it, and `*`, which KEYS and SCAN take for "every key" without matching. `**` they do match, and it fails.
    matches_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    AnyByte,
    /// One of the bytes of `Glob::sets[..]`.
    OneOf(usize),
    AnyRun,
}

/// 256 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByteSet([u128; 2]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        let [low, high] = &mut self.0;
        *(if byte < 128 { low } else { high }) |= 1 << (byte % 128);
    }

    fn contains(&self, byte: u8) -> bool {
        let [low, high] = self.0;
        (if byte < 128 { low } else { high }) >> (byte % 128) & 1 == 1
    }

    fn inverted(self) -> Self {
        Self(self.0.map(|half| !half))
    }
}

impl Glob {
    /// Compiles a pattern; every pattern is valid.
    pub fn new(pattern: &[u8]) -> Self {
        let mut glob = Self {
            matches_empty: matches!(pattern, b"" | b"*"),
            prefix: Vec::new(),
            rest: Vec::new(),
            sets: Vec::new(),
        };
        let mut left = pattern;
        loop {
            let (piece, behind) = match left {
                [] => return glob,
                [b'*', behind @ ..] => (Piece::AnyRun, behind),
                [b'?', behind @ ..] => (Piece::AnyByte, behind),
                [b'[', behind @ ..] => {
                    let (set, behind) = set(behind);
                    glob.sets.push(set);
                    (Piece::OneOf(glob.sets.len() - 1), behind)
                }
                [b'\\', byte, behind @ ..] | [byte, behind @ ..] => (Piece::Byte(*byte), behind),
            };
            glob.push(piece);
            left = behind;
        }
    }

    fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Byte(byte) if self.rest.is_empty() => self.prefix.push(byte),
            Piece::AnyRun if self.rest.last() == Some(&Piece::AnyRun) => {}
            other => self.rest.push(other),
        }
    }

    /// Whether `text` as a whole matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        if text.is_empty() {
            return self.matches_empty;
        }
        text.strip_prefix(self.prefix.as_slice())
            .is_some_and(|behind| self.matches_rest(behind))
    }

    fn matches_rest(&self, text: &[u8]) -> bool {
        let (mut piece, mut at) = (0, 0);
        // Where to go on when what follows the last `*` fails: the piece behind it, and the byte it has not taken yet.
        let mut retry = None;
        while at < text.len() || piece < self.rest.len() {
            match (self.rest.get(piece), text.get(at)) {
                (Some(Piece::AnyRun), _) => {
                    piece += 1;
                    retry = Some((piece, at));
                }
                (Some(one), Some(byte)) if self.takes(*one, *byte) => {
                    piece += 1;
                    at += 1;
                }
                _ => {
                    let Some((behind_star, untaken)) = retry.filter(|(_, untaken)| *untaken < text.len()) else {
                        return false;
                    };
                    piece = behind_star;
                    at = untaken + 1;
                    retry = Some((behind_star, at));
                }
            }
        }
        true
    }

    fn takes(&self, piece: Piece, byte: u8) -> bool {
        match piece {
            Piece::Byte(own) => own == byte,
            Piece::AnyByte => true,
            Piece::OneOf(set) => self.sets.get(set).is_some_and(|set| set.contains(byte)),
            Piece::AnyRun => false,
        }
    }

    /// The bytes that every match begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether only [`Glob::prefix`] itself matches.
    pub fn is_literal(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether exactly what begins with [`Glob::prefix`] matches: the pattern is a literal and one `*`.
    pub fn is_prefix(&self) -> bool {
        self.rest == [Piece::AnyRun]
    }
}

/// Reads a set behind its `[`, and returns what stands behind its `]`.
fn set(pattern: &[u8]) -> (ByteSet, &[u8]) {
    let (inverted, mut left) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut set = ByteSet::default();
    loop {
        left = match left {
            [] => break,
            [b'\\', byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
            [b']', rest @ ..] => {
                left = rest;
                break;
            }
            [from, b'-', to, rest @ ..] => {
                for byte in *from.min(to)..=*from.max(to) {
                    set.insert(byte);
                }
                rest
            }
            [byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
        };
    }
    (if inverted { set.inverted() } else { set }, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(text.as_bytes())
    }

    #[test]
    fn wildcards_match_as_in_redis() {
        for (pattern, text) in [
            ("*", "anything/at\nall"),
            ("*", ""),
            ("", ""),
            ("a*c", "abbc"),
            ("a*", "a"),
            ("a**", "a"),
            ("*b*", "abc"),
            ("a?c", "abc"),
            ("[abc]", "b"),
            ("[^a-c]", "d"),
            ("[c-a]", "b"),
            ("[a", "a"),
            ("[^", "x"),
            (r"[\]]", "]"),
            (r"\*", "*"),
            (r"a\", r"a\"),
            ("*ab*ab", "abaabab"),
        ] {
            assert!(matches(pattern, text), "{pattern} should match {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("**", ""),
            ("?", ""),
            ("a?c", "ac"),
            ("[abc]", "d"),
            ("[^a-c]", "b"),
            ("[", "["),
            ("[]", "]"),
            (r"\*", "a"),
            ("a*c", "ab"),
            ("A", "a"),
            ("*ab*ab", "ab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} should not match {text}");
        }
    }

    #[test]
    fn the_literal_part_is_known() {
        let glob = Glob::new(br"user\*:*");
        assert_eq!(
            (glob.prefix(), glob.is_prefix(), glob.is_literal()),
            (&b"user*:"[..], true, false)
        );
        let glob = Glob::new(b"plain");
        assert_eq!(
            (glob.prefix(), glob.is_prefix(), glob.is_literal()),
            (&b"plain"[..], false, true)
        );
        assert!(!Glob::new(b"a*b").is_prefix());
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_pattern_times_text() {
        let glob = Glob::new(&[b"a*".repeat(2_000), b"b".to_vec()].concat());
        assert!(!glob.matches(&b"a".repeat(4_000)));
        let glob = Glob::new(&[b"*".to_vec(), b"a".repeat(1_000), b"b".to_vec()].concat());
        assert!(!glob.matches(&b"a".repeat(10_000)));
    }
}
