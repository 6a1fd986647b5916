//! One layer of settings: a file, the environment, or the flags, read over what the layers below gave.

use toml::de::{DeTable, DeValue};

use super::error::{Code, ConfigError, Invalid, Place};
use super::picture;
use super::reader::{Node, Places, Reader, Source, nearest, one_of};
use super::row::{ENV_PREFIX, env_name, find_row, flag_name, rows};
use super::{Config, Row, Shape};

/// What loading has got so far.
#[derive(Debug, Default)]
pub(super) struct Loading {
    pub(super) config: Config,
    pub(super) places: Places,
    pub(super) errors: Vec<ConfigError>,
}

impl Loading {
    /// Reads a file's text.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        let (document, syntax) = DeTable::parse_recoverable(text);
        let mut errors = Vec::new();
        let mut reader = Reader::new(Source::File(name, text), &mut self.places, &mut errors);
        read_table(document.get_ref(), &mut self.config, &mut reader);
        let broken = syntax.iter().map(|error| {
            let place = picture::place(name, text, error.span().unwrap_or(0..0));
            ConfigError {
                key: String::new(),
                place,
                invalid: not_toml(error.message()),
            }
        });
        let broken: Vec<ConfigError> = broken.collect();
        // What the parser made of a broken line, or left out because of it, is not the user's mistake.
        errors.retain(|error| {
            broken.is_empty() || error.code() != Code::Missing && !broken.iter().any(|other| same_line(error, other))
        });
        errors.extend(broken);
        self.errors.append(&mut errors);
    }

    /// Reads the environment. Names with `__` are settings; others (`NEARHIT_PORT`, which Kubernetes sets for a service
    /// called nearhit) count only when they are one.
    pub(super) fn environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        let mut variables: Vec<_> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        variables.sort();
        for (name, text) in variables {
            match rows().find(|row| env_name(row) == name) {
                Some(row) => self.text(row, &[text], Source::Env(name)),
                None if name.contains("__") => {
                    let key = name.trim_start_matches(ENV_PREFIX).to_lowercase().replace("__", ".");
                    self.unknown(key, env_name, Place::Env(name));
                }
                None => {}
            }
        }
    }

    /// Reads flags, with or without their leading dashes. The last one wins; of a list, each one adds to it.
    pub(super) fn flags(&mut self, flags: &[(String, String)]) {
        let mut seen: Vec<&Row> = Vec::new();
        for (name, _) in flags {
            let key = name.trim_start_matches('-');
            match find_row(key) {
                Some(row) if seen.iter().any(|seen| seen.key == row.key) => {}
                Some(row) => {
                    seen.push(row);
                    let same =
                        |name: &str| find_row(name.trim_start_matches('-')).is_some_and(|other| other.key == row.key);
                    let texts: Vec<String> = flags
                        .iter()
                        .filter(|(name, _)| same(name))
                        .map(|(_, text)| text.clone())
                        .collect();
                    self.text(row, &texts, Source::Flag(flag_name(row)));
                }
                None => self.unknown(key.replace('-', "_"), flag_name, Place::Flag(format!("--{key}"))),
            }
        }
    }

    /// Reads what one setting is given outside a file.
    fn text(&mut self, row: &Row, texts: &[String], source: Source<'_>) {
        let Some(last) = texts.last() else { return };
        let mut reader = Reader::new(source, &mut self.places, &mut self.errors);
        reader.within(row.key, |reader| {
            let node = match row.shape {
                Shape::Text => Ok(string(last)),
                Shape::Number | Shape::Bool => Ok(DeValue::parse(last).unwrap_or_else(|_| string(last))),
                Shape::List => list(texts),
                Shape::Tables => DeValue::parse(last),
            };
            match node {
                Ok(node) => read_row(row, &node, &mut self.config, reader),
                Err(error) => reader.refuse(0..0, not_toml(error.message())),
            }
        });
    }

    /// Reports a setting that does not exist; `shown` writes the names of those that do.
    fn unknown(&mut self, key: String, shown: fn(&Row) -> String, place: Place) {
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let beside: Vec<&Row> = rows().filter(|row| row.section() == section).collect();
        let names: Vec<String> = beside.iter().map(|row| shown(row)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected = if names.is_empty() {
            "a setting that nearhit --help lists".to_owned()
        } else {
            one_of(&names)
        };
        let mut invalid = Invalid::new(Code::UnknownKey, "unknown setting", expected);
        // Within a section only the last word is compared: the rest is right and would hide how wrong it is.
        let (wrong, known): (&str, Vec<&str>) = match beside.is_empty() {
            true => (&key, rows().map(|row| row.key).collect()),
            false => (
                key.rsplit('.').next().unwrap_or_default(),
                beside.iter().map(|row| row.name()).collect(),
            ),
        };
        let near = nearest(wrong, &known).and_then(|near| match beside.is_empty() {
            true => find_row(near),
            false => rows().find(|row| row.section() == section && row.name() == near),
        });
        invalid.help = near.map(|row| format!("did you mean {}?", shown(row)));
        self.errors.push(ConfigError { key, place, invalid });
    }
}

/// Reads a table of the file: settings, and the sections within.
fn read_table(table: &DeTable<'_>, config: &mut Config, reader: &mut Reader<'_>) {
    let dot = if reader.key().is_empty() { "" } else { "." };
    for (name, value) in table {
        reader.within(&format!("{dot}{}", name.get_ref()), |reader| {
            let inside = format!("{}.", reader.key());
            if let Some(row) = rows().find(|row| row.key == reader.key()) {
                read_row(row, value, config, reader);
            } else if !rows().any(|row| row.key.starts_with(&inside)) {
                reader.unknown_key(name.span(), &known_names(reader.key()));
            } else if let Some(table) = value.get_ref().as_table() {
                read_table(table, config, reader);
            } else {
                reader.wrong_type(value, "a section: its settings stand below its name in brackets");
            }
        });
    }
}

fn read_row(row: &Row, node: &Node<'_>, config: &mut Config, reader: &mut Reader<'_>) {
    reader.begin(node.span(), row.range_toml());
    (row.read)(config, node, reader);
}

/// The names that could stand where `key` stands: settings and sections of the same table.
fn known_names(key: &str) -> Vec<&'static str> {
    let table = key
        .rsplit_once('.')
        .map_or(String::new(), |(table, _)| format!("{table}."));
    let mut names = Vec::new();
    for rest in rows().filter_map(|row| row.key.strip_prefix(table.as_str())) {
        let name = rest.split_once('.').map_or(rest, |(section, _)| section);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn string(text: &str) -> Node<'_> {
    toml::Spanned::new(0..0, DeValue::String(text.into()))
}

/// A list out of texts, each a TOML list or one item as it is. `[::1]:6380` is an item, `["[::1]:6380"]` a list.
fn list(texts: &[String]) -> Result<Node<'_>, toml::de::Error> {
    let mut items = toml::de::DeArray::new();
    for text in texts {
        let inside = text.trim_start().strip_prefix('[').map(str::trim_start);
        if inside.is_some_and(|inside| inside.starts_with(['"', '\'', ']'])) {
            let node = DeValue::parse(text)?;
            node.get_ref()
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|item| items.push(item.clone()));
        } else {
            items.push(string(text));
        }
    }
    Ok(toml::Spanned::new(0..0, DeValue::Array(items)))
}

fn not_toml(message: &str) -> Invalid {
    // The parser writes what it expected behind a comma or on a line of its own.
    match message
        .split_once(", expected ")
        .or_else(|| message.split_once("\nexpected "))
    {
        Some((message, expected)) => Invalid::new(Code::Syntax, message, expected),
        None => Invalid::new(Code::Syntax, message.replace('\n', "; "), "TOML"),
    }
}

fn same_line(one: &ConfigError, other: &ConfigError) -> bool {
    match (&one.place, &other.place) {
        (Place::File { line, .. }, Place::File { line: other, .. }) => line == other,
        _ => false,
    }
}
