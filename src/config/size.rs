//! Sizes, in the grammar of `redis.conf`: `1k` is 1000 bytes, `1kb` is 1024.

use std::fmt;
use std::str::FromStr;

use super::error::Invalid;

/// A number of bytes. Reads and displays as in `redis.conf`: `512mb`, `64kb`, `100`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Units, largest first. Those of 1024 come before those of 1000, so that display prefers them.
const UNITS: [(&str, u64); 7] = [
    ("gb", 1 << 30),
    ("mb", 1 << 20),
    ("kb", 1 << 10),
    ("g", 1_000_000_000),
    ("m", 1_000_000),
    ("k", 1000),
    ("b", 1),
];

pub(super) const WANTED: &str = "a size such as 64kb, 512mb or 1gb";

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes, stopping at the largest size.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// So many times 1024² bytes, stopping at the largest size.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// So many times 1024³ bytes, stopping at the largest size.
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index type, stopping at its largest value.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, bytes)| *bytes > 1 && self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
        if number.is_empty() {
            return Err(Invalid::value(format!("'{text}' does not begin with a number"), WANTED));
        }
        let wanted_unit = unit.to_ascii_lowercase();
        let bytes = match UNITS.iter().find(|(name, _)| *name == wanted_unit) {
            Some((_, bytes)) => *bytes,
            None if unit.is_empty() => 1,
            None => return Err(unknown_unit(number, unit)),
        };
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
        size.map(Self)
            .ok_or_else(|| Invalid::value(format!("'{text}' is more than 64 bits can hold"), WANTED))
    }
}

fn unknown_unit(number: &str, unit: &str) -> Invalid {
    let unit = unit.trim();
    let invalid = |unit: &str| {
        Invalid::value(
            format!("unknown size unit '{unit}'"),
            "bytes, kb, mb, gb (powers of 1024) or k, m, g (powers of 1000)",
        )
    };
    let guess = match unit.to_ascii_lowercase().chars().next() {
        Some('k') => "kb",
        Some('g') => "gb",
        Some('b') => "b",
        _ => "mb",
    };
    invalid(unit).help(format!("write \"{number}{guess}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_in_redis_conf() {
        let cases = [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("1k", 1000),
            ("1kb", 1024),
            ("1KB", 1024),
            ("5m", 5_000_000),
            ("5Mb", 5 << 20),
            ("2g", 2_000_000_000),
            ("2gb", 2 << 30),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_a_proposal() {
        for text in [
            "",
            "mb",
            "-1",
            "1.5gb",
            "1 gb",
            "1tb",
            "99999999999999999999",
            "99999999999999gb",
            "½kb",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        let error = "512 parsecs".parse::<ByteSize>().unwrap_err();
        assert_eq!(error.message, "unknown size unit 'parsecs'");
        assert_eq!(error.help.as_deref(), Some("write \"512mb\""));
    }

    #[test]
    fn a_displayed_size_reads_back_as_the_same_size() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1024, "1kb"),
            (1000, "1k"),
            (1 << 20, "1mb"),
            (3 << 30, "3gb"),
            (1025, "1025"),
        ] {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)));
        }
    }
}
