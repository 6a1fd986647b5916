//! One client that writes and reads through nearhit without a pause, and checks every reply.

use super::super::support::{Reply, Resp, SOON, eventually, resp::encode};
use super::Place;
use super::book::{Appended, Counter, Register, Told, Verdict};
use super::stop::Stop;
use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Keys that a client sets in turn.
const KEYS: usize = 40;
/// Appends, and says which server did it: the two cannot be torn apart.
const APPEND: &str = "local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') \
    return {redis.call('RPUSH', KEYS[1], ARGV[1]), id}";
/// How the errors begin that a client may be told during a failover.
const ALLOWED: [&str; 7] = [
    "ERR nearhit",
    "UNCERTAIN",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
];

/// What the clients of one nearhit have in common.
#[derive(Debug, Default)]
pub struct Shared {
    /// The servers that were heard of, and when: their lives, in the order of their first acknowledged write.
    generations: Mutex<Vec<(String, Instant)>>,
    /// Rounds that succeeded in everything.
    pub rounds: AtomicU64,
}

impl Shared {
    /// Which generation this is, and how late it was asked: since when another one had been heard of.
    fn heard(&self, id: &str, asked: Instant) -> (usize, Duration) {
        let mut known = self.generations.lock();
        let at = known.iter().position(|(known, _)| known == id).unwrap_or(known.len());
        if at == known.len() {
            known.push((id.to_owned(), time::now()));
        }
        let late = known.get(at + 1).map_or(Duration::ZERO, |(_, next)| asked.since(*next));
        (at, late)
    }
}

/// What became of the requests of one or more clients.
#[derive(Debug, Default)]
pub struct Tally {
    pub wrong: Vec<String>,
    pub doubled: Vec<String>,
    pub uncertain: u64,
    pub refused: u64,
    pub closed: u64,
    pub slowest: (Duration, String),
    /// A server was asked so long after another one had answered as the master.
    pub late: Duration,
}

impl Tally {
    pub fn note(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Right | Verdict::Lost { .. } => {}
            Verdict::Doubled(what) => self.doubled.push(what),
            Verdict::Wrong(what) => self.wrong.push(what),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        self.doubled.extend(other.doubled);
        self.uncertain += other.uncertain;
        self.refused += other.refused;
        self.closed += other.closed;
        self.slowest = std::mem::take(&mut self.slowest).max(other.slowest);
        self.late = self.late.max(other.late);
    }
}

/// How a request ended.
enum Outcome {
    Reply(Reply),
    Uncertain,
    Refused,
}

/// One client.
pub struct Client<'a> {
    proxy: SocketAddr,
    place: &'a Place,
    connection: Option<Resp>,
    shared: &'a Shared,
    number: usize,
    /// Which generation it heard of last.
    generation: usize,
    /// Losses that are right only if a later generation than this is heard of next.
    unexplained: Vec<(usize, String)>,
    pub counter: Counter,
    registers: Vec<Register>,
    pub appended: Appended,
    /// When appending was acknowledged, by the numbers of the elements.
    pub appends: Vec<(usize, Instant)>,
    pub tally: Tally,
}

impl<'a> Client<'a> {
    pub fn new(proxy: SocketAddr, place: &'a Place, shared: &'a Shared, number: usize) -> Self {
        Self {
            proxy,
            place,
            connection: None,
            shared,
            number,
            generation: 0,
            unexplained: Vec::new(),
            counter: Counter::default(),
            registers: (0..KEYS).map(|_| Register::default()).collect(),
            appended: Appended::default(),
            appends: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Goes on until it is told to stop, and until it knows then who the master is.
    pub fn run(mut self, stop: &Stop) -> Self {
        self.append();
        for (round, key) in (1_u64..).zip((0..KEYS).cycle()) {
            if stop.rest() {
                break;
            }
            let well = self.increment() & self.append() & self.set(key, round) & self.get(key) & self.get(key);
            if well & self.get((key + KEYS / 2) % KEYS) {
                self.shared.rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !eventually(SOON, || self.append()) {
            self.tally
                .wrong
                .push("no master could be written to in the end".to_owned());
        }
        self
    }

    /// The keys that it set.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        (0..KEYS).map(|key| self.key(key))
    }

    pub fn counter_key(&self) -> String {
        self.place.tagged(&format!("counter:{}", self.number), self.number)
    }

    pub fn list_key(&self) -> String {
        self.place.tagged(&format!("list:{}", self.number), self.number)
    }

    fn key(&self, key: usize) -> String {
        self.place.tagged(&format!("key:{}:{key}", self.number), self.number)
    }

    fn increment(&mut self) -> bool {
        match self.ask(&["INCR", &self.counter_key()]) {
            Outcome::Reply(Reply::Int(value)) => {
                let verdict = self.counter.answered(value, self.generation);
                self.judge(verdict, || format!("INCR: {value}"));
                return true;
            }
            Outcome::Reply(other) => self.tally.wrong.push(format!("INCR: {other:?}")),
            Outcome::Uncertain => self.counter.uncertain(),
            Outcome::Refused => {}
        }
        false
    }

    fn append(&mut self) -> bool {
        let (element, asked) = (self.appended.told.len(), time::now());
        let told = match self.ask(&["EVAL", APPEND, "1", &self.list_key(), &element.to_string()]) {
            Outcome::Reply(Reply::Array(parts)) => {
                let (generation, late) = self.shared.heard(&parts[1].text(), asked);
                self.tally.late = self.tally.late.max(late);
                self.hear_of(generation);
                self.appends.push((element, time::now()));
                Told::Acknowledged(generation)
            }
            Outcome::Reply(other) => {
                self.tally.wrong.push(format!("EVAL: {other:?}"));
                Told::Uncertain
            }
            Outcome::Uncertain => Told::Uncertain,
            Outcome::Refused => Told::Refused,
        };
        self.appended.told.push(told);
        matches!(told, Told::Acknowledged(_))
    }

    fn set(&mut self, key: usize, value: u64) -> bool {
        let told = match self.ask(&["SET", &self.key(key), &value.to_string()]) {
            Outcome::Reply(reply) if reply == "OK" => Told::Acknowledged(self.generation),
            Outcome::Reply(other) => {
                self.tally.wrong.push(format!("SET: {other:?}"));
                Told::Uncertain
            }
            Outcome::Uncertain => Told::Uncertain,
            Outcome::Refused => Told::Refused,
        };
        self.registers[key].set(value, told);
        matches!(told, Told::Acknowledged(_))
    }

    fn get(&mut self, key: usize) -> bool {
        let Outcome::Reply(reply) = self.ask(&["GET", &self.key(key)]) else {
            return false;
        };
        let value = match reply.is_nil() {
            true => None,
            false => Some(reply.text().parse().expect("a number")),
        };
        let verdict = self.registers[key].read(value, self.generation);
        self.judge(verdict, || format!("GET of key {key}: {value:?}"));
        true
    }

    fn judge(&mut self, verdict: Verdict, what: impl FnOnce() -> String) {
        if let Verdict::Lost { since } = verdict {
            self.unexplained.push((since, what()));
        }
        self.tally.note(verdict);
    }

    /// A loss needs a failover between what was lost and what is the master now.
    fn hear_of(&mut self, generation: usize) {
        self.generation = generation;
        for (since, what) in self.unexplained.drain(..) {
            if since >= generation {
                let what = format!("{what}, older than what this master acknowledged (generation {since})");
                self.tally.wrong.push(what);
            }
        }
    }

    fn ask(&mut self, args: &[&str]) -> Outcome {
        let asked = time::now();
        let proxy = self.proxy;
        let connection = self.connection.get_or_insert_with(|| Resp::connect(proxy));
        let sent = connection.try_send_raw(encode(args));
        let reply = sent.ok().and_then(|()| connection.try_reply());
        let took = time::now().since(asked);
        if took > self.tally.slowest.0 {
            self.tally.slowest = (took, format!("{}: {reply:?}", args[0]));
        }
        match reply {
            None => {
                self.connection = None;
                self.tally.closed += 1;
                Outcome::Uncertain
            }
            Some(error) if error.is_error_with("UNCERTAIN") => {
                self.tally.uncertain += 1;
                Outcome::Uncertain
            }
            Some(Reply::Error(text)) => {
                self.tally.refused += 1;
                if !ALLOWED.iter().any(|allowed| text.starts_with(allowed)) {
                    self.tally.wrong.push(format!("{}: {text}", args[0]));
                }
                Outcome::Refused
            }
            Some(reply) => Outcome::Reply(reply),
        }
    }
}
