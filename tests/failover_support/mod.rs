//! Failovers under load: clients that check every reply, through two nearhits at a time, beside a client that follows the
//! master itself; in a cluster, the owner of the keys.
//!
//! ```text
//! clients ─→ nearhit, cached      ─┐
//! clients ─→ nearhit, by replicas ─┼→ the nodes ←─ the fault
//!                    the observer ─┘
//! ```
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

pub mod book;
mod client;
mod observer;
mod stop;

pub use observer::Place;

use super::replica_support::wait_for_replicas;
use super::support::{Nearhit, Resp, SOON, wait_for};
use client::{Client, Shared, Tally};
use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stop::{Stop, StopOnDrop};

/// Clients of each nearhit.
const CLIENTS: usize = 3;
/// Rounds that must go well before and after a fault.
const ROUNDS: u64 = 150;
/// How long a failover may take, with sentinels that have to agree.
const LONGEST: Duration = Duration::from_secs(12);
/// What the figures may be at most, of an optimised build on an idle machine, and of others.
const OPTIMISED: bool = !cfg!(debug_assertions);
const MORE_THAN_DIRECT: Duration = Duration::from_millis(if OPTIMISED { 500 } else { 1000 });
const RECOVERY: Duration = Duration::from_millis(if OPTIMISED { 100 } else { 1000 });
/// Ten times a second it is looked whether a reply is late.
const SLOWEST: Duration = Duration::from_millis(if OPTIMISED { 1150 } else { 1500 });
/// Each worker learns for itself where the master is.
const LATE: Duration = Duration::from_millis(if OPTIMISED { 50 } else { 250 });

/// One failover at a time: they are measured.
static ALONE: Mutex<()> = Mutex::new(());

/// What the fault can see of the load, and says of itself.
pub struct Run<'a> {
    sides: &'a [Side],
    returned: Mutex<Option<Instant>>,
}

impl Run<'_> {
    /// Waits until the clients of every nearhit had a while of success.
    #[track_caller]
    pub fn go_on(&self) {
        let rounds = |side: &Side| side.shared.rounds.load(Ordering::Relaxed);
        let before: Vec<_> = self.sides.iter().map(rounds).collect();
        wait_for("rounds without an error", LONGEST, || {
            let both = self.sides.iter().zip(&before);
            both.into_iter().all(|(side, before)| rounds(side) >= before + ROUNDS)
        });
    }

    /// The master answers again, from now on.
    pub fn has_returned(&self) {
        *self.returned.lock() = Some(time::now());
    }
}

/// One nearhit and what its clients share.
struct Side {
    name: &'static str,
    proxy: Nearhit,
    shared: Shared,
}

/// What was measured at one nearhit.
#[derive(Debug)]
pub struct Figures {
    /// Acknowledged appends that are not there in the end.
    pub lost: usize,
    /// The same of the client that follows the master itself.
    pub lost_directly: usize,
}

/// Runs clients through a nearhit with a near-cache and one that reads from replicas, does `fault` among the nodes, and
/// checks and prints what came of it.
#[track_caller]
pub fn fail_over(name: &str, url: &str, place: &Place, fault: impl FnOnce(&Run<'_>)) -> Vec<Figures> {
    let _alone = ALONE.lock();
    let sides = sides(url, place);
    let run = Run {
        sides: &sides,
        returned: Mutex::new(None),
    };
    let stop = Stop::default();
    let begun = time::now();
    let (clients, observed) = std::thread::scope(|scope| {
        let stop = &stop;
        let client = |number: usize| {
            let side = &sides[number / CLIENTS];
            scope.spawn(move || Client::new(side.proxy.addr(), place, &side.shared, number).run(stop))
        };
        let clients: Vec<_> = (0..CLIENTS * sides.len()).map(client).collect();
        let observer = scope.spawn(|| observer::observe(place, stop));
        let stopping = StopOnDrop(stop);
        run.go_on();
        fault(&run);
        run.go_on();
        drop(stopping);
        let clients: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect();
        (clients, observer.join().expect("the observer"))
    });
    let ended = time::now();
    let master = wait_for("the master", SOON, || place.master(None));
    let direct = Direct::of(master, &place.tagged("observer", 0), &observed, begun, ended);
    let mut clients = clients.into_iter();
    let judged = sides.iter().map(|side| {
        let own: Vec<_> = clients.by_ref().take(CLIENTS).collect();
        let sum = Sum::of(side, own, master, *run.returned.lock(), begun, ended);
        println!("{name}, {}: {}, {}", side.name, sum.line(), direct.line());
        (sum, side)
    });
    let judged: Vec<_> = judged.collect();
    let figures = judged.into_iter().map(|(sum, side)| {
        sum.check(&format!("{name}, {}", side.name), &direct, place.returns());
        Figures {
            lost: sum.lost,
            lost_directly: direct.lost,
        }
    });
    figures.collect()
}

/// A nearhit with a near-cache and one that reads from replicas, once they know everybody.
#[track_caller]
fn sides(url: &str, place: &Place) -> [Side; 2] {
    let side = |name, args: &[&str]| Side {
        name,
        proxy: Nearhit::serve_with(url, &[args, &["--upstream.command-timeout", "1s"]].concat()),
        shared: Shared::default(),
    };
    let sides = [
        side("cached", &["--cache.admission", "always"]),
        side(
            "replicas",
            &["--cache.mode", "off", "--routing.reads", "prefer-replica"],
        ),
    ];
    for side in &sides {
        wait_for("the master to be found", SOON, || {
            side.proxy.connect().line("PING") == "PONG"
        });
    }
    wait_for_replicas(&sides[1].proxy, place.replicas());
    sides
}

/// What the observer met.
struct Direct {
    outage: Duration,
    lost: usize,
}

impl Direct {
    fn of(master: SocketAddr, key: &str, observed: &[(String, Instant)], begun: Instant, ended: Instant) -> Self {
        let there: HashSet<_> = list(&mut Resp::connect(master), key).into_iter().collect();
        let kept = observed.iter().filter(|(element, _)| there.contains(element));
        let kept: Vec<_> = kept.map(|(_, at)| *at).collect();
        Self {
            lost: observed.len() - kept.len(),
            outage: longest_gap(kept, begun, ended),
        }
    }

    fn line(&self) -> String {
        format!("direct: outage {:.3?}, lost {}", self.outage, self.lost)
    }
}

/// What the clients of one nearhit met.
struct Sum {
    tally: Tally,
    appends: usize,
    lost: usize,
    outage: Duration,
    recovery: Option<Duration>,
}

impl Sum {
    fn of(
        side: &Side,
        clients: Vec<Client<'_>>,
        master: SocketAddr,
        returned: Option<Instant>,
        begun: Instant,
        ended: Instant,
    ) -> Self {
        let (mut direct, mut through) = (Resp::connect(master), side.proxy.connect());
        let (mut tally, mut lost, mut kept, mut appends) = (Tally::default(), 0, Vec::new(), 0);
        for client in clients {
            let there: Vec<_> = list(&mut direct, &client.list_key());
            let there: Vec<usize> = there.iter().map(|element| element.parse().expect("a number")).collect();
            let (verdicts, missing) = client.appended.check(&there);
            verdicts.into_iter().for_each(|verdict| tally.note(verdict));
            lost += missing;
            appends += client.appends.len();
            let there: HashSet<_> = there.into_iter().collect();
            let is_kept = |(element, _): &&(usize, Instant)| there.contains(element);
            kept.extend(client.appends.iter().filter(is_kept).map(|(_, at)| *at));
            check_counter(&client, &mut direct, &mut tally);
            for key in client.keys() {
                let truth = direct.cmd(&["GET", &key]);
                let said = through.cmd(&["GET", &key]);
                if truth != said {
                    let what = format!("{key} is {truth:?} in the end, and nearhit says {said:?}");
                    tally.wrong.push(what);
                }
            }
            tally.add(client.tally);
        }
        kept.sort_unstable();
        let back = returned.and_then(|returned| Some((returned, *kept.iter().find(|at| **at >= returned)?)));
        Self {
            tally,
            appends,
            lost,
            recovery: back.map(|(returned, first)| first.since(returned)),
            outage: longest_gap(kept, begun, ended),
        }
    }

    fn line(&self) -> String {
        let tally = &self.tally;
        let recovery = self.recovery.map_or("none".to_owned(), |took| format!("{took:.3?}"));
        format!(
            "{} appends, wrong {}, doubled {}, lost by Redis {}, uncertain {}, refused {}, closed {}, outage {:.3?}, \
             recovery {recovery}, slowest {:.3?}, late {:.0?}",
            self.appends,
            tally.wrong.len(),
            tally.doubled.len(),
            self.lost,
            tally.uncertain,
            tally.refused,
            tally.closed,
            self.outage,
            tally.slowest.0,
            tally.late,
        )
    }

    #[track_caller]
    fn check(&self, name: &str, direct: &Direct, returns: bool) {
        let tally = &self.tally;
        let first = |all: &[String]| all.iter().take(10).cloned().collect::<Vec<_>>();
        assert!(tally.wrong.is_empty(), "{name}: wrong: {:#?}", first(&tally.wrong));
        assert!(
            tally.doubled.is_empty(),
            "{name}: doubled: {:#?}",
            first(&tally.doubled)
        );
        assert!(
            self.outage <= direct.outage + MORE_THAN_DIRECT,
            "{name}: nobody could write for {:?}, directly for {:?}",
            self.outage,
            direct.outage
        );
        assert!(
            self.recovery.is_none_or(|took| took <= RECOVERY),
            "{name}: {:?}",
            self.recovery
        );
        assert!(tally.slowest.0 <= SLOWEST, "{name}: a request took {:?}", tally.slowest);
        assert!(
            returns || tally.late <= LATE,
            "{name}: an old master was asked after {:?}",
            tally.late
        );
    }
}

fn check_counter(client: &Client<'_>, direct: &mut Resp, tally: &mut Tally) {
    let (key, counter) = (client.counter_key(), &client.counter);
    let value: i64 = direct.cmd(&["GET", &key]).text().parse().expect("a number");
    let most = counter.acknowledged + counter.uncertain;
    if value > most || value > counter.last + counter.open {
        tally.doubled.push(format!("{key} is {value} in the end: {counter:?}"));
    }
    if value < counter.last {
        tally.wrong.push(format!("{key} is {value} in the end: {counter:?}"));
    }
}

fn list(client: &mut Resp, key: &str) -> Vec<String> {
    let elements = client.cmd(&["LRANGE", key, "0", "-1"]).items();
    elements.iter().map(super::support::Reply::text).collect()
}

/// The longest time between two of these, and the ends.
fn longest_gap(mut times: Vec<Instant>, begun: Instant, ended: Instant) -> Duration {
    times.extend([begun, ended]);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1].since(pair[0]));
    gaps.max().unwrap_or_default()
}
