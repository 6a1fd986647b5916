//! Runs sequences: each step on the server first, whose word is law, then through nearhit, which must say the same.

use super::side::{Side, until};
use super::stage::{self, Stage};
use super::steps::{Send, Step};
use super::wanted::{self, Alike};
use super::{Behind, Profile};
use crate::cluster_support::wait_for_tracking;
use crate::session_support::{CACHE_ALL, Dice, hits, wait_for_cache};
use crate::support::resp::encode;
use crate::support::{Nearhit, RedisServer, Reply, Resp, SOON};
use ::nearhit::time::now;
use std::time::Duration;

/// The database of the canary. No sequence goes there. A cluster has none to spare: there is a canary at each node, whose
/// keys every sequence finds, and may delete.
const CAGE: &str = "15";
const CANARY: &[&str] = &["canary"];
const CANARIES: &[&str] = &["{a}canary", "{b}canary", "{c}canary"];

/// Why a sequence failed.
#[derive(Debug)]
pub struct Failure {
    /// The step, by its place.
    pub step: usize,
    pub reason: String,
}

impl Failure {
    /// Whether it is about something awaited that did not come about.
    pub fn is_vain(&self) -> bool {
        self.reason.starts_with("waited")
    }
}

/// A piece of both transcripts that was compared.
pub struct Heard {
    pub step: usize,
    pub connection: usize,
    pub direct: Vec<u8>,
    pub proxied: Vec<u8>,
}

/// Two servers with nearhit in front of one.
pub struct Driver {
    direct: Side,
    proxied: Side,
    canary: Canary,
    /// Everything the last run compared.
    pub heard: Vec<Heard>,
    /// How long nearhit may take.
    pub patience: Duration,
    pub nearhit: Nearhit,
    password: Option<&'static str>,
    stage: Stage,
    _server: RedisServer,
}

/// A cached key of each node, by which one sees that every message of the server so far has been heeded.
struct Canary {
    client: Option<Resp>,
    sung: u64,
    keys: &'static [&'static str],
    /// It is in [`CAGE`].
    caged: bool,
}

impl Driver {
    pub fn start(profile: &Profile) -> Self {
        let (server, mut stage) = (stage::server(profile), Stage::start(profile));
        let url = stage.url(profile.login);
        let routing: &[&str] = match profile.behind {
            Behind::Server | Behind::Cluster => &[],
            Behind::Replicas | Behind::Sentinels => &["--routing.reads", "prefer-replica"],
        };
        let nearhit = Nearhit::serve_with(&url, &[CACHE_ALL, routing, profile.nearhit].concat());
        stage.wait_until_found(&nearhit);
        match profile.behind {
            _ if !profile.cached => {}
            Behind::Cluster => wait_for_tracking(&nearhit),
            _ => wait_for_cache(&nearhit),
        }
        let (caged, keys) = match profile.behind {
            Behind::Cluster => (false, CANARIES),
            _ => (true, CANARY),
        };
        let client = profile.cached.then(|| {
            let mut client = nearhit.connect();
            if caged {
                client.lines_ok(&[&format!("SELECT {CAGE}")]);
            }
            client
        });
        // After everything that counts: what nearhit holds at the server is none of the test's.
        let proxied = Side::new(stage.primaries(), nearhit.addr(), profile.password);
        Self {
            direct: Side::new(std::slice::from_ref(&server), server.addr(), profile.password),
            proxied,
            canary: Canary {
                client,
                sung: 0,
                keys,
                caged,
            },
            heard: Vec::new(),
            patience: SOON,
            nearhit,
            password: profile.password,
            stage,
            _server: server,
        }
    }

    /// Reads that were answered from memory so far.
    pub fn hits(&self) -> f64 {
        hits(&self.nearhit)
    }

    /// Another node takes the place of the primary behind nearhit.
    pub fn fail_over(&mut self) {
        self.stage.fail_over();
        self.stage.wait_until_found(&self.nearhit);
        self.proxied = Side::new(self.stage.primaries(), self.nearhit.addr(), self.password);
    }

    /// Runs a sequence from a clean start to a clean end.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.start_over().map_err(|reason| Failure { step: 0, reason })?;
        for (step, what) in steps.iter().enumerate() {
            self.step(step, what).map_err(|reason| Failure { step, reason })?;
        }
        self.end(steps.len()).map_err(|reason| Failure {
            step: steps.len(),
            reason,
        })
    }

    fn start_over(&mut self) -> Result<(), String> {
        self.heard.clear();
        self.direct.clear();
        self.proxied.clear();
        self.direct.count_anew()?;
        until("nearhit to let go of what its clients had", || {
            self.proxied.waiting() == [0; 4]
        })?;
        let clean = [
            "SELECT 0",
            "FLUSHALL",
            "SCRIPT FLUSH",
            "FUNCTION FLUSH",
            "ACL DELUSER tmp",
        ];
        let clean: Vec<Vec<_>> = clean.iter().map(|line| line.split(' ').collect()).collect();
        self.foreign(&clean)
    }

    fn step(&mut self, step: usize, what: &Step) -> Result<(), String> {
        match what {
            Step::Send(send) => self.send(step, send),
            Step::Leave { connection } => {
                self.direct.talks[*connection] = None;
                self.proxied.talks[*connection] = None;
                self.direct.left()?;
                self.follow(step, *connection, Alike::Exact)
            }
            Step::Foreign { requests } => {
                self.foreign(requests)?;
                // Who waited for it hears it.
                self.direct.handled(None, false)?;
                self.follow(step, 0, Alike::Exact)
            }
        }
    }

    fn send(&mut self, step: usize, send: &Send) -> Result<(), String> {
        self.direct.talk(send.connection);
        self.proxied.talk(send.connection);
        let bytes = self.direct.bytes(&send.requests);
        for piece in pieces(&bytes, send) {
            self.direct.write(send.connection, piece);
        }
        self.direct.handled(Some(send.connection), send.timed)?;
        let bytes = self.proxied.bytes(&send.requests);
        for piece in pieces(&bytes, send) {
            self.proxied.write(send.connection, piece);
        }
        self.follow(step, send.connection, send.alike)?;
        if send.hidden {
            self.heed()?;
        }
        Ok(())
    }

    /// Waits until nearhit's side has said as much as the server, and compares.
    fn follow(&mut self, step: usize, connection: usize, alike: Alike) -> Result<(), String> {
        let waiting = self.direct.waiting();
        let (direct, proxied) = (&mut self.direct, &mut self.proxied);
        let (mut idle, mut complete) = (false, false);
        let deadline = now().after(self.patience);
        while !complete && now() < deadline {
            proxied.listen();
            idle = direct.talks.iter().zip(&proxied.talks).all(|pair| match pair {
                (Some(direct), Some(proxied)) => proxied.has_said_as_much_as(direct),
                _ => true,
            });
            complete = idle && proxied.waiting() == waiting;
        }
        proxied.read();
        let mut different = None;
        for (at, pair) in self.direct.talks.iter_mut().zip(&mut self.proxied.talks).enumerate() {
            let (Some(direct), Some(proxied)) = pair else { continue };
            let alike = if at == connection { alike } else { Alike::Exact };
            let same = wanted::same(direct.fresh(), proxied.fresh(), alike);
            if !same || direct.closed != proxied.closed {
                different.get_or_insert(at);
            }
            let [close, closed] = [&*direct, &*proxied].map(|talk| if talk.closed { "<closed>" } else { "" });
            self.heard.push(Heard {
                step,
                connection: at,
                direct: [direct.fresh(), close.as_bytes()].concat(),
                proxied: [proxied.fresh(), closed.as_bytes()].concat(),
            });
            direct.compared = direct.heard.len();
            proxied.compared = proxied.heard.len();
        }
        match different {
            Some(at) => Err(format!("connection {at} heard something else")),
            None if complete => Ok(()),
            None if idle => Err(format!(
                "[blocked clients, channels, patterns, shard channels] are {:?} at the server behind nearhit, not {waiting:?}",
                self.proxied.waiting()
            )),
            None => Err("nearhit did not answer in time".to_owned()),
        }
    }

    /// The same words to both servers, past nearhit; afterwards nearhit knows.
    fn foreign<A: AsRef<[u8]>>(&mut self, requests: &[Vec<A>]) -> Result<(), String> {
        self.canary.prime()?;
        for words in requests {
            let (direct, proxied) = (self.direct.ask(words), self.proxied.ask(words));
            if !wanted::same(&direct, &proxied, Alike::Exact) {
                return Err(format!(
                    "the servers differ: {} and {}",
                    direct.escape_ascii(),
                    proxied.escape_ascii()
                ));
            }
        }
        self.sing()
    }

    /// Waits until nearhit has heeded every message of its server so far.
    fn heed(&mut self) -> Result<(), String> {
        self.canary.prime()?;
        self.sing()
    }

    /// Changes the canary, and waits until nearhit knows, and until replicas have it, too.
    fn sing(&mut self) -> Result<(), String> {
        let replicas = self.stage.replicas();
        if replicas > 0 {
            self.proxied.replicas_follow(replicas)?;
        }
        let Some(client) = &mut self.canary.client else {
            return Ok(());
        };
        self.canary.sung += 1;
        let song = self.canary.sung.to_string();
        let (caged, keys) = (self.canary.caged, self.canary.keys);
        for side in [&mut self.direct, &mut self.proxied] {
            if caged {
                side.ask(&["SELECT", CAGE]);
            }
            for key in keys {
                side.ask(&["SET", key, &song]);
            }
            if caged {
                side.ask(&["SELECT", "0"]);
            }
        }
        until("nearhit to hear of a write past it", || {
            keys.iter().all(|key| client.cmd(&["GET", key]) == *song)
        })
    }

    /// Every connection ends, and both servers hold the same.
    fn end(&mut self, step: usize) -> Result<(), String> {
        for at in 0..self.direct.talks.len() {
            let open = self.direct.talks[at].as_ref().is_some_and(|talk| !talk.closed);
            if !open || self.direct.is_blocked(at) {
                continue;
            }
            for words in [["RESET"], ["QUIT"]] {
                self.direct.write(at, &encode(&words));
            }
            self.direct.handled(Some(at), false)?;
            self.proxied.write(at, &encode(&["RESET"]));
            self.proxied.write(at, &encode(&["QUIT"]));
            self.follow(step, at, Alike::Exact)?;
        }
        let digests = [&mut self.direct, &mut self.proxied].map(Side::digest);
        match digests[0] == digests[1] {
            true => Ok(()),
            false => Err("the servers hold different data".to_owned()),
        }
    }
}

impl Canary {
    /// Waits until the canary is cached, so that only a message of the server can end that.
    fn prime(&mut self) -> Result<(), String> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let keys = self.keys;
        let mut is_cached = |key: &str| {
            client.cmd(&["GET", key]);
            let report = client.cmd(&["PROXY", "INSPECT", key]).items();
            let cached = report
                .iter()
                .position(|item| *item == "cached")
                .map(|at| &report[at + 1]);
            matches!(cached, Some(Reply::Int(1) | Reply::Bool(true)))
        };
        until("the canary to be cached", || keys.iter().all(|key| is_cached(key)))
    }
}

/// The bytes in pieces of random size.
fn pieces<'b>(mut bytes: &'b [u8], send: &Send) -> Vec<&'b [u8]> {
    let mut dice = Dice(send.cuts);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let at = match send.piece >= bytes.len() {
            true => bytes.len(),
            false => 1 + dice.below(send.piece),
        };
        let (piece, rest) = bytes.split_at(at);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
