//! Text that must not reach a log, an error message or a core of debug output.

use std::fmt;

/// A password. `Debug` and `Display` print `***`; only [`Secret::reveal`] gives it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps a password: any bytes, as Redis takes them.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(text.into().into_boxed_slice())
    }

    /// The bytes themselves, for the one place that sends them to the server.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}
