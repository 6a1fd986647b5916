//! One client's session: its state, and what happens to it from outside its own task.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::context::{Context, Peer};
use super::pinned::Pin;
use super::pipeline::Pipeline;
use crate::coherence::{Causality, Delivery};
use crate::metrics::{Disconnect, Outcome};
use crate::resp::{Version, encode, to_resp2};
use crate::time::{self, Instant};

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
    /// The request, in case it must be asked over the home connection after all.
    pub(super) frame: Box<[u8]>,
}

/// The state of one session. Only its worker's thread touches it, and no borrow of it lives across a call to the pool
/// or a poll.
#[derive(Default)]
pub(super) struct Core {
    pub(super) version: Version,
    pub(super) db: u32,
    pub(super) replies: Replies,
    /// CLIENT REPLY SKIP was said: the next command is not heard.
    pub(super) skip_next: bool,
    pub(super) pipeline: Pipeline,
    pub(super) causality: Causality,
    /// Requests on their way on the home connection.
    pub(super) at_home: usize,
    /// Reads that wait for a fetch, by reply number.
    pub(super) fetching: HashMap<u64, Fetching>,
    /// Reads whose fetch did not work out, to be sent over the home connection.
    pub(super) sent_home: Vec<(u64, Fetching)>,
    /// The session's own connection, while it needs one.
    pub(super) pin: Option<Pin>,
    /// SELECT or HELLO is on its way: which connection is home is not known until it is answered.
    pub(super) switching: bool,
    /// Nothing more is read; close when everything is answered and written.
    pub(super) closing: Option<Disconnect>,
    /// Close now.
    pub(super) dead: Option<Disconnect>,
    /// Hits and local answers of this turn that are counted when they are written.
    pub(super) answered: Vec<(u16, Outcome, u64)>,
    /// Hashes of the current request's keys.
    pub(super) keys: Vec<u64>,
}

impl Core {
    /// Counts an answer that is ready; its latency ends when it is written.
    pub(super) fn answer(&mut self, command: u16, outcome: Outcome) {
        match self.answered.last_mut() {
            Some((last, same, count)) if *last == command && *same == outcome => *count += 1,
            _ => self.answered.push((command, outcome, 1)),
        }
    }

    /// Nothing is on its way on the home connection, and nothing waits for a fetch.
    pub(super) fn is_quiet(&self) -> bool {
        self.at_home == 0 && self.causality.nothing_fetching()
    }
}

/// One client's session.
pub struct Session {
    pub(super) id: u64,
    pub(super) place: u32,
    pub(super) generation: u32,
    pub(super) context: Rc<Context>,
    pub(super) core: RefCell<Core>,
    /// The session's task.
    pub(super) task: Cell<Option<Waker>>,
}

impl Session {
    /// Takes a place among the worker's sessions.
    pub(super) fn enroll(context: &Rc<Context>, peer: Peer) -> Rc<Self> {
        let shared = &context.shared;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let core = Core {
            db: shared.settings.db,
            ..Core::default()
        };
        shared.peers.insert(id, peer);
        context.enroll(|place, generation| Self {
            id,
            place,
            generation,
            context: Rc::clone(context),
            core: RefCell::new(core),
            task: Cell::new(None),
        })
    }

    /// Gives the place back. Requests on their way still get their replies eaten; a connection of its own is closed, so
    /// that nothing goes on for a client that left.
    pub(super) fn leave(&self) {
        let mut core = self.core.borrow_mut();
        core.dead.get_or_insert(Disconnect::Eof);
        if let Some(pin) = core.pin.take() {
            pin.connection.close();
            self.context.shared.metrics.clients_pinned.dec();
        }
        drop(core);
        self.context.dismiss(self.place);
        self.context.shared.peers.remove(&self.id);
    }

    /// Lets the session's task look again.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Closes the session, whatever it waits for.
    pub(super) fn kill(&self) {
        self.core.borrow_mut().dead.get_or_insert(Disconnect::Drain);
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
                core.sent_home.push((number, fetching));
            }
            Delivery::Reply(reply, shape) => {
                core.causality.fetched(fetching.key);
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
}

/// A duration in the unit latencies are counted in.
pub(super) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
