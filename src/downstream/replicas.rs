//! Reads that replicas answer: a worker's connections to them, and what such a read means to its session.
//!
//! Until a replica has answered, no command of the session on the same keys leaves (rule H): the replica may be slower
//! than the master, and then a later write would be seen by an earlier read. A script may read keys that it does not name, so
//! for one nothing may be on its way, nothing leaves until it is answered, and all that the session has seen must be there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::attribute::Source;
use super::forward::{Forwarded, Op};
use super::request::{Flow, Turn};
use super::session::Core;
use crate::cache::RecentKeys;
use crate::command::{Command, Effect};
use crate::config::Address;
use crate::metrics::{Label, RouteReason, RouteTo, WorkerRecorder};
use crate::resp::{Request, Version};
use crate::time::{self, Instant};
use crate::topology::{Asked, Choice, Node, Objection, Route, Routing, Seen};
use crate::upstream::{Connection, Gauges, Identity, Pool, PoolSettings};

/// What is special about a read that a replica is asked.
#[derive(Debug)]
pub(super) struct AtReplica {
    pub(super) choice: Choice,
    /// The script or function that it may not have ([`Replicas::lacks_script`]).
    pub(super) script: Option<u64>,
}

/// How often a session is sent to the master for what it has seen before it waits for a replica instead. Chosen, not measured.
const OFTEN: u32 = 8;
/// How long it waits at most. A look at the nodes takes a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long it does not wait again. Chosen: then it waits for a twentieth of its time at most.
const REST: Duration = Duration::from_secs(1);
/// How long a replica that said it has not got a script is not asked for it again. Chosen, not measured: a script that never
/// comes there is asked for in vain once in so long by each worker.
const SCRIPT_REST: Duration = Duration::from_secs(10);
/// How many such scripts are remembered.
const SCRIPTS: usize = 256;

/// How a session that reads without a pause comes from the master to a replica. Each of its reads shows it something newer than
/// any replica is known to have; so once in a while a read waits until one is.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// Reads in a row that went to the master for what was seen.
    refused: u32,
    /// Until then it waits.
    until: Option<Instant>,
    /// Until then it does not.
    rest: Instant,
}

impl Moving {
    /// Another read must go to the master for what was seen; whether it waits instead.
    fn waits(&mut self, now: Instant) -> bool {
        match self.until {
            Some(until) if now < until => true,
            Some(_) => {
                self.over(now);
                false
            }
            None => {
                self.refused += 1;
                let waits = self.refused >= OFTEN && now >= self.rest;
                self.until = waits.then(|| now.after(PATIENCE));
                waits
            }
        }
    }

    /// A read goes to a replica, or has waited in vain.
    fn over(&mut self, now: Instant) {
        self.refused = 0;
        if self.until.take().is_some() {
            self.rest = now.after(REST);
        }
    }
}

/// One worker's connections to replicas.
pub struct Replicas {
    /// They have to be told that a client of a cluster knows what it reads.
    in_cluster: bool,
    settings: PoolSettings,
    gauges: Arc<Gauges>,
    recorder: Arc<WorkerRecorder>,
    /// Looked into for every read that a replica answers, so with a fast hash; clients do not choose the addresses.
    pools: RefCell<HashMap<Address, Pool<Forwarded>, foldhash::fast::RandomState>>,
    /// Scripts that replicas do not have.
    scripts: RecentKeys,
}

impl Replicas {
    /// No connections yet; they will be like those of `master`.
    pub(super) fn new(master: &Pool<Forwarded>, in_cluster: bool) -> Self {
        let (settings, gauges, recorder) = master.parts();
        Self {
            in_cluster,
            settings,
            gauges,
            recorder,
            pools: RefCell::default(),
            scripts: RecentKeys::new(SCRIPTS, SCRIPT_REST),
        }
    }

    /// The replica said that it has not got a script or function, of whose name this is the hash. Scripts do not come with
    /// the stream of replicated commands; functions do, late.
    pub(super) fn lacks_script(&self, choice: &Choice, script: u64, now: Instant) {
        self.scripts.see(at_source(choice, script), now);
    }

    /// Whether it said so a moment ago.
    fn is_without(&self, choice: &Choice, script: u64, now: Instant) -> bool {
        self.scripts.knows(at_source(choice, script), now)
    }

    /// The shared connection to a replica, which may not be up yet; `Err`: why there is none.
    fn connection(
        &self,
        node: &Node,
        identity: &Identity,
        db: u32,
        version: Version,
    ) -> Result<Connection<Forwarded>, RouteReason> {
        let mut pools = self.pools.borrow_mut();
        let shared = match pools.get_mut(node.address()) {
            Some(pool) => pool.shared(identity, db, version),
            None => {
                let settings = PoolSettings {
                    address: Some(node.address().clone()),
                    // It may say that it cannot answer.
                    keeps_requests: true,
                    reads_replica: self.in_cluster,
                    ..self.settings.clone()
                };
                let pool = Pool::new(settings, Arc::clone(&self.gauges), Arc::clone(&self.recorder));
                pools
                    .entry(node.address().clone())
                    .or_insert(pool)
                    .shared(identity, db, version)
            }
        };
        shared.map_err(|_| RouteReason::Away)
    }

    /// Tells waiters whose replies are late.
    pub(super) fn check_late(&self, now: Instant) {
        self.pools.borrow().values().for_each(|pool| pool.check_late(now));
    }

    /// Gives up connections to nodes that are no replicas any more or do not answer: what waits there is asked of the
    /// master. Call it about ten times a second.
    pub fn tidy(&self, routing: &Routing, now: Instant) {
        let groups = routing.groups();
        self.pools.borrow_mut().retain(|address, pool| {
            pool.tidy(now);
            let mut replicas = groups.values().flat_map(|routes| &routes.replicas);
            let node = replicas.find(|node| node.address() == address);
            let objection = node.map(|node| node.objection(routing.rules().max_lag, now));
            match objection {
                None => pool.leave("the node is no replica any more"),
                Some(Some(Objection::Unreachable)) => pool.leave("the replica does not answer"),
                Some(_) => {}
            }
            objection.is_some()
        });
    }

    /// Closes every connection.
    pub fn close(&self) {
        self.pools.borrow_mut().values_mut().for_each(Pool::close);
    }
}

/// The hash of a script's name, at one life of one node.
fn at_source(choice: &Choice, script: u64) -> u64 {
    // 2⁶⁴ divided by the golden ratio: spreads small numbers over all bits.
    script ^ u64::from(choice.source.number()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Core {
    /// The session was told of these keys what the master said, or what memory did, at `now` or before.
    pub(super) fn saw_at_master(&mut self, keys: &[u64], now: Instant) {
        match &mut self.seen {
            Some(seen) => keys.iter().for_each(|&key| seen.at_primary(key, now)),
            None => self.has_seen = true,
        }
    }
}

impl Turn<'_> {
    /// Sends a read that memory does not answer to the node that is to answer it.
    pub(super) fn send_read(&mut self, op: Op, command: &Command, request: &Request<'_>) -> Flow {
        if let Some(routing) = self.context.shared.routing.clone() {
            let (to, why) = match self.route(&routing, command, request) {
                Route::Primary(why) => (RouteTo::Primary, why),
                Route::Nobody(why) => (RouteTo::Nobody, why),
                Route::Replica(choice, why) => {
                    let script = command
                        .runs_by_name()
                        .then(|| self.context.shared.cache.hash(request.arg(1)));
                    let at = AtReplica { choice, script };
                    match self.connection_to(&at, why) {
                        Ok(connection) => {
                            self.core.moving.over(self.now);
                            self.count_route(RouteTo::Replica, why);
                            self.send_to_replica(op, request, at, &connection);
                            return Flow::Next;
                        }
                        Err(why) => (RouteTo::Primary, why),
                    }
                }
            };
            if matches!(why, RouteReason::Written | RouteReason::Seen) {
                self.context.shared.hurry.wish();
            }
            if why == RouteReason::Seen && self.core.moving.waits(self.now) {
                self.wake_when_caught_up(&routing);
                return Flow::Hold;
            }
            self.count_route(to, why);
            if to == RouteTo::Nobody {
                self.refuse(op.command, nobody_answers(why));
                return Flow::Next;
            }
        }
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// Wakes the session at the next news of a replica.
    fn wake_when_caught_up(&self, routing: &Routing) {
        let (groups, owner) = (routing.groups(), self.node);
        let (session, deadline) = (Rc::downgrade(self.session), self.now.after(PATIENCE));
        tokio::task::spawn_local(async move {
            let replicas = || groups.get(&owner).into_iter().flat_map(|routes| &routes.replicas);
            let known = || replicas().map(|node| node.caught_up()).max();
            let before = known();
            while known() == before && time::now() < deadline {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if let Some(session) = session.upgrade() {
                session.wake();
            }
        });
    }

    fn count_route(&self, to: RouteTo, why: RouteReason) {
        self.context.shared.metrics.routed_reads.inc((to, why));
    }

    /// Where the request in hand goes, a read.
    fn route(&mut self, routing: &Routing, command: &Command, request: &Request<'_>) -> Route {
        // From here on everything the session sees is noted.
        let before = if self.core.has_seen { self.now } else { Instant::ZERO };
        let seen = self.core.seen.get_or_insert_with(|| Box::new(Seen::since(before)));
        let mut first = None;
        let told = command.for_each_key(request, |index| _ = first.get_or_insert(index));
        let (Ok(()), Some(first)) = (told, first) else {
            return Route::Primary(RouteReason::Setting);
        };
        if !command.suits_replicas(self.core.keys.len(), self.context.nodes.is_some()) {
            return Route::Primary(RouteReason::Setting);
        }
        let causality = &self.core.causality;
        let unnamed = command.effect == Effect::KeylessRead;
        let asked = Asked {
            key: request.arg(first),
            hashes: &self.core.keys,
            seen: Some(seen),
            all_seen: unnamed || causality.is_strict(),
            replicas: self.core.replicas,
            owner: self.node,
        };
        let route = routing.route(&asked, self.now);
        let free = match unnamed {
            true => causality.nothing_forwarded(),
            false => self.core.keys.iter().all(|&key| causality.may_look(key).is_ok()),
        };
        match route {
            Route::Replica(..) if !free => Route::Primary(RouteReason::Pipelined),
            route => route,
        }
    }

    fn connection_to(&self, at: &AtReplica, why: RouteReason) -> Result<Connection<Forwarded>, RouteReason> {
        let AtReplica { choice, script } = at;
        if script.is_some_and(|script| self.context.replicas.is_without(choice, script, self.now)) {
            return Err(RouteReason::Script);
        }
        let (identity, db, version) = (self.core.account.identity(), self.core.db, self.core.version);
        let connection = self.context.replicas.connection(&choice.node, identity, db, version)?;
        // A replica that was started again is another one: what is known of it was true of this connection only if it was
        // asked after the connection was up, over one that it had answered before. Where it may lack anything, that does not
        // matter.
        match connection.up_since() {
            _ if why == RouteReason::Degraded => Ok(connection),
            Some(since) if since < choice.node.proved() => Ok(connection),
            _ => Err(RouteReason::Warming),
        }
    }

    fn send_to_replica(
        &mut self,
        mut op: Op,
        request: &Request<'_>,
        at: AtReplica,
        connection: &Connection<Forwarded>,
    ) {
        let frame = request.frame();
        op.words = self.words.take();
        let told = self.attribute.take().is_some();
        op.attribute = told
            .then(|| {
                self.core
                    .attribute(Source::Replica, &at.choice.node.address().to_string())
            })
            .flatten();
        op.replica = Some(Box::new(at));
        op.slot = self.slot;
        let number = self.core.pipeline.pend(self.muted);
        self.resend(op, Some(number), frame, connection);
    }

    /// Notes what memory said about the keys of the request in hand.
    pub(super) fn saw_in_memory(&mut self) {
        match &mut self.core.seen {
            Some(seen) => self.core.keys.iter().for_each(|&key| seen.at_primary(key, self.now)),
            None => self.core.has_seen = true,
        }
    }
}

fn nobody_answers(why: RouteReason) -> String {
    format!(
        "ERR nearhit: no replica can be read from now ({}) and routing.reads is \"replica\"; the command was not sent",
        why.value()
    )
}

impl Forwarded {
    /// What the request has changed, and what its client is about to see of it, for the routing of later reads.
    pub(super) fn note_effects(&self, now: Instant) {
        let Some(routing) = &self.session.context.shared.routing else {
            return;
        };
        let (op, keys) = (&self.op, self.op.keys.as_slice());
        let writes = matches!(op.effect, Effect::Write | Effect::Unknown | Effect::Admin);
        // What may be replicated and touches no key (PUBLISH) is nothing that a read could miss.
        if writes || (op.writes && !keys.is_empty()) {
            routing.written().note(keys, now);
        }
        let mut core = self.session.core.borrow_mut();
        let core = &mut *core;
        let Some(seen) = &mut core.seen else {
            core.has_seen |= op.effect != Effect::None;
            return;
        };
        match (&op.replica, op.effect) {
            (Some(replica), effect) => {
                let Choice { source, caught_up, .. } = replica.choice;
                keys.iter()
                    .for_each(|&key| seen.at_replica(key, source, caught_up, now));
                if effect == Effect::KeylessRead {
                    seen.anything_at_replica(source, caught_up, now);
                }
            }
            (None, Effect::Unknown | Effect::Admin | Effect::KeylessRead) => seen.anything(now),
            (None, _) => keys.iter().for_each(|&key| seen.at_primary(key, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_session_waits_after_some_reads_and_for_a_twentieth_of_its_time_at_most() {
        let mut moving = Moving::default();
        let refused = |moving: &mut Moving, now| (0..100).position(|_| moving.waits(ms(now)));
        assert_eq!(refused(&mut moving, 1000), Some(7));
        assert!(moving.waits(ms(1049)) && !moving.waits(ms(1050)), "in vain");
        assert_eq!(refused(&mut moving, 2049), None);
        assert!(moving.waits(ms(2050)));
        moving.over(ms(2055));
        assert_eq!(refused(&mut moving, 3054), None, "it came to a replica and back");
        assert!(moving.waits(ms(3055)));
    }
}
