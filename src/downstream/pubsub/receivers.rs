//! How many more clients receive a message than the server counts.
//!
//! The server counts connections, and many subscribers of a worker share one. So PUBLISH's reply and PUBSUB NUMSUB get
//! what is missing added: for every worker's hub, its subscribers but one. What a script publishes is counted as the
//! server counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use super::kind::Kind;
use crate::resp::{Glob, Value, Version, encode};

/// The subscribers of all workers that the server does not count.
#[derive(Debug, Default)]
pub struct Receivers {
    /// Names with uncounted subscribers; while there is none, nothing else is looked at. Relaxed: a subscriber's
    /// confirmation is written after it grew, and whoever read that sees it.
    names: AtomicUsize,
    /// Guards plain numbers; written when subscriptions change, read by PUBLISH, never held across another lock.
    uncounted: RwLock<Uncounted>,
}

#[derive(Debug, Default)]
struct Uncounted {
    channels: HashMap<Bytes, u64>,
    shards: HashMap<Bytes, u64>,
    patterns: HashMap<Bytes, (Glob, u64)>,
}

impl Receivers {
    /// Whether the server's numbers are right as they are.
    pub(in crate::downstream) fn is_empty(&self) -> bool {
        self.names.load(Ordering::Relaxed) == 0
    }

    /// A hub had `before` subscribers of `name` that the server does not count, and has `after` now.
    pub(super) fn update(&self, kind: Kind, name: &Bytes, before: usize, after: usize) {
        if before == after {
            return;
        }
        let mut uncounted = self.uncounted.write();
        let adjust = |count: &mut u64| {
            *count = (*count + after as u64).saturating_sub(before as u64);
            *count == 0
        };
        let numbers = match kind {
            Kind::Channel => &mut uncounted.channels,
            Kind::Shard => &mut uncounted.shards,
            Kind::Pattern => {
                let patterns = &mut uncounted.patterns;
                let new = || (Glob::new(name), 0);
                if adjust(&mut patterns.entry(name.clone()).or_insert_with(new).1) {
                    patterns.remove(name);
                }
                return self.count(&uncounted);
            }
        };
        if adjust(numbers.entry(name.clone()).or_default()) {
            numbers.remove(name);
        }
        self.count(&uncounted);
    }

    fn count(&self, uncounted: &Uncounted) {
        let names = uncounted.channels.len() + uncounted.shards.len() + uncounted.patterns.len();
        self.names.store(names, Ordering::Relaxed);
    }

    /// Receivers of a message that the server does not count.
    pub(in crate::downstream) fn of_message(&self, shard: bool, channel: &[u8]) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let uncounted = self.uncounted.read();
        if shard {
            return uncounted.shards.get(channel).copied().unwrap_or(0);
        }
        let patterns = uncounted.patterns.values();
        let matching = patterns.filter(|(glob, _)| glob.matches(channel));
        uncounted.channels.get(channel).copied().unwrap_or(0) + matching.map(|(_, count)| count).sum::<u64>()
    }

    /// PUBLISH's reply with `more` receivers; `None` when it stays as it is. A server that counts none has lost the
    /// connection the others shared.
    pub(in crate::downstream) fn published(frame: &[u8], more: u64) -> Option<Vec<u8>> {
        let Ok(Value::Integer(counted @ 1..)) = Value::decode(&Bytes::copy_from_slice(frame), Version::V2) else {
            return None;
        };
        let mut reply = Vec::new();
        encode::integer(&mut reply, counted.saturating_add_unsigned(more));
        (more > 0).then_some(reply)
    }

    /// The reply to PUBSUB NUMSUB or SHARDNUMSUB with all subscribers counted; `None` when it stays as it is.
    pub(in crate::downstream) fn subscribers(&self, shard: bool, frame: &[u8]) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let Ok(Value::Array(mut values)) = Value::decode(&Bytes::copy_from_slice(frame), Version::V2) else {
            return None;
        };
        let uncounted = self.uncounted.read();
        let numbers = if shard { &uncounted.shards } else { &uncounted.channels };
        for pair in values.chunks_exact_mut(2) {
            if let [Value::Bulk(name), Value::Integer(counted @ 1..)] = pair {
                *counted = counted.saturating_add_unsigned(numbers.get(name).copied().unwrap_or(0));
            }
        }
        drop(uncounted);
        let mut reply = Vec::new();
        Value::Array(values).encode(Version::V2, &mut reply);
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_the_subscribers_of_its_channel_and_of_matching_patterns() {
        let receivers = Receivers::default();
        for (kind, name, count) in [
            (Kind::Channel, "news", 4),
            (Kind::Pattern, "n*", 2),
            (Kind::Pattern, "x*", 9),
            (Kind::Shard, "news", 1),
        ] {
            receivers.update(kind, &Bytes::from(name), 0, count);
        }
        assert_eq!(receivers.of_message(false, b"news"), 6);
        assert_eq!(receivers.of_message(false, b"nothing"), 2);
        assert_eq!(receivers.of_message(true, b"news"), 1);
        assert_eq!(Receivers::published(b":1\r\n", 6).as_deref(), Some(&b":7\r\n"[..]));
        assert_eq!(Receivers::published(b":0\r\n", 6), None);
        assert_eq!(Receivers::published(b"-NOPERM\r\n", 6), None);
    }

    #[test]
    fn numsub_names_every_subscriber() {
        let receivers = Receivers::default();
        receivers.update(Kind::Channel, &Bytes::from_static(b"a"), 0, 2);
        let frame = b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:3\r\n";
        let full = b"*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:3\r\n";
        assert_eq!(receivers.subscribers(false, frame).as_deref(), Some(&full[..]));
        assert_eq!(receivers.subscribers(true, frame).as_deref(), Some(&frame[..]));
    }

    #[test]
    fn what_is_left_is_forgotten() {
        let receivers = Receivers::default();
        for kind in Kind::ALL {
            receivers.update(kind, &Bytes::from_static(b"a"), 0, 3);
            receivers.update(kind, &Bytes::from_static(b"a"), 3, 1);
            receivers.update(kind, &Bytes::from_static(b"a"), 1, 0);
        }
        assert!(receivers.is_empty());
        assert_eq!(receivers.of_message(false, b"a"), 0);
    }
}
