//! A sequence as it may be said before a cluster: every key has a tag, and what a cluster cannot do is left out.
//!
//! ```text
//! MGET s1 s2        → MGET {a}s1 {c}s2            cut by nearhit: any tags
//! RENAME s1 s2      → RENAME {b}s1 {b}s2          one tag a command
//! MULTI … EXEC      → {b} for all of it           one tag from WATCH or MULTI to EXEC
//! EVAL, EVALSHA     → {a} in all of the sequence  a script is known where it was run
//! ```

use super::gaps::{self, HIDDEN, KEY_KINDS};
use super::grammar::IGNORED;
use super::sequence::is;
use super::steps::{Request, Step};
use crate::cluster_support::TAGS;
use crate::session_support::Dice;
use crate::support::resp::encode;
use nearhit::command::{Command, CommandTable, Lookup, Spread};
use nearhit::resp::{RequestLimits, RequestScan, RequestScanner};
use std::collections::HashSet;

/// What is left out, and why.
const NOT_BEFORE_A_CLUSTER: &[(&str, &str)] = &[
    ("SELECT", "there is one database"),
    ("MOVE", "as SELECT"),
    ("SWAPDB", "as SELECT"),
    (
        "SCAN 0",
        "each node's keys come with a page of their own (tests/cluster_commands.rs)",
    ),
    (
        "SCRIPT EXISTS",
        "a script that was run, and not loaded, is known to one node",
    ),
    ("FUNCTION STATS", "as SCRIPT EXISTS: of the node that is asked"),
    ("SORT_RO", "with GET or BY a cluster refuses it"),
    (
        "DEBUG",
        "it is about the node that is asked, and so is the transaction it is in",
    ),
    ("MEMORY USAGE", "a cluster's keys take more"),
    (
        "AUTH",
        "users who may have some keys: what is cut is refused and done by halves",
    ),
    ("HELLO", "with AUTH, as that"),
    ("WAIT", "of each node's replicas"),
    ("ROLE", "of the node that is asked"),
    ("READONLY", "a cluster's nodes take it, though nobody sees it"),
    ("READWRITE", "as READONLY"),
    ("ASKING", "as READONLY"),
    ("RESTORE-ASKING", "as READONLY"),
    ("REPLICAOF", "a cluster refuses it in other words"),
    ("FAILOVER", "as REPLICAOF"),
    ("CLIENT TRACKING", "it is told of one node's keys"),
    ("CLIENT TRACKINGINFO", "as CLIENT TRACKING"),
    ("CLIENT CACHING", "as CLIENT TRACKING"),
    ("PUBLISH", "tests/cluster_sessions.rs"),
    ("SPUBLISH", "as PUBLISH"),
    ("PUBSUB", "as PUBLISH"),
    ("SUBSCRIBE", "as PUBLISH"),
    ("PSUBSCRIBE", "as PUBLISH"),
    ("SSUBSCRIBE", "as PUBLISH"),
    ("UNSUBSCRIBE", "as PUBLISH"),
    ("PUNSUBSCRIBE", "as PUBLISH"),
    ("SUNSUBSCRIBE", "as PUBLISH"),
];

/// Makes a sequence one that a cluster can follow.
pub fn clustered(steps: &mut [Step], seed: u64) {
    let mut tagger = Tagger::new(seed);
    for step in steps {
        match step {
            Step::Send(send) => {
                let at = send.connection;
                send.requests = std::mem::take(&mut send.requests)
                    .into_iter()
                    .filter_map(|request| tagger.request(at, request))
                    .collect();
            }
            Step::Leave { connection } => tagger.fixed[*connection] = None,
            Step::Foreign { requests } => *requests = tagger.foreign(requests),
        }
    }
}

struct Tagger {
    dice: Dice,
    table: CommandTable,
    /// All that a key can be.
    keys: HashSet<Vec<u8>>,
    /// Which tag each connection's transaction has, and whether it is past MULTI.
    fixed: [Option<(&'static str, bool)>; 4],
    /// Which tag scripts have.
    scripts: &'static str,
}

impl Tagger {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed ^ 0x5eed);
        let mine = (0..4).map(|number| format!("mine{number}").into_bytes());
        Self {
            table: CommandTable::builtin(),
            keys: KEY_KINDS.iter().flat_map(|kind| gaps::keys(kind)).chain(mine).collect(),
            fixed: [None; 4],
            scripts: TAGS[dice.below(3)],
            dice,
        }
    }

    fn request(&mut self, connection: usize, request: Request) -> Option<Request> {
        let words = match request {
            Request::Words(words) => words,
            Request::Raw(bytes) => match words(&bytes) {
                Some(words) => words,
                None => return Some(Request::Raw(bytes)),
            },
        };
        let spread = self.spread(&words);
        let in_transaction = self.fixed[connection].is_some();
        let for_all = matches!(spread, Some(Spread::All(_) | Spread::Scan));
        if cannot_be(&words) || (for_all && in_transaction) {
            return None;
        }
        let fixed = &mut self.fixed[connection];
        if is(&words, "MULTI") || is(&words, "WATCH") {
            fixed.get_or_insert((self.scripts, false)).1 |= is(&words, "MULTI $");
        }
        let tagged = self.tagged(&words, connection, spread);
        let fixed = &mut self.fixed[connection];
        match fixed {
            Some((_, true)) if is(&words, "EXEC $") || is(&words, "DISCARD $") => *fixed = None,
            Some((_, past_multi)) if is(&words, "EXEC") => *past_multi = false,
            _ if is(&words, "RESET $") => *fixed = None,
            _ => {}
        }
        Some(Request::Words(tagged))
    }

    /// The same words with tags before what looks like a key.
    fn tagged(&mut self, words: &[Vec<u8>], connection: usize, spread: Option<Spread>) -> Vec<Vec<u8>> {
        let script = ["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"]
            .iter()
            .any(|name| is(words, name));
        let one = match self.fixed[connection] {
            Some((fixed, _)) => fixed,
            None if script => self.scripts,
            None => TAGS[self.dice.below(3)],
        };
        let cut = matches!(spread, Some(Spread::Keys(_))) && self.fixed[connection].is_none();
        let places = self.asked(words, |command, request| {
            let mut places = Vec::new();
            let told = command.for_each_key(request, |place| places.push(place));
            told.map(|()| places).unwrap_or_default()
        });
        let places = places.unwrap_or_default();
        let mut tagged = |(place, word): (usize, &Vec<u8>)| {
            let tag = if cut { TAGS[self.dice.below(3)] } else { one };
            match places.contains(&place) || self.keys.contains(word) {
                true => [tag.as_bytes(), word].concat(),
                false => word.clone(),
            }
        };
        words.iter().enumerate().map(&mut tagged).collect()
    }

    /// Foreign writes, those that serve whoever waits for every tag.
    fn foreign(&mut self, requests: &[Vec<Vec<u8>>]) -> Vec<Vec<Vec<u8>>> {
        let release = requests.first().is_some_and(|words| is(words, "SELECT"));
        let (mut db0, mut all) = (!release, Vec::new());
        for words in requests {
            if is(words, "SELECT") {
                db0 = is(words, "SELECT 0");
            } else if db0 && release {
                all.extend(TAGS.iter().map(|tag| {
                    let key = [tag.as_bytes(), &words[1]].concat();
                    [&words[..1], &[key], &words[2..]].concat()
                }));
            } else if db0 && !cannot_be(words) {
                let spread = self.spread(words).filter(|spread| !matches!(spread, Spread::Keys(_)));
                let before = self.fixed[0].take();
                all.push(self.tagged(words, 0, spread));
                self.fixed[0] = before;
            }
        }
        all
    }

    fn spread(&self, words: &[Vec<u8>]) -> Option<Spread> {
        self.asked(words, |command, _| command.spread)
    }

    /// What `ask` says of the command, if it is one.
    fn asked<T>(&self, words: &[Vec<u8>], ask: impl FnOnce(&Command, &nearhit::resp::Request<'_>) -> T) -> Option<T> {
        let bytes = encode(words);
        let mut scanner = RequestScanner::new(RequestLimits::default());
        let Ok(RequestScan::Complete { .. }) = scanner.scan(&bytes) else {
            return None;
        };
        let request = scanner.request(&bytes);
        match self.table.lookup(&request) {
            Lookup::Known(command) => Some(ask(command, &request)),
            _ => None,
        }
    }
}

/// The words of a request that is written as a line, or behind what is ignored; `None`: it is none.
fn words(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let ignored = IGNORED.iter().find_map(|ignored| bytes.strip_prefix(*ignored));
    let bytes = ignored.unwrap_or(bytes);
    let mut scanner = RequestScanner::new(RequestLimits::default());
    match scanner.scan(bytes) {
        Ok(RequestScan::Complete { .. }) => {
            let words: Vec<_> = scanner.request(bytes).args_from(0).map(<[u8]>::to_vec).collect();
            (!words.is_empty()).then_some(words)
        }
        _ => None,
    }
}

fn cannot_be(words: &[Vec<u8>]) -> bool {
    let has = |part: &[u8]| words.iter().any(|word| word.eq_ignore_ascii_case(part));
    let undeclared = |script: &&str| has(script.as_bytes());
    let copies = is(words, "COPY") && has(b"DB");
    let sorts = is(words, "SORT") && (has(b"BY") || has(b"GET"));
    NOT_BEFORE_A_CLUSTER
        .iter()
        .any(|(line, _)| is(words, line) && (!is(words, "HELLO") || has(b"AUTH")))
        || copies
        || sorts
        || HIDDEN.iter().any(undeclared)
        || has(b"redis.setresp(3) return redis.call('hgetall','h1')")
}
