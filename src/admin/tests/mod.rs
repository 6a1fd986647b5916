//! The console and the prober over a near-cache that is filled by scripted bytes: no server, no socket, no runtime.

mod answers;
mod asking;
mod probing;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::{Console, Facts};
use crate::cache::{EntryId, Policies};
use crate::coherence::{Deliver, Delivery, Fill, Limits, Lookup, NearCache, Query, Tracked};
use crate::command::CommandTable;
use crate::config::{Config, Policy};
use crate::downstream::{AdminCommand, Settings, Shared, Ticket};
use crate::metrics::{InvalidationSource, Metrics, WorkerRecorder};
use crate::resp::{RequestLimits, RequestScanner, Shape, Value, Version, encode};
use crate::time::{self, Instant};
use crate::upstream::Gauges;

/// Nobody: the tests ask the cache itself.
struct Nobody;

impl Deliver<Ticket> for Nobody {
    fn deliver(&mut self, _waiter: Ticket, _delivery: Delivery) {}
}

const TICKET: Ticket = Ticket {
    worker: 0,
    place: 0,
    generation: 0,
    number: 0,
};

/// A proxy's shared state with a console on it.
struct Bench {
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
    console: Console,
    recorder: Arc<WorkerRecorder>,
    tracked: Tracked<Ticket>,
    sent: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A bench whose policies forbid `lock:*` and allow only HGET for `hash:*`; `change` changes its settings.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let table = CommandTable::builtin();
        let config = Config::default();
        let mut settings = Settings {
            upstream: String::new(),
            limits: config.server.limits,
            command_timeout: None,
            caching: true,
            db: 0,
            credentials: None,
            info_section: true,
            admin_command: "proxy".to_owned(),
        };
        change(&mut settings);
        let policies = [
            Policy::new("locks-never", "lock:*").cache(false),
            Policy::new("hashes", "hash:*")
                .commands(["hget"])
                .ttl(Duration::from_secs(7)),
        ];
        let number = |name: &str| table.by_name(&name.to_lowercase()).map(|row| row.id().number());
        let limits = Limits {
            // The console reads the real clock; no test may take this long.
            max_staleness: Duration::from_secs(3600),
            ..Limits::default()
        };
        let cache = Arc::new(NearCache::new(limits, Policies::new(&policies, number)));
        let metrics = Arc::new(Metrics::new(table.iter().map(|row| row.name()), time::now()));
        let recorder = metrics.add_worker();
        let stream = cache.origin().stream();
        stream.go_live();
        stream.renew(time::now());
        let shared = Arc::new(Shared {
            cache: Arc::clone(&cache),
            table: ArcSwap::from_pointee(table),
            metrics,
            tracking: None,
            admin: OnceLock::new(),
            peers: DashMap::new(),
            next_id: 1.into(),
            settings,
        });
        let gauges = Arc::new(Gauges::default());
        let facts = Facts {
            name: shared.settings.admin_command.clone(),
            upstream: "10.0.0.1:6379".to_owned(),
            source: InvalidationSource::Tracking,
            revision: None,
            started: time::now(),
        };
        Self {
            console: Console::new(Arc::downgrade(&shared), Arc::clone(&gauges), facts),
            tracked: Tracked::new(cache, stream, 0, true),
            shared,
            gauges,
            recorder,
            sent: Vec::new(),
        }
    }

    /// The console's bytes for a request, words separated by blanks.
    fn raw(&self, words: &str, version: Version) -> Vec<u8> {
        let mut frame = Vec::new();
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        encode::request(&mut frame, words);
        let mut scanner = RequestScanner::new(RequestLimits::default());
        let _whole = scanner.scan(&frame).unwrap();
        let mut out = Vec::new();
        self.console.run(&scanner.request(&frame), version, 0, &mut out);
        out
    }

    fn ask(&self, words: &str) -> Value {
        Value::decode(&self.raw(words, Version::V3), Version::V3).unwrap()
    }

    /// One field of an answer, as text.
    fn field(&self, words: &str, field: &str) -> String {
        text(
            self.ask(words)
                .get(field.as_bytes())
                .unwrap_or_else(|| panic!("{words}: no {field}")),
        )
    }

    /// Has `key` fetched and kept: the server answers with `reply` and `pttl`.
    fn fill(&mut self, command: &str, key: &str, arg: Option<&str>, reply: &str, pttl: i64) {
        self.begin_fill(command, key, arg);
        self.receive(format!("+OK\r\n{reply}:{pttl}\r\n").as_bytes());
    }

    /// Reads `key` until it is fetched for the cache: a second read does it.
    fn begin_fill(&mut self, command: &str, key: &str, arg: Option<&str>) {
        let mut rest = Vec::new();
        if let Some(arg) = arg {
            encode::bulk(&mut rest, arg.as_bytes());
        }
        let cache = &self.shared.cache;
        let query = Query {
            hash: cache.hash(key.as_bytes()),
            key: key.as_bytes(),
            id: EntryId {
                origin: 0,
                db: 0,
                command: self.number(command),
                rest: &rest,
            },
            shape: Shape::Generic,
            hash_fields: false,
        };
        let look = |_| {
            let sight = cache.sight(time::now());
            match cache.lookup(&query, &sight, Instant::ZERO, TICKET, Version::V3, &mut Vec::new()) {
                (Lookup::Lead(lease), _) => Some(lease),
                _ => None,
            }
        };
        let fill = Fill {
            lease: (0..2).find_map(look).expect("a second read is fetched"),
            frame: b"*1\r\n$4\r\nREAD\r\n".as_slice().into(),
        };
        assert!(self.tracked.fill(fill, time::now(), &mut self.sent).is_ok());
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.tracked.receive(bytes, time::now(), &mut Nobody).unwrap();
    }

    fn number(&self, command: &str) -> u16 {
        self.shared.table.load().by_name(command).unwrap().id().number()
    }
}

/// A value as a person would say it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        other => String::from_utf8_lossy(other.as_bytes().unwrap_or(b"?")).into_owned(),
    }
}
