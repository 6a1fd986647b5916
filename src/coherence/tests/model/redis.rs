//! What a Redis that tracks does, as far as coherence depends on it: a one-shot table by key name across databases, OPTIN
//! and its flag, pushes in the order of the stream and behind the reply of whoever caused them, silent SWAPDB, expiry that
//! is noticed late, connections that the server has closed and nobody knows of.

use std::collections::VecDeque;

use crate::mutants::{Mutant, mutated};
use crate::time::Instant;

pub(super) const DBS: usize = 2;
pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Something for every key of every database.
pub(super) type PerKey<T> = [[T; NAMES.len()]; DBS];

/// A command; numbers are indices into [`NAMES`]. Versions stand for values: GET gives the version, STRLEN a length
/// that is the version, so that two commands of one key can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get(usize),
    Strlen(usize),
    /// MGET of the first two names.
    Mget,
    /// A script that reads the first two names and declares neither.
    Look,
    /// With a time to live in milliseconds.
    Set(usize, Option<u64>),
    Del(usize),
    Expire(usize, u64),
    /// A script that writes a key it does not declare.
    Script(usize),
    /// MULTI, SET and SET of the first two names, EXEC.
    Both,
    Watch(usize),
    /// MULTI, SET, EXEC behind WATCH and GET.
    Cas(usize),
    FlushAll,
    SwapDb,
}

/// What a command was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// What the keys it read held; for [`Op::Cas`] what its key held just before it was written.
    pub(super) values: [Option<u64>; 2],
    /// EXEC ran nothing.
    pub(super) aborted: bool,
}

/// What a connection watches: database, key, and the state it was in.
pub(super) type Watched = (usize, usize, usize);

/// One value a key had, from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) value: Option<u64>,
    pub(super) from: Instant,
    /// It began because the value before it expired; when that time to live was given to it, the time of its birth
    /// included.
    pub(super) expiry: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Life {
    until: Option<Instant>,
    /// When it was given.
    given: Instant,
    /// Its time is over, but it was not deleted yet.
    lingers: bool,
}

/// What the tracked connection can be asked.
#[derive(Clone, Copy, Debug)]
enum Request {
    Ping,
    Caching,
    Select(usize),
    Read(Op),
    Pttl(usize),
}

/// Bytes on their way to nearhit over one connection, and where in them the pushes end.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) bytes: VecDeque<u8>,
    sent: u64,
    taken: u64,
    /// Ends of pushes and the name each is about; `None`: all names.
    pushes: VecDeque<(u64, Option<usize>)>,
}

impl Wire {
    fn write(&mut self, bytes: &[u8]) {
        self.sent += bytes.len() as u64;
        self.bytes.extend(bytes);
    }

    fn push(&mut self, frame: &[u8], name: Option<usize>) {
        self.write(frame);
        self.pushes.push_back((self.sent, name));
    }

    /// So many bytes were handled; gives the names of which pushes were, a bit each.
    fn taken(&mut self, count: usize) -> u8 {
        self.taken += count as u64;
        let mut names = 0;
        while let Some((_, about)) = self.pushes.pop_front_if(|(end, _)| *end <= self.taken) {
            names |= about.map_or(ALL, |name| 1 << name);
        }
        names
    }

    /// Whether a push about `name` was not handled yet.
    fn announces(&self, name: usize) -> bool {
        self.pushes
            .iter()
            .any(|(_, about)| about.is_none_or(|about| about == name))
    }

    /// The server closed it: bytes behind the first `kept` never arrive.
    fn cut(&mut self, kept: usize) {
        self.bytes.truncate(kept);
    }
}

#[derive(Default)]
pub(super) struct Redis {
    pub(super) history: PerKey<Vec<State>>,
    lives: PerKey<Life>,
    /// When the next key expires.
    next_expiry: Option<Instant>,
    versions: u64,
    /// Names the tracked connection is to hear of, once.
    pub(super) table: [bool; NAMES.len()],
    /// Requests of the tracked connection that were not executed yet.
    inbox: VecDeque<Request>,
    /// To the tracked connection.
    pub(super) stream: Wire,
    /// PINGs of the subscribed connection, and what is on its way to it; pushes go there when `redirect` is set.
    pub(super) pings: usize,
    pub(super) messages: Wire,
    pub(super) redirect: bool,
    /// Names that change together are pushed together, as for prefixes.
    pub(super) merges: bool,
    /// Whether the server still has the tracked and the subscribed connection.
    pub(super) has: [bool; 2],
    caching: bool,
    db: usize,
    /// Names of which a value or a registration changed, or a push was handled, since somebody looked; one bit each.
    pub(super) touched: u8,
}

pub(super) const ALL: u8 = (1 << NAMES.len()) - 1;

impl Redis {
    pub(super) fn new(redirect: bool, now: Instant) -> Self {
        let missing = State {
            value: None,
            from: now,
            expiry: None,
        };
        Self {
            history: std::array::from_fn(|_| std::array::from_fn(|_| vec![missing])),
            redirect,
            ..Self::default()
        }
    }

    /// A new tracked connection (and a subscribed one) takes the place of the old.
    pub(super) fn connect(&mut self) {
        self.connect_filling();
        self.messages = Wire::default();
        (self.pings, self.has) = (0, [true; 2]);
    }

    /// The same for the connection that fills alone.
    pub(super) fn connect_filling(&mut self) {
        self.table = Default::default();
        self.inbox.clear();
        self.stream = Wire::default();
        (self.caching, self.db, self.has[0]) = (false, 0, true);
        self.touched = ALL;
    }

    /// The server closes the tracked (0) or the subscribed (1) connection; of what is on its way, `kept` bytes arrive.
    pub(super) fn drop_connection(&mut self, which: usize, kept: usize) {
        self.has[which] = false;
        if which == 0 {
            self.table = Default::default();
            self.inbox.clear();
            self.stream.cut(kept);
        } else {
            self.pings = 0;
            self.messages.cut(kept);
        }
        self.touched = ALL;
    }

    /// Whether everything that could keep entries true is there.
    pub(super) fn is_whole(&self) -> bool {
        self.has[0] && (self.has[1] || !self.redirect)
    }

    /// Whether nearhit will still be told that `name` changed.
    pub(super) fn announces(&self, name: usize) -> bool {
        if self.redirect {
            self.messages.announces(name)
        } else {
            self.stream.announces(name)
        }
    }

    /// So many bytes of the tracked connection were handled. Those that a push was about are looked at again: it must have
    /// had its effect.
    pub(super) fn stream_taken(&mut self, count: usize) {
        self.touched |= self.stream.taken(count);
    }

    /// The same for the subscribed connection.
    pub(super) fn messages_taken(&mut self, count: usize) {
        self.touched |= self.messages.taken(count);
    }

    /// Time passes: what expires has no value any more, whether or not it was deleted.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        self.next_expiry = None;
        for (life, history) in self.lives.iter_mut().flatten().zip(self.history.iter_mut().flatten()) {
            if let Some(until) = life.until.filter(|&until| until <= now) {
                history.push(State {
                    value: None,
                    from: until,
                    expiry: Some(life.given),
                });
                (life.until, life.lingers) = (None, true);
            }
            self.next_expiry = self.next_expiry.into_iter().chain(life.until).min();
        }
        self.touched = ALL;
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

    /// Executes a command of any connection but the tracked one; `watched` is what that connection watches.
    pub(super) fn execute(&mut self, op: Op, db: usize, watched: &mut Option<Watched>, now: Instant) -> Answer {
        let mut answer = Answer::default();
        match op {
            Op::Get(key) | Op::Strlen(key) => answer.values[0] = self.get(db, key),
            Op::Mget | Op::Look => answer.values = [self.get(db, 0), self.get(db, 1)],
            Op::Set(key, ttl) => self.set(db, key, ttl, now),
            Op::Script(key) => self.set(db, key, None, now),
            Op::Both => self.set_both(db, now),
            Op::Del(key) => self.delete(db, key, now),
            Op::Expire(key, ttl) if self.value(db, key).is_some() => {
                self.live(db, key, Some(ttl), now);
                self.changed(key);
            }
            Op::Expire(..) => {}
            Op::Watch(key) => *watched = Some((db, key, self.history[db][key].len())),
            Op::Cas(key) => {
                let same = |(db, key, at): (usize, usize, usize)| self.history[db][key].len() == at;
                answer.aborted = !watched.take().is_some_and(same);
                if !answer.aborted {
                    answer.values[0] = self.value(db, key);
                    self.set(db, key, None, now);
                }
            }
            Op::FlushAll => self.flush(now),
            Op::SwapDb => self.swap(now),
        }
        answer
    }

    fn get(&mut self, db: usize, key: usize) -> Option<u64> {
        self.expire(db, key);
        self.value(db, key)
    }

    fn delete(&mut self, db: usize, key: usize, now: Instant) {
        if self.value(db, key).is_some() || self.lives[db][key].lingers {
            self.enter(db, key, None, now);
            self.lives[db][key] = Life::default();
            self.changed(key);
        }
    }

    fn set(&mut self, db: usize, key: usize, ttl: Option<u64>, now: Instant) {
        self.versions += 1;
        self.enter(db, key, Some(self.versions), now);
        self.live(db, key, ttl, now);
        self.changed(key);
    }

    fn set_both(&mut self, db: usize, now: Instant) {
        let both = self.merges && !self.redirect && self.table[0] && self.table[1];
        if both {
            self.table = [false, false, self.table[2]];
        }
        [0, 1].into_iter().for_each(|key| self.set(db, key, None, now));
        if both {
            let frame = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
            self.stream.push(frame, Some(0));
            let end = self.stream.sent;
            self.stream.pushes.push_back((end, Some(1)));
        }
    }

    fn live(&mut self, db: usize, key: usize, ttl: Option<u64>, now: Instant) {
        let until = ttl.map(|ttl| now.after(std::time::Duration::from_millis(ttl)));
        self.lives[db][key] = Life {
            until,
            given: now,
            lingers: false,
        };
        self.next_expiry = self.next_expiry.into_iter().chain(until).min();
    }

    fn enter(&mut self, db: usize, key: usize, value: Option<u64>, now: Instant) {
        self.touched |= 1 << key;
        if value.is_some() || self.value(db, key).is_some() {
            self.history[db][key].push(State {
                value,
                from: now,
                expiry: None,
            });
        }
    }

    fn flush(&mut self, now: Instant) {
        for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
            self.enter(db, key, None, now);
            self.lives[db][key] = Life::default();
        }
        self.table = Default::default();
        self.push(None);
    }

    fn swap(&mut self, now: Instant) {
        for key in 0..NAMES.len() {
            let (first, second) = (self.value(0, key), self.value(1, key));
            self.enter(0, key, second, now);
            self.enter(1, key, first, now);
            let [zero, one] = &mut self.lives;
            std::mem::swap(&mut zero[key], &mut one[key]);
        }
    }

    /// A name changed, or there is no room for it in the table any more.
    pub(super) fn changed(&mut self, key: usize) {
        if std::mem::take(&mut self.table[key]) {
            self.push(Some(key));
        }
        self.touched |= 1 << key;
    }

    fn push(&mut self, name: Option<usize>) {
        const PUSHES: [&[u8]; 4] = [
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nb\r\n",
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nc\r\n",
            b">2\r\n$10\r\ninvalidate\r\n_\r\n",
        ];
        const HEADER: &[u8] = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
        let frame = PUSHES[name.unwrap_or(NAMES.len())];
        if !self.redirect && self.has[0] {
            self.stream.push(frame, name);
        } else if !self.redirect {
            // The connection is gone, and its names with it.
        } else if self.has[1] {
            self.messages.write(HEADER);
            self.messages.push(&frame[">2\r\n$10\r\ninvalidate\r\n".len()..], name);
        } else if self.has[0] {
            self.stream.write(b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n");
        }
    }

    /// The tracked connection wrote `bytes`, whole requests.
    pub(super) fn accept(&mut self, bytes: &[u8]) {
        if !self.has[0] {
            return;
        }
        let mut lines = std::str::from_utf8(bytes).unwrap().split_terminator("\r\n");
        while let Some(header) = lines.next() {
            let count: usize = header[1..].parse().unwrap();
            let mut args = [""; 3];
            for arg in args.iter_mut().take(count) {
                lines.next();
                *arg = lines.next().unwrap();
            }
            let name = || NAMES.iter().position(|name| *name == args[1]).unwrap();
            self.inbox.push_back(match args[0] {
                "PING" => Request::Ping,
                "CLIENT" => Request::Caching,
                "SELECT" => Request::Select(args[1].parse().unwrap()),
                "GET" => Request::Read(Op::Get(name())),
                "STRLEN" => Request::Read(Op::Strlen(name())),
                "PTTL" => Request::Pttl(name()),
                other => panic!("{other}"),
            });
        }
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether the next request of the tracked connection is a read.
    pub(super) fn is_asked_to_read(&self) -> bool {
        matches!(self.inbox.front(), Some(Request::Read(_)))
    }

    /// Executes the oldest request of the tracked connection, or rejects it, which uses OPTIN's flag up just the same.
    pub(super) fn serve(&mut self, now: Instant, reject: bool) {
        let Some(request) = self.inbox.pop_front() else { return };
        let caching = std::mem::replace(&mut self.caching, matches!(request, Request::Caching) && !reject);
        if reject {
            return self.stream.write(b"-NOPERM rejected\r\n");
        }
        match request {
            Request::Ping => self.stream.write(b"+PONG\r\n"),
            Request::Caching => self.stream.write(b"+OK\r\n"),
            Request::Select(db) => {
                self.db = db;
                self.stream.write(b"+OK\r\n");
            }
            Request::Read(op @ (Op::Get(key) | Op::Strlen(key))) => {
                self.reply(|redis| read_reply(op, redis.value(redis.db, key)), key);
                self.table[key] |= caching;
                self.touched |= 1 << key;
            }
            Request::Read(op) => panic!("{op:?}"),
            Request::Pttl(key) => {
                let pttl = |redis: &Self| match (redis.value(redis.db, key), redis.lives[redis.db][key].until) {
                    (None, _) => -2,
                    (Some(_), None) => -1,
                    (Some(_), Some(until)) => i64::try_from(until.since(now).as_millis()).unwrap(),
                };
                self.reply(|redis| format!(":{}\r\n", pttl(redis)), key);
                self.table[key] |= caching;
            }
        }
    }

    /// Replies to a read of `key`. What the read itself causes is pushed behind its reply.
    fn reply(&mut self, reply: impl FnOnce(&Self) -> String, key: usize) {
        let lingered = std::mem::take(&mut self.lives[self.db][key].lingers);
        let reply = reply(self);
        self.stream.write(reply.as_bytes());
        if lingered && mutated(Mutant::Noloop) {
            self.table[key] = false;
            self.touched |= 1 << key;
        } else if lingered {
            self.changed(key);
        }
    }

    /// Answers the PINGs of the subscribed connection.
    pub(super) fn pong(&mut self) {
        for _ in 0..std::mem::take(&mut self.pings) {
            self.messages.write(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        }
    }
}

fn read_reply(op: Op, value: Option<u64>) -> String {
    match (op, value) {
        (Op::Strlen(_), value) => format!(":{}\r\n", value.unwrap_or(0)),
        (_, None) => "_\r\n".into(),
        (_, Some(value)) => {
            let digits = value.checked_ilog10().unwrap_or(0) + 1;
            format!("${digits}\r\n{value}\r\n")
        }
    }
}
