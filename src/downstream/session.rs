//! One client's session: its state, and what happens to it from outside its own task.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use super::account::Account;
use super::again::Again;
use super::attribute::Source;
use super::client_tracking::Redirecting;
use super::cluster::multi::Waiting;
use super::context::{Context, Peer, Ticket};
use super::door::Knocked;
use super::forward::Forwarded;
use super::home::{Fill, Home};
use super::live::{Live, Seat, Shown, letter};
use super::monitor::Watcher;
use super::pin::Pin;
use super::pipeline::Pipeline;
use super::pubsub::Listening;
use super::replicas::Moving;
use super::rights::Verdict;
use super::unready::refused_fetch;
use super::upload::Upload;
use crate::coherence::{Causality, Delivery};
use crate::command::Slot;
use crate::metrics::{Disconnect, ErrorKind, Origin, Outcome};
use crate::resp::{Version, encode, to_resp2};
use crate::time::{self, Instant};
use crate::topology::Seen;
use crate::upstream::Connection;

/// How long others may have to wait for a client that reads, but slowly. Chosen, not measured.
const PATIENCE: Duration = Duration::from_secs(1);

/// What CLIENT REPLY said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    On,
    Off,
}

/// A read that waits for the tracked connection.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) key: u64,
    pub(super) command: u16,
    pub(super) started: Instant,
    /// Where the reply will come from.
    pub(super) source: Source,
    /// In a cluster, the key's slot.
    pub(super) slot: Option<Slot>,
    /// The request, in case it must be asked over the home connection after all.
    pub(super) frame: Box<[u8]>,
}

/// The state of one session. Only its worker's thread touches it, and no borrow of it lives across a call to the pool
/// or a poll.
pub(super) struct Core {
    /// Who it is at the server.
    pub(super) account: Arc<Account>,
    pub(super) version: Version,
    pub(super) db: u32,
    pub(super) replies: Replies,
    /// CLIENT REPLY SKIP was said: the next command is not heard.
    pub(super) skip_next: bool,
    pub(super) pipeline: Pipeline,
    pub(super) causality: Causality,
    /// What is on its way on the home connection.
    pub(super) home: Home,
    /// Bytes the client was given, and how many these were when it was last told to hurry.
    pub(super) written: u64,
    written_before: u64,
    /// Connections that are not read on before this client has read more.
    pub(super) stalled: Vec<Waker>,
    /// Reads that wait for a fetch, by reply number.
    pub(super) fetching: HashMap<u64, Fetching>,
    /// What came to nothing elsewhere, to be sent over the home connection.
    pub(super) sent_home: Vec<Again>,
    /// What it is subscribed to together with others.
    pub(super) listening: Option<Box<Listening>>,
    /// Requests on their way on the hub's connection.
    pub(super) at_hub: usize,
    /// Since when it has more unread bytes than a subscriber should.
    pub(super) behind_since: Option<Instant>,
    /// The session's own connection, while it needs one.
    pub(super) pin: Option<Pin>,
    /// Connections to every node of a cluster, while they are asked something that may take its time.
    pub(super) apart: Vec<Connection<Forwarded>>,
    /// A transaction that has no connection yet.
    pub(super) multi: Option<Waiting>,
    /// A request that is passed on while it comes.
    pub(super) upload: Option<Box<Upload>>,
    /// SELECT or HELLO is on its way: which connection is home is not known until it is answered.
    pub(super) switching: bool,
    /// What became of its question to the doorman.
    pub(super) knocked: Option<Knocked>,
    /// What Redis said to the question whether the request in hand is allowed.
    pub(super) verdict: Option<Verdict>,
    /// Nothing more is read; close when everything is answered and written.
    pub(super) closing: Option<Disconnect>,
    /// Close now.
    pub(super) dead: Option<Disconnect>,
    /// CLIENT TRACKING waits for its target.
    pub(super) redirecting: Option<Box<Redirecting>>,
    /// Who wants to redirect to this session, which must have a connection of its own for that.
    pub(super) hosts: Vec<Ticket>,
    /// It gets lines of MONITOR.
    pub(super) watcher: Option<Arc<Watcher>>,
    /// CLIENT NO-EVICT ON was said.
    pub(super) no_evict: bool,
    /// It wants to know where answers come from.
    pub(super) attributes: Cell<bool>,
    /// Hits and local answers of this turn that are counted when they are written.
    pub(super) answered: Vec<(u16, Outcome, u64)>,
    /// Hashes of the current request's keys.
    pub(super) keys: Vec<u64>,
    /// It was told something of some key.
    pub(super) has_seen: bool,
    /// What it has seen, from the first read on that a replica might have answered.
    pub(super) seen: Option<Box<Seen>>,
    /// Its way from the master to a replica.
    pub(super) moving: Moving,
    /// What it said about replicas: READONLY or READWRITE.
    pub(super) replicas: Option<bool>,
}

impl Core {
    pub(super) fn new(account: Arc<Account>, db: u32) -> Self {
        Self {
            account,
            version: Version::default(),
            db,
            replies: Replies::On,
            skip_next: false,
            pipeline: Pipeline::default(),
            causality: Causality::default(),
            home: Home::default(),
            written: 0,
            written_before: 0,
            stalled: Vec::new(),
            fetching: HashMap::new(),
            sent_home: Vec::new(),
            listening: None,
            at_hub: 0,
            behind_since: None,
            pin: None,
            apart: Vec::new(),
            multi: None,
            upload: None,
            switching: false,
            knocked: None,
            verdict: None,
            closing: None,
            dead: None,
            redirecting: None,
            hosts: Vec::new(),
            watcher: None,
            no_evict: false,
            attributes: Cell::new(false),
            answered: Vec::new(),
            keys: Vec::new(),
            has_seen: false,
            seen: None,
            moving: Moving::default(),
            replicas: None,
        }
    }

    /// Counts an answer that is ready; its latency ends when it is written.
    pub(super) fn answer(&mut self, command: u16, outcome: Outcome) {
        match self.answered.last_mut() {
            Some((last, same, count)) if *last == command && *same == outcome => *count += 1,
            _ => self.answered.push((command, outcome, 1)),
        }
    }

    /// The client waits for an element that may never come, or only listens.
    pub(super) fn is_waiting(&self) -> bool {
        self.watcher.is_some() || self.pin.as_ref().is_some_and(Pin::is_waiting)
    }

    /// Whether the next request must wait for what a reply decides.
    pub(super) fn must_wait(&self) -> bool {
        // Who is to get a connection of its own, because others redirect to it, gets it when nothing is on its way.
        // What is to be asked again must not be overtaken.
        self.switching
            || !self.sent_home.is_empty()
            || !self.hosts.is_empty()
            || self.pin.as_ref().is_some_and(Pin::is_held)
    }

    /// It is the server's turn: the client was given all there is, and more is to come.
    fn awaits_server(&self) -> bool {
        self.pipeline.pending() > 0 && self.pipeline.unsent().is_empty()
    }

    /// Whether the client may send what only known clients may.
    pub(super) fn is_authenticated(&self) -> bool {
        self.account.is_authenticated()
    }

    /// A request has come back that is to be sent again. What was sent first is sent first again, even if it comes back once
    /// more while others wait.
    pub(super) fn bring_back(&mut self, again: Again) {
        let place = self.sent_home.partition_point(|waiting| waiting.number <= again.number);
        self.sent_home.insert(place, again);
    }

    /// Nothing is on its way on the home connection, and nothing waits for a fetch.
    pub(super) fn is_quiet(&self) -> bool {
        self.home.is_quiet() && self.causality.nothing_fetching()
    }
}

/// One client's session.
pub struct Session {
    pub(super) id: u64,
    pub(super) place: u32,
    pub(super) generation: u32,
    pub(super) context: Rc<Context>,
    /// What others may see of it.
    pub(super) live: Arc<Live>,
    pub(super) core: RefCell<Core>,
    /// It waits for the doorman.
    pub(super) at_door: Cell<bool>,
    /// The session's task.
    pub(super) task: Cell<Option<Waker>>,
    /// Something was read or written since the last look at it.
    pub(super) active: Cell<bool>,
    /// When it was last seen active.
    last_active: Cell<Instant>,
}

impl Session {
    /// Takes a place among the worker's sessions.
    pub(super) fn enroll(context: &Rc<Context>, mut peer: Peer) -> Rc<Self> {
        let shared = &context.shared;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let account = shared.accounts.initial();
        peer.user = account.user_name();
        let mut core = Core::new(account, shared.settings.db);
        core.home.expect(context.largest.get());
        if shared.settings.strict_sessions {
            core.causality = Causality::strict();
        }
        shared.metrics.clients_connected.inc();
        shared.metrics.client_connections.inc();
        let session = context.enroll(|place, generation| Self {
            id,
            place,
            generation,
            context: Rc::clone(context),
            live: Arc::new(Live::new(Seat {
                worker: context.worker,
                place,
                generation,
            })),
            core: RefCell::new(core),
            at_door: Cell::new(false),
            task: Cell::new(None),
            active: Cell::new(false),
            last_active: Cell::new(time::now()),
        });
        peer.live = Arc::clone(&session.live);
        shared.peers.insert(id, peer);
        session
    }

    /// Shows others what the session is like now, before the client can know of it and ask. `unread`: bytes received
    /// and not handled; `unsent`: bytes that the socket would not take.
    pub(super) fn show(&self, core: &Core, unread: usize, unsent: usize) {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut shown = Shown {
            letters: [
                (core.no_evict, letter::NO_EVICT),
                (core.watcher.is_some(), letter::MONITOR),
            ]
            .into_iter()
            .map(|(is, letter)| if is { letter } else { 0 })
            .sum(),
            queued: -1,
            subscriptions: [0; 3],
            unread: small(unread),
            unsent: small(unsent),
            redirect: -1,
        };
        if let Some(pin) = &core.pin {
            pin.show(&mut shown);
        }
        if let Some(waiting) = &core.multi {
            waiting.show(&mut shown);
        }
        if let Some(listening) = &core.listening {
            shown.letters |= letter::PUBSUB;
            shown.subscriptions = listening.counts().map(small);
        }
        self.live.show(&shown);
    }

    /// Gives the place back. Requests on their way still get their replies eaten; a connection of its own is closed, so
    /// that nothing goes on for a client that left.
    pub(super) fn leave(self: &Rc<Self>) {
        let mut core = self.core.borrow_mut();
        core.dead.get_or_insert(Disconnect::Eof);
        self.end_watching(&mut core);
        core.pipeline.give_up();
        let stalled = std::mem::take(&mut core.stalled);
        if let Some(pin) = core.pin.take() {
            pin.connection.close();
            self.context.shared.metrics.clients_pinned.dec();
        }
        core.apart.drain(..).for_each(|connection| connection.close());
        let listening = core.listening.take();
        drop(core);
        if let Some(listening) = listening {
            listening.leave(self);
        }
        stalled.into_iter().for_each(Waker::wake);
        self.context.dismiss(self.place);
        self.context.shared.peers.remove(&self.id);
        self.context.shared.metrics.clients_connected.dec();
    }

    /// Has connections read on that waited for this client, once it has read half of what it had.
    pub(super) fn resume_upstream(&self) {
        let mut core = self.core.borrow_mut();
        if core.stalled.is_empty() {
            return;
        }
        let most = self.context.shared.settings.limits.client_output_buffer.as_usize();
        // Half of what made them wait.
        if core.fill(most / 2) == Fill::Low {
            let stalled = std::mem::take(&mut core.stalled);
            drop(core);
            stalled.into_iter().for_each(Waker::wake);
        }
    }

    /// Others wait behind a reply that this client has not read for `silence`: it may go on for a moment as long as it
    /// reads, then it is closed.
    pub(super) fn hurry(&self, silence: Duration) {
        let mut core = self.core.borrow_mut();
        let written = core.written;
        let reads = written != std::mem::replace(&mut core.written_before, written);
        if !reads || silence > PATIENCE {
            core.dead.get_or_insert(Disconnect::SlowReader);
            drop(core);
            self.wake();
        }
    }

    /// Lets the session's task look again.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Wakes the session's task; to be called by that task.
    pub(super) fn waker(&self) -> Option<Waker> {
        let waker = self.task.take();
        self.task.set(waker.clone());
        waker
    }

    /// Closes the session, whatever it waits for.
    pub(super) fn kill(&self) {
        self.core.borrow_mut().dead.get_or_insert(Disconnect::Drain);
        self.wake();
    }

    /// Closes the session when it has been silent for too long.
    pub(super) fn check_idle(&self, idle: Option<Duration>, stranger: Option<Duration>, now: Instant) {
        if self.active.take() {
            self.last_active.set(now);
            return;
        }
        let mut core = self.core.borrow_mut();
        let limits = [idle, stranger.filter(|_| !core.is_authenticated())];
        let limit = limits.into_iter().flatten().min();
        let silent = now.since(self.last_active.get());
        if limit.is_none_or(|limit| silent <= limit)
            || core.is_waiting()
            || core.listening.is_some()
            || core.awaits_server()
            // It has said something, and is made to wait.
            || core.at_hub > 0
            || core.must_wait()
        {
            return;
        }
        core.dead.get_or_insert(Disconnect::Idle);
        drop(core);
        self.wake();
    }

    /// The tracked connection answered, or could not.
    pub(super) fn fetched(&self, number: u64, delivery: &Delivery) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let Some(fetching) = core.fetching.remove(&number) else {
            return;
        };
        match delivery {
            Delivery::Home => {
                let node = &self.context.shared.settings.upstream;
                let again = Again::fetch(core, number, fetching, node);
                core.bring_back(again);
            }
            Delivery::Reply(reply, shape) => {
                let fetching = match refused_fetch(&self.context, core, number, fetching, reply, time::now()) {
                    Err(fetching) => fetching,
                    Ok(again) => {
                        core.bring_back(again);
                        return self.wake();
                    }
                };
                core.causality.fetched(fetching.key);
                core.saw_at_master(&[fetching.key], time::now());
                let mut converted = Vec::new();
                let bytes: &[u8] = match core.version {
                    Version::V3 => reply,
                    Version::V2 => match to_resp2(*shape, reply, &mut converted) {
                        Ok(()) => &converted,
                        Err(error) => {
                            converted.clear();
                            encode::error(
                                &mut converted,
                                format!("ERR nearhit: the reply cannot be written in RESP2: {error}").as_bytes(),
                            );
                            &converted
                        }
                    },
                };
                core.home.learn(bytes.len());
                if let Some(attribute) = core.attribute(fetching.source, &self.context.shared.settings.upstream) {
                    core.pipeline.append(number, &attribute);
                }
                core.pipeline.complete(number, bytes);
                let outcome = if matches!(reply.first(), Some(b'-' | b'!')) {
                    Outcome::Error
                } else {
                    Outcome::Miss
                };
                let took = time::now().since(fetching.started);
                self.context.recorder.record(fetching.command, outcome, nanos(took));
            }
        }
        self.wake();
    }

    /// Answers reads whose fetch takes longer than `limit`; the reply may still fill the cache.
    pub(super) fn check_late(&self, limit: Duration, now: Instant) {
        let mut core = self.core.borrow_mut();
        if core.fetching.is_empty() {
            return;
        }
        let late = |fetching: &Fetching| now.since(fetching.started) > limit;
        let late: Vec<_> = core.fetching.extract_if(|_, fetching| late(fetching)).collect();
        if late.is_empty() {
            return;
        }
        let mut reply = Vec::new();
        encode::error(&mut reply, self.context.late_text(limit, false).as_bytes());
        for (number, fetching) in late {
            core.causality.fetched(fetching.key);
            core.pipeline.complete(number, &reply);
            core.answer(fetching.command, Outcome::Error);
            let error = (Origin::Proxy, ErrorKind::Timeout);
            self.context.shared.metrics.command_errors.inc(error);
        }
        drop(core);
        self.wake();
    }
}

/// A duration in the unit latencies are counted in.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
