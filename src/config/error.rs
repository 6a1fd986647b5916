//! What is wrong with the settings: every problem, with its place and what was expected instead.

use std::fmt;

use super::picture;
use crate::error::{Error, Kind, Side};
use crate::tls::{Reason, Wrong};

/// The kind of a problem; its number is stable, so that people and scripts can rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// E101: not TOML.
    Syntax,
    /// E102: a setting that does not exist.
    UnknownKey,
    /// E103: a number where text is wanted, and the like.
    WrongType,
    /// E104: text that cannot be read as what is wanted.
    BadValue,
    /// E105: a value outside its range.
    OutOfRange,
    /// E106: something that must be given is not.
    Missing,
    /// E107: two settings that contradict each other.
    Conflict,
    /// E108: something this version cannot do.
    Unsupported,
    /// E109: a file that cannot be read.
    Unreadable,
    /// E110: other machines could connect, and nobody would ask them who they are.
    Unprotected,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "E101",
            Self::UnknownKey => "E102",
            Self::WrongType => "E103",
            Self::BadValue => "E104",
            Self::OutOfRange => "E105",
            Self::Missing => "E106",
            Self::Conflict => "E107",
            Self::Unsupported => "E108",
            Self::Unreadable => "E109",
            Self::Unprotected => "E110",
        })
    }
}

/// Why a value was refused, before it is known where it stood.
///
/// Invariant: never holds a secret; what is quoted in `message` was checked not to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) expected: String,
    pub(super) help: Option<String>,
}

impl Invalid {
    pub(super) fn new(code: Code, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            expected: expected.into(),
            help: None,
        }
    }

    /// Text that cannot be read as what is wanted.
    pub(super) fn value(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Code::BadValue, message, expected)
    }

    /// A file written for another version of the format.
    pub(super) fn version(found: u32) -> Self {
        Self::value(
            format!("version {found} of the settings is unknown here"),
            "the number 1",
        )
        .help("a newer nearhit wrote this file, or the number is wrong")
    }

    /// Adds what to write instead.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; expected {}", self.message, self.expected)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(Side::Config, Kind::Invalid, invalid.to_string())
    }
}

/// The full name of the setting that something is wrong with.
pub(super) fn tls_key(wrong: &Wrong) -> String {
    format!("upstream.tls.{}", wrong.setting)
}

impl From<Wrong> for Invalid {
    fn from(wrong: Wrong) -> Self {
        let code = match wrong.reason {
            Reason::Unreadable => Code::Unreadable,
            Reason::Unusable => Code::BadValue,
            Reason::Missing => Code::Missing,
        };
        let invalid = Self::new(code, wrong.message, wrong.expected);
        Self {
            help: wrong.help,
            ..invalid
        }
    }
}

/// Where a value stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: a default, or set in code.
    Code,
    /// In a file.
    File {
        /// The file's name, as it was given.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// How many characters of the line are meant.
        width: usize,
        /// The line itself, with passwords hidden.
        text: String,
    },
    /// The whole of a file.
    WholeFile(String),
    /// In this environment variable.
    Env(String),
    /// In this flag.
    Flag(String),
}

impl Place {
    /// The order in which problems are told: by layer, and in a file from top to bottom.
    pub(super) fn order(&self) -> (u8, usize, usize) {
        match self {
            Self::File { line, column, .. } => (self.rank(), *line, *column),
            _ => (self.rank(), 0, 0),
        }
    }

    /// Which layer it belongs to; the higher one wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Code => 0,
            Self::File { .. } | Self::WholeFile(_) => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

/// One problem of the settings. Displayed with a picture of its place:
///
/// ```text
/// error[E104]: cache.max_memory: unknown size unit 'parsecs'
///  --> nearhit.toml:2:14
///   |
/// 2 | max_memory = "512 parsecs"
///   |              ^^^^^^^^^^^^^ expected a size such as 64kb, 512mb or 1gb
///   = help: write "512mb"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) invalid: Invalid,
}

impl ConfigError {
    /// Something wrong in `[upstream.tls]`, wherever it was set.
    pub(super) fn of_tls(wrong: Wrong) -> Self {
        Self {
            key: tls_key(&wrong),
            place: Place::Code,
            invalid: wrong.into(),
        }
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        self.invalid.code
    }

    /// The setting it is about, as in `cache.max_memory`; empty when it is about the whole file.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the value stood.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong, in one line without the place.
    pub fn message(&self) -> &str {
        &self.invalid.message
    }

    /// What was expected instead.
    pub fn expected(&self) -> &str {
        &self.invalid.expected
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        picture::draw(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// All problems of the settings, at least one, in the order file, environment, flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The problems, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for Error {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(Side::Config, Kind::Invalid, errors.to_string())
    }
}
