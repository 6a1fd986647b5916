//! A sequence: steps, one after the other, each on one connection; generated from a seed, and nothing else.
//!
//! What two connections do at the same time has no one right outcome, so only one of them may be at work:
//!
//! - a step is over when the server has handled it and everybody has heard all of it;
//! - what stands behind a command that may wait for ever uses keys of that connection alone, and while such a queue may
//!   exist, the other connections send one command a step;
//! - CLIENT REPLY OFF and SKIP end within their step, by a command that is answered.

use super::Profile;
use super::gaps::{self, HIDDEN};
use super::grammar::{self, Group};
use super::steps::{Request, Send, Step, named_client};
use super::wanted::{self, Alike};
use crate::session_support::Dice;
use crate::support::resp::encode;

/// What the generator must know of a connection. What it cannot know for sure it takes for possible.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// In MULTI.
    multi: bool,
    /// Has queued what writes keys that it does not name.
    hidden: bool,
    /// Hears of changed keys.
    tracking: bool,
    /// Did so before RESET. The server remembers what it has read then, if it tracks again; at nearhit it is somebody new.
    has_tracked: bool,
    /// Waits for an element.
    blocked: bool,
    /// Has sent more behind a command that waits.
    queue: bool,
}

/// Which groups a connection likes, in percent; the rest is data.
const MOODS: &[&[(&Group, usize)]] = &[
    &[],
    &[(grammar::TRANSACTIONS, 40)],
    &[(grammar::STATE, 30), (grammar::TRANSACTIONS, 10)],
    &[(grammar::PUBSUB, 60)],
    &[(grammar::BLOCKING, 25), (grammar::LISTS, 30), (grammar::ZSETS, 15)],
    &[(grammar::NONSENSE, 40)],
    &[(grammar::SCRIPTS, 30), (grammar::TRANSACTIONS, 15)],
    &[(grammar::SERVER, 30), (grammar::STATE, 20)],
    &[(grammar::TRACKING, 70)],
    &[(grammar::STREAMS, 50), (grammar::BLOCKING, 10)],
    &[(grammar::STRINGS, 80), (grammar::TRANSACTIONS, 12)],
];

/// Keys that a blocked connection's queue may use, and what else disturbs nobody.
const QUEUED: &str = "SET {mine} {v} | GET {mine} | GET {mine} | INCR {mine} | PING | ECHO {v} | GET {mine}";

const FOREIGN: &str = "\
    SET {s} {v} | SET {s} {v} | INCR {s} | DEL {any} | RPUSH {l} {v} | LPOP {l} | HSET {h} {f} {v} | SADD {u} {m} | ZADD {z} {r} {f} | \
    RENAME {any} {any} | EXPIRE {any} -1 | FLUSHDB | APPEND {s} {v} | SETBIT {b} 7 1 | XADD {x} {id} {f} {v} | COPY {any} {any} REPLACE";

/// Makes a sequence.
pub fn generate(seed: u64, profile: &Profile) -> Vec<Step> {
    let mut dice = Dice(seed);
    let connections = 1 + dice.below(4);
    let mood = *dice.pick(MOODS);
    let mut maker = Maker {
        known: vec![Known::default(); connections],
        releases: 0,
        guarded: profile.password.is_some(),
        left: 10 + dice.below(31),
        dice,
        mood,
        steps: Vec::new(),
    };
    for connection in 0..connections {
        maker.open(connection, profile);
    }
    while maker.left > 0 {
        maker.step(profile);
    }
    maker.release();
    maker.steps
}

struct Maker {
    dice: Dice,
    mood: &'static [(&'static Group, usize)],
    known: Vec<Known>,
    /// The server wants a password.
    guarded: bool,
    /// How often everybody who may wait was served.
    releases: usize,
    /// Commands still to be made.
    left: usize,
    steps: Vec<Step>,
}

impl Maker {
    fn chance(&mut self, percent: usize) -> bool {
        self.dice.below(100) < percent
    }

    /// What a connection says first.
    fn open(&mut self, connection: usize, profile: &Profile) {
        let mut requests = Vec::new();
        if let Some(password) = profile.password
            && self.chance(85)
        {
            requests.push(Request::line(&format!("AUTH {password}")));
        }
        if self.chance(profile.resp3) {
            requests.push(Request::line("HELLO 3"));
        }
        if !requests.is_empty() {
            self.send(connection, requests, &Marks::default());
        }
    }

    fn step(&mut self, profile: &Profile) {
        let free: Vec<_> = (0..self.known.len()).filter(|&at| !self.known[at].blocked).collect();
        let waiting = free.len() < self.known.len();
        if free.is_empty() || (waiting && self.chance(15)) {
            return self.release();
        }
        if self.chance(8) {
            return self.foreign();
        }
        let connection = *self.dice.pick(&free);
        if self.chance(2) {
            self.steps.push(Step::Leave { connection });
            self.known[connection] = Known::default();
            return self.open(connection, profile);
        }
        if self.chance(2) && !self.known[connection].multi {
            return self.broken(connection, profile);
        }
        let depth = match self.known.iter().any(|known| known.queue) {
            true => 1,
            false => *self.dice.pick(&[1, 1, 1, 2, 4, 10, 30]),
        };
        self.commands(connection, depth.min(self.left).min(profile.depth));
    }

    /// Some commands, until one must be the last of its step.
    fn commands(&mut self, connection: usize, depth: usize) {
        let (mut requests, mut marks) = (Vec::new(), Marks::default());
        for _ in 0..depth {
            self.left = self.left.saturating_sub(1);
            let words = self.words(connection);
            let alike = wanted::alike(&words);
            if self.is_never_said(&words) || (alike != Alike::Exact && self.known[connection].multi) {
                continue;
            }
            let pushed = self.known[connection].tracking && is_answered_by_nearhit(&words);
            if pushed || (self.guarded && is(&words, "RESET")) {
                // What is behind a push at the server may be before it at nearhit, which gives this reply itself. And
                // RESET makes a stranger, whom a server that wants a password closes if it still has much to say to it.
                self.send(connection, std::mem::take(&mut requests), &std::mem::take(&mut marks));
                marks.alike = alike;
                if !is(&words, "CLIENT REPLY") {
                    self.follow(connection, &words, &mut requests);
                }
                break;
            }
            if alike != Alike::Exact {
                // Compared in its own way, so it is a step of its own.
                self.send(connection, std::mem::take(&mut requests), &std::mem::take(&mut marks));
                marks.alike = alike;
                requests.push(Request::Words(words));
                break;
            }
            marks.timed |= is_blocking(&words);
            marks.hidden |= self.is_hidden(connection, &words);
            let last = self.follow(connection, &words, &mut requests);
            if last {
                break;
            }
        }
        if !self.known[connection].multi && self.chance(3) && self.known.iter().all(|known| !known.queue) {
            self.wait_for_ever(connection, &mut requests, &mut marks);
        }
        self.send(connection, requests, &marks);
    }

    fn is_never_said(&self, words: &[Vec<u8>]) -> bool {
        wanted::never(words).is_some()
    }

    /// Whether keys may be written that no command of the connection names.
    fn is_hidden(&mut self, connection: usize, words: &[Vec<u8>]) -> bool {
        let known = &mut self.known[connection];
        known.hidden |= HIDDEN
            .iter()
            .any(|script| words.iter().any(|word| word == script.as_bytes()));
        match known.multi && !is(words, "EXEC") {
            true => false,
            false => std::mem::take(&mut known.hidden),
        }
    }

    /// Adds a request and what it makes necessary; true: nothing may stand behind it in this step.
    fn follow(&mut self, connection: usize, words: &[Vec<u8>], requests: &mut Vec<Request>) -> bool {
        let known = &mut self.known[connection];
        if is(words, "CLIENT TRACKING") {
            if known.has_tracked {
                return false;
            }
            known.tracking = true;
        } else if is(words, "RESET") {
            known.has_tracked |= known.tracking;
        }
        if is(words, "MULTI") {
            known.multi = true;
        } else if is(words, "EXEC") || is(words, "DISCARD $") || is(words, "RESET $") {
            known.multi = false;
        }
        let in_multi = known.multi;
        let silent = is(words, "CLIENT REPLY OFF") || is(words, "CLIENT REPLY SKIP");
        if in_multi && wanted::is_other_in_multi(words) {
            return false;
        }
        requests.push(self.shaped(words));
        if silent {
            self.in_silence(connection, is(words, "CLIENT REPLY OFF"), requests);
            return true;
        }
        if is(words, "QUIT") {
            self.known[connection] = Known::default();
            return true;
        }
        false
    }

    /// What is not answered, and then something that is.
    fn in_silence(&mut self, connection: usize, off: bool, requests: &mut Vec<Request>) {
        let count = if off { 1 + self.dice.below(3) } else { 1 };
        for _ in 0..count {
            let line = *self.dice.pick(&[
                "SET {s} {v}",
                "GET {s}",
                "INCR {s}",
                "NOSUCH",
                "RPUSH {l} {v}",
                "DEL {any}",
            ]);
            let words = self.filled(line, connection, false);
            requests.push(Request::Words(words));
        }
        let end = match off {
            true if !self.guarded && self.chance(33) => "RESET",
            true => "CLIENT REPLY ON",
            false => "PING",
        };
        requests.push(Request::line(end));
    }

    /// A command that may wait until somebody else serves it, and what is sent behind it.
    fn wait_for_ever(&mut self, connection: usize, requests: &mut Vec<Request>, marks: &mut Marks) {
        if marks.alike != Alike::Exact || marks.timed {
            return;
        }
        let line = *self.dice.pick(&templates(grammar::BLOCKING));
        let words = self.filled(line, connection, true);
        requests.push(Request::Words(words));
        self.known[connection].blocked = true;
        if self.chance(40) {
            self.known[connection].queue = true;
            for _ in 0..1 + self.dice.below(4) {
                let line = *self.dice.pick(&templates(QUEUED));
                let words = self.filled(line, connection, false);
                requests.push(Request::Words(words));
            }
        }
    }

    fn send(&mut self, connection: usize, requests: Vec<Request>, marks: &Marks) {
        if requests.is_empty() {
            return;
        }
        let piece = *self.dice.pick(&[1_000_000, 1_000_000, 1_000_000, 100, 7, 1]);
        let long: usize = requests.iter().map(|request| request.bytes().len()).sum();
        self.steps.push(Step::Send(Send {
            connection,
            requests,
            // Not a hundred thousand writes of one byte.
            piece: piece.max(long / 200),
            cuts: self.dice.next(),
            timed: marks.timed,
            hidden: marks.hidden,
            alike: marks.alike,
        }));
    }

    /// Bytes that are no request, and mostly a close.
    fn broken(&mut self, connection: usize, profile: &Profile) {
        let bytes = *self.dice.pick(grammar::BROKEN);
        let mut requests = Vec::new();
        // HTTP is closed at once, and it depends on the packets which replies before it were sent.
        if !bytes.windows(4).any(|part| part == b"POST" || part == b"Host") && self.chance(50) {
            requests.push(Request::line("PING"));
            requests.push(Request::Words(self.filled("GET {s}", connection, false)));
        }
        requests.push(Request::Raw(bytes.to_vec()));
        self.send(connection, requests, &Marks::default());
        if let Some(Step::Send(send)) = self.steps.last_mut() {
            send.piece = usize::MAX;
        }
        self.known[connection] = Known::default();
        self.left = self.left.saturating_sub(1);
        self.open(connection, profile);
    }

    fn foreign(&mut self) {
        let requests = (0..1 + self.dice.below(3))
            .map(|_| {
                let line = *self.dice.pick(&templates(FOREIGN));
                self.filled(line, 0, false)
            })
            .collect();
        self.steps.push(Step::Foreign { requests });
    }

    /// Serves everybody who may wait, whatever for.
    fn release(&mut self) {
        if self.known.iter().all(|known| !known.blocked) {
            return;
        }
        let mut requests = Vec::new();
        self.releases += 1;
        // Whoever waits for what comes behind the last entry waits for one behind the last release's.
        let id = format!("{}-1", 9999 + self.releases);
        // All that a sequence can get to: a stray value makes it 10.
        for db in ["10", "2", "1", "0"] {
            requests.push(vec![b"SELECT".to_vec(), db.into()]);
            for (kind, command) in [("l", "RPUSH"), ("z", "ZADD"), ("x", "XADD")] {
                for key in gaps::keys(kind) {
                    let elements: &[&str] = match kind {
                        "l" => &["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"],
                        "z" => &["1", "r1", "2", "r2", "3", "r3", "4", "r4", "5", "r5"],
                        _ => &[&id, "f", "v"],
                    };
                    requests.push(vec![b"DEL".to_vec(), key.clone()]);
                    let words = elements.iter().map(|element| element.as_bytes().to_vec());
                    requests.push([command.as_bytes().to_vec(), key].into_iter().chain(words).collect());
                }
            }
        }
        self.steps.push(Step::Foreign { requests });
        for known in &mut self.known {
            (known.blocked, known.queue) = (false, false);
        }
    }

    /// The words of one command, as the connection's mood has it.
    fn words(&mut self, connection: usize) -> Vec<Vec<u8>> {
        let mut at = self.dice.below(100);
        let mut group = None;
        for (liked, percent) in self.mood {
            if at < *percent {
                group = Some(*liked);
                break;
            }
            at -= percent;
        }
        let group = group.unwrap_or_else(|| *self.dice.pick(grammar::ALL));
        let line = *self.dice.pick(&templates(group));
        let words = self.filled(line, connection, false);
        // A client's number belongs where each side is told its own.
        let names = words.iter().any(|word| named_client(word).is_some());
        match !names && self.chance(6) {
            true => self.spoiled(words, connection),
            false => words,
        }
    }

    fn filled(&mut self, line: &str, connection: usize, waits: bool) -> Vec<Vec<u8>> {
        line.split_ascii_whitespace()
            .map(|word| self.fill(word, connection, waits))
            .collect()
    }

    /// A word with its gap filled.
    fn fill(&mut self, word: &str, connection: usize, waits: bool) -> Vec<u8> {
        let Some((before, rest)) = word.split_once('{') else {
            return word.as_bytes().to_vec();
        };
        let (gap, after) = rest.split_once('}').expect("a gap ends");
        let filling = gaps::fill(gap, connection, waits, &mut self.dice);
        [before.as_bytes(), &filling, after.as_bytes()].concat()
    }

    /// The same with something wrong in it.
    fn spoiled(&mut self, mut words: Vec<Vec<u8>>, connection: usize) -> Vec<Vec<u8>> {
        let at = self.dice.below(words.len());
        match self.dice.below(6) {
            0 => {
                words.truncate(at.max(1));
            }
            // One more number may be a time to wait.
            1 if !is_blocking(&words) => words.push(gaps::fill("v", connection, false, &mut self.dice)),
            2 if at > 0 => words[at] = gaps::fill("any", connection, false, &mut self.dice),
            3 if at > 0 => {
                const JUNK: [&[u8]; 7] = [b"", b"-1", b"9223372036854775808", b"nan", b"0x10", b" 1", b"\x00"];
                // In C 0x10 is a number of seconds.
                let junk = if is_blocking(&words) { &JUNK[..4] } else { &JUNK };
                words[at] = self.dice.pick(junk).to_vec();
            }
            4 => {
                words[0] = words[0].to_ascii_lowercase();
            }
            _ => words.swap(at, at.min(1)),
        }
        words
    }

    /// A request as arrays of bulk strings or, sometimes, as a line.
    fn shaped(&mut self, words: &[Vec<u8>]) -> Request {
        let short = words.iter().map(Vec::len).sum::<usize>() < 1000;
        let names = words.iter().any(|word| named_client(word).is_some());
        if self.chance(90) || !short || names || words[0].is_empty() {
            return Request::Words(words.to_vec());
        }
        if self.chance(20) {
            let mut bytes = self.dice.pick(grammar::IGNORED).to_vec();
            bytes.extend_from_slice(&encode(words));
            return Request::Raw(bytes);
        }
        let mut line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(&b' ');
        line.extend_from_slice(self.dice.pick(&["\r\n", "\n", "  \r\n"]).as_bytes());
        Request::Raw(line)
    }
}

/// What is known of a step's commands together.
#[derive(Default)]
struct Marks {
    timed: bool,
    hidden: bool,
    alike: Alike,
}

fn templates(lines: &'static str) -> Vec<&'static str> {
    lines.split(" | ").collect()
}

/// Whether a command begins with these words; `$` is its end.
pub fn is(words: &[Vec<u8>], line: &str) -> bool {
    line.split(' ').enumerate().all(|(at, word)| match words.get(at) {
        Some(given) => given.eq_ignore_ascii_case(word.as_bytes()),
        None => word == "$",
    })
}

fn is_answered_by_nearhit(words: &[Vec<u8>]) -> bool {
    ["CLIENT", "QUIT", "RESET", "HELLO", "AUTH", "SELECT"]
        .iter()
        .any(|name| is(words, name))
}

fn is_blocking(words: &[Vec<u8>]) -> bool {
    let name = words[0].to_ascii_uppercase();
    name.starts_with(b"B") || words.iter().any(|word| word.eq_ignore_ascii_case(b"block"))
}

/// A word of an inline request.
fn quoted(word: &[u8]) -> Vec<u8> {
    if !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric) {
        return word.to_vec();
    }
    let escaped = word.iter().flat_map(|byte| format!("\\x{byte:02x}").into_bytes());
    std::iter::once(b'"')
        .chain(escaped)
        .chain(std::iter::once(b'"'))
        .collect()
}
