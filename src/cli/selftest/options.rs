//! What a run is to be, from what was typed.

use super::Failure;
use super::cell::MAX_INSTANCES;
use super::faults::{ALL, Fault, Reach};
use super::servers::{Place, Target};
use super::topology::Topology;
use nearhit::config::{Address, UpstreamUrl};
use std::path::PathBuf;
use std::time::Duration;

/// What `nearhit selftest` was told, as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct SelftestFlags {
    pub(in crate::cli) upstream: Option<String>,
    pub(in crate::cli) topology: Option<String>,
    pub(in crate::cli) seconds: Option<u64>,
    pub(in crate::cli) operations: Option<u64>,
    pub(in crate::cli) seed: Option<u64>,
    pub(in crate::cli) clients: Option<usize>,
    pub(in crate::cli) instances: Option<usize>,
    pub(in crate::cli) faults: Option<String>,
    pub(in crate::cli) mode: Option<String>,
    pub(in crate::cli) bound: Option<u64>,
    pub(in crate::cli) violations: Option<u64>,
    pub(in crate::cli) json: Option<PathBuf>,
    pub(in crate::cli) redis_server: Option<PathBuf>,
    pub(in crate::cli) allow_destructive: bool,
}

/// How long a run takes, in seconds, unless told otherwise.
pub(in crate::cli) const SECONDS: u64 = 60;
/// How long a run may take that was given a number of operations only.
pub(in crate::cli) const LONGEST: u64 = 3600;
/// Clients of nearhit.
pub(in crate::cli) const CLIENTS: usize = 16;
/// Instances of nearhit.
pub(in crate::cli) const INSTANCES: usize = 2;
/// The bound that is checked, in milliseconds: the default of `invalidation.max_staleness`.
pub(in crate::cli) const BOUND: u64 = 1000;
/// Violations that end a run.
pub(in crate::cli) const VIOLATIONS: u64 = 1000;

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Somebody else's server and the database to begin with; `None`: one of our own.
    pub(super) upstream: Option<(Target, u32, UpstreamUrl)>,
    pub(super) topology: Topology,
    pub(super) longest: Duration,
    /// Stop after so many checked operations; fewer are a failure.
    pub(super) operations: Option<u64>,
    pub(super) seed: u64,
    pub(super) clients: usize,
    pub(super) instances: usize,
    pub(super) faults: Vec<Fault>,
    pub(super) mode: Option<String>,
    pub(super) bound: Duration,
    /// After so many violations a run has said what it had to say.
    pub(super) violations: u64,
    pub(super) json: Option<PathBuf>,
    pub(super) redis_server: Option<PathBuf>,
}

impl Options {
    pub(super) fn read(flags: SelftestFlags, seed: u64) -> Result<Self, Failure> {
        let upstream = flags.upstream.as_deref().map(target).transpose()?;
        let topology = topology(flags.topology.as_deref(), upstream.is_some())?;
        let site = Site {
            topology,
            foreign: upstream.is_some(),
            allow_destructive: flags.allow_destructive,
        };
        let faults = site.faults(flags.faults.as_deref().unwrap_or("all"))?;
        let seconds = match (flags.seconds, flags.operations) {
            (Some(seconds), _) => seconds,
            (None, Some(_)) => LONGEST,
            (None, None) => SECONDS,
        };
        let within = |name: &str, value: usize, most: usize| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(Failure::new(format!("--{name} must be between 1 and {most}"))),
        };
        Ok(Self {
            longest: Duration::from_secs(seconds.max(1)),
            operations: flags.operations,
            seed: flags.seed.unwrap_or(seed),
            clients: within("clients", flags.clients.unwrap_or(CLIENTS), 10_000)?,
            instances: within("instances", flags.instances.unwrap_or(INSTANCES), MAX_INSTANCES)?,
            mode: flags.mode,
            bound: Duration::from_millis(flags.bound.unwrap_or(BOUND)),
            violations: flags.violations.unwrap_or(VIOLATIONS).max(1),
            json: flags.json,
            redis_server: flags.redis_server,
            upstream,
            topology,
            faults,
        })
    }
}

fn topology(name: Option<&str>, foreign: bool) -> Result<Topology, Failure> {
    let Some(name) = name else {
        return Ok(Topology::default());
    };
    let topology = Topology::named(name).ok_or_else(|| {
        let known = Topology::names();
        Failure::new(format!("--topology: there is no '{name}'; there are {known}"))
    })?;
    match foreign && topology != Topology::Single {
        true => Err(Failure::new(
            "--topology is for servers of our own, not for --upstream".to_owned(),
        )),
        false => Ok(topology),
    }
}

/// What faults would meet.
struct Site {
    topology: Topology,
    /// The server is somebody else's.
    foreign: bool,
    allow_destructive: bool,
}

impl Site {
    /// The faults that were asked for, or why they cannot be.
    fn faults(&self, asked: &str) -> Result<Vec<Fault>, Failure> {
        match asked {
            "none" => return Ok(Vec::new()),
            "all" => {
                let all = ALL.map(|row| row.0).into_iter();
                return Ok(all.filter(|fault| self.forbids(*fault).is_none()).collect());
            }
            _ => {}
        }
        let mut faults = Vec::new();
        for name in asked.split(',').map(str::trim) {
            let Some((fault, ..)) = ALL.iter().find(|row| row.1 == name) else {
                let known = ALL.map(|row| row.1).join(", ");
                return Err(Failure::new(format!(
                    "--faults: there is no '{name}'; there are all, none, {known}"
                )));
            };
            if let Some(why) = self.forbids(*fault) {
                return Err(Failure::new(format!("--faults: '{name}' is not made: {why}")));
            }
            faults.push(*fault);
        }
        Ok(faults)
    }

    fn forbids(&self, fault: Fault) -> Option<&'static str> {
        let felt = match fault.reach() {
            Reach::Commands => self.foreign && !self.allow_destructive,
            Reach::Process => self.foreign,
            _ => false,
        };
        let why = "everybody at that server would feel it (--allow-destructive, where it is not the process itself)";
        felt.then_some(why).or_else(|| self.topology.forbids(fault))
    }
}

fn target(url: &str) -> Result<(Target, u32, UpstreamUrl), Failure> {
    let parsed: UpstreamUrl = url
        .parse()
        .map_err(|error| Failure::new(format!("--upstream: {error}")))?;
    let Some([Address::Tcp { host, port }]) = parsed.nodes() else {
        return Err(Failure::new(
            "--upstream must be redis:// and one node: the relay listens on TCP".to_owned(),
        ));
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    if parsed.tls {
        return Err(Failure::new(
            "--upstream must be redis://: the relay cannot look into TLS, and selftest does not speak it".to_owned(),
        ));
    }
    let has_credentials = !parsed.username.is_empty() || !parsed.password.is_empty();
    let target = Target {
        addr: Place::at(format!("{host}:{port}")),
        credentials: has_credentials.then(|| (parsed.username.clone(), parsed.password.reveal().to_vec())),
    };
    Ok((target, parsed.db, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: SelftestFlags) -> Result<Options, String> {
        Options::read(flags, 7).map_err(|failure| failure.message)
    }

    #[test]
    fn a_run_is_a_minute_of_all_faults_unless_told_otherwise() {
        let options = read(SelftestFlags::default()).unwrap();
        assert_eq!((options.longest, options.seed), (Duration::from_secs(60), 7));
        assert!(options.faults.len() >= 30);
    }

    #[test]
    fn a_server_of_others_is_spared_unless_they_agree() {
        let upstream = Some("redis://me:secret@staging:7000/3".to_owned());
        let flags = |faults: &str, allow_destructive| SelftestFlags {
            upstream: upstream.clone(),
            faults: Some(faults.to_owned()),
            allow_destructive,
            ..SelftestFlags::default()
        };
        let options = read(flags("all", false)).unwrap();
        let harmless = [Reach::Path, Reach::Instance];
        assert!(options.faults.iter().all(|fault| harmless.contains(&fault.reach())));
        let (target, db, _) = options.upstream.unwrap();
        assert_eq!((target.addr.now().as_str(), db), ("staging:7000", 3));
        assert!(read(flags("flushdb", false)).is_err());
        assert_eq!(read(flags("flushdb", true)).unwrap().faults, [Fault::FlushDb]);
        assert!(read(flags("restart-empty", true)).is_err());
    }

    #[test]
    fn faults_are_those_that_the_topology_has() {
        let flags = |topology: &str, faults: &str| SelftestFlags {
            topology: Some(topology.to_owned()),
            faults: Some(faults.to_owned()),
            ..SelftestFlags::default()
        };
        let has = |topology: &str, fault: Fault| read(flags(topology, "all")).unwrap().faults.contains(&fault);
        assert!(has("single", Fault::ClockJump) && !has("single", Fault::ReplicaKill));
        assert!(has("replicas", Fault::ReplicaKill) && !has("replicas", Fault::FailOver));
        assert!(has("sentinel", Fault::FailOver) && !has("sentinel", Fault::StallAll));
        assert!(has("sentinel", Fault::InstanceKill));
        assert!(
            read(flags("replicas", "failover"))
                .unwrap_err()
                .contains("--topology sentinel")
        );
        assert!(
            read(flags("ring", "all"))
                .unwrap_err()
                .contains("single, replicas, sentinel, cluster")
        );
        assert!(has("cluster", Fault::SlotMove) && !has("sentinel", Fault::SlotMove));
        assert!(has("cluster", Fault::KillTracked) && !has("cluster", Fault::SwapDb));
        assert!(!has("cluster", Fault::RestartEmpty) && !has("cluster", Fault::StallAll));
    }

    #[test]
    fn what_is_no_fault_is_named_with_those_there_are() {
        let flags = SelftestFlags {
            faults: Some("stall-all,earthquake".to_owned()),
            ..SelftestFlags::default()
        };
        let message = read(flags).unwrap_err();
        assert!(
            message.contains("'earthquake'") && message.contains("stall-all"),
            "{message}"
        );
    }
}
