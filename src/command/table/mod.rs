//! The rows, one a command, a file a group.
//!
//! A row reads: name, arity, flags, keys, then what is special about it: where it runs (`at`), its effect where flags and
//! keys do not say it, whether and with which reply shape it is cached, how it is spread over a cluster where that is not
//! by its keys, and where its data come from unless a test holds them against a server. Rows of containers come with those
//! of their subcommands.
//!
//! Why some rows are as they are:
//! - PFCOUNT says READONLY but stores the number it counted, and so invalidates its own key.
//! - SORT and SORT_RO read keys through BY and GET patterns that their arguments do not name.
//! - Commands that read group or consumer state (XINFO, XPENDING, DUMP) are not cached: its changes are not announced.
//! - ACL SETUSER, DELUSER and LOAD flush, because they change who may read what is cached.
//! - CLUSTER commands that give slots away flush, because keys that do not exist are not announced when their slot leaves.
//!
//! Why some are spread over a cluster as they are (`spread`):
//! - MGET, MSET, DEL, UNLINK, EXISTS and TOUCH do for each key what they do for that key alone. The same key twice is in
//!   the same part, so the server counts it as it always does. Together they are no longer one step for others to see.
//! - No other command is split. MSETNX and MSETEX write all or nothing, PFCOUNT counts a union, XREAD's COUNT and BLOCK hold
//!   for all streams: with keys of several slots these are refused, in the words of a cluster.
//! - What changes a server rather than its keys (CONFIG SET, ACL SETUSER, MODULE LOAD, FUNCTION LOAD, SCRIPT LOAD, SAVE,
//!   BACKUP) is done everywhere, or what the client sees would depend on the key. Where some nodes refuse, it is half done.
//! - What tells about one server (INFO, CONFIG GET, SLOWLOG GET and LEN, LATENCY LATEST, ACL LOG, MEMORY STATS, FUNCTION
//!   LIST and STATS, CLIENT LIST) is asked at one: the numbers of several make no list that one server could have.
//!   SLOWLOG, LATENCY and CONFIG RESET go to all, and so to that one.
//! - PUBLISH goes to any node: the cluster's bus carries it to all. A shard channel is hashed as a key is, and its row has it
//!   as one. PUBSUB asks all, for each node counts the clients it has itself; NUMPAT counts a pattern once a node.
//! - SCRIPT EXISTS says what is loaded everywhere. WAIT and WAITAOF count the copies of the least copied write.
//! - DEBUG, SHUTDOWN, FAILOVER, REPLICAOF, HOTKEYS, SFLUSH and TRIMSLOTS are about one server by nature. Nobody who takes it
//!   for the only one is to stop all of a cluster; and SWAPDB, FAILOVER and REPLICAOF are what a cluster refuses itself.
//! - SORT's BY and GET patterns, COPY's and MOVE's other database are for the node of the key to judge.

use super::builder::{container, row};
use super::flags::flag::*;
use super::keys::{KEY, Keys, NO_KEYS, counted, counted_or_none, counted_pairs, key, keys, stored_counted};
use super::row::{Command, Effect, Pin, Place};
use super::spread::{Merge, Spread};
use crate::resp::Shape::{Generic, NilArray, NilArrayElements, Pairs, Same};

mod arrays;
mod cluster;
mod connection;
mod geo;
mod hashes;
mod keyspace;
mod lists;
mod proxy;
mod pubsub;
mod scripting;
mod sentinel;
mod server;
mod sets;
mod streams;
mod strings;
mod transactions;
mod vectors;
mod zsets;

/// All rows. New groups go to the end, as a row's number follows from its place.
pub(super) const GROUPS: &[&[Command]] = &[
    strings::ROWS,
    hashes::ROWS,
    lists::ROWS,
    sets::ROWS,
    zsets::ROWS,
    streams::ROWS,
    geo::ROWS,
    keyspace::ROWS,
    scripting::ROWS,
    connection::ROWS,
    server::ROWS,
    pubsub::ROWS,
    transactions::ROWS,
    cluster::ROWS,
    sentinel::ROWS,
    arrays::ROWS,
    vectors::ROWS,
    proxy::ROWS,
];

/// Loading and stale data do not matter to the command.
const ANYTIME: u32 = LOADING | STALE;

const LOCAL: Place = Place::Local;
const REFUSED: Place = Place::Refused;
const TRANSACTION: Place = Place::Pinned(Pin::Transaction);
const BLOCKING_CALL: Place = Place::Pinned(Pin::Blocking);
const SUBSCRIBE: Place = Place::Pinned(Pin::Subscribe);
const MONITOR: Place = Place::Pinned(Pin::Monitor);
const STICKY: Place = Place::Pinned(Pin::Sticky);
const ONCE: Place = Place::Pinned(Pin::Once);

const WRITES: Effect = Effect::Write;
const UNKNOWN: Effect = Effect::Unknown;
const ADMINISTERS: Effect = Effect::Admin;
const KEYLESS: Effect = Effect::KeylessRead;
const NONE: Effect = Effect::None;

const KEYS_SAME: Spread = Spread::Keys(Merge::Same);
const KEYS_SUM: Spread = Spread::Keys(Merge::Sum);
const KEYS_VALUES: Spread = Spread::Keys(Merge::Values);
const ALL_COUNTS: Spread = Spread::All(Merge::Counts);
const ALL_JOINED: Spread = Spread::All(Merge::Joined);
const ALL_LEAST: Spread = Spread::All(Merge::Least);
const ALL_SAME: Spread = Spread::All(Merge::Same);
const ALL_SUM: Spread = Spread::All(Merge::Sum);
const ALL_UNION: Spread = Spread::All(Merge::Union);
const ANY_DONE: Spread = Spread::All(Merge::AnyDone);
const ANY_VALUE: Spread = Spread::All(Merge::AnyValue);
const SCAN: Spread = Spread::Scan;

// Where rows come from that no server here could confirm. Redis' and Valkey's documentation give arity, flags and keys
// of each command on the command's own page.
const REDIS_7_2: &str = "Redis documentation, command page, since 7.2; Valkey documentation";
const REDIS_7_4: &str = "Redis documentation, command page, since 7.4";
const REDIS_8_0: &str = "Redis documentation, command page, since 8.0";
const REDIS_8_2: &str = "Redis documentation, command page, since 8.2";
const REDIS_8_4: &str = "Redis documentation, command page, since 8.4";
const REDIS_8_6: &str = "Redis documentation, command page, since 8.6";
const REDIS_8_8: &str = "Redis documentation, command page, since 8.8";
const REDIS_8_10: &str = "Redis documentation, command page, since 8.10";
const REDIS_8_EXPERIMENTAL: &str = "public listings of Redis 8's experimental commands; not documented";
const VALKEY_8_0: &str = "Valkey documentation and command files, since 8.0";
const VALKEY_8_1: &str = "Valkey documentation and command files, since 8.1";
const VALKEY_9_0: &str = "Valkey documentation and command files, since 9.0";
const VALKEY_9_1: &str = "Valkey documentation and command files, since 9.1";
