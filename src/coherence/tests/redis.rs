//! What a Redis that tracks does, as far as coherence depends on it: a one-shot table by key name across databases, OPTIN,
//! pushes in the order of the stream, silent SWAPDB, expiry that is noticed late.

use std::collections::VecDeque;

use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version};
use crate::time::Instant;

pub(super) const DBS: usize = 2;
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Something for every key of every database.
pub(super) type PerKey<T> = [[T; NAMES.len()]; DBS];

/// A command; numbers are indices into [`NAMES`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Get(usize),
    /// With a time to live in milliseconds.
    Set(usize, Option<u64>),
    Del(usize),
    /// A script that writes a key it does not declare.
    Script(usize),
    FlushAll,
    SwapDb,
}

/// One value a key had, from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) value: Option<u64>,
    pub(super) from: Instant,
    /// It began because the value before it expired.
    pub(super) expiry: bool,
}

#[derive(Clone, Copy, Default)]
struct Life {
    until: Option<Instant>,
    /// Its time is over, but it was not deleted yet.
    lingers: bool,
}

#[derive(Default)]
pub(super) struct Redis {
    pub(super) history: PerKey<Vec<State>>,
    lives: PerKey<Life>,
    versions: u64,
    /// Names the tracked connection is to hear of, once.
    pub(super) table: [bool; NAMES.len()],
    /// Requests of the tracked connection that were not executed yet.
    pub(super) inbox: VecDeque<Vec<Vec<u8>>>,
    /// Bytes on their way to the tracked connection.
    pub(super) stream: VecDeque<u8>,
    /// PINGs of the subscribed connection, and bytes on their way to it; pushes go there when `redirect` is set.
    pub(super) pings: usize,
    pub(super) messages: VecDeque<u8>,
    pub(super) redirect: bool,
    caching: bool,
    db: usize,
}

impl Redis {
    pub(super) fn new(redirect: bool, now: Instant) -> Self {
        let missing = State {
            value: None,
            from: now,
            expiry: false,
        };
        Self {
            history: std::array::from_fn(|_| std::array::from_fn(|_| vec![missing])),
            redirect,
            ..Self::default()
        }
    }

    /// The tracked connection (and the subscribed one) is gone; a new one tracks.
    pub(super) fn disconnect(&mut self) {
        self.table = Default::default();
        self.inbox.clear();
        self.stream.clear();
        self.messages.clear();
        (self.pings, self.caching, self.db) = (0, false, 0);
    }

    /// Time passes: what expires has no value any more, whether or not it was deleted.
    pub(super) fn pass(&mut self, now: Instant) {
        for (life, history) in self.lives.iter_mut().flatten().zip(self.history.iter_mut().flatten()) {
            if let Some(until) = life.until.filter(|&until| until <= now) {
                history.push(State {
                    value: None,
                    from: until,
                    expiry: true,
                });
                (life.until, life.lingers) = (None, true);
            }
        }
    }

    /// Deletes what expired, and says so.
    pub(super) fn expire(&mut self, db: usize, key: usize) {
        if std::mem::take(&mut self.lives[db][key].lingers) {
            self.changed(key);
        }
    }

    /// The number of the state every key is in.
    pub(super) fn at(&self) -> PerKey<usize> {
        self.history
            .each_ref()
            .map(|db| db.each_ref().map(|states| states.len() - 1))
    }

    pub(super) fn value(&self, db: usize, key: usize) -> Option<u64> {
        self.history[db][key].last().and_then(|state| state.value)
    }

    /// Executes a command of any connection but the tracked one.
    pub(super) fn execute(&mut self, op: Op, db: usize, now: Instant) -> Option<u64> {
        match op {
            Op::Get(key) => {
                self.expire(db, key);
                return self.value(db, key);
            }
            Op::Set(key, ttl) => {
                let until = ttl.map(|ttl| now.after(std::time::Duration::from_millis(ttl)));
                self.versions += 1;
                self.write(db, key, Some(self.versions), until, now);
            }
            Op::Script(key) => {
                self.versions += 1;
                self.write(db, key, Some(self.versions), None, now);
            }
            Op::Del(key) if self.value(db, key).is_some() || self.lives[db][key].lingers => {
                self.write(db, key, None, None, now);
            }
            Op::Del(_) => {}
            Op::FlushAll => self.flush(now),
            Op::SwapDb => self.swap(now),
        }
        None
    }

    fn write(&mut self, db: usize, key: usize, value: Option<u64>, until: Option<Instant>, now: Instant) {
        self.set(db, key, value, now);
        self.lives[db][key] = Life { until, lingers: false };
        self.changed(key);
    }

    fn set(&mut self, db: usize, key: usize, value: Option<u64>, now: Instant) {
        if value.is_some() || self.value(db, key).is_some() {
            self.history[db][key].push(State {
                value,
                from: now,
                expiry: false,
            });
        }
    }

    fn flush(&mut self, now: Instant) {
        for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
            self.set(db, key, None, now);
            self.lives[db][key] = Life::default();
        }
        self.table = Default::default();
        self.push("_\r\n");
    }

    fn swap(&mut self, now: Instant) {
        for key in 0..NAMES.len() {
            let (first, second) = (self.value(0, key), self.value(1, key));
            self.set(0, key, second, now);
            self.set(1, key, first, now);
            let [zero, one] = &mut self.lives;
            std::mem::swap(&mut zero[key], &mut one[key]);
        }
    }

    fn changed(&mut self, key: usize) {
        if std::mem::take(&mut self.table[key]) {
            let name = NAMES[key];
            self.push(&format!("*1\r\n${}\r\n{name}\r\n", name.len()));
        }
    }

    fn push(&mut self, payload: &str) {
        if self.redirect {
            let header = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
            self.messages.extend(header.iter().chain(payload.as_bytes()));
        } else {
            self.stream
                .extend(b">2\r\n$10\r\ninvalidate\r\n".iter().chain(payload.as_bytes()));
        }
    }

    /// The tracked connection wrote `bytes`, whole requests.
    pub(super) fn accept(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let scanned = ReplyScanner::new(ReplyLimits::default()).scan(bytes).unwrap();
            let ReplyScan::Complete { consumed } = scanned else {
                panic!("half a request");
            };
            let request = Value::decode(&bytes[..consumed], Version::V2).unwrap();
            let args = request.as_values().unwrap().iter();
            self.inbox
                .push_back(args.map(|arg| arg.as_bytes().unwrap().to_vec()).collect());
            bytes = &bytes[consumed..];
        }
    }

    /// Executes the oldest request of the tracked connection.
    pub(super) fn serve(&mut self, now: Instant) {
        let Some(request) = self.inbox.pop_front() else { return };
        let args: Vec<&str> = request.iter().map(|arg| std::str::from_utf8(arg).unwrap()).collect();
        let key = args.get(1).and_then(|name| NAMES.iter().position(|own| own == name));
        let lingered = key.is_some_and(|key| std::mem::take(&mut self.lives[self.db][key].lingers));
        let reply = match (args[0], key) {
            ("PING", _) => "+PONG\r\n".into(),
            ("CLIENT", _) => "+OK\r\n".into(),
            ("SELECT", _) => {
                self.db = args[1].parse().unwrap();
                "+OK\r\n".into()
            }
            ("GET", Some(key)) => match self.value(self.db, key) {
                Some(value) => format!("${}\r\n{value}\r\n", value.to_string().len()),
                None => "_\r\n".into(),
            },
            ("PTTL", Some(key)) => match (self.value(self.db, key), self.lives[self.db][key].until) {
                (None, _) => ":-2\r\n".into(),
                (Some(_), None) => ":-1\r\n".into(),
                (Some(_), Some(until)) => format!(":{}\r\n", until.since(now).as_millis()),
            },
            _ => panic!("{args:?}"),
        };
        self.stream.extend(reply.bytes());
        if let Some(key) = key {
            // What the connection itself causes is pushed behind its reply.
            if lingered {
                self.changed(key);
            }
            self.table[key] |= self.caching;
        }
        self.caching = args[0] == "CLIENT";
    }

    /// Answers the PINGs of the subscribed connection.
    pub(super) fn pong(&mut self) {
        for _ in 0..std::mem::take(&mut self.pings) {
            self.messages.extend(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        }
    }
}
