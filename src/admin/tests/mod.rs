//! The console and the prober over a near-cache that is filled by scripted bytes: no server, no socket, no runtime.

mod answers;
mod asking;
mod conditions;
mod probing;

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::{Console, Facts};
use crate::cache::{EntryId, Policies};
use crate::coherence::{Causality, Copies, Deliver, Delivery, Fill, Limits, Lookup, NearCache, Origin, Query, Tracked};
use crate::command::CommandTable;
use crate::config::{Address, Config, MonitorMode, Policy, PresentAs};
use crate::downstream::{
    AccountSettings, Accounts, AdminCommand, Asker, Common, Partition, Partitions, Settings, Shared, Ticket,
};
use crate::metrics::{InvalidationSource, Metrics, WorkerRecorder};
use crate::resp::{RequestLimits, RequestScanner, Shape, Value, Version, encode};
use crate::time::{self, Instant};
use crate::tracking::{Totals, Tracking};
use crate::upstream::{Gauges, Identity, Whereabouts};

/// Nobody: the tests ask the cache itself.
struct Nobody;

impl Deliver<Ticket> for Nobody {
    fn deliver(&mut self, _waiter: Ticket, _delivery: Delivery) {}
}

/// One part of the near-cache; the tests are its tracked connection.
struct OnePartition(Arc<Origin>);

impl Partitions for OnePartition {
    fn open(&self, _identity: &Identity, _node: Option<&Address>) -> Option<Partition> {
        Some(Partition {
            origin: Arc::clone(&self.0),
            tracking: Tracking::detached(),
        })
    }

    fn totals(&self) -> Totals {
        Totals::default()
    }

    fn close(&self, _partition: &Partition) {}
}

fn settings() -> Settings {
    let config = Config::default();
    Settings {
        upstream: String::new(),
        limits: config.server.limits,
        idle_timeout: None,
        auth_timeout: None,
        command_timeout: None,
        caching: true,
        shadow: false,
        strict_sessions: false,
        db: 0,
        info_section: true,
        admin_command: "proxy".to_owned(),
        monitor: MonitorMode::Local,
        present_as: PresentAs::Standalone,
        pubsub: config.pubsub,
        fence_hold: config.invalidation.fence_hold,
        split_writes: true,
    }
}

fn accounts(origin: Arc<Origin>) -> Accounts {
    Accounts::new(AccountSettings {
        own: None,
        require_auth: false,
        by_user: true,
        idle_timeout: Duration::ZERO,
        partitions: Some(Box::new(OnePartition(origin))),
        cluster: false,
    })
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
    /// Of the session that asks.
    causality: Causality,
    attributes: Cell<bool>,
}

/// The settings of a proxy that caches, and knows its own command.
impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// `change` changes its settings.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // The console reads the real clock; no test may take this long.
        Self::bounded(Duration::from_secs(3600), change)
    }

    /// A bench whose policies forbid `lock:*` and allow only HGET for `hash:*`.
    fn bounded(max_staleness: Duration, change: impl FnOnce(&mut Settings)) -> Self {
        let table = CommandTable::builtin();
        let mut settings = settings();
        change(&mut settings);
        let policies = [
            Policy::new("locks-never", "lock:*").cache(false),
            Policy::new("hashes", "hash:*")
                .commands(["hget"])
                .ttl(Duration::from_secs(7)),
        ];
        let number = |name: &str| table.by_name(&name.to_lowercase()).map(|row| row.id().number());
        let limits = Limits {
            max_staleness,
            ..Limits::default()
        };
        let cache = Arc::new(NearCache::new(limits, Policies::new(&policies, number)));
        let metrics = Arc::new(Metrics::new(table.iter().map(|row| row.name()), time::now()));
        metrics.invalidation_source.set_only(InvalidationSource::Tracking);
        let recorder = metrics.add_worker();
        let origin = cache.open().unwrap();
        let stream = origin.stream();
        stream.go_live();
        stream.renew(time::now());
        let shared = Arc::new(Shared {
            master: Whereabouts::new(None).1,
            cluster: None,
            routing: None,
            hurry: Arc::default(),
            doubt: Arc::default(),
            cache: Arc::clone(&cache),
            table: ArcSwap::from_pointee(table),
            metrics,
            accounts: accounts(origin),
            admin: OnceLock::new(),
            peers: DashMap::new(),
            common: Common::default(),
            next_id: 1.into(),
            settings,
        });
        let gauges = Arc::new(Gauges::default());
        let facts = Facts {
            name: shared.settings.admin_command.clone(),
            upstream: "10.0.0.1:6379".to_owned(),
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
            causality: Causality::default(),
            attributes: Cell::new(false),
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
        let account = self.shared.accounts.own();
        let asker = Asker {
            seen: None,
            replicas: None,
            account: &account,
            db: 0,
            version,
            causality: &self.causality,
            attributes: &self.attributes,
        };
        self.console.run(&scanner.request(&frame), &asker, &mut out);
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
                origin: self.origin().number(),
                db: 0,
                command: self.number(command),
                rest: &rest,
            },
            shape: Shape::Generic,
            hash_fields: false,
        };
        let look = |_| {
            let sight = cache.sight(&self.origin(), time::now());
            let reader = sight.reader(Instant::ZERO, Version::V3);
            match cache.lookup(&mut Copies::default(), &query, reader, TICKET, &mut Vec::new()) {
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

    fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.shared.accounts.own().partition(None).unwrap().origin)
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
