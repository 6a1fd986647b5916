//! Settings that are one word out of a few.

use std::fmt;
use std::str::FromStr;

use super::error::Invalid;

/// Writes an enum whose variants have names, and how to read and show them.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident, $wanted:literal {
        $( $(#[$meta:meta])+ $variant:ident = $text:literal, )+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$meta])+ $variant, )+
        }

        impl $name {
            /// Every choice, in the order of the documentation.
            pub const ALL: &[Self] = &[$( Self::$variant, )+];
            pub(super) const WANTED: &str = $wanted;

            /// The word for it in a file.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let found = Self::ALL.iter().find(|choice| choice.name() == text);
                found.copied().ok_or_else(|| Invalid::value(format!("unknown choice '{text}'"), $wanted))
            }
        }
    };
}

choice! {
    /// Which replies the near-cache stores.
    Admission, "second-read or always" {
        /// Those of keys that are read a second time within `cache.admission_window`.
        SecondRead = "second-read",
        /// All that are cacheable.
        Always = "always",
    }
}

choice! {
    /// How the near-cache learns that a key changed.
    InvalidationMode, "auto, tracking, redirect or off" {
        /// The best the server offers; in this version the same as [`InvalidationMode::Tracking`].
        Auto = "auto",
        /// Client tracking with RESP3 push messages.
        Tracking = "tracking",
        /// Client tracking redirected to a subscribed RESP2 connection.
        Redirect = "redirect",
        /// Not at all, so nothing is cached.
        Off = "off",
    }
}

choice! {
    /// How log lines look.
    LogFormat, "auto, text or json" {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}
