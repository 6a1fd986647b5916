//! Where nearhit's bytes may differ from the server's, or two servers' from each other's: all of it, each with its reason.
//!
//! What of publish and subscribe is not compared, because it is not, or cannot be, the same:
//!
//! - In RESP3, where a message stands among the session's replies when the session published it in a script or in a
//!   transaction, or it is the keyspace event of a command of its own: it comes by another connection. (Redis 7.0 puts it into
//!   EXEC's array, which no client can read.) What it PUBLISHes to itself stands where the server puts it.
//! - SUBSCRIBE within MULTI is refused: EXEC's reply would be another array than it says, in Redis too.
//! - How many a message reached, as scripts, clients that pass nearhit by, and other nearhits see it: subscribers of one
//!   worker are one connection to the server. PUBLISH, SPUBLISH, PUBSUB NUMSUB and SHARDNUMSUB through this nearhit count
//!   them all.
//! - What a RESP2 subscriber is told about a command it may not send: what the server would have against it before it
//!   looks at subscriptions (NOPERM, OOM, DEBUG or MODULE not enabled) is not said; and PING is answered without asking.
//! - A session that becomes another user and then unsubscribes from what it subscribed to before: messages published in the
//!   very moment may be missing.

use super::sequence::is;
use crate::session_support::wanted_alike;
use crate::support::Reply;
use crate::support::resp::{decode, split_frames};

/// How replies are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alike {
    /// Byte for byte.
    #[default]
    Exact,
    /// Elements of arrays in any order.
    Unordered,
    /// Confirmations of several subscriptions' end: channels in any order, everything else in its place.
    Ends,
    /// Lines of clients without what is of their server and moment, [`FIELDS`].
    Clients,
    /// Only the types of replies: the values are of their server and moment.
    Shape,
}

/// Commands whose replies are compared in another way than byte for byte. Each is sent alone, and never within MULTI.
const ALIKE: &[(&str, Alike, &str)] = &[
    ("CLIENT ID", Alike::Shape, "nearhit numbers its own clients"),
    ("CLIENT INFO", Alike::Clients, "see FIELDS"),
    ("CLIENT LIST", Alike::Clients, "see FIELDS"),
    ("TIME", Alike::Shape, "the clock"),
    ("LOLWUT", Alike::Shape, "random"),
    ("LASTSAVE", Alike::Shape, "when the server started"),
    ("ACL GENPASS", Alike::Shape, "random"),
    (
        "KEYS",
        Alike::Unordered,
        "a hash table's order, seeded anew in each server",
    ),
    ("SCAN", Alike::Unordered, "as KEYS"),
    ("SSCAN", Alike::Unordered, "as KEYS"),
    ("HSCAN", Alike::Unordered, "as KEYS"),
    ("SMEMBERS", Alike::Unordered, "as KEYS"),
    ("SUNION", Alike::Unordered, "as KEYS"),
    ("SINTER", Alike::Unordered, "as KEYS"),
    ("SDIFF", Alike::Unordered, "as KEYS"),
    (
        "SPOP",
        Alike::Shape,
        "random, when a set was renamed to a key that should have one member",
    ),
    ("SRANDMEMBER", Alike::Shape, "as SPOP"),
    ("HRANDFIELD", Alike::Shape, "as SPOP"),
    ("ZRANDMEMBER", Alike::Shape, "as SPOP"),
    (
        "SORT_RO",
        Alike::Unordered,
        "BY nosort leaves a set in its table's order",
    ),
    (
        "PUBSUB CHANNELS",
        Alike::Unordered,
        "as KEYS; with redirected invalidations nearhit has a channel, too",
    ),
    ("PUBSUB SHARDCHANNELS", Alike::Unordered, "as KEYS"),
    ("ACL CAT", Alike::Unordered, "as KEYS"),
    ("FUNCTION LIST", Alike::Unordered, "as KEYS"),
    (
        "COMMAND LIST",
        Alike::Shape,
        "nearhit's own command is among them, which tests/facade.rs compares",
    ),
    ("UNSUBSCRIBE", Alike::Ends, "as KEYS, when no channel is named"),
    ("PUNSUBSCRIBE", Alike::Ends, "as KEYS, when no pattern is named"),
    ("SUNSUBSCRIBE", Alike::Ends, "as KEYS, when no channel is named"),
];

/// Fields of a client's line that are of their server and moment.
const FIELDS: &[(&str, &str)] = &[
    ("id=", "nearhit numbers its own clients"),
    ("addr=", "ports"),
    ("laddr=", "ports"),
    ("fd=", "of the process"),
    ("age=", "the clock"),
    ("idle=", "the clock"),
    ("qbuf=", "memory of the process, as all of these"),
    ("qbuf-free=", "memory"),
    ("argv-mem=", "memory"),
    ("multi-mem=", "memory"),
    ("rbs=", "memory"),
    ("rbp=", "memory"),
    ("obl=", "memory"),
    ("oll=", "memory"),
    ("omem=", "memory"),
    ("tot-mem=", "memory"),
    ("events=", "of the process's event loop"),
    ("lib-name=", "nearhit knows it before servers do"),
    ("lib-ver=", "as lib-name"),
];

/// What is never sent, and why.
const NEVER: &[(&str, &str)] = &[
    (
        "MONITOR",
        "what it shows has times and addresses in it, and whatever the test itself asks the server; nearhit shows what its \
         clients say, so commands inside scripts are not among it (tests/monitor.rs)",
    ),
    ("SYNC", "a proxy cannot become a replica: refused"),
    ("PSYNC", "as SYNC"),
    ("REPLCONF", "as SYNC"),
    ("SHUTDOWN", "it ends the server"),
    ("CLIENT PAUSE", "it holds everybody, the test too"),
    (
        "CLIENT TRACKING ON BCAST",
        "its messages come once per turn of the server's event loop, whatever that has read by then",
    ),
    ("CONFIG RESETSTAT", "the test waits for counters of the server"),
    (
        "CLIENT SETINFO",
        "about nearhit's clients, so it is there before servers that have no such command",
    ),
    ("PROXY", "only nearhit has it"),
    ("INFO $", "figures of its server, and nearhit's own section"),
    (
        "COMMAND $",
        "PROXY is among the others, and the order is a hash table's",
    ),
    ("COMMAND INFO $", "as COMMAND"),
    ("COMMAND DOCS", "as COMMAND"),
    ("COMMAND COUNT", "as COMMAND"),
    ("COMMAND LIST $", "as COMMAND"),
];

/// How the reply to this command is compared.
pub fn alike(words: &[Vec<u8>]) -> Alike {
    let row = ALIKE.iter().find(|(line, _, _)| is(words, line));
    row.map_or(Alike::Exact, |(_, alike, _)| *alike)
}

/// Why this command is never sent.
pub fn never(words: &[Vec<u8>]) -> Option<&'static str> {
    let row = NEVER.iter().find(|(line, _)| is(words, line));
    row.map(|(_, reason)| *reason)
}

/// Within MULTI the first ones make EXEC's reply something else than the array it announces, in Redis and not in nearhit.
/// The last one is about another client of nearhit, which refuses to queue it.
pub fn is_other_in_multi(words: &[Vec<u8>]) -> bool {
    words[0].to_ascii_uppercase().ends_with(b"SUBSCRIBE") || is(words, "CLIENT REPLY") || is(words, "CLIENT UNBLOCK")
}

/// Whether all frames of the server and of nearhit are equal, up to wanted differences.
pub fn same(direct: &[u8], proxied: &[u8], alike: Alike) -> bool {
    if direct == proxied || wanted_alike(direct) == wanted_alike(proxied) {
        return true;
    }
    let (Some(direct), Some(proxied)) = (replies(direct), replies(proxied)) else {
        return false;
    };
    if direct.len() == proxied.len()
        && direct
            .iter()
            .zip(&proxied)
            .all(|pair| pair.0 == pair.1 || is_refused_early(pair))
    {
        return true;
    }
    match alike {
        Alike::Ends => ends(&direct) == ends(&proxied),
        _ => {
            direct.len() == proxied.len()
                && direct
                    .into_iter()
                    .zip(proxied)
                    .all(|(a, b)| known(a, alike) == known(b, alike))
        }
    }
}

/// What a subscriber in RESP2 may not say anyway nearhit refuses without asking the server whether the user may say it.
fn is_refused_early((direct, proxied): (&Reply, &Reply)) -> bool {
    direct.is_error_with("NOPERM ") && proxied.is_error_with("ERR Can't execute ")
}

/// The frames, if nothing is left over.
fn replies(bytes: &[u8]) -> Option<Vec<Reply>> {
    let (frames, rest) = split_frames(bytes);
    rest.is_empty().then(|| frames.into_iter().map(decode).collect())
}

/// A reply without what may differ.
fn known(reply: Reply, alike: Alike) -> Reply {
    let all = |replies: Vec<Reply>| {
        let mut all: Vec<_> = replies.into_iter().map(|reply| known(reply, alike)).collect();
        if alike == Alike::Unordered {
            all.retain(|reply| *reply != "__redis__:invalidate");
            all.sort_by_cached_key(|reply| format!("{reply:?}"));
        }
        all
    };
    match reply {
        Reply::Int(number) => Reply::Int(without_clock(number, alike)),
        Reply::Array(items) => Reply::Array(all(items)),
        Reply::Set(items) => Reply::Set(all(items)),
        Reply::Push(items) => Reply::Push(all(items)),
        Reply::Map(pairs) => {
            let flat = pairs
                .into_iter()
                .map(|(key, value)| Reply::Array(vec![key, value]))
                .collect();
            Reply::Array(all(flat))
        }
        Reply::Bulk(text) if alike == Alike::Clients => Reply::Bulk(without_moment(&text)),
        Reply::Verbatim { text, .. } if alike == Alike::Clients => Reply::Bulk(without_moment(&text)),
        Reply::Bulk(_) | Reply::Verbatim { .. } if alike == Alike::Shape => Reply::Bulk(Vec::new()),
        other => other,
    }
}

/// Lines of clients without [`FIELDS`].
fn without_moment(lines: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(lines);
    let stays = |field: &&str| !FIELDS.iter().any(|(name, _)| field.starts_with(name));
    let line = |line: &str| line.split(' ').filter(stays).collect::<Vec<_>>().join(" ");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// What is left of a time to live, and when it ends, depend on the moment: the generator's time to live is 100,000.
fn without_clock(number: i64, alike: Alike) -> i64 {
    let units = |number: i64, unit: i64| (99_000 * unit..=100_000 * unit).contains(&number);
    let later = unix_seconds() + 100_000;
    let moment = |number: i64, unit: i64| ((later - 100) * unit..=(later + 100) * unit).contains(&number);
    match number {
        _ if alike == Alike::Shape => 0,
        // Until the absolute time that the generator uses, in all units that it is taken for.
        31_000_000_000..=33_200_000_000
        | 31_000_000_000_000..=33_200_000_000_000
        | 31_000_000_000_000_000..=33_200_000_000_000_000 => 1,
        _ if units(number, 1) => 2,
        _ if units(number, 1000) => 3,
        _ if moment(number, 1) => 4,
        _ if moment(number, 1000) => 5,
        number => number,
    }
}

fn unix_seconds() -> i64 {
    format!("{:.0}", ::nearhit::time::unix_seconds())
        .parse()
        .expect("a number")
}

/// The channels, in any order, and the frames without them.
fn ends(frames: &[Reply]) -> (Vec<String>, Vec<String>) {
    let (mut channels, mut rest) = (Vec::new(), Vec::new());
    for frame in frames {
        match frame {
            Reply::Array(items) | Reply::Push(items) if items.len() == 3 => {
                channels.push(format!("{:?}", items[1]));
                rest.push(format!("{:?} {:?}", items[0], items[2]));
            }
            other => rest.push(format!("{other:?}")),
        }
    }
    channels.sort();
    (channels, rest)
}
