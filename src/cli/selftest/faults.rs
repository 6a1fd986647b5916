//! Which faults there are, which are on now, and how often each was made.

use super::workload::Random;
use super::world::World;
use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whom a fault needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing but the relays: harmless to whoever shares the server.
    Path,
    /// Nothing but the instances.
    Instance,
    /// Commands that everybody at the server feels.
    Commands,
    /// The server's process.
    Process,
    /// The replicas.
    Replica,
    /// The sentinels.
    Sentinel,
    /// The nodes of a cluster.
    Cluster,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    DelayTo,
    DelayFrom,
    /// Requests on data connections and what is said on tracked ones, each by another time.
    DelayCrossed,
    StallTrackedTo,
    StallTrackedFrom,
    StallDataTo,
    StallDataFrom,
    StallAll,
    ResetTracked,
    ResetData,
    CloseMidFrame,
    OneByteSegments,
    InstanceStop,
    InstanceKill,
    KillNormal,
    KillPubSub,
    KillTracked,
    OutputBufferLimit,
    ClientEviction,
    PauseWrite,
    PauseAll,
    DebugSleep,
    ServerStop,
    RestartEmpty,
    RestartAof,
    TrackingTable,
    ActiveExpireOff,
    Eviction,
    DebugReload,
    SwapDb,
    FlushDb,
    AclChange,
    ClockJump,
    ReplicaKill,
    ReplicaStop,
    ReplicaLink,
    /// A replica is to be sent everything once more.
    ReplicaResync,
    FailOver,
    /// A slot goes to another node and comes back.
    SlotMove,
    /// It goes there, and takes a rest half way.
    SlotHalf,
    /// Another node takes it, and the keys are gone.
    SlotTake,
    /// A replica takes its primary's place, which loses nothing.
    ClusterFailOver,
    PrimaryKill,
    PrimaryStop,
    FollowerKill,
    FlushAll,
}

/// All kinds; a fault's place here is its bit.
pub(super) const ALL: [(Fault, &str, Reach); 46] = [
    (Fault::DelayTo, "delay-to", Reach::Path),
    (Fault::DelayFrom, "delay-from", Reach::Path),
    (Fault::DelayCrossed, "delay-crossed", Reach::Path),
    (Fault::StallTrackedTo, "stall-tracked-to", Reach::Path),
    (Fault::StallTrackedFrom, "stall-tracked-from", Reach::Path),
    (Fault::StallDataTo, "stall-data-to", Reach::Path),
    (Fault::StallDataFrom, "stall-data-from", Reach::Path),
    (Fault::StallAll, "stall-all", Reach::Path),
    (Fault::ResetTracked, "reset-tracked", Reach::Path),
    (Fault::ResetData, "reset-data", Reach::Path),
    (Fault::CloseMidFrame, "close-mid-frame", Reach::Path),
    (Fault::OneByteSegments, "one-byte-segments", Reach::Path),
    (Fault::InstanceStop, "instance-stop", Reach::Instance),
    (Fault::InstanceKill, "instance-kill", Reach::Instance),
    (Fault::KillNormal, "kill-normal", Reach::Commands),
    (Fault::KillPubSub, "kill-pubsub", Reach::Commands),
    (Fault::KillTracked, "kill-tracked", Reach::Commands),
    (Fault::OutputBufferLimit, "output-buffer-limit", Reach::Commands),
    (Fault::ClientEviction, "client-eviction", Reach::Commands),
    (Fault::PauseWrite, "pause-write", Reach::Commands),
    (Fault::PauseAll, "pause-all", Reach::Commands),
    (Fault::DebugSleep, "debug-sleep", Reach::Commands),
    (Fault::ServerStop, "server-stop", Reach::Process),
    (Fault::RestartEmpty, "restart-empty", Reach::Process),
    (Fault::RestartAof, "restart-aof", Reach::Process),
    (Fault::TrackingTable, "tracking-table", Reach::Commands),
    (Fault::ActiveExpireOff, "active-expire-off", Reach::Commands),
    (Fault::Eviction, "eviction", Reach::Commands),
    (Fault::DebugReload, "debug-reload", Reach::Commands),
    (Fault::SwapDb, "swapdb", Reach::Commands),
    (Fault::FlushDb, "flushdb", Reach::Commands),
    (Fault::AclChange, "acl-change", Reach::Commands),
    (Fault::ClockJump, "clock-jump", Reach::Process),
    (Fault::ReplicaKill, "replica-kill", Reach::Replica),
    (Fault::ReplicaStop, "replica-stop", Reach::Replica),
    (Fault::ReplicaLink, "replica-link", Reach::Replica),
    (Fault::ReplicaResync, "replica-resync", Reach::Replica),
    (Fault::FailOver, "failover", Reach::Sentinel),
    (Fault::SlotMove, "slot-move", Reach::Cluster),
    (Fault::SlotHalf, "slot-half", Reach::Cluster),
    (Fault::SlotTake, "slot-take", Reach::Cluster),
    (Fault::ClusterFailOver, "cluster-failover", Reach::Cluster),
    (Fault::PrimaryKill, "primary-kill", Reach::Cluster),
    (Fault::PrimaryStop, "primary-stop", Reach::Cluster),
    (Fault::FollowerKill, "follower-kill", Reach::Cluster),
    (Fault::FlushAll, "flushall", Reach::Cluster),
];

impl Fault {
    fn index(self) -> usize {
        ALL.iter().position(|(fault, ..)| *fault == self).unwrap_or(0)
    }

    pub(super) fn name(self) -> &'static str {
        ALL.get(self.index()).map_or("", |row| row.1)
    }

    pub(super) fn reach(self) -> Reach {
        ALL.get(self.index()).map_or(Reach::Process, |row| row.2)
    }
}

/// The faults a mask of bits names.
pub(super) fn names(mask: u64) -> String {
    let on = ALL.iter().enumerate().filter(|(index, _)| mask >> index & 1 == 1);
    let names: Vec<_> = on.map(|(_, row)| row.1).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// What a lane makes next: all its faults in an order by chance, again and again.
#[derive(Debug)]
pub(super) struct Order {
    faults: Vec<Fault>,
    round: Vec<Fault>,
}

impl Order {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self {
            faults,
            round: Vec::new(),
        }
    }

    /// `None`: the run is over, or there is none at all.
    pub(super) fn next(&mut self, random: &mut Random, world: &World) -> Option<Fault> {
        if world.is_stopping() {
            return None;
        }
        if self.round.is_empty() {
            self.round.clone_from(&self.faults);
            random.shuffle(&mut self.round);
        }
        self.round.pop()
    }
}

/// How long after its end a fault is still blamed for late reads: what it broke takes time to mend.
const LINGER: Duration = Duration::from_millis(1500);

/// Which faults are on, and how often each was.
#[derive(Debug)]
pub(super) struct Marks {
    /// Until when each counts as on. Held for a store or a look at all.
    until: Mutex<[Instant; ALL.len()]>,
    counts: [AtomicU64; ALL.len()],
    /// Why some were not made. Held for an insertion.
    skipped: Mutex<BTreeMap<&'static str, String>>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            until: Mutex::new([Instant::ZERO; ALL.len()]),
            counts: [const { AtomicU64::new(0) }; ALL.len()],
            skipped: Mutex::default(),
        }
    }
}

impl Marks {
    pub(super) fn begin(&self, fault: Fault, world: &World) {
        self.set(fault, Instant::MAX);
        self.refresh(world);
    }

    /// The fault is over: it was made, or not, and why.
    pub(super) fn end(&self, fault: Fault, made: Result<(), String>) {
        self.set(fault, time::now().after(LINGER));
        match made {
            Ok(()) => {
                if let Some(count) = self.counts.get(fault.index()) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(why) => self.skip(fault, why),
        }
    }

    pub(super) fn skip(&self, fault: Fault, why: String) {
        self.skipped.lock().insert(fault.name(), why);
    }

    fn set(&self, fault: Fault, until: Instant) {
        if let Some(mark) = self.until.lock().get_mut(fault.index()) {
            *mark = until;
        }
    }

    /// Tells the clients which faults are on; to be called every few milliseconds.
    pub(super) fn refresh(&self, world: &World) {
        let now = time::now();
        let until = *self.until.lock();
        let on = until.iter().enumerate().filter(|(_, until)| **until > now);
        world.set_faults(on.fold(0, |mask, (index, _)| mask | 1 << index));
    }

    /// How often each fault was made, in the order of [`ALL`].
    pub(super) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn skipped(&self) -> BTreeMap<&'static str, String> {
        self.skipped.lock().clone()
    }
}
