//! COMMAND and its family: the server's reply with nearhit's own command in it.

use super::context::{AdminVerb, Shared};
use crate::resp::{Glob, Request, Value, Version, encode, parts};

/// How nearhit's own command gets into a reply.
#[derive(Debug)]
pub(super) enum Merge {
    /// COMMAND, COMMAND INFO: a row more.
    Row,
    /// COMMAND INFO of names: rows in the place of what the server does not know.
    RowsAt(Vec<(usize, String)>),
    /// COMMAND DOCS: a pair more.
    Docs(String),
    /// COMMAND COUNT: one more.
    Count,
    /// COMMAND LIST: so many names more.
    Names(Vec<String>),
    /// COMMAND GETKEYS of nearhit's command: it has no keys.
    NoKeys,
}

impl Merge {
    /// `None`: there is nothing of nearhit's in this reply.
    pub(super) fn of(command: &str, request: &Request<'_>, shared: &Shared) -> Option<Self> {
        let own = &shared.settings.admin_command;
        // A server with a command of this name is asked about its own.
        let taken = shared
            .table
            .load()
            .by_name(own)
            .is_some_and(|row| row.reported.is_some());
        if own.is_empty() || taken {
            return None;
        }
        let is_own = |name: &[u8]| {
            let name = String::from_utf8_lossy(name).to_lowercase();
            let head = name.split('|').next().unwrap_or_default();
            (head == own.as_str()).then_some(name)
        };
        match command {
            "command" => Some(Self::Row),
            "command|info" if request.len() == 2 => Some(Self::Row),
            "command|info" => {
                let names = request.args_from(2).map(is_own).enumerate();
                let at: Vec<_> = names.filter_map(|(at, name)| Some((at, name?))).collect();
                (!at.is_empty()).then_some(Self::RowsAt(at))
            }
            "command|docs" if request.len() == 2 => Some(Self::Docs(own.clone())),
            "command|docs" => request.args_from(2).find_map(is_own).map(Self::Docs),
            "command|count" => Some(Self::Count),
            "command|list" => Self::list(own, request, shared),
            "command|getkeys" | "command|getkeysandflags" => is_own(request.arg(2)).map(|_| Self::NoKeys),
            _ => None,
        }
    }

    /// The names COMMAND LIST gets: those that its filter lets through.
    fn list(own: &str, request: &Request<'_>, shared: &Shared) -> Option<Self> {
        let names = || {
            let verbs = verbs(shared).into_iter();
            let subcommands = verbs.map(|verb| format!("{own}|{}", verb.name.to_lowercase()));
            std::iter::once(own.to_owned()).chain(subcommands)
        };
        let (filter, value) = (request.arg(3), request.arg(4));
        let is = |name: &str| filter.eq_ignore_ascii_case(name.as_bytes());
        let wanted: Vec<String> = match request.len() {
            2 => names().collect(),
            5 if is("pattern") => {
                let glob = Glob::new(value);
                names().filter(|name| glob.matches(name.as_bytes())).collect()
            }
            5 if is("aclcat")
                && CATEGORIES
                    .iter()
                    .any(|known| value.eq_ignore_ascii_case(known.as_bytes())) =>
            {
                names().collect()
            }
            _ => Vec::new(),
        };
        Some(Self::Names(wanted))
    }

    /// The reply with nearhit's command in it; `None`: as it came.
    pub(super) fn apply(&self, shared: &Shared, version: Version, failed: bool, frame: &[u8]) -> Option<Vec<u8>> {
        let mut reply = Vec::new();
        match self {
            Self::NoKeys if frame.starts_with(b"-ERR Invalid command specified") => {
                encode::error(&mut reply, b"ERR The command has no key arguments");
                return Some(reply);
            }
            Self::NoKeys => return None,
            _ if failed => return None,
            Self::Count => {
                let count = Value::decode(frame, version).ok()?.as_integer()?;
                encode::integer(&mut reply, count.saturating_add(1));
                return Some(reply);
            }
            Self::Row => grow(frame, 1, &mut reply)?,
            Self::RowsAt(at) => return rows_at(shared, version, frame, at),
            Self::Docs(name) => {
                let docs = docs(shared, name)?;
                // A map counts pairs, the array in its place counts both.
                grow(frame, if frame.first() == Some(&b'%') { 1 } else { 2 }, &mut reply)?;
                Value::bulk(name.clone()).encode(version, &mut reply);
                docs.encode(version, &mut reply);
                return Some(reply);
            }
            Self::Names(names) => {
                grow(frame, names.len(), &mut reply)?;
                names.iter().for_each(|name| encode::bulk(&mut reply, name.as_bytes()));
                return Some(reply);
            }
        }
        row(shared, &shared.settings.admin_command)?.encode(version, &mut reply);
        Some(reply)
    }
}

/// Puts rows in the place of elements.
fn rows_at(shared: &Shared, version: Version, frame: &[u8], at: &[(usize, String)]) -> Option<Vec<u8>> {
    let (header, parts) = parts(frame)?;
    let mut reply = header.to_vec();
    for (index, part) in parts.into_iter().enumerate() {
        let own = at.iter().find(|(at, _)| *at == index);
        match own.and_then(|(_, name)| row(shared, name)) {
            Some(row) => row.encode(version, &mut reply),
            None => reply.extend_from_slice(part),
        }
    }
    Some(reply)
}

/// Copies an aggregate with a header that announces so many elements more.
fn grow(frame: &[u8], more: usize, out: &mut Vec<u8>) -> Option<()> {
    let end = memchr::memchr(b'\r', frame)?;
    let (kind, count) = frame.get(..end)?.split_first()?;
    if !matches!(kind, b'*' | b'%' | b'~') {
        return None;
    }
    let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
    out.reserve(frame.len() + 1024);
    out.push(*kind);
    out.extend_from_slice(count.checked_add(more)?.to_string().as_bytes());
    out.extend_from_slice(frame.get(end..)?);
    Some(())
}

const CATEGORIES: [&str; 3] = ["admin", "slow", "dangerous"];

fn verbs(shared: &Shared) -> Vec<AdminVerb> {
    shared.admin.get().map(|admin| admin.verbs()).unwrap_or_default()
}

/// A row as COMMAND has it: name, arity, flags, keys, categories, tips, key specifications, subcommands.
fn row(shared: &Shared, name: &str) -> Option<Value> {
    let own = shared.settings.admin_command.as_str();
    let (arity, subcommands) = if name == own {
        let of = |verb: AdminVerb| one_row(&format!("{own}|{}", verb.name.to_lowercase()), verb.arity, Vec::new());
        (-2, verbs(shared).into_iter().map(of).collect())
    } else {
        (verb(shared, name)?.arity, Vec::new())
    };
    Some(one_row(name, arity, subcommands))
}

fn one_row(name: &str, arity: i64, subcommands: Vec<Value>) -> Value {
    let words = |words: &[&str]| {
        Value::Set(
            words
                .iter()
                .map(|word| Value::Simple((*word).to_owned().into()))
                .collect(),
        )
    };
    let categories = CATEGORIES.map(|category| format!("@{category}"));
    let categories: Vec<&str> = categories.iter().map(String::as_str).collect();
    Value::Array(vec![
        Value::bulk(name.to_owned()),
        Value::Integer(arity),
        words(&["admin", "noscript", "loading", "stale"]),
        Value::Integer(0),
        Value::Integer(0),
        Value::Integer(0),
        words(&categories),
        words(&[]),
        words(&[]),
        // As the server has it: a set without any, an array otherwise.
        match subcommands.is_empty() {
            true => Value::Set(subcommands),
            false => Value::Array(subcommands),
        },
    ])
}

/// The verb that `command|verb` names.
fn verb(shared: &Shared, name: &str) -> Option<AdminVerb> {
    let (_, wanted) = name.split_once('|')?;
    verbs(shared)
        .into_iter()
        .find(|verb| verb.name.eq_ignore_ascii_case(wanted))
}

/// What COMMAND DOCS says about nearhit's command, or one of its verbs.
fn docs(shared: &Shared, name: &str) -> Option<Value> {
    let text = |text: &str| Value::bulk(text.to_owned());
    let about = |summary: &str| {
        vec![
            (text("summary"), text(summary)),
            (text("since"), text(env!("CARGO_PKG_VERSION"))),
            (text("group"), text("server")),
        ]
    };
    let own = shared.settings.admin_command.as_str();
    if name != own {
        return Some(Value::Map(about(&verb(shared, name)?.summary)));
    }
    let mut docs = about("A container for commands of the proxy between the client and the server");
    let of = |verb: AdminVerb| {
        let name = format!("{own}|{}", verb.name.to_lowercase());
        (text(&name), Value::Map(about(&verb.summary)))
    };
    let subcommands = verbs(shared).into_iter().map(of).collect();
    docs.push((text("subcommands"), Value::Map(subcommands)));
    Some(Value::Map(docs))
}
