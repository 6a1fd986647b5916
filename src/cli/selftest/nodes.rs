//! The servers of a run; of the checker's own: a primary, replicas that follow it, sentinels that watch them, and who takes
//! whose place.

use super::Failure;
use super::cluster::Cluster;
use super::server_faults::add_guest;
use super::servers::{Place, Process, Redis, Target, free_port};
use super::topology::Topology;
use nearhit::resp::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

const REPLICAS: usize = 2;
const SENTINELS: usize = 3;
/// What the sentinels call the group.
pub(super) const GROUP: &str = "mymaster";
/// How long replicas may take to have everything, and sentinels to know everybody. Chosen, not measured.
const SYNC: Duration = Duration::from_secs(20);
/// How long a failover may take, from the order to the day when all sentinels and nodes know. Chosen, not measured.
const FAILOVER: Duration = Duration::from_secs(30);
/// How long sentinels may hold no replica for fit, before the failover is left for another time.
const UNFIT: Duration = Duration::from_secs(4);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// The servers of a run.
#[derive(Debug)]
pub(super) enum Servers {
    /// Somebody else's.
    Foreign(Target),
    Group(Box<Nodes>),
    Cluster(Cluster),
}

impl Servers {
    pub(super) fn are_ours(&self) -> bool {
        !matches!(self, Self::Foreign(_))
    }

    /// The primary, wherever it is; of a cluster, a node.
    pub(super) fn target(&self) -> Target {
        match self {
            Self::Foreign(target) => target.clone(),
            Self::Group(nodes) => nodes.target.clone(),
            Self::Cluster(cluster) => cluster.any(),
        }
    }

    /// What an instance is told of them; `None`: an address.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::Foreign(_) => None,
            Self::Group(nodes) => nodes.url(),
            Self::Cluster(cluster) => Some(cluster.url()),
        }
    }

    /// All nodes.
    pub(super) fn all(&self) -> Vec<Target> {
        match self {
            Self::Foreign(target) => vec![target.clone()],
            Self::Group(nodes) => nodes.all(),
            Self::Cluster(cluster) => cluster.all(),
        }
    }

    /// A primary of ours and its replicas.
    pub(super) fn group(&mut self) -> Result<&mut Nodes, String> {
        match self {
            Self::Group(nodes) => Ok(nodes),
            Self::Foreign(_) => Err("somebody else's server".to_owned()),
            Self::Cluster(_) => Err("a cluster has several primaries".to_owned()),
        }
    }

    /// The cluster.
    pub(super) fn cluster(&mut self) -> Result<&mut Cluster, String> {
        match self {
            Self::Cluster(cluster) => Ok(cluster),
            Self::Foreign(_) | Self::Group(_) => Err("no cluster of ours".to_owned()),
        }
    }

    /// Stops those that are ours.
    pub(super) async fn stop(&mut self) {
        match self {
            Self::Foreign(_) => {}
            Self::Group(nodes) => nodes.stop().await,
            Self::Cluster(cluster) => cluster.stop().await,
        }
    }
}

/// A primary, who follows it, and who watches them.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) primary: Redis,
    pub(super) replicas: Vec<Redis>,
    sentinels: Vec<Sentinel>,
    /// Where the primary is; whoever has a copy of it goes where the primary goes.
    target: Target,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    process: Process,
}

/// Why a failover is not over.
#[derive(Debug)]
pub(super) enum Unmade {
    /// It has not begun.
    NotBegun(String),
    /// It has, and how it ended nobody knows.
    Lost(String),
}

impl Nodes {
    /// Starts what is to be around a primary that runs.
    pub(super) async fn around(
        primary: Redis,
        program: &Path,
        dir: &Path,
        args: &'static [&'static str],
        topology: Topology,
    ) -> Result<Self, Failure> {
        let mut nodes = Self {
            target: primary.target(),
            primary,
            replicas: Vec::new(),
            sentinels: Vec::new(),
        };
        let replicas = if topology.reads_replicas() { REPLICAS } else { 0 };
        for number in 0..replicas {
            let dir = dir.join(format!("replica-{number}"));
            let mut replica = Redis::new(program.to_owned(), dir, args, None)?;
            replica.follow(&nodes.primary).await?;
            nodes.replicas.push(replica);
        }
        nodes.wait_until_synced().await.map_err(Failure::new)?;
        for node in nodes.all() {
            add_guest(&node).await.map_err(Failure::new)?;
        }
        let sentinels = if topology == Topology::Sentinel { SENTINELS } else { 0 };
        for number in 0..sentinels {
            let sentinel = Sentinel::start(program, &dir.join(format!("sentinel-{number}")), &nodes.primary).await?;
            nodes.sentinels.push(sentinel);
        }
        nodes.wait_until_known().await.map_err(Failure::new)?;
        Ok(nodes)
    }

    /// All nodes, the primary first.
    fn all(&self) -> Vec<Target> {
        let replicas = self.replicas.iter().map(Redis::target);
        std::iter::once(self.primary.target()).chain(replicas).collect()
    }

    /// What an instance is told of them; `None`: an address.
    fn url(&self) -> Option<String> {
        let sentinels: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.addr()).collect();
        (!sentinels.is_empty()).then(|| format!("redis+sentinel://{}/{GROUP}", sentinels.join(",")))
    }

    /// A replica is there again, without its data or with what it had of it.
    pub(super) async fn restart_replica(&mut self, chosen: usize, empty: bool) -> Result<(), String> {
        let replica = self.replicas.get_mut(chosen).ok_or("no replica")?;
        if empty {
            replica.forget_data();
        }
        let started = replica.follow(&self.primary).await;
        started.map_err(|failure| failure.message)?;
        add_guest(&replica.target()).await
    }

    /// Waits until every replica has said that it has what the primary has.
    pub(super) async fn wait_until_synced(&self) -> Result<(), String> {
        let target = self.primary.target();
        let synced = async {
            loop {
                let info = text(target.command("INFO replication").await);
                let offset = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
                let has_all = format!("offset={},", offset.unwrap_or("?").trim_end());
                let followers = info.lines().filter(|line| line.contains("state=online"));
                if followers.filter(|line| line.contains(&has_all)).count() == self.replicas.len() {
                    return;
                }
                sleep(POLL).await;
            }
        };
        let waited = timeout(SYNC, synced).await;
        waited.map_err(|_| "the replicas did not come to have what the primary has".to_owned())
    }

    async fn wait_until_known(&self) -> Result<(), String> {
        let known = async {
            for sentinel in &self.sentinels {
                while !sentinel.knows_everybody().await {
                    sleep(POLL).await;
                }
            }
        };
        let waited = timeout(SYNC, known).await;
        waited.map_err(|_| "the sentinels did not come to know everybody".to_owned())
    }

    /// Has the sentinels put a replica into the primary's place. Nobody may be writing: what replicas lack would be lost,
    /// and so would what is written to the old primary until it is told.
    pub(super) async fn fail_over(&mut self, sentinel: usize) -> Result<(), Unmade> {
        self.wait_until_synced().await.map_err(Unmade::NotBegun)?;
        self.order_failover(sentinel).await.map_err(Unmade::NotBegun)?;
        let followed = timeout(FAILOVER, self.follow_failover()).await;
        followed
            .map_err(|_| Unmade::Lost("the failover did not come to an end".to_owned()))?
            .map_err(Unmade::Lost)
    }

    async fn order_failover(&self, sentinel: usize) -> Result<(), String> {
        let target = self.sentinels.get(sentinel).ok_or("no sentinel")?.target();
        let order = async {
            while let Err(error) = target.command(&format!("SENTINEL FAILOVER {GROUP}")).await {
                // It looks at replicas every ten seconds, and at those of a new primary every second.
                let unfit = ["NOGOODSLAVE", "INPROG"]
                    .iter()
                    .any(|word| error.to_string().starts_with(word));
                if !unfit {
                    return Err(error.to_string());
                }
                sleep(POLL * 10).await;
            }
            Ok(())
        };
        timeout(UNFIT, order)
            .await
            .map_err(|_| "the sentinels held no replica for fit".to_owned())?
    }

    async fn follow_failover(&mut self) -> Result<(), String> {
        let old = self.primary.port.to_string();
        let mut new = String::new();
        for sentinel in &self.sentinels {
            let question = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {GROUP}");
            loop {
                match words(sentinel.target().command(&question).await).pop() {
                    Some(port) if port != old => break new = port,
                    _ => sleep(POLL).await,
                }
            }
        }
        let elected = self.replicas.iter_mut().find(|replica| replica.port.to_string() == new);
        std::mem::swap(elected.ok_or("a stranger was elected")?, &mut self.primary);
        self.target.addr.set(self.primary.target().addr.now());
        // As the sentinels would, eight seconds later.
        let demote = format!("REPLICAOF 127.0.0.1 {new}");
        for replica in self.replicas.iter().filter(|replica| replica.port.to_string() == old) {
            for line in [&demote, "CLIENT KILL TYPE normal"] {
                replica
                    .target()
                    .command(line)
                    .await
                    .map_err(|error| error.to_string())?;
            }
        }
        self.wait_until_synced().await
    }

    /// Stops them all.
    async fn stop(&mut self) {
        for sentinel in &mut self.sentinels {
            sentinel.process.stop().await;
        }
        for replica in &mut self.replicas {
            replica.process.stop().await;
        }
        self.primary.process.stop().await;
    }

    pub(super) fn sentinels(&self) -> usize {
        self.sentinels.len()
    }
}

impl Sentinel {
    async fn start(program: &Path, dir: &Path, primary: &Redis) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("prepare a sentinel: {error}"));
        let port = free_port().map_err(failed)?;
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file: PathBuf = dir.join("sentinel.conf");
        // No fault here is as long as half a minute: nobody but the checker orders a failover.
        let conf = format!(
            "port {port}\nbind 127.0.0.1\ndir \"{}\"\nsentinel monitor {GROUP} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {GROUP} 30000\nsentinel failover-timeout {GROUP} 5000\n",
            dir.display(),
            primary.port,
        );
        std::fs::write(&file, conf).map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(&file).arg("--sentinel");
        let mut sentinel = Self {
            port,
            process: Process::default(),
        };
        sentinel.process.start(command, dir).await?;
        Ok(sentinel)
    }

    async fn knows_everybody(&self) -> bool {
        let said = words(self.target().command(&format!("SENTINEL MASTER {GROUP}")).await);
        let is = |field: &str, count: usize| {
            let value = said.iter().skip_while(|word| *word != field).nth(1);
            value.is_some_and(|value| *value == count.to_string())
        };
        is("num-slaves", REPLICAS) && is("num-other-sentinels", SENTINELS - 1)
    }

    fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn target(&self) -> Target {
        Target {
            addr: Place::at(self.addr()),
            credentials: None,
        }
    }
}

/// A reply as text; empty where there was none.
pub(super) fn text(asked: std::io::Result<Value>) -> String {
    let bytes = asked.ok().and_then(|value| value.as_bytes().map(<[u8]>::to_vec));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// The words of a list; none where there was no answer.
pub(super) fn words(asked: std::io::Result<Value>) -> Vec<String> {
    match asked {
        Ok(Value::Array(items)) => items.into_iter().map(|item| text(Ok(item))).collect(),
        _ => Vec::new(),
    }
}
