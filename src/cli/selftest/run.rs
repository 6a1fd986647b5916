//! One run from its first process to its report.

use super::Failure;
use super::client::{self, Seat};
use super::cluster::Cluster;
use super::converge;
use super::faults::{Fault, Marks, Order, Reach};
use super::findings::Findings;
use super::modes;
use super::nodes::{Nodes, Servers};
use super::options::Options;
use super::path_faults::PathLane;
use super::proof::Proof;
use super::relay::Relay;
use super::report::Report;
use super::server_faults::{self, GUEST, ServerLane};
use super::servers::{Instance, Place, Redis, Target};
use super::topology::Topology;
use super::workload::Random;
use super::world::World;
use nearhit::resp::Version;
use nearhit::time;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// Clients that work directly at the server.
const FOREIGN: usize = 4;
/// Threads for the clients of nearhit.
const THREADS: usize = 2;
/// Between two looks of the one who watches.
const TICK: Duration = Duration::from_millis(20);
/// How long a server with libfaketime may take to answer; some never do.
const FAKETIME_START: Duration = Duration::from_secs(3);
/// Ticks between two lines of progress.
const PROGRESS: u64 = 25;

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) violated: bool,
    pub(super) weak: bool,
}

/// Makes one run; everything it started is stopped when this returns.
pub(super) fn blocking(options: &Options) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("start a runtime: {error}")))?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<Ended, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("nearhit-selftest-")
        .tempdir()
        .map_err(|error| Failure::new(format!("make a temporary directory: {error}")))?;
    let marks = Marks::default();
    let mut stage = Stage::build(options, dir.path(), &marks).await?;
    let outcome = perform(options, &mut stage, &marks).await;
    stage.clean().await;
    outcome
}

/// The processes of a run.
struct Stage {
    servers: Servers,
    target: Target,
    relays: Vec<Relay>,
    instances: Vec<Instance>,
    world: Arc<World>,
    faults: Vec<Fault>,
}

impl Stage {
    async fn build(options: &Options, dir: &Path, marks: &Marks) -> Result<Self, Failure> {
        let mut faults = options.faults.clone();
        let (servers, first_db) = match &options.upstream {
            Some((target, db, _)) => (Servers::Foreign(target.clone()), *db),
            None => (start_servers(options, dir, &mut faults, marks).await?, 0),
        };
        let target = servers.target();
        let version = target.command("PING").await;
        version.map_err(|error| Failure::new(format!("ask {}: {error}", target.addr.now())))?;
        let prefix = match servers.are_ours() {
            true => String::new(),
            false => format!("__nearhit_selftest:{}:", time::unix_micros()),
        };
        let findings = Findings::new(super::faults::ALL.len());
        let bound = options.bound + options.topology.lag();
        let dbs = (first_db..).take(options.topology.databases()).collect();
        let mut world = World::new(prefix, dbs, bound, findings);
        world.tagged = options.topology == Topology::Cluster;
        world.direct_bound = options.topology.direct_bound();
        world.orders_commands = modes::orders_commands(options.mode.as_deref());
        let mut stage = Self {
            servers,
            target,
            relays: Vec::new(),
            instances: Vec::new(),
            world: Arc::new(world),
            faults,
        };
        stage.start_instances(options, dir).await?;
        Ok(stage)
    }

    async fn start_instances(&mut self, options: &Options, dir: &Path) -> Result<(), Failure> {
        // Without faults of the way there is no relay: it costs time, and the staleness is measured.
        let relayed = self.faults.iter().any(|fault| fault.reach() == Reach::Path);
        for number in 0..options.instances {
            let addr = if relayed {
                let relay = start_relay(self.target.addr.now())?;
                let addr = format!("127.0.0.1:{}", relay.port);
                self.relays.push(relay);
                addr
            } else {
                self.target.addr.now()
            };
            let url = self.servers.url().unwrap_or_else(|| upstream(options, &addr));
            let dir = dir.join(format!("nearhit-{number}"));
            let mut instance = Instance::new(dir, &url, &settings(options, number))?;
            instance.start().await?;
            self.instances.push(instance);
        }
        Ok(())
    }

    /// Stops everything, and removes what was written to somebody else's server.
    async fn clean(self) {
        for mut instance in self.instances {
            instance.process.stop().await;
        }
        let mut servers = self.servers;
        match servers.are_ours() {
            true => servers.stop().await,
            false => remove_keys(&self.world, &self.target).await,
        }
    }
}

/// Starts the servers of a run; takes a fault from the list that they do not bear.
async fn start_servers(
    options: &Options,
    dir: &Path,
    faults: &mut Vec<Fault>,
    marks: &Marks,
) -> Result<Servers, Failure> {
    let program = super::super::sandbox::find_server(options.redis_server.clone())
        .map_err(|failure| Failure::new(failure.message))?;
    let args = modes::server_args(options.mode.as_deref());
    if options.topology == Topology::Cluster {
        return Cluster::start(&program, dir, args).await.map(Servers::Cluster);
    }
    let faketime = server_faults::faketime().filter(|_| faults.contains(&Fault::ClockJump));
    let redis = start_redis(program.clone(), dir, args, faketime).await?;
    if faults.contains(&Fault::ClockJump) && redis.faketime.is_none() {
        let why = "libfaketime is not installed, or this server does not start with it".to_owned();
        marks.skip(Fault::ClockJump, why);
        faults.retain(|fault| *fault != Fault::ClockJump);
    }
    let nodes = Nodes::around(redis, &program, dir, args, options.topology).await?;
    Ok(Servers::Group(Box::new(nodes)))
}

/// Starts a server, with libfaketime if there is one and the server bears it.
async fn start_redis(
    program: PathBuf,
    dir: &Path,
    args: &'static [&'static str],
    faketime: Option<PathBuf>,
) -> Result<Redis, Failure> {
    let mut redis = Redis::new(program, dir.join("redis"), args, faketime)?;
    if redis.faketime.is_some() {
        if let Ok(Ok(())) = timeout(FAKETIME_START, redis.start(&[])).await {
            return Ok(redis);
        }
        redis.process.kill().await;
        redis.faketime = None;
    }
    redis.start(&[]).await?;
    Ok(redis)
}

/// The URL of an instance: that of the server, at the relay's address.
fn upstream(options: &Options, addr: &str) -> String {
    let Some((_, db, url)) = &options.upstream else {
        return format!("redis://{addr}");
    };
    let encode = |bytes: &[u8]| percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
    let (user, password) = (encode(url.username.as_bytes()), encode(url.password.reveal()));
    match user.is_empty() && password.is_empty() {
        true => format!("redis://{addr}/{db}"),
        false => format!("redis://{user}:{password}@{addr}/{db}"),
    }
}

fn settings(options: &Options, number: usize) -> Vec<String> {
    let mut settings = vec!["--server.threads".to_owned(), "2".to_owned()];
    if !number.is_multiple_of(2) {
        // One instance as it is by default, one that stores whatever it may.
        settings.extend(["--cache.admission".to_owned(), "always".to_owned()]);
    }
    if let Some(mode) = &options.mode {
        settings.extend(["--invalidation.mode".to_owned(), mode.clone()]);
    }
    settings.extend(options.topology.instance_args(number).iter().map(ToString::to_string));
    settings.extend(modes::instance_args(options.mode.as_deref(), options.bound));
    settings
}

/// A relay on a thread of its own: what it delays shall not delay the clients.
fn start_relay(server: String) -> Result<Relay, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("start a relay: {error}"));
    let (sender, receiver) = std::sync::mpsc::channel();
    let start = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            drop(sender.send(Relay::start(server).await));
            // It ends with the process.
            std::future::pending::<()>().await;
        });
        Ok(())
    };
    std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(start)
        .map_err(|error| failed(&error))?;
    receiver
        .recv()
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))
}

async fn perform(options: &Options, stage: &mut Stage, marks: &Marks) -> Result<Ended, Failure> {
    let seats = seats(options, stage);
    let clients = start_clients(options, &stage.world, &seats)?;
    let proof = Mutex::new(Proof::new(stage.instances.len()));
    let began = time::now();
    let lanes = make_faults(options, stage, marks, &proof).await;
    // Whatever happened, the clients come to their end before anything is stopped.
    stage.world.stop();
    let mut panicked = false;
    for client in clients {
        panicked |= client.join().is_err();
    }
    let took = time::now().since(began);
    lanes?;
    if panicked {
        return Err(Failure::new("a client of the checker panicked".to_owned()));
    }
    sleep(stage.world.bound + Duration::from_millis(500)).await;
    let near: Vec<Seat> = seats.into_iter().filter(|seat| seat.via.is_some()).collect();
    let compared = converge::check(&stage.world, &stage.servers, &near).await;
    stage.world.close();
    let report = Report {
        options,
        took,
        findings: &stage.world.findings,
        marks,
        counts: proof.lock().await.total(&stage.instances).await,
        compared,
    };
    println!("{}", report.text());
    if let Some(file) = &options.json {
        let json = format!("{:#}\n", report.json());
        std::fs::write(file, json).map_err(|error| Failure::new(format!("write {}: {error}", file.display())))?;
    }
    Ok(Ended {
        violated: stage.world.findings.violation_count() > 0 || report.counts.panics > 0,
        weak: !report.weaknesses().is_empty(),
    })
}

/// Who the clients are: those of nearhit, then those directly at the server.
fn seats(options: &Options, stage: &Stage) -> Vec<Seat> {
    let guest = stage
        .servers
        .are_ours()
        .then(|| (GUEST.to_owned(), GUEST.as_bytes().to_vec()));
    let version = |number: usize| match number.is_multiple_of(2) {
        true => Version::V2,
        false => Version::V3,
    };
    let mut seats = Vec::new();
    for number in 0..options.clients {
        let instance = number % stage.instances.len();
        let turn = number / stage.instances.len();
        let port = stage.instances.get(instance).map_or(0, |instance| instance.port);
        seats.push(Seat {
            addr: Place::at(format!("127.0.0.1:{port}")),
            nodes: Vec::new(),
            via: Some(instance),
            version: version(turn),
            depth: if (turn / 2).is_multiple_of(2) { 1 } else { 32 },
            // One of each protocol of eight.
            quiet: matches!(turn % 8, 0 | 5),
            db: turn % stage.world.dbs.len(),
            credentials: guest.clone().filter(|_| turn % 5 == 3),
        });
    }
    let nodes = match &stage.servers {
        Servers::Cluster(cluster) => cluster.addresses(),
        Servers::Foreign(_) | Servers::Group(_) => Vec::new(),
    };
    seats.extend((0..FOREIGN).map(|number| Seat {
        addr: stage.target.addr.clone(),
        nodes: nodes.clone(),
        via: None,
        version: version(number),
        // Who follows redirections cannot do so with several operations at once.
        depth: if number < 2 || !nodes.is_empty() { 1 } else { 8 },
        quiet: false,
        db: number % stage.world.dbs.len(),
        credentials: stage.target.credentials.clone(),
    }));
    seats
}

/// Starts the clients on threads of their own; they end when the world stops.
fn start_clients(options: &Options, world: &Arc<World>, seats: &[Seat]) -> Result<Vec<JoinHandle<()>>, Failure> {
    let mut groups: Vec<Vec<(usize, Seat)>> = vec![Vec::new(); THREADS + 1];
    for (number, seat) in seats.iter().enumerate() {
        // Foreign writers are apart: how late their writes are seen is measured from their acknowledgements.
        let group = seat.via.map_or(THREADS, |_| number % THREADS);
        if let Some(group) = groups.get_mut(group) {
            group.push((number, seat.clone()));
        }
    }
    let start = |group: Vec<(usize, Seat)>| {
        let (world, seed) = (Arc::clone(world), options.seed);
        std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            let local = tokio::task::LocalSet::new();
            for (number, seat) in group {
                let random = Random::new(seed, number as u64);
                local.spawn_local(client::run(Arc::clone(&world), seat, random));
            }
            runtime.block_on(local);
        })
    };
    groups
        .into_iter()
        .map(|group| start(group).map_err(|error| Failure::new(format!("start a thread: {error}"))))
        .collect()
}

/// Makes faults until the run is over.
async fn make_faults(options: &Options, stage: &mut Stage, marks: &Marks, proof: &Mutex<Proof>) -> Result<(), Failure> {
    let is_near = |fault: &Fault| matches!(fault.reach(), Reach::Path | Reach::Instance);
    let (path, server): (Vec<_>, Vec<_>) = stage.faults.iter().partition(|fault| is_near(fault));
    let clear = Mutex::new(());
    let instances = stage.instances.iter().map(|instance| Target {
        addr: Place::at(format!("127.0.0.1:{}", instance.port)),
        credentials: None,
    });
    let server = ServerLane {
        world: &stage.world,
        marks,
        target: stage.target.clone(),
        instances: instances.collect(),
        faults: Order::new(server),
        random: Random::new(options.seed, u64::MAX),
        clear: &clear,
        servers: &mut stage.servers,
    };
    let path = PathLane {
        world: &stage.world,
        marks,
        relays: &stage.relays,
        instances: &mut stage.instances,
        faults: Order::new(path),
        random: Random::new(options.seed, u64::MAX - 1),
        proof,
        clear: &clear,
    };
    let watch = watch(options, &stage.world, marks);
    let ((), (), watched) = tokio::join!(path.run(), server.run(), watch);
    watched
}

/// Ends the run when its time is over, enough was checked, or a signal comes.
async fn watch(options: &Options, world: &World, marks: &Marks) -> Result<(), Failure> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let progress = std::io::stderr().is_terminal();
    for tick in 0_u64.. {
        marks.refresh(world);
        let (elapsed, checked) = (time::now().since(world.started), world.findings.checked());
        let violations = world.findings.violation_count();
        let done = options.operations.is_some_and(|wanted| checked >= wanted);
        if done || elapsed >= options.longest || violations >= options.violations {
            break;
        }
        if progress && tick.is_multiple_of(PROGRESS) {
            let faults = super::faults::names(world.faults());
            let seconds = elapsed.as_secs();
            // A terminal that is gone is no reason to stop.
            drop(write!(
                std::io::stderr(),
                "\r\x1b[K{seconds:>4} s  {checked} checked  {violations} violations  {faults}"
            ));
        }
        tokio::select! {
            _ = &mut interrupt => break,
            () = sleep(TICK) => {}
        }
    }
    if progress {
        drop(write!(std::io::stderr(), "\r\x1b[K"));
    }
    world.stop();
    Ok(())
}

/// Removes every key a run has used under its prefix.
async fn remove_keys(world: &World, target: &Target) {
    let generations = |index: usize| world.cell(index).map_or(0, |cell| cell.generation);
    for index in 0..world.keys() {
        for generation in 0..=generations(index) {
            let names = world.names(index, generation, super::workload::Op::DelPair);
            let db = world.db_of(index).to_string();
            let mut unlink: Vec<&[u8]> = vec![b"UNLINK"];
            unlink.extend(names.iter().map(Vec::as_slice));
            if let Err(error) = target.ask_all(&[&[b"SELECT", db.as_bytes()], &unlink]).await {
                eprintln!("nearhit selftest: remove the keys of the run: {error}");
                return;
            }
        }
    }
}
