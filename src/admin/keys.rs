//! What people ask and do about cached keys: INSPECT, KEYS, FLUSH.

use std::time::Duration;

use super::console::Call;
use super::explain::meaning;
use super::reply::{Answer, Map, millis};
use crate::cache::Terms;
use crate::coherence::{Conditions, Dropped, EntryReport, Flushed, KeyReport, Limits, Past, Rejected};
use crate::metrics::{Bypass, Label};
use crate::resp::{Glob, Value};
use crate::time;

/// Keys that KEYS returns when nobody says how many.
const DEFAULT_COUNT: usize = 100;
/// Keys that KEYS returns at most: a reply is built in one go, on the client's worker.
const MAX_COUNT: usize = 10_000;

/// Everything about one key. Asking is not noted: it makes no key a candidate for admission.
pub(super) fn inspect(call: &Call<'_>) -> Result<Value, String> {
    let key = call.request.arg(2);
    let must_see = call.asker.causality.must_see();
    let report = call
        .shared
        .cache
        .report_for(key, must_see, call.now)
        .unwrap_or(KeyReport {
            entries: Vec::new(),
            flights: 0,
        });
    let terms = call.shared.cache.terms(key);
    let admission = admission(call, key, terms);
    let entries: Vec<Map> = report.entries.iter().map(|entry| entry_map(call, entry)).collect();
    Ok(Map::default()
        .with("key", key)
        .with("cached", report.entries.iter().any(is_served))
        .with("reason", why_not_cached(&report, admission))
        .with("entries", entries)
        .with("fetching", report.flights)
        .with_past(&call.shared.cache.past(key, call.now))
        .with("policy", policy_map(call, terms))
        .with("would_admit", admission.is_ok())
        .with("admission", admission.map_or_else(Label::value, |()| "admitted"))
        .into_value())
}

fn is_served(entry: &EntryReport) -> bool {
    entry.state == "serve"
}

/// Whether a read of `key` would be fetched for the near-cache, for the first command its policy allows.
fn admission(call: &Call<'_>, key: &[u8], terms: &Terms) -> Result<(), Bypass> {
    if !call.shared.settings.caching {
        return Err(Bypass::Disabled);
    }
    let table = call.shared.table.load();
    let get = table.by_name("get").map(|get| get.id().number());
    let command = match &terms.commands {
        Some(commands) => commands.first().copied(),
        None => get,
    };
    let command = command.ok_or(Bypass::Policy)?;
    call.would_admit(key, command)
}

/// Why no read of the key is answered from memory now, as far as that can be told; `None` when one is.
fn why_not_cached(report: &KeyReport, admission: Result<(), Bypass>) -> Option<String> {
    if report.entries.iter().any(is_served) {
        return None;
    }
    Some(match admission {
        Err(why) => format!("not cached: {}", meaning(why)),
        Ok(()) if report.flights > 0 => "not cached: it is being fetched".to_owned(),
        Ok(()) if report.entries.iter().any(|entry| entry.state == "unproved") => {
            let mut entries = report.entries.iter();
            let unproved = entries.find(|entry| entry.state == "unproved");
            let why = unproved.and_then(|entry| obstacle(&entry.conditions));
            format!("cached, but not served: {}", why.unwrap_or_default())
        }
        Ok(()) => "not cached: the next read is going to fetch it".to_owned(),
    })
}

fn entry_map(call: &Call<'_>, entry: &EntryReport) -> Map {
    Map::default()
        .with("command", call.shared.metrics.commands.name(entry.command))
        .with("db", u64::from(entry.db))
        .with("reply_bytes", entry.reply_bytes)
        .with("weight_bytes", entry.weight)
        .with("age_ms", millis(entry.age))
        .with("fetched_at", time::unix_seconds() - entry.age.as_secs_f64())
        .with("ttl_ms", millis(entry.left))
        .with("negative", entry.negative)
        .with("node", call.console.facts.upstream.as_str())
        .with("users", call.shared.accounts.users_of(entry.origin))
        .with("state", entry.state)
        .with("conditions", conditions(&entry.conditions, call.shared.cache.limits()))
}

/// Each condition of serving an entry, and what it was judged by: `yes`, or `no` and why.
pub(super) fn conditions(conditions: &Conditions, limits: &Limits) -> Map {
    let proof = match conditions.proof_age {
        Some(age) => format!("the newest proof is {} ms old", millis(age)),
        None => "there is no proof yet".to_owned(),
    };
    conditions
        .by_name()
        .into_iter()
        .fold(Map::default(), |map, (name, holds)| {
            let lease = format!("{proof}, and may be {} ms old", millis(limits.max_staleness));
            let detail = match (name, holds) {
                ("lease", true) => format!("yes: {lease}"),
                ("lease", false) => format!("no: {lease}"),
                (_, true) => "yes".to_owned(),
                (name, false) => format!("no: {}", broken(name)),
            };
            map.with(name, detail)
        })
}

/// What it means that a condition does not hold.
fn broken(condition: &str) -> &'static str {
    match condition {
        "live" => "the invalidation stream is not connected",
        "epoch" => "it was fetched over a connection that was given up",
        "flush" => "everything was flushed after its fetch began",
        "deadline" => "its time is over",
        "rights" => "it is not known whether the user may still read it",
        "seen_at" => "somebody was told something newer about the key, and the server has not answered since",
        "must_see" => "this session has seen something newer, and the server has not answered since",
        _ => "the server has given no sign of life for too long",
    }
}

/// What stands first in the way of serving an entry.
pub(super) fn obstacle(conditions: &Conditions) -> Option<&'static str> {
    let mut broken_ones = conditions.by_name().into_iter().filter(|(_, holds)| !holds);
    broken_ones.next().map(|(name, _)| broken(name))
}

fn ago<T>(past: Option<(T, Duration)>, by: &str, name: impl Fn(T) -> &'static str) -> Option<Map> {
    past.map(|(what, ago)| Map::default().with(by, name(what)).with("ago_ms", millis(ago)))
}

impl Map {
    /// Adds what is remembered about a key; null is what is not.
    fn with_past(self, past: &Past) -> Self {
        self.with("last_invalidation", ago(past.dropped, "by", Dropped::name))
            .with("last_rejection", ago(past.rejected, "reason", Rejected::name))
            .with("last_flush", ago(past.flushed, "by", Flushed::name))
    }
}

/// The settings that apply to a key, and where they come from.
fn policy_map(call: &Call<'_>, terms: &Terms) -> Map {
    let limits = call.shared.cache.limits();
    let commands = terms.commands.as_ref().map(|commands| {
        let name = |&command: &u16| call.shared.metrics.commands.name(command).to_owned();
        commands.iter().map(name).collect::<Vec<_>>()
    });
    let why = match &terms.policy {
        Some(name) => format!("'{name}' is the first policy that matches the key"),
        None => "no policy matches the key, so the cache's own settings apply".to_owned(),
    };
    Map::default()
        .with("name", terms.policy.as_deref())
        .with("why", why)
        .with("cache", !terms.forbidden)
        .with(
            "ttl_ms",
            millis(limits.max_entry_ttl.min(terms.ttl.unwrap_or(limits.max_entry_ttl))),
        )
        .with("max_entry_bytes", limits.largest(terms))
        .with("commands", commands)
}

/// Names of cached keys, bounded. Looks at every key's name, so it costs what KEYS costs on a server of that size.
pub(super) fn keys(call: &Call<'_>) -> Result<Value, String> {
    let request = call.request;
    let limit = match request.len() {
        3 => DEFAULT_COUNT,
        5 if request.arg(3).eq_ignore_ascii_case(b"count") => count(request.arg(4))?,
        _ => return Err("ERR syntax error".to_owned()),
    };
    let glob = Glob::new(request.arg(2));
    // Once one more than wanted was found there is nothing left to learn.
    let mut found = 0;
    let (names, more) = call.shared.cache.keys(limit, |name| {
        let wanted = found <= limit && glob.matches(name);
        found += usize::from(wanted);
        wanted
    });
    let names: Vec<_> = names.iter().map(|name| (**name).into_value()).collect();
    Ok(Map::default().with("keys", names).with("more", more).into_value())
}

pub(super) fn count(text: &[u8]) -> Result<usize, String> {
    let count: i64 = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("ERR value is not an integer or out of range")?;
    usize::try_from(count)
        .ok()
        .filter(|count| (1..=MAX_COUNT).contains(count))
        .ok_or_else(|| format!("ERR COUNT must be between 1 and {MAX_COUNT}"))
}

/// What FLUSH was told to drop.
enum Target<'a> {
    Keys(Vec<&'a [u8]>),
    Match(Glob),
}

/// Drops cached replies here, not on the server; the integer says how many.
pub(super) fn flush(call: &Call<'_>) -> Result<Value, String> {
    let mut words: Vec<&[u8]> = call.request.args_from(2).collect();
    // Only behind a complete form: `FLUSH KEY dryrun` names a key.
    let least = match words.first() {
        Some(form) if form.eq_ignore_ascii_case(b"all") => 1,
        _ => 2,
    };
    let dry = words.len() > least && words.last().is_some_and(|word| word.eq_ignore_ascii_case(b"dryrun"));
    if dry {
        words.pop();
    }
    let target = target(&words).ok_or_else(|| {
        let name = call.console.facts.name.to_uppercase();
        format!(
            "ERR what to flush? {name} FLUSH ALL, {name} FLUSH KEY <key> [<key> ...] or {name} FLUSH MATCH <pattern>, \
             each with DRYRUN behind it to count only"
        )
    })?;
    let cache = &call.shared.cache;
    let removed = match (target, dry) {
        (Target::Match(glob), false) => cache.flush_matching(|name| glob.matches(name)),
        (Target::Match(glob), true) => cache.count_matching(|name| glob.matches(name)),
        (Target::Keys(keys), false) => keys.iter().map(|key| cache.flush_key(key)).sum(),
        (Target::Keys(mut keys), true) => {
            keys.sort_unstable();
            keys.dedup();
            let held = keys.iter().filter_map(|key| cache.report(key, call.now));
            held.map(|report| report.entries.len()).sum()
        }
    };
    if !dry {
        tracing::info!(removed, "the near-cache was flushed by PROXY FLUSH");
    }
    Ok(removed.into_value())
}

fn target<'a>(words: &[&'a [u8]]) -> Option<Target<'a>> {
    match words {
        [form] if form.eq_ignore_ascii_case(b"all") => Some(Target::Match(Glob::new(b"*"))),
        [form, keys @ ..] if form.eq_ignore_ascii_case(b"key") && !keys.is_empty() => Some(Target::Keys(keys.to_vec())),
        [form, pattern] if form.eq_ignore_ascii_case(b"match") => Some(Target::Match(Glob::new(pattern))),
        _ => None,
    }
}
