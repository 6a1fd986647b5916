//! What all clients of a run share: the keys, who may write now, which faults are on, and what was found.

use super::cell::{Broken, Cell, Content, Event, Outcome, Read, Seen, Tail, Ttl, Verdict, What, Write};
use super::findings::Findings;
use super::keys::KEYS;
use super::workload::{Op, Phase, kind_of};
use nearhit::command::Slot;
use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What a read may be later than the bound: the time it takes itself, on a loaded machine.
pub(super) const SLACK: Duration = Duration::from_millis(50);

/// The shared state. Counters are relaxed: they order nothing. The flags of writers are SeqCst: a writer first counts
/// itself and then looks whether it may, the fault first forbids and then looks whether anybody is there.
#[derive(Debug)]
pub(super) struct World {
    /// Begins the name of every key.
    pub(super) prefix: String,
    /// Names say which slot of a cluster they belong to.
    pub(super) tagged: bool,
    pub(super) dbs: Vec<u32>,
    /// Guards one key's history; never held while waiting for anything. Two are locked in ascending order only.
    cells: Vec<Mutex<Cell>>,
    pub(super) started: Instant,
    /// How late an acknowledged write may be seen through nearhit.
    pub(super) bound: Duration,
    /// The same for who asks the servers themselves.
    pub(super) direct_bound: Duration,
    /// Answers of different commands about one key are in order.
    pub(super) orders_commands: bool,
    ids: AtomicU64,
    sessions: AtomicU32,
    stopping: AtomicBool,
    writes_stopped: AtomicBool,
    writing: AtomicUsize,
    evicting: AtomicBool,
    clock_jumps: AtomicBool,
    /// The last SWAPDB. Held for a look at it.
    swap: Mutex<Swap>,
    faults: AtomicU64,
    pub(super) findings: Findings,
}

/// A SWAPDB. The server tells nobody of it, so only the instance it went through can know.
#[derive(Clone, Copy, Debug)]
struct Swap {
    through: usize,
    since: Instant,
    /// When the others must know, because they were told to forget everything.
    until: Instant,
}

/// A key as an operation meets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) index: usize,
    pub(super) generation: u32,
    /// Of a write: the version it makes. Of a read: the position acknowledged through the same instance.
    pub(super) number: u64,
}

impl World {
    pub(super) fn new(prefix: String, dbs: Vec<u32>, bound: Duration, findings: Findings) -> Self {
        let cells = dbs
            .iter()
            .flat_map(|_| (0..KEYS).map(|index| Mutex::new(Cell::new(kind_of(index)))));
        Self {
            cells: cells.collect(),
            orders_commands: true,
            prefix,
            tagged: false,
            dbs,
            started: time::now(),
            bound,
            direct_bound: Duration::ZERO,
            ids: AtomicU64::new(1),
            sessions: AtomicU32::new(1),
            stopping: AtomicBool::new(false),
            writes_stopped: AtomicBool::new(false),
            writing: AtomicUsize::new(0),
            evicting: AtomicBool::new(false),
            clock_jumps: AtomicBool::new(false),
            swap: Mutex::new(Swap {
                through: 0,
                since: Instant::ZERO,
                until: Instant::ZERO,
            }),
            faults: AtomicU64::new(0),
            findings,
        }
    }

    /// A number for one session; none is used twice.
    pub(super) fn new_session(&self) -> u32 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn keys(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn cell(&self, index: usize) -> Option<parking_lot::MutexGuard<'_, Cell>> {
        self.cells.get(index).map(Mutex::lock)
    }

    pub(super) fn phase(&self, now: Instant) -> Phase {
        Phase::at(now.since(self.started))
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Which faults are on, or were a moment ago; a bit each.
    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(super) fn set_faults(&self, faults: u64) {
        self.faults.store(faults, Ordering::Relaxed);
    }
}

/// Writers.
impl World {
    /// One more write is under way; refused while a fault wants none. Every `true` is followed by one [`World::leave`].
    pub(super) fn enter(&self) -> bool {
        self.writing.fetch_add(1, Ordering::SeqCst);
        let refused = self.writes_stopped.load(Ordering::SeqCst);
        if refused {
            self.leave();
        }
        !refused
    }

    pub(super) fn leave(&self) {
        self.writing.fetch_sub(1, Ordering::SeqCst);
    }

    /// From now on no write begins, until [`World::resume_writes`].
    pub(super) fn stop_writes(&self) {
        self.writes_stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn resume_writes(&self) {
        self.writes_stopped.store(false, Ordering::SeqCst);
    }

    pub(super) fn writes_are_over(&self) -> bool {
        self.writing.load(Ordering::SeqCst) == 0
    }

    /// Notes a write of one key that is about to be sent, if its session may write it now and it has an `effect` on
    /// what is there. Gives back what the write makes.
    pub(super) fn issue(
        &self,
        index: usize,
        op: Op,
        write: &Write,
        effect: impl FnOnce((Content, Ttl)) -> Option<(Content, Ttl)>,
    ) -> Option<(Part, Content, Ttl)> {
        let mut cell = self.cell(index)?;
        if !cell.may_write(write.writer, write.exclusive) {
            return None;
        }
        let (content, ttl) = effect(cell.carried())?;
        let part = self.issue_in(&mut cell, index, op, &Write { content, ttl, ..*write });
        Some((part, content, ttl))
    }

    /// Notes a RENAME or COPY of `from` onto `to`: versions of both.
    pub(super) fn issue_move(&self, from: usize, to: usize, op: Op, write: &Write) -> Option<[Part; 2]> {
        let (low, high) = (self.cell(from.min(to))?, self.cell(from.max(to))?);
        let (mut source, mut target) = if from < to { (low, high) } else { (high, low) };
        let free = source.may_write(write.writer, true) && target.may_write(write.writer, true);
        let (content, ttl) = source.carried();
        if !free || content == Content::Nothing {
            return None;
        }
        let moved = Write { content, ttl, ..*write };
        let left = match op {
            Op::Copy => moved,
            _ => Write {
                content: Content::Nothing,
                ttl: Ttl::None,
                ..*write
            },
        };
        let left = self.issue_in(&mut source, from, op, &left);
        Some([left, self.issue_in(&mut target, to, op, &moved)])
    }

    fn issue_in(&self, cell: &mut Cell, index: usize, op: Op, write: &Write) -> Part {
        let mut tails = Vec::new();
        let number = match write.content {
            Content::Held { id, .. } if op == Op::CasIncr => {
                cell.issue_value(id, write.invoked, &mut tails);
                id
            }
            _ if cell.kind.counts() => {
                cell.issue_increment(write.invoked, &mut tails);
                cell.newest()
            }
            _ => cell.issue(write, &mut tails),
        };
        if self.evicting.load(Ordering::SeqCst) {
            cell.may_vanish(write.invoked);
        }
        if self.clock_jumps.load(Ordering::SeqCst) {
            cell.may_expire(write.invoked);
        }
        self.findings.tails(&tails);
        Part {
            index,
            generation: cell.generation,
            number,
        }
    }

    /// The reply to a write of one key, or that there will be none.
    pub(super) fn settle(&self, part: &Part, op: Op, ttl: Ttl, outcome: Outcome, event: &Event) {
        let Some(mut cell) = self.cell(part.index) else { return };
        if cell.generation != part.generation {
            return;
        }
        if outcome == Outcome::Unknown {
            // Whether and when it happens nobody knows, so nothing more can be said about this name.
            let tails = cell.retire();
            self.findings.tails(&tails);
            return;
        }
        let through = event.via.filter(|_| op.is_declared());
        cell.settle(part.number, outcome, ttl, event.completed, through);
        if self.clock_jumps.load(Ordering::SeqCst) {
            cell.may_expire(event.invoked);
        }
        cell.note(*event);
    }

    /// The reply to an increment: what the counter is now.
    pub(super) fn claim(&self, part: &Part, op: Op, value: u64, read: &Read, event: &Event) -> Option<u64> {
        let mut cell = self.cell(part.index)?;
        if cell.generation != part.generation || self.evicting.load(Ordering::SeqCst) {
            return None;
        }
        let through = event.via.filter(|_| op.is_declared());
        let claimed = cell.claim(value, event.completed, through);
        let grown = 2 * value > read.read.max(read.wrote);
        let broken = claimed.err().or((!grown).then_some(Broken::LostUpdate));
        if let Some(broken) = broken {
            self.report(&cell, part, broken, read, event);
        }
        cell.note(*event);
        Some(2 * value)
    }

    /// All keys of these databases are about to vanish, while nobody writes. Counters begin anew under other names.
    pub(super) fn begin_loss(&self, dbs: &[u32]) -> Vec<Part> {
        self.begin_loss_of(|index| dbs.contains(&self.db_of(index)))
    }

    /// The same for all keys that are `meant`.
    pub(super) fn begin_loss_of(&self, meant: impl Fn(usize) -> bool) -> Vec<Part> {
        let since = time::now();
        let mut parts = Vec::new();
        for index in (0..self.keys()).filter(|index| meant(*index)) {
            let Some(mut cell) = self.cell(index) else { continue };
            if cell.kind.counts() {
                let tails = cell.retire();
                self.findings.tails(&tails);
            } else {
                parts.push(self.issue_in(&mut cell, index, Op::Fault, &fault_write(since)));
            }
        }
        parts
    }

    /// The databases are about to be swapped through an instance while nobody writes: keys will have what the other
    /// one's have.
    pub(super) fn begin_swap(&self, through: usize) -> Vec<Part> {
        let since = time::now();
        *self.swap.lock() = Swap {
            through,
            since,
            until: Instant::MAX,
        };
        let mut parts = Vec::new();
        for low in 0..KEYS.min(self.keys().saturating_sub(KEYS)) {
            let (Some(mut a), Some(mut b)) = (self.cell(low), self.cell(low + KEYS)) else {
                continue;
            };
            if a.kind.counts() || a.generation != b.generation {
                // Bring the names together again, so that they are the same in both databases.
                let tails = [a.retire(), b.retire()].concat();
                b.generation = a.generation.max(b.generation);
                a.generation = b.generation;
                self.findings.tails(&tails);
                continue;
            }
            let (here, there) = ((a.carried(), a.vanishes()), (b.carried(), b.vanishes()));
            for (index, cell, ((content, ttl), vanishes)) in [(low, &mut *a, there), (low + KEYS, &mut *b, here)] {
                let write = Write {
                    content,
                    ttl,
                    moved: true,
                    ..fault_write(since)
                };
                parts.push(self.issue_in(cell, index, Op::Fault, &write));
                // What might have vanished there might be missing here.
                cell.may_vanish(vanishes);
            }
        }
        parts
    }

    /// The other instances have been told to forget everything.
    pub(super) fn swap_is_known(&self) {
        self.swap.lock().until = time::now().after(self.bound + SLACK);
    }

    /// Whether a read met a SWAPDB of which its instance could not know.
    fn met_swap(&self, read: &Read, via: Option<usize>) -> bool {
        let swap = *self.swap.lock();
        via.is_some_and(|via| via != swap.through) && read.completed >= swap.since && read.invoked <= swap.until
    }

    /// What [`World::begin_loss`] or [`World::begin_swap`] announced has happened, or certainly not.
    pub(super) fn end_fault(&self, parts: &[Part], outcome: Outcome, through: Option<usize>) {
        let now = time::now();
        for part in parts {
            let event = Event {
                invoked: now,
                completed: now,
                session: 0,
                via: through,
                op: Op::Fault,
                what: What::Wrote(Content::Nothing, outcome),
            };
            self.settle(part, Op::Fault, Ttl::None, outcome, &event);
        }
    }

    /// The server may drop keys by itself from now on; counters are not judged again before they have new names.
    ///
    /// To end it, nobody may be writing.
    pub(super) fn set_evicting(&self, evicting: bool) {
        if evicting {
            self.evicting.store(true, Ordering::SeqCst);
        }
        let now = time::now();
        for index in 0..self.keys() {
            let Some(mut cell) = self.cell(index) else { continue };
            if evicting {
                cell.may_vanish(now);
            } else if cell.kind.counts() {
                let tails = cell.retire();
                self.findings.tails(&tails);
            }
        }
        if !evicting {
            self.evicting.store(false, Ordering::SeqCst);
        }
    }

    /// The slot is on the move, with its keys: a time to live is counted anew at the node that gets the key.
    pub(super) fn set_moving(&self, slot: Slot, moving: bool) {
        for index in (0..self.keys()).filter(|index| self.slot_of(*index) == slot) {
            if let Some(mut cell) = self.cell(index) {
                cell.set_moving(moving);
            }
        }
    }

    /// The server's wall clock jumps from now on.
    pub(super) fn set_clock_jumps(&self, jumps: bool) {
        self.clock_jumps.store(jumps, Ordering::SeqCst);
        let now = time::now();
        for index in 0..self.keys() {
            if let Some(mut cell) = self.cell(index) {
                cell.may_expire(now);
            }
        }
    }
}

/// Readers.
impl World {
    /// Notes that a key is about to be read.
    pub(super) fn meet(&self, index: usize, via: Option<usize>) -> Option<Part> {
        let cell = self.cell(index)?;
        Some(Part {
            index,
            generation: cell.generation,
            number: cell.through(via),
        })
    }

    /// Judges what was read. `None`: the key has another name by now, or nothing can be said.
    pub(super) fn judge(&self, part: &Part, read: &Read, event: &Event, seen: Seen) -> Option<Verdict> {
        let mut cell = self.cell(part.index)?;
        let unsure = cell.kind.counts() && self.evicting.load(Ordering::SeqCst);
        if cell.generation != part.generation || unsure || self.met_swap(read, event.via) {
            return None;
        }
        let judged = cell.judge(read, seen);
        match judged {
            Ok(verdict) => self.findings.read(verdict.staleness),
            Err(broken) => self.report(&cell, part, broken, read, event),
        }
        cell.note(*event);
        judged.ok()
    }

    fn report(&self, cell: &Cell, part: &Part, broken: Broken, read: &Read, event: &Event) {
        let name = self.names(part.index, part.generation, Op::Get);
        let name = name.first().map(|name| String::from_utf8_lossy(name).into_owned());
        let (name, db) = (name.unwrap_or_default(), self.db_of(part.index));
        self.findings
            .violation(broken, || cell.story(&name, db, read, event), read.faults);
    }

    /// What is left to be counted when the run is over.
    pub(super) fn close(&self) {
        for index in 0..self.keys() {
            let tails: Vec<Tail> = self.cell(index).map(|cell| cell.tails()).unwrap_or_default();
            self.findings.tails(&tails);
        }
    }
}

fn fault_write(since: Instant) -> Write {
    Write {
        writer: 0,
        content: Content::Nothing,
        ttl: Ttl::None,
        moved: false,
        exclusive: false,
        invoked: since,
    }
}
