//! Where reading stands: in which source, at which key; and what has been found wrong so far.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::de::DeValue;

use super::error::{Code, ConfigError, Invalid, Place};
use super::picture;

/// A value with its place in the text it was read from.
pub(super) type Node<'a> = toml::Spanned<DeValue<'a>>;

/// Where each setting's value stood, by full key (`policy[0].ttl`); the later layer overwrites the earlier one.
pub(super) type Places = HashMap<String, Place>;

/// What a value is read from.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    /// A file: its name and its text.
    File(&'a str, &'a str),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(String),
}

impl Source<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        match self {
            Self::File(name, text) => picture::place(name, text, span),
            Self::Env(name) => Place::Env(name.clone()),
            Self::Flag(name) => Place::Flag(name.clone()),
        }
    }
}

/// Collects what is wrong while one source is read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    source: Source<'a>,
    key: String,
    /// The range of the setting being read, as it would stand in a file.
    range: Option<(String, String)>,
    places: &'a mut Places,
    errors: &'a mut Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>, places: &'a mut Places, errors: &'a mut Vec<ConfigError>) -> Self {
        Self {
            source,
            key: String::new(),
            range: None,
            places,
            errors,
        }
    }

    /// Reads something below the current key; `step` is put behind it.
    pub(super) fn within<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.key.len();
        self.key.push_str(step);
        let value = read(self);
        self.key.truncate(outer);
        value
    }

    /// The full key being read.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Remembers where the current key's value stands.
    pub(super) fn note(&mut self, span: Range<usize>) {
        self.places.insert(self.key.clone(), self.source.place(span));
    }

    /// Begins a setting: the places of its old value are forgotten, the new one's is remembered.
    pub(super) fn begin(&mut self, span: Range<usize>, range: Option<(String, String)>) {
        // A list is replaced as a whole.
        let items = format!("{}[", self.key);
        self.places.retain(|key, _| !key.starts_with(&items));
        self.note(span);
        self.range = range;
    }

    /// Reports a number that not even its type can hold.
    pub(super) fn out_of_range(&mut self, span: Range<usize>, shown: impl fmt::Display) {
        let range = self.range.as_ref().map(|(low, high)| format!("{low} to {high}"));
        let expected = range.unwrap_or_else(|| "0 or a whole number above it".to_owned());
        self.refuse(
            span,
            Invalid::new(Code::OutOfRange, format!("{shown} is out of range"), expected),
        );
    }

    /// Reports what is wrong with the current key.
    pub(super) fn refuse(&mut self, span: Range<usize>, invalid: Invalid) {
        self.errors.push(ConfigError {
            key: self.key.clone(),
            place: self.source.place(span),
            invalid,
        });
    }

    /// Reports that a value is not of the kind that is wanted.
    ///
    /// Text is quoted only where it came as text for a number, a switch or a list, none of which is a secret.
    pub(super) fn wrong_type(&mut self, node: &Node<'_>, wanted: &str) {
        let message = match (node.get_ref(), &self.source) {
            (DeValue::String(_), Source::File(..)) => "this is text".to_owned(),
            (DeValue::String(text), _) => format!("'{text}' cannot be read"),
            (other, _) => format!("this is {} {}", article(other.type_str()), other.type_str()),
        };
        let mut invalid = Invalid::new(Code::WrongType, message, wanted);
        match (node.get_ref().as_str(), &self.source) {
            (Some(text), Source::File(..)) if text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok() => {
                invalid.help = Some("write it without quotes".to_owned());
            }
            _ => {}
        }
        self.refuse(node.span(), invalid);
    }

    /// Reports the current key itself; `known` are the names that could stand in its place.
    pub(super) fn unknown_key(&mut self, span: Range<usize>, known: &[&str]) {
        let name = self.key.rsplit('.').next().unwrap_or_default().to_owned();
        let mut invalid = Invalid::new(Code::UnknownKey, "unknown setting", one_of(known));
        invalid.help = nearest(&name, known).map(|known| format!("did you mean \"{known}\"?"));
        self.refuse(span, invalid);
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

/// `a, b or c`.
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing here".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known name a typing error was probably meant to be, if one is near enough.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let name = name.replace('-', "_");
    let (distance, nearest) = known.iter().map(|known| (distance(&name, known), *known)).min()?;
    // Two exchanged letters count as two; a third of a long name may be wrong, but never most of a short one. Chosen:
    // it separates typing errors from other words.
    let length = nearest.chars().count();
    (distance <= (length / 3).max(2).min(length / 2)).then_some(nearest)
}

/// Levenshtein's distance: how many characters must be inserted, removed or replaced. Costs one row of memory.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, a) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (b, above) in to.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *above;
            left = replaced.min(*above + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_errors() {
        for (from, to, expected) in [
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("memroy", "memory", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_near_names_are_proposed() {
        let known = ["max_memory", "max_entry", "enabled"];
        assert_eq!(nearest("max_memroy", &known), Some("max_memory"));
        assert_eq!(nearest("max-memory", &known), Some("max_memory"));
        assert_eq!(nearest("cahce", &["cache", "log"]), Some("cache"));
        assert_eq!(nearest("shards", &known), None);
        assert_eq!(nearest("tls", &["log"]), None);
    }
}
