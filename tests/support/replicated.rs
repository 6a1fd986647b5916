//! Several nodes: a primary with replicas, sentinels that watch them, and a discovery that looks for them.

use super::redis::{Builder, RedisServer};
use super::sentinel::Sentinel;
use super::wait::wait_for;
use ::nearhit::config::{Address, Credentials, UpstreamPlace};
use ::nearhit::discovery::{Discovery, Hurry};
use ::nearhit::topology::Topology;
use ::nearhit::upstream::{Identity, Resolver};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a failover may take: a second until the sentinels miss the primary, and up to two elections.
pub const FAILOVER: Duration = Duration::from_secs(20);

/// A primary and replicas. Dropping it kills them all.
#[derive(Debug)]
pub struct Replicated {
    nodes: Vec<RedisServer>,
}

impl Replicated {
    /// Starts a primary and so many replicas, and waits until each holds what the primary holds.
    #[track_caller]
    pub fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &[])
    }

    /// The same, with more settings of all nodes.
    #[track_caller]
    pub fn start_with(replicas: usize, args: &[(&str, &str)]) -> Self {
        let with = |builder: Builder| {
            args.iter()
                .fold(builder, |builder, (name, value)| builder.arg(name, value))
        };
        let primary = with(RedisServer::builder()).start();
        let follow = |_| {
            let conf = super::root().join("redis-conf/replica.conf");
            let builder = RedisServer::builder().conf(conf).replica_of(&primary);
            let replica = with(builder).start();
            replica.wait_for_link();
            replica
        };
        let followers: Vec<_> = (0..replicas).map(follow).collect();
        let nodes = std::iter::once(primary).chain(followers).collect();
        let replicated = Self { nodes };
        replicated.wait_until_synced(0);
        replicated
    }

    /// The node that was the primary at the start.
    pub fn primary(&self) -> &RedisServer {
        &self.nodes[0]
    }

    /// A replica of the start, the first being 0.
    pub fn replica(&self, index: usize) -> &RedisServer {
        &self.nodes[index + 1]
    }

    /// All nodes: 0 was the primary at the start.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// Where a node is: 0 was the primary at the start.
    pub fn at(&self, index: usize) -> Address {
        address(self.nodes[index].port())
    }

    /// All of them as `redis://127.0.0.1:1,127.0.0.1:2`.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        format!("redis://{}", addresses.join(","))
    }

    /// Has a node follow nobody.
    #[track_caller]
    pub fn promote(&self, index: usize) {
        assert_eq!(self.nodes[index].cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
    }

    /// Has a node follow another.
    #[track_caller]
    pub fn demote(&self, index: usize, primary: usize) {
        let port = self.nodes[primary].port().to_string();
        assert_eq!(self.nodes[index].cmd(&["REPLICAOF", "127.0.0.1", &port]), "OK");
    }

    /// Waits until all running nodes but `primary` follow it and have read what it has written.
    #[track_caller]
    pub fn wait_until_synced(&self, primary: usize) {
        let behind = self.nodes.len() - 1;
        wait_for("the replicas to have all of it", Duration::from_secs(15), || {
            let role = self.nodes[primary].cmd(&["ROLE"]).items();
            let offset = role[1].int();
            let replicas = role[2].items();
            replicas.len() == behind
                && replicas
                    .iter()
                    .all(|replica| replica.items()[2].text().parse() == Ok(offset))
        });
    }
}

/// Three sentinels that watch a primary and two replicas as `mymaster`, a quorum of two, down after a second.
#[derive(Debug)]
pub struct SentinelGroup {
    /// The nodes.
    pub nodes: Replicated,
    /// The sentinels.
    pub sentinels: Vec<Sentinel>,
}

impl SentinelGroup {
    /// Starts them all and waits until the sentinels know everybody.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more settings of all nodes.
    #[track_caller]
    pub fn start_with(args: &[(&str, &str)]) -> Self {
        let nodes = Replicated::start_with(2, args);
        let edits = [
            (
                "down-after-milliseconds mymaster 2000",
                "down-after-milliseconds mymaster 1000",
            ),
            // When two sentinels stand for election and none wins, the next election is twice as long away.
            ("failover-timeout mymaster 10000", "failover-timeout mymaster 2000"),
        ];
        let watch = |_| Sentinel::watch_with(nodes.primary(), 2, &edits);
        let sentinels: Vec<_> = (0..3).map(watch).collect();
        for sentinel in &sentinels {
            wait_for("the sentinels to know everybody", Duration::from_secs(15), || {
                let known = sentinel.client().cmd(&["SENTINEL", "MASTER", "mymaster"]);
                let is = |field: &str, count: &str| known.get(field).is_some_and(|value| value == count);
                is("num-slaves", "2") && is("num-other-sentinels", "2")
            });
        }
        Self { nodes, sentinels }
    }

    /// Has a sentinel replace the primary, as soon as it holds a replica for fit.
    #[track_caller]
    pub fn fail_over(&self, sentinel: usize) {
        wait_for("the sentinel to begin a failover", FAILOVER, || {
            let answer = self.sentinels[sentinel]
                .client()
                .cmd(&["SENTINEL", "FAILOVER", "mymaster"]);
            answer == "OK"
        });
    }

    /// Which node all sentinels hold for the primary, once they agree.
    #[track_caller]
    pub fn primary(&mut self) -> usize {
        wait_for("the sentinels to agree", FAILOVER, || {
            let mut said: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.primary().1).collect();
            said.dedup();
            let port = if let [port] = said[..] { port } else { return None };
            self.nodes.nodes.iter().position(|node| node.port() == port)
        })
    }

    /// Where a sentinel is.
    pub fn at(&self, sentinel: usize) -> Address {
        address(self.sentinels[sentinel].addr().port())
    }
}

/// A discovery that runs until this is dropped.
#[derive(Debug)]
pub struct Discovered {
    found: watch::Receiver<Arc<Topology>>,
    history: Arc<Mutex<Vec<Topology>>>,
    doubt: Arc<Hurry>,
    /// Its tasks end with it.
    _runtime: tokio::runtime::Runtime,
}

impl Discovered {
    /// Looks at `place`.
    pub fn look(place: UpstreamPlace, find_replicas: bool) -> Self {
        Self::look_as(place, find_replicas, None)
    }

    /// Looks at `place`, with a password at the sentinels.
    pub fn look_as(place: UpstreamPlace, find_replicas: bool, at_sentinels: Option<Credentials>) -> Self {
        Self::look_through(place, find_replicas, at_sentinels, HashMap::new())
    }

    /// Looks at `place`, whose nodes are reached elsewhere than where they say they are.
    pub fn look_through(
        place: UpstreamPlace,
        find_replicas: bool,
        at_sentinels: Option<Credentials>,
        addresses: HashMap<Address, Address>,
    ) -> Self {
        let doubt = Arc::<Hurry>::default();
        let discovery = Discovery {
            place,
            tls: None,
            identity: Identity::new(None),
            sentinel_identity: Identity::new(at_sentinels),
            client_name: "discovery".to_owned(),
            timeout: Duration::from_secs(2),
            max_reply_depth: 64,
            find_replicas,
            addresses,
            doubt: Arc::clone(&doubt),
            resolver: Resolver::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, found) = watch::channel(Arc::default());
        let history: Arc<Mutex<Vec<Topology>>> = Arc::default();
        let (mut changes, log) = (found.clone(), Arc::clone(&history));
        runtime.spawn(async move {
            while changes.changed().await.is_ok() {
                let topology = Topology::clone(&changes.borrow_and_update());
                log.lock().push(topology);
            }
        });
        runtime.spawn(discovery.watch(sender));
        Self {
            found,
            history,
            doubt,
            _runtime: runtime,
        }
    }

    /// Somebody was told by the primary that it is none.
    pub fn doubt(&self) {
        self.doubt.wish();
    }

    /// What is published now.
    pub fn now(&self) -> Topology {
        Topology::clone(&self.found.borrow())
    }

    /// Waits until this is published.
    #[track_caller]
    pub fn wait_for(&self, wanted: &Topology) {
        let what = format!("{wanted:?} to be published");
        wait_for(&what, FAILOVER, || self.now() == *wanted);
    }

    /// Waits until a primary is published that `wanted` takes.
    #[track_caller]
    pub fn wait_for_primary(&self, what: &str, wanted: impl Fn(&Address) -> bool) -> Address {
        wait_for(what, FAILOVER, || self.now().primary.filter(|primary| wanted(primary)))
    }

    /// Waits until `primary` is published, and gives back all that was published until then, without repetitions: who the
    /// primary was.
    #[track_caller]
    pub fn primaries_until(&self, primary: Option<&Address>) -> Vec<Option<Address>> {
        wait_for("a primary to be published", FAILOVER, || {
            let mut primaries: Vec<_> = self.history.lock().iter().map(|known| known.primary.clone()).collect();
            primaries.dedup();
            (primaries.last().map(Option::as_ref) == Some(primary)).then_some(primaries)
        })
    }

    /// Whether the discovery has nothing more to do.
    pub fn has_ended(&self) -> bool {
        self.found.has_changed().is_err()
    }
}

/// A port of this machine.
pub fn address(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    }
}
