//! nearhit's own command: one row a verb, from which dispatch, argument checks and HELP follow.

use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};

use super::reply::{Answer, Map};
use super::{explain, hot_keys, info, keys, shadow, stats, topology};
use crate::command::error_text;
use crate::downstream::{AdminCommand, AdminVerb, Asker, Shared};
use crate::metrics::Bypass;
use crate::resp::{Request, Value, Version};
use crate::time::{self, Instant};
use crate::topology::NodeId;
use crate::upstream::Gauges;

/// What does not change while nearhit runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name of nearhit's own command as it is configured; case does not matter.
    pub name: String,
    /// Where the server is, without credentials.
    pub upstream: String,
    /// The commit nearhit was built from, where that is known.
    pub revision: Option<String>,
    /// When nearhit started.
    pub started: Instant,
}

/// nearhit's own command, and its section of INFO.
pub struct Console {
    /// Weak, because [`Shared`] holds the console.
    shared: Weak<Shared>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) facts: Facts,
}

impl Console {
    /// A console that reports on `shared` and on the connections that `gauges` counts.
    pub fn new(shared: Weak<Shared>, gauges: Arc<Gauges>, facts: Facts) -> Self {
        Self { shared, gauges, facts }
    }

    fn answer(&self, call: &Call<'_>) -> Result<Value, String> {
        let request = call.request;
        if request.len() < 2 {
            return Err(self.wrong_arguments(None));
        }
        let asked = request.arg(1);
        let Some(verb) = VERBS
            .iter()
            .find(|verb| asked.eq_ignore_ascii_case(verb.name.as_bytes()))
        else {
            let text = error_text::unknown_subcommand(request);
            return Err(String::from_utf8_lossy(&text).into_owned());
        };
        if !verb.args.contains(&(request.len() - 2)) {
            return Err(self.wrong_arguments(Some(verb.name)));
        }
        (verb.run)(call)
    }

    /// Redis' own words.
    fn wrong_arguments(&self, verb: Option<&str>) -> String {
        let mut name = self.facts.name.to_lowercase();
        if let Some(verb) = verb {
            name = format!("{name}|{}", verb.to_lowercase());
        }
        format!("ERR wrong number of arguments for '{name}' command")
    }
}

impl AdminCommand for Console {
    fn run(&self, request: &Request<'_>, asker: &Asker<'_>, out: &mut Vec<u8>) {
        let answer = match self.shared.upgrade() {
            Some(shared) => self.answer(&Call {
                console: self,
                shared: &shared,
                request,
                asker,
                now: time::now(),
            }),
            None => Err("ERR nearhit is stopping".to_owned()),
        };
        let value = answer.unwrap_or_else(Value::error);
        value.encode(asker.version, out);
    }

    fn verbs(&self) -> Vec<AdminVerb> {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let verb = |verb: &Verb| AdminVerb {
            name: verb.name,
            arity: match verb.args.start() == verb.args.end() {
                true => count(verb.args.start() + 2),
                false => -count(verb.args.start() + 2),
            },
            summary: verb.summary.join(" "),
        };
        VERBS.iter().map(verb).collect()
    }

    fn info_section(&self) -> String {
        self.shared
            .upgrade()
            .map(|shared| info::section(self, &shared, time::now()))
            .unwrap_or_default()
    }
}

/// One request to the console.
pub(super) struct Call<'a> {
    pub(super) console: &'a Console,
    pub(super) shared: &'a Shared,
    pub(super) request: &'a Request<'a>,
    pub(super) asker: &'a Asker<'a>,
    pub(super) now: Instant,
}

impl Call<'_> {
    /// In a cluster, the node that has `key`.
    pub(super) fn owner(&self, key: &[u8]) -> Option<NodeId> {
        self.shared.cluster.as_ref()?.owner(key)
    }

    /// Whether a read of `key` by the asker would be fetched for the near-cache now.
    pub(super) fn would_admit(&self, key: &[u8], command: u16) -> Result<(), Bypass> {
        let partition = self.asker.account.partition(self.owner(key));
        let partition = partition.ok_or(Bypass::SessionState)?;
        self.shared.cache.would_admit(&partition.origin, key, command, self.now)
    }
}

/// A subcommand.
pub(super) struct Verb {
    pub(super) name: &'static str,
    /// What may follow the name, as HELP writes it.
    usage: &'static str,
    /// How many arguments may follow the name.
    args: RangeInclusive<usize>,
    /// What it does, in lines for HELP.
    summary: &'static [&'static str],
    /// `Err` is the text of an error reply.
    run: fn(&Call<'_>) -> Result<Value, String>,
}

const ANY: usize = usize::MAX;

/// Every subcommand. To add one, add a row.
pub(super) static VERBS: &[Verb] = &[
    Verb {
        name: "ATTRIBUTES",
        usage: "<ON | OFF>",
        args: 1..=1,
        summary: &[
            "Have an attribute in front of each reply to a cacheable read of this connection tell",
            "where it comes from: source, age_ms, node, and why it was not cached. Needs RESP3,",
            "and a client that knows attributes: redis-cli 7.0 and redis-py 8.1 do not.",
        ],
        run: attributes,
    },
    Verb {
        name: "EXPLAIN",
        usage: "<command> [<arg> ...]",
        args: 1..=ANY,
        summary: &[
            "Tell what would be done with a command of this connection, without doing it:",
            "where it runs, what it changes, whether memory answers it, and if not, why.",
        ],
        run: explain::explain,
    },
    Verb {
        name: "FLUSH",
        usage: "<ALL | KEY <key> [<key> ...] | MATCH <pattern>> [DRYRUN]",
        args: 0..=ANY,
        summary: &[
            "Drop cached replies from nearhit's memory, and return how many there were.",
            "The server is not told. With DRYRUN as the last word they are only counted.",
        ],
        run: keys::flush,
    },
    Verb {
        name: "HOTKEYS",
        usage: "[COUNT <count>]",
        args: 0..=2,
        summary: &[
            "Return the <count> keys (default 16, at most 128) that were read most in the last",
            "minute: about how often, by how much that may be too high, and their hit ratio.",
        ],
        run: hot_keys::hot_keys,
    },
    Verb {
        name: "INSPECT",
        usage: "<key>",
        args: 1..=1,
        summary: &["Return what is cached for a key, which policy applies to it, and why it is not cached."],
        run: keys::inspect,
    },
    Verb {
        name: "KEYS",
        usage: "<pattern> [COUNT <count>]",
        args: 1..=3,
        summary: &[
            "Return up to <count> cached keys that match (default 100, at most 10000), and",
            "whether there are more.",
        ],
        run: keys::keys,
    },
    Verb {
        name: "LATENCY",
        usage: "[<command> ...]",
        args: 0..=ANY,
        summary: &["Return latencies of the last minute in microseconds, by command and outcome."],
        run: stats::latency,
    },
    Verb {
        name: "PING",
        usage: "",
        args: 0..=0,
        summary: &["Answer without asking the server."],
        run: |_| Ok(Value::Simple("PONG".into())),
    },
    Verb {
        name: "SHADOW",
        usage: "",
        args: 0..=0,
        summary: &[
            "Return what shadow mode (cache.mode = shadow) found, by policy: what memory would have",
            "answered, and whether that is what the server said.",
        ],
        run: shadow::shadow,
    },
    Verb {
        name: "STATS",
        usage: "[<command>]",
        args: 0..=1,
        summary: &[
            "Return what was counted since the start, for everything or for one command.",
            "Percentiles are microseconds over the last minute.",
        ],
        run: stats::stats,
    },
    Verb {
        name: "TOPOLOGY",
        usage: "",
        args: 0..=0,
        summary: &[
            "Return the nodes nearhit knows: role, whether it may be read from and if not, why,",
            "how far it is behind its master, how fast it answers, its availability zone; whether connections",
            "to it can be had (circuit), since when not, and how many requests wait for its replies.",
        ],
        run: topology::topology,
    },
    Verb {
        name: "VERSION",
        usage: "",
        args: 0..=0,
        summary: &["Return nearhit's version, and the commit it was built from."],
        run: |call| {
            Ok(Map::default()
                .with("name", "nearhit")
                .with("version", env!("CARGO_PKG_VERSION"))
                .with("revision", call.console.facts.revision.as_deref())
                .into_value())
        },
    },
    Verb {
        name: "HELP",
        usage: "",
        args: 0..=0,
        summary: &["Prints this help."],
        run: help,
    },
];

/// Nothing but what the asker's own replies look like changes.
fn attributes(call: &Call<'_>) -> Result<Value, String> {
    let wanted = call.request.arg(2);
    let on = match () {
        () if wanted.eq_ignore_ascii_case(b"on") => true,
        () if wanted.eq_ignore_ascii_case(b"off") => false,
        () => return Err("ERR syntax error".to_owned()),
    };
    if on && call.asker.version == Version::V2 {
        return Err("ERR attributes are part of RESP3: say HELLO 3 first".to_owned());
    }
    call.asker.attributes.set(on);
    Ok(Value::Simple("OK".into()))
}

/// HELP as Redis' containers answer it: simple strings, a line each.
fn help(call: &Call<'_>) -> Result<Value, String> {
    let name = call.console.facts.name.to_uppercase();
    let mut lines = vec![format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    )];
    for verb in VERBS {
        lines.push(format!("{} {}", verb.name, verb.usage).trim_end().to_owned());
        lines.extend(verb.summary.iter().map(|line| format!("    {line}")));
    }
    Ok(Value::Array(
        lines.into_iter().map(|line| Value::Simple(line.into())).collect(),
    ))
}
