//! Where reading stands: in which source, at which key; and what has been found wrong so far.

use std::collections::HashMap;
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
    places: &'a mut Places,
    errors: &'a mut Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>, places: &'a mut Places, errors: &'a mut Vec<ConfigError>) -> Self {
        Self {
            source,
            key: String::new(),
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

    /// Forgets the places below the current key: a list is replaced as a whole.
    pub(super) fn forget_items(&mut self) {
        let items = format!("{}[", self.key);
        self.places.retain(|key, _| !key.starts_with(&items));
    }

    /// Reports what is wrong with the current key.
    pub(super) fn refuse(&mut self, span: Range<usize>, invalid: Invalid) {
        self.errors.push(ConfigError {
            key: self.key.clone(),
            place: self.source.place(span),
            invalid,
        });
    }

    /// Reports that a value is not of the kind that is wanted. Says which kind it is, never which value.
    pub(super) fn wrong_type(&mut self, node: &Node<'_>, wanted: &str) {
        let message = match node.get_ref() {
            // Only environment and flags get here with text for a number, a switch or a list.
            DeValue::String(_) => "this is text".to_owned(),
            other => format!("this is {} {}", article(other.type_str()), other.type_str()),
        };
        self.refuse(node.span(), Invalid::new(Code::WrongType, message, wanted));
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
    // A third of the name may be wrong: chosen, it separates typing errors from other words.
    (distance * 3 <= nearest.chars().count().max(3)).then_some(nearest)
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
        assert_eq!(nearest("shards", &known), None);
    }
}
