//! Settings of the keys that match a pattern.

use std::time::Duration;

use super::error::{Code, Invalid};
use super::reader::{Node, Reader};
use super::setting::{Setting, read_text};
use super::{ByteSize, Reads};

/// `[[policy]]`: settings for keys that match a glob. The first policy that matches a key counts.
///
/// ```
/// use std::time::Duration;
/// use nearhit::config::Policy;
///
/// let sessions = Policy::new("sessions", "session:*").ttl(Duration::from_secs(30));
/// let locks = Policy::new("locks-never", "lock:*").cache(false);
/// # assert!(sessions.cache && !locks.cache);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, in metrics and explanations.
    pub name: String,
    /// The glob its keys match, as Redis understands globs (`match` in the file).
    pub pattern: String,
    /// Whether replies for its keys may be cached. Default: true.
    pub cache: bool,
    /// Longest life of its entries; `None` = `cache.max_entry_ttl`.
    pub ttl: Option<Duration>,
    /// Larger replies are not cached; `None` = `cache.max_entry`.
    pub max_entry: Option<ByteSize>,
    /// The commands whose replies may be cached, in upper case; `None` = all cacheable ones.
    pub commands: Option<Vec<String>>,
    /// Whether single fields of its hashes may expire (HEXPIRE). Default: true; `false` keeps reads of whole hashes for longer
    /// than `cache.hash_max_ttl`, and asks no TTLs of fields.
    pub hash_field_ttl: bool,
    /// Which node is asked what memory does not answer; `None` = `routing.reads`.
    pub reads: Option<Reads>,
}

impl Policy {
    /// A policy for the keys that match `pattern`, with the cache's own settings.
    pub fn new(name: impl Into<String>, pattern: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pattern: pattern.into(),
            cache: true,
            ttl: None,
            max_entry: None,
            commands: None,
            hash_field_ttl: true,
            reads: None,
        }
    }

    /// Sets which node is asked what memory does not answer.
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.reads = Some(reads);
        self
    }

    /// Sets whether replies may be cached.
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the longest life of an entry.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the size above which replies are not cached.
    #[must_use]
    pub fn max_entry(mut self, max_entry: ByteSize) -> Self {
        self.max_entry = Some(max_entry);
        self
    }

    /// Sets whether single fields of its hashes may expire.
    #[must_use]
    pub fn hash_field_ttl(mut self, expire: bool) -> Self {
        self.hash_field_ttl = expire;
        self
    }

    /// Sets the commands whose replies may be cached.
    #[must_use]
    pub fn commands<S: AsRef<str>>(mut self, commands: impl IntoIterator<Item = S>) -> Self {
        self.commands = Some(
            commands
                .into_iter()
                .map(|name| name.as_ref().to_ascii_uppercase())
                .collect(),
        );
        self
    }
}

/// The keys of a policy, in the order in which they are explained.
const KEYS: &[&str] = &[
    "name",
    "match",
    "cache",
    "ttl",
    "max_entry",
    "commands",
    "hash_field_ttl",
    "reads",
];

impl Setting for Vec<Policy> {
    const SHAPE: super::Shape = super::Shape::Tables;
    const WANTED: &str = "a list of tables, [[policy]] in a file";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(items) = node.get_ref().as_array() else {
            reader.wrong_type(node, Self::WANTED);
            return None;
        };
        let mut policies = Self::new();
        for (index, item) in items.iter().enumerate() {
            let policy = reader.within(&format!("[{index}]"), |reader| read_policy(item, reader));
            policies.extend(policy);
        }
        // An incomplete list is as good as none: the caller keeps the error, not the value.
        (policies.len() == items.len()).then_some(policies)
    }

    fn show(&self) -> String {
        format!(
            "[{}]",
            self.iter()
                .map(|policy| format!("\"{}\"", policy.name))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }
}

fn read_policy(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Policy> {
    let Some(table) = node.get_ref().as_table() else {
        reader.wrong_type(node, "a table with name and match");
        return None;
    };
    let mut policy = Policy::new("", "");
    for (key, value) in table {
        reader.within(&format!(".{}", key.get_ref()), |reader| {
            reader.note(value.span());
            match key.get_ref().as_ref() {
                "name" => read_into(&mut policy.name, value, reader, filled("a name")),
                "match" => read_into(&mut policy.pattern, value, reader, filled("a glob such as session:*")),
                "cache" => super::setting::assign(&mut policy.cache, value, reader),
                "ttl" => policy.ttl = Duration::read(value, reader),
                "max_entry" => policy.max_entry = ByteSize::read(value, reader),
                "commands" => policy.commands = read_commands(value, reader),
                "reads" => policy.reads = Reads::read(value, reader),
                "hash_field_ttl" => super::setting::assign(&mut policy.hash_field_ttl, value, reader),
                _ => reader.unknown_key(key.span(), KEYS),
            }
        });
    }
    for key in ["name", "match"] {
        if !table.contains_key(key) {
            reader.refuse(
                node.span(),
                Invalid::new(Code::Missing, format!("{key} is missing"), "name and match"),
            );
        }
    }
    Some(policy)
}

fn read_into(
    to: &mut String,
    node: &Node<'_>,
    reader: &mut Reader<'_>,
    check: impl Fn(&str) -> Result<String, Invalid>,
) {
    if let Some(text) = read_text(node, reader, "text in quotes", check) {
        *to = text;
    }
}

/// Text that is not empty.
fn filled(wanted: &'static str) -> impl Fn(&str) -> Result<String, Invalid> {
    move |text| match text {
        "" => Err(Invalid::value("this is empty", wanted)),
        text => Ok(text.to_owned()),
    }
}

fn read_commands(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "a list of command names such as [\"GET\", \"HGETALL\"]";
    let Some(items) = node.get_ref().as_array() else {
        reader.wrong_type(node, WANTED);
        return None;
    };
    let command = |text: &str| {
        let valid = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if valid {
            Ok(text.to_ascii_uppercase())
        } else {
            Err(Invalid::value("this is not a command name", WANTED))
        }
    };
    Some(
        items
            .iter()
            .filter_map(|item| read_text(item, reader, WANTED, command))
            .collect(),
    )
}
