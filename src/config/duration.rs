//! Durations: a whole number and a unit, `250us`, `5ms`, `1s`, `2m`, `1h`, `1d`.

use std::time::Duration;

use super::error::Invalid;

/// Units in microseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];

pub(super) const WANTED: &str = "a duration such as 250us, 5ms, 1s, 2m, 1h or 1d";

/// Longest duration that can be set. Chosen: adding it to a clock must never overflow.
const MAX: Duration = Duration::from_secs(3650 * 86400);

/// Reads a duration.
pub(super) fn parse(text: &str) -> Result<Duration, Invalid> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(Invalid::value(format!("'{text}' does not begin with a number"), WANTED));
    }
    let Some((_, micros)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(unknown_unit(number, unit));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*micros))
        .map(Duration::from_micros)
        .filter(|duration| *duration <= MAX)
        .ok_or_else(|| Invalid::value(format!("'{text}' is longer than ten years"), WANTED))
}

/// Writes a duration so that [`parse`] reads it back; below a microsecond it is cut off.
pub(super) fn show(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let unit = UNITS
        .iter()
        .find(|(_, unit)| micros >= *unit && micros.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => format!("{}{name}", micros / unit),
        None => "0s".to_owned(),
    }
}

fn unknown_unit(number: &str, unit: &str) -> Invalid {
    let trimmed = unit.trim();
    let guess = match trimmed.to_ascii_lowercase().as_str() {
        "" => return Invalid::value("the unit is missing", WANTED).help(format!("write \"{number}s\" for seconds")),
        "µs" | "usec" | "micros" => "us",
        "msec" | "millis" | "ms" => "ms",
        other => match other.chars().next() {
            Some('m') => "m",
            Some('h') => "h",
            Some('d') => "d",
            _ => "s",
        },
    };
    Invalid::value(format!("unknown time unit '{trimmed}'"), "us, ms, s, m, h or d")
        .help(format!("write \"{number}{guess}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_duration_reads_back_as_the_same_duration() {
        let cases = [
            ("0s", 0),
            ("250us", 250),
            ("5ms", 5000),
            ("1s", 1_000_000),
            ("90s", 90_000_000),
            ("2m", 120_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
            assert_eq!(show(Duration::from_micros(micros)), text);
        }
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("1d"), Ok(Duration::from_secs(86400)));
        assert_eq!(show(Duration::from_secs(86400)), "1d");
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_a_proposal() {
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "1m30s",
            "99999999999999999999s",
            "18446744073709551615d",
            "4000d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("5").unwrap_err().help.as_deref(),
            Some("write \"5s\" for seconds")
        );
        assert_eq!(parse("5 minutes").unwrap_err().help.as_deref(), Some("write \"5m\""));
    }
}
