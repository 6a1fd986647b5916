//! Sentinels: those that are listed, and those they know of; and the node they name.
//!
//! ```text
//! each sentinel (ask) ─ answers, announcements ┐
//!                                              ├→ Group → Topology
//! the named node (node) ─ ROLE ────────────────┘   └ another node is named: that one is asked from now on
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;

use super::ask::{Asker, Said};
use super::group::Group;
use super::node::{Heard, Report, Watched};
use super::{Discovery, Publisher, Task};
use crate::config::Address;
use crate::time;

/// What may wait to be handled: a few reports of each sentinel.
const REPORTS: usize = 64;

/// Watches what `sentinels` call `group`; see [`Discovery::watch`].
pub(super) async fn watch(discovery: Arc<Discovery>, sentinels: Vec<Address>, group: String, publisher: Publisher) {
    let (said_sender, mut said) = mpsc::channel(REPORTS);
    let (report_sender, mut reports) = mpsc::channel(REPORTS);
    let mut watcher = Watcher {
        discovery,
        name: group,
        group: Group::default(),
        seats: Vec::new(),
        named: None,
        said: said_sender,
        reports: report_sender,
        was_heard: true,
    };
    for sentinel in sentinels {
        watcher.sit(sentinel, true, None);
    }
    let doubt = Arc::clone(&watcher.discovery.doubt);
    let mut doubted = std::pin::pin!(doubt.due());
    loop {
        // Biased: what sentinels announce takes a node out, and must not wait behind what that node says itself.
        tokio::select! {
            biased;
            Some((sentinel, said)) = said.recv() => watcher.take(&sentinel, said),
            Some(report) = reports.recv() => watcher.node_says(&report),
            () = &mut doubted => {
                doubted.set(doubt.due());
                watcher.named.iter().for_each(|named| named.watched.nudge());
            }
            // Not reached: the watcher holds a sender of both.
            else => return,
        }
        watcher.follow();
        publisher.publish(watcher.group.topology());
    }
}

struct Watcher {
    discovery: Arc<Discovery>,
    /// What the sentinels call the group.
    name: String,
    group: Group,
    /// Sentinels that are asked.
    seats: Vec<Seat>,
    /// The node they name.
    named: Option<Named>,
    said: mpsc::Sender<(Address, Said)>,
    reports: mpsc::Sender<Report>,
    /// A sentinel could be reached the last time; that none can is logged once.
    was_heard: bool,
}

/// One sentinel.
struct Seat {
    address: Address,
    id: Option<String>,
    /// It was named by the operator, not by another sentinel.
    is_listed: bool,
    state: State,
    _task: Task,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was not asked yet.
    Unknown,
    /// It said who the primary is.
    Knows,
    /// It does not know the group.
    Ignorant,
    /// It cannot be asked.
    Lost,
}

/// The node that sentinels name.
struct Named {
    address: Address,
    watched: Watched,
    is_lost: bool,
}

impl Watcher {
    /// Begins to ask a sentinel.
    fn sit(&mut self, sentinel: Address, is_listed: bool, id: Option<String>) {
        let asker = Asker {
            discovery: Arc::clone(&self.discovery),
            sentinel: sentinel.clone(),
            group: self.name.clone(),
            persists: is_listed,
            said: self.said.clone(),
        };
        self.seats.push(Seat {
            address: sentinel,
            id,
            is_listed,
            state: State::Unknown,
            _task: Task::spawn(asker.run()),
        });
    }

    fn take(&mut self, sentinel: &Address, said: Said) {
        let now = time::now();
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.address == *sentinel) else {
            return;
        };
        match said {
            Said::Answer { answer, others } => {
                seat.id.clone_from(&answer.id);
                seat.becomes(match &answer.primary {
                    Some(_) => State::Knows,
                    None => State::Ignorant,
                });
                self.group.answered(sentinel, answer, now);
                self.meet(others);
            }
            Said::Event(event) => {
                tracing::debug!(%sentinel, ?event, "a sentinel announces something");
                self.group.announced(&event, now);
                if let Some(named) = &self.named {
                    named.watched.nudge();
                }
            }
            Said::Lost(loss) => {
                if seat.is_listed && seat.state != State::Lost {
                    tracing::warn!(%sentinel, why = %loss, "the sentinel cannot be asked");
                }
                seat.becomes(State::Lost);
                self.group.lost(sentinel);
                // One that was only announced is announced again if it is still there.
                self.seats.retain(|seat| seat.is_listed || seat.state != State::Lost);
            }
        }
        self.complain();
    }

    /// Asks sentinels that others know, too: those that are listed may be gone one day.
    fn meet(&mut self, others: Vec<(Address, Option<String>)>) {
        // Before each listed one was asked nobody knows whether it is among them under another name.
        if self
            .seats
            .iter()
            .any(|seat| seat.is_listed && seat.state == State::Unknown)
        {
            return;
        }
        for (address, id) in others {
            let knows = |seat: &Seat| seat.address == address || (id.is_some() && seat.id == id);
            if !self.seats.iter().any(knows) {
                tracing::debug!(sentinel = %address, "another sentinel is known");
                self.sit(address, false, id);
            }
        }
    }

    /// Says once that nobody can be asked any more.
    fn complain(&mut self) {
        let all_asked = self.seats.iter().all(|seat| seat.state != State::Unknown);
        let is_heard = self.group.is_heard();
        if self.was_heard && !is_heard && all_asked {
            tracing::warn!(
                group = self.name,
                "no sentinel can be asked; the topology stays as it is"
            );
            self.was_heard = false;
        }
        self.was_heard |= is_heard;
    }

    fn node_says(&mut self, report: &Report) {
        let Some(named) = self.named.as_mut().filter(|named| named.address == report.address) else {
            return;
        };
        match &report.heard {
            Heard::Says(role, _) => {
                named.is_lost = false;
                self.group.node_says(&report.address, role);
            }
            Heard::Lost(loss) => {
                if !std::mem::replace(&mut named.is_lost, true) {
                    tracing::warn!(node = %report.address, why = %loss, "the node cannot be asked for its ROLE");
                }
            }
        }
    }

    /// Has the node asked that is named now.
    fn follow(&mut self) {
        let now = self.group.named();
        if now == self.named.as_ref().map(|named| &named.address) {
            return;
        }
        self.named = now.cloned().map(|address| {
            // It may still have to learn that it is the primary.
            let eager = Arc::new(AtomicBool::new(true));
            let discovery = Arc::clone(&self.discovery);
            let watched = Watched::start(discovery, address.clone(), eager, self.reports.clone());
            Named {
                address,
                watched,
                is_lost: false,
            }
        });
    }
}

impl Seat {
    fn becomes(&mut self, state: State) {
        let sentinel = &self.address;
        match (self.state, state) {
            (State::Ignorant, State::Ignorant) => {}
            (_, State::Ignorant) => tracing::warn!(%sentinel, "the sentinel does not know the group"),
            (State::Lost, State::Knows) => tracing::info!(%sentinel, "the sentinel can be asked again"),
            _ => {}
        }
        self.state = state;
    }
}
