//! How an answer is put together: maps of plain Rust values, which each protocol then gets in its own types.

use std::time::Duration;

use bytes::Bytes;

use crate::metrics::{Label, Percentiles};
use crate::resp::Value;

/// What can stand in an answer.
pub(super) trait Answer {
    /// The value as the protocol has it.
    fn into_value(self) -> Value;
}

impl Answer for Value {
    fn into_value(self) -> Value {
        self
    }
}

impl Answer for bool {
    fn into_value(self) -> Value {
        Value::Boolean(self)
    }
}

impl Answer for u64 {
    fn into_value(self) -> Value {
        Value::Integer(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

impl Answer for usize {
    fn into_value(self) -> Value {
        (self as u64).into_value()
    }
}

impl Answer for f64 {
    fn into_value(self) -> Value {
        Value::Double(self)
    }
}

impl Answer for &str {
    fn into_value(self) -> Value {
        Value::bulk(self.to_owned())
    }
}

impl Answer for String {
    fn into_value(self) -> Value {
        Value::bulk(self)
    }
}

impl Answer for &[u8] {
    fn into_value(self) -> Value {
        Value::bulk(Bytes::copy_from_slice(self))
    }
}

impl<T: Answer> Answer for Option<T> {
    fn into_value(self) -> Value {
        self.map_or(Value::Null, Answer::into_value)
    }
}

impl<T: Answer> Answer for Vec<T> {
    fn into_value(self) -> Value {
        Value::Array(self.into_iter().map(Answer::into_value).collect())
    }
}

impl Answer for Map {
    fn into_value(self) -> Value {
        Value::Map(self.0)
    }
}

/// A map, pair by pair.
#[derive(Default)]
pub(super) struct Map(Vec<(Value, Value)>);

impl Map {
    /// Adds a pair.
    pub(super) fn with(mut self, key: impl Answer, value: impl Answer) -> Self {
        self.0.push((key.into_value(), value.into_value()));
        self
    }

    /// A map with one count for each value of a label.
    pub(super) fn of_labels<L: Label>(count: impl Fn(L) -> u64) -> Self {
        L::ALL
            .iter()
            .fold(Self::default(), |map, &label| map.with(label.value(), count(label)))
    }

    /// Adds `p50_usec`, `p95_usec`, `p99_usec` and `p999_usec`; null when nothing was measured.
    pub(super) fn with_percentiles(self, of: Option<Percentiles>) -> Self {
        self.with("p50_usec", of.map(|of| micros(of.p50)))
            .with("p95_usec", of.map(|of| micros(of.p95)))
            .with("p99_usec", of.map(|of| micros(of.p99)))
            .with("p999_usec", of.map(|of| micros(of.p999)))
    }
}

/// Microseconds, to a tenth.
pub(super) fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
