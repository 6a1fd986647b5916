//! How a proxy is told what to be, and started.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{mpsc, watch};

use super::control::{self, Control};
use super::handle::Proxy;
use super::listen::{self, Bound};
use super::nodes::Nodes;
use super::partitions::Opener;
use super::settings::{
    Dialing, account_settings, discovery, handshake, ladder, limits, pool_settings, routing, settings,
};
use super::worker::{self, Outboxes, Workers};
use crate::admin::{Console, Facts};
use crate::cache::Policies;
use crate::coherence::NearCache;
use crate::command::CommandTable;
use crate::config::{CacheMode, Config, Listen, Policy, Reads, UpstreamUrl};
use crate::downstream::{Accounts, Cluster, Common, Partitions, Shared, Ticket};
use crate::error::{Error, Result};
use crate::metrics::{InvalidationSource, Metrics};
use crate::resp::Version;
use crate::time;
use crate::topology::{Owners, Roster, Topology};
use crate::tracking::TrackingThread;
use crate::upstream::{Gauges, Handshake, Identity, Resolve, Resolver, Teller, Whereabouts};

/// Settings of a proxy that is not started yet.
///
/// It starts with the defaults of the configuration file, except that nothing listens: not for clients until
/// [`Builder::listen`], not for metrics until [`Builder::metrics`].
///
/// ```no_run
/// # async fn example() -> nearhit::error::Result<()> {
/// use std::time::Duration;
/// use nearhit::{Policy, Proxy};
///
/// let proxy = Proxy::builder()
///     .listen("127.0.0.1:6380")
///     .upstream("redis://127.0.0.1:6379")
///     .policy(Policy::new("sessions", "session:*").ttl(Duration::from_secs(30)))
///     .start()
///     .await?;
/// # drop(proxy); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Builder {
    config: Config,
    /// The first thing that could not be understood; `start` says so.
    wrong: Option<Error>,
    process_metrics: bool,
    resolver: Resolver,
}

impl Default for Builder {
    fn default() -> Self {
        let mut config = Config::default();
        config.server.listen.clear();
        config.metrics.listen = None;
        Self {
            config,
            wrong: None,
            process_metrics: false,
            resolver: Resolver::default(),
        }
    }
}

impl Builder {
    /// Takes all settings from `config`, listeners included.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds an address clients connect to: `ip:port` (port 0: a free one) or `unix:///path?mode=0660`.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        if let Some(listen) = self.read::<Listen>(address) {
            self.config.server.listen.push(listen);
        }
        self
    }

    /// Lets [`Builder::listen`] have addresses that other machines reach although nobody is asked who they are. Default:
    /// no; [`Builder::start`] refuses them.
    #[must_use]
    pub fn allow_unprotected(mut self, allowed: bool) -> Self {
        self.config.server.allow_unprotected = allowed;
        self
    }

    /// Sets the server, as the setting `upstream.url` does: `redis://[user[:password]@]host[:port][/db]` and its kin.
    /// Default: `redis://127.0.0.1:6379`.
    #[must_use]
    pub fn upstream(mut self, url: &str) -> Self {
        if let Some(url) = self.read::<UpstreamUrl>(url) {
            self.config.upstream.url = url;
        }
        self
    }

    /// Sets which node is asked what memory does not answer. Default: the master.
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.config.routing.reads = reads;
        self
    }

    /// Sets who says where host names of servers lead. Default: the system's resolver.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use nearhit::upstream::{Resolve, Resolving};
    ///
    /// /// Whatever the name, the server is here.
    /// struct Here;
    ///
    /// impl Resolve for Here {
    ///     fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> Resolving<'a> {
    ///         Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    ///     }
    /// }
    ///
    /// let proxy = nearhit::Proxy::builder().upstream("redis://cache.internal").resolver(Here);
    /// # drop(proxy);
    /// ```
    #[must_use]
    pub fn resolver(mut self, resolve: impl Resolve + 'static) -> Self {
        self.resolver = Resolver::new(Arc::new(resolve));
        self
    }

    /// Adds a policy; the first one that matches a key counts.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policies.push(policy);
        self
    }

    /// Sets the address of the metrics page. Default: none.
    #[must_use]
    pub fn metrics(mut self, address: SocketAddr) -> Self {
        self.config.metrics.listen = Some(address);
        self
    }

    /// Adds `process_*` metrics, which belong to the whole process. Default: no; the binary does.
    #[must_use]
    pub fn process_metrics(mut self, wanted: bool) -> Self {
        self.process_metrics = wanted;
        self
    }

    /// Binds the listeners and starts the threads. The server need not be there yet: commands fail with a clear error
    /// until it is.
    ///
    /// # Errors
    /// A setting that is wrong ([`crate::error::Side::Config`]), an address that cannot be bound
    /// ([`crate::error::Kind::Bind`]), or threads that cannot be made.
    #[allow(
        clippy::unused_async,
        reason = "the public signature: starting may wait in a later version"
    )]
    pub async fn start(self) -> Result<Proxy> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        check(&self.config)?;
        let config = self.config;
        let clients = listen::bind_all(&config.server)?;
        let metrics_listener = config
            .metrics
            .listen
            .map(|address| listen::bind_tcp(address, config.server.tcp_backlog))
            .transpose()?;
        let metrics_addr = metrics_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        Parts::new(&config, self.process_metrics, self.resolver)?.start(
            &config,
            clients,
            metrics_listener,
            metrics_addr,
        )
    }

    fn read<T>(&mut self, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Into<Error>,
    {
        text.parse()
            .map_err(|error: T::Err| _ = self.wrong.get_or_insert(error.into()))
            .ok()
    }
}

/// Checks what the builder's methods cannot; a proxy without listeners is fine for [`Proxy::connect`].
fn check(config: &Config) -> Result<()> {
    let mut checked = config.clone();
    if checked.server.listen.is_empty() {
        checked.server.listen = Config::default().server.listen;
    }
    checked.validate().map_err(Error::from)
}

fn metrics(config: &Config, table: &CommandTable, process_metrics: bool) -> Arc<Metrics> {
    let metrics = Metrics::new(table.iter().map(|row| row.name().to_owned()), time::now())
        .with_process(process_metrics)
        .with_upstream(&config.upstream.url.name())
        .with_policies(config.policies.iter().map(|policy| policy.name.as_str()));
    Arc::new(metrics)
}

/// What is made before any thread is.
struct Parts {
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
    inboxes: Vec<mpsc::UnboundedReceiver<worker::Message>>,
    outboxes: Outboxes,
    tracking_thread: Option<TrackingThread>,
    found: watch::Sender<Arc<Topology>>,
    master: Whereabouts,
    tell_master: Teller,
    dialing: Dialing,
    tell_owners: watch::Sender<Arc<Owners>>,
}

impl Parts {
    fn new(config: &Config, process_metrics: bool, resolver: Resolver) -> Result<Self> {
        let dialing = Dialing {
            tls: config.upstream.client_tls()?,
            resolver,
        };
        let table = CommandTable::builtin();
        let metrics = metrics(config, &table, process_metrics);
        let policies = Policies::new(&config.policies, |name| {
            table.by_name(&name.to_lowercase()).map(|row| row.id().number())
        });
        let cache = Arc::new(NearCache::new(limits(config), policies));
        let workers = 0..config.server.worker_count();
        let (senders, inboxes): (Vec<_>, Vec<_>) = workers.map(|_| mpsc::unbounded_channel()).unzip();
        let outboxes = Outboxes::new(senders);
        let topology = known_topology(config);
        let (tell_master, master) = Whereabouts::new(topology.primary.clone());
        let found = watch::Sender::new(Arc::new(topology));
        let (tell_owners, cluster) = cluster(config);
        let ladder = ladder(config);
        let caching = !ladder.sources.is_empty();
        let tried_first = ladder.sources.first().map(|source| source.label());
        show(config, &metrics, tried_first);
        let tracking_thread = caching
            .then(|| TrackingThread::start(ladder, master.clone(), Arc::clone(&metrics)))
            .transpose()?;
        let partitions = tracking_thread
            .as_ref()
            .map(|thread| opener(config, &cache, thread, &outboxes, cluster.as_ref(), &dialing));
        let shared = Arc::new(Shared {
            cache,
            table: ArcSwap::from_pointee(table),
            settings: settings(config, caching),
            accounts: Accounts::new(account_settings(config, partitions)),
            master: master.clone(),
            cluster,
            routing: routing(config),
            hurry: Arc::default(),
            doubt: Arc::default(),
            metrics,
            admin: OnceLock::new(),
            peers: DashMap::new(),
            common: Common::default(),
            next_id: AtomicU64::new(1),
        });
        let gauges = Arc::new(Gauges::default());
        let _first_and_only = shared.common.courier.set(Box::new(outboxes.clone()));
        let console = Console::new(Arc::downgrade(&shared), Arc::clone(&gauges), facts(config));
        let _first_and_only = shared.admin.set(Arc::new(console));
        Ok(Self {
            shared,
            gauges,
            inboxes,
            outboxes,
            tracking_thread,
            found,
            master,
            tell_master,
            dialing,
            tell_owners,
        })
    }

    fn start(
        self,
        config: &Config,
        clients: Vec<Bound>,
        metrics_listener: Option<std::net::TcpListener>,
        metrics_addr: Option<SocketAddr>,
    ) -> Result<Proxy> {
        let listening = clients.iter().map(Bound::address).collect();
        let workers = Workers::start(
            &self.shared,
            &pool_settings(config, &self.dialing),
            &self.master,
            &self.gauges,
            self.inboxes,
            self.outboxes,
        )?;
        let control = Control {
            shared: Arc::clone(&self.shared),
            gauges: self.gauges,
            workers: workers.handle(),
            handshake: Handshake {
                version: Version::V2,
                db: 0,
                ..handshake(config, &self.dialing, self.shared.accounts.own().identity())
            },
            clients,
            metrics: metrics_listener,
            metrics_path: config.metrics.path.to_string(),
            keepalive: config.server.tcp_keepalive,
            max_clients: config.server.max_clients,
            touch_interval: config.cache.touch_interval,
            channel: config.invalidation.channel.clone(),
            nodes: Nodes {
                discovery: discovery(
                    config,
                    &self.dialing,
                    self.shared.routing.is_some(),
                    Arc::clone(&self.shared.doubt),
                ),
                resolve_interval: config.upstream.resolve_interval,
                found: self.found,
                master: self.master,
                tell_master: self.tell_master,
                zones: config.routing.zones_by_node(),
                tell_owners: self.tell_owners,
            },
        };
        let control = control::start(control)?;
        Ok(Proxy::new(
            self.shared,
            workers,
            control,
            self.tracking_thread,
            listening,
            metrics_addr,
        ))
    }
}

/// What is known before anybody is asked.
fn known_topology(config: &Config) -> Topology {
    match config.upstream.url.nodes() {
        Some([only]) => Topology::single(only.clone()),
        _ => Topology::default(),
    }
}

/// The cluster behind the proxy, if it is one, of which nothing is known yet; and who tells.
fn cluster(config: &Config) -> (watch::Sender<Arc<Owners>>, Option<Cluster>) {
    let tell = watch::Sender::<Arc<Owners>>::default();
    let cluster = config.upstream.url.is_cluster().then(|| Cluster {
        roster: Arc::new(Roster::new(config.routing.addresses_by_announced())),
        owners: tell.subscribe(),
    });
    (tell, cluster)
}

fn facts(config: &Config) -> Facts {
    Facts {
        name: config.facade.admin_command.to_string(),
        upstream: config.upstream.url.name(),
        revision: option_env!("NEARHIT_REVISION").map(str::to_owned),
        started: time::now(),
    }
}

/// Shows what is set. `tried_first`: where invalidations may come from; `None`: nothing is cached.
fn show(config: &Config, metrics: &Metrics, tried_first: Option<InvalidationSource>) {
    let caching = tried_first.is_some();
    let source = tried_first.unwrap_or(InvalidationSource::Off);
    metrics.invalidation_source.set_only(source);
    metrics.clients_max.set_count(config.server.max_clients as u64);
    let serves = caching && config.cache.mode == CacheMode::Serve;
    metrics.cache_enabled.set_bool(serves);
    let max_bytes = if caching { config.cache.max_memory.bytes() } else { 0 };
    metrics.cache_max_bytes.set_count(max_bytes);
    let insecure = config.upstream.url.tls && config.upstream.tls.insecure_skip_verify;
    metrics.insecure.set_bool(insecure);
    if insecure {
        tracing::warn!(
            upstream = config.upstream.url.name(),
            "INSECURE: upstream.tls.insecure_skip_verify is set, so whoever can get between nearhit and the server can read and change everything"
        );
    }
}

fn opener(
    config: &Config,
    cache: &Arc<NearCache<Ticket>>,
    thread: &TrackingThread,
    outboxes: &Outboxes,
    cluster: Option<&Cluster>,
    dialing: &Dialing,
) -> Box<dyn Partitions> {
    Box::new(Opener {
        cache: Arc::clone(cache),
        tracker: thread.tracker(),
        own: config.upstream.credentials(),
        handshake: handshake(config, dialing, &Identity::new(None)),
        outboxes: outboxes.clone(),
        cluster: cluster.cloned(),
    })
}
