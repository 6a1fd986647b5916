//! How a proxy is told what to be, and started.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::{mpsc, watch};

use super::control::{self, Control};
use super::handle::Proxy;
use super::listen::{self, Bound};
use super::nodes::Nodes;
use super::partitions::Opener;
use super::worker::{self, Outboxes, Workers};
use crate::admin::{Console, Facts};
use crate::cache::Policies;
use crate::coherence::{Limits, NearCache};
use crate::command::CommandTable;
use crate::config::{
    Address, Admission, CacheMode, Config, InvalidationMode, Listen, PartitionBy, Policy, Reads, UpstreamUrl,
};
use crate::discovery::{Discovery, Hurry};
use crate::downstream::{AccountSettings, Accounts, Common, Partitions, Settings, Shared, Ticket};
use crate::error::{Error, Result};
use crate::metrics::{InvalidationSource, Metrics};
use crate::resp::Version;
use crate::time;
use crate::topology::{Routing, Rules, Topology};
use crate::tracking::{Ladder, Source, TrackingThread};
use crate::upstream::{Gauges, Handshake, Identity, PoolSettings, Whereabouts};

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
        Parts::new(&config, self.process_metrics)?.start(&config, clients, metrics_listener, metrics_addr)
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

/// What is made before any thread is.
struct Parts {
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
    inboxes: Vec<mpsc::UnboundedReceiver<worker::Message>>,
    outboxes: Outboxes,
    tracking_thread: Option<TrackingThread>,
    found: watch::Sender<Arc<Topology>>,
    master: Whereabouts,
    tell_master: watch::Sender<Option<Address>>,
}

impl Parts {
    fn new(config: &Config, process_metrics: bool) -> Result<Self> {
        let table = CommandTable::builtin();
        let metrics = Metrics::new(table.iter().map(|row| row.name().to_owned()), time::now())
            .with_process(process_metrics)
            .with_upstream(&config.upstream.url.name())
            .with_policies(config.policies.iter().map(|policy| policy.name.as_str()));
        let metrics = Arc::new(metrics);
        let policies = Policies::new(&config.policies, |name| {
            table.by_name(&name.to_lowercase()).map(|row| row.id().number())
        });
        let cache = Arc::new(NearCache::new(limits(config), policies));
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..config.server.worker_count())
            .map(|_| mpsc::unbounded_channel())
            .unzip();
        let outboxes = Outboxes::new(senders);
        let routing = routing(config);
        let topology = match config.upstream.url.nodes() {
            Some([only]) => Topology::single(only.clone()),
            _ => Topology::default(),
        };
        let (tell_master, master) = Whereabouts::new(topology.primary.clone());
        let found = watch::Sender::new(Arc::new(topology));
        let ladder = ladder(config);
        let caching = !ladder.sources.is_empty();
        let tried_first = ladder.sources.first().map(|source| source.label());
        metrics
            .invalidation_source
            .set_only(tried_first.unwrap_or(InvalidationSource::Off));
        let tracking_thread = caching
            .then(|| TrackingThread::start(ladder, master.clone(), Arc::clone(&metrics)))
            .transpose()?;
        let partitions = tracking_thread
            .as_ref()
            .map(|thread| opener(config, &cache, thread, &outboxes));
        metrics.clients_max.set_count(config.server.max_clients as u64);
        metrics
            .cache_enabled
            .set_bool(caching && config.cache.mode == CacheMode::Serve);
        let max_bytes = if caching { config.cache.max_memory.bytes() } else { 0 };
        metrics.cache_max_bytes.set_count(max_bytes);
        let shared = Arc::new(Shared {
            cache,
            table: ArcSwap::from_pointee(table),
            settings: settings(config, caching),
            accounts: Accounts::new(account_settings(config, partitions)),
            master: master.clone(),
            routing,
            hurry: Arc::default(),
            doubt: Arc::default(),
            metrics,
            admin: OnceLock::new(),
            peers: DashMap::new(),
            common: Common::default(),
            next_id: AtomicU64::new(1),
        });
        let gauges = Arc::new(Gauges::default());
        let facts = Facts {
            name: config.facade.admin_command.to_string(),
            upstream: config.upstream.url.name(),
            revision: option_env!("NEARHIT_REVISION").map(str::to_owned),
            started: time::now(),
        };
        let _first_and_only = shared.common.courier.set(Box::new(outboxes.clone()));
        let console = Console::new(Arc::downgrade(&shared), Arc::clone(&gauges), facts);
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
            &pool_settings(config),
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
                ..handshake(config, self.shared.accounts.own().identity())
            },
            clients,
            metrics: metrics_listener,
            metrics_path: config.metrics.path.to_string(),
            keepalive: config.server.tcp_keepalive,
            max_clients: config.server.max_clients,
            touch_interval: config.cache.touch_interval,
            channel: config.invalidation.channel.clone(),
            nodes: Nodes {
                discovery: discovery(config, self.shared.routing.is_some(), Arc::clone(&self.shared.doubt)),
                found: self.found,
                master: self.master,
                tell_master: self.tell_master,
                zones: zones(config),
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

/// Where invalidations may come from; no source at all means that nothing is cached.
fn ladder(config: &Config) -> Ladder {
    let invalidation = &config.invalidation;
    let auto = [
        (Source::Tracking, true),
        (Source::Redirect, true),
        (Source::Broadcast, !invalidation.prefixes.is_empty()),
        (Source::Keyspace, true),
        (Source::Age, !invalidation.fallback_ttl.is_zero()),
    ];
    let sources = match invalidation.mode {
        _ if config.cache.mode == CacheMode::Off => vec![],
        InvalidationMode::Auto => auto
            .into_iter()
            .filter_map(|(source, may)| may.then_some(source))
            .collect(),
        InvalidationMode::Tracking => vec![Source::Tracking],
        InvalidationMode::Redirect => vec![Source::Redirect],
        InvalidationMode::Broadcast => vec![Source::Broadcast],
        InvalidationMode::Keyspace => vec![Source::Keyspace],
        InvalidationMode::Ttl => vec![Source::Age],
        InvalidationMode::Off => vec![],
    };
    // Random, so that no two nearhits take each other's canary for their own.
    let id = RandomState::new().build_hasher().finish();
    let canary = invalidation.canary_key.replace("{id}", &format!("{id:016x}"));
    Ladder {
        sources,
        prefixes: invalidation
            .prefixes
            .iter()
            .map(|prefix| prefix.as_bytes().into())
            .collect(),
        keyspace_ttl: invalidation.keyspace_ttl,
        fallback_ttl: invalidation.fallback_ttl,
        canary_key: canary.into_bytes().into(),
        canary_interval: (!invalidation.canary_interval.is_zero()).then_some(invalidation.canary_interval),
    }
}

/// How reads are routed, where there may be more than one node.
fn routing(config: &Config) -> Option<Arc<Routing>> {
    let routing = &config.routing;
    let by_policy = config.policies.iter().any(|policy| policy.reads.is_some());
    let rules = Rules {
        reads: routing.reads,
        max_lag: routing.replica_max_lag,
        max_lag_bytes: routing.replica_max_lag_bytes.bytes(),
        stale_reads: routing.stale_reads,
        zone: routing.zone.clone(),
    };
    (by_policy || routing.reads != Reads::Master).then(|| Arc::new(Routing::new(rules, &config.policies)))
}

fn discovery(config: &Config, find_replicas: bool, doubt: Arc<Hurry>) -> Discovery {
    let upstream = &config.upstream;
    Discovery {
        place: upstream.url.place.clone(),
        identity: Identity::new(upstream.credentials()),
        sentinel_identity: Identity::new(config.sentinel.credentials()),
        client_name: upstream.client_name.to_string(),
        timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        find_replicas,
        doubt,
    }
}

fn zones(config: &Config) -> HashMap<String, String> {
    let zones = config.routing.zones.iter();
    zones
        .filter_map(|zone| zone.split_once('='))
        .map(|(node, zone)| (node.trim().to_owned(), zone.trim().to_owned()))
        .collect()
}

fn limits(config: &Config) -> Limits {
    let cache = &config.cache;
    Limits {
        max_bytes: cache.max_memory.bytes(),
        max_entry: cache.max_entry.as_usize(),
        max_entry_ttl: if cache.max_entry_ttl.is_zero() {
            Duration::MAX
        } else {
            cache.max_entry_ttl
        },
        negative_ttl: cache.negative_ttl,
        hash_ttl: cache.hash_max_ttl,
        max_staleness: config.invalidation.max_staleness,
        admit_always: cache.admission == Admission::Always,
        admission_window: cache.admission_window,
        eviction: cache.eviction,
    }
}

fn settings(config: &Config, caching: bool) -> Settings {
    // Zero says "never" in the settings.
    let limited = |timeout: Duration| (!timeout.is_zero()).then_some(timeout);
    Settings {
        limits: config.server.limits.clone(),
        idle_timeout: limited(config.server.idle_timeout),
        auth_timeout: limited(config.server.auth_timeout),
        command_timeout: limited(config.upstream.command_timeout),
        caching,
        shadow: caching && config.cache.mode == CacheMode::Shadow,
        strict_sessions: config.cache.strict_sessions,
        db: config.upstream.url.db,
        upstream: config.upstream.url.name(),
        info_section: config.facade.info_section,
        admin_command: config.facade.admin_command.to_lowercase(),
        monitor: config.facade.monitor,
        present_as: config.facade.present_as,
        pubsub: config.pubsub.clone(),
        fence_hold: config.invalidation.fence_hold,
    }
}

fn opener(
    config: &Config,
    cache: &Arc<NearCache<Ticket>>,
    thread: &TrackingThread,
    outboxes: &Outboxes,
) -> Box<dyn Partitions> {
    Box::new(Opener {
        cache: Arc::clone(cache),
        tracker: thread.tracker(),
        own: config.upstream.credentials(),
        handshake: handshake(config, &Identity::new(None)),
        outboxes: outboxes.clone(),
    })
}

fn account_settings(config: &Config, partitions: Option<Box<dyn Partitions>>) -> AccountSettings {
    AccountSettings {
        own: config.upstream.credentials(),
        require_auth: config.server.require_auth,
        by_user: config.cache.partition_by == PartitionBy::User,
        idle_timeout: config.upstream.idle_identity_timeout,
        partitions,
    }
}

/// What connections say. Where they go is known once discovery has found the master.
fn handshake(config: &Config, identity: &Identity) -> Handshake {
    let upstream = &config.upstream;
    Handshake {
        address: Address::nowhere(),
        identity: identity.clone(),
        version: Version::V3,
        db: upstream.url.db,
        client_name: upstream.client_name.to_string(),
        timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
    }
}

fn pool_settings(config: &Config) -> PoolSettings {
    let upstream = &config.upstream;
    PoolSettings {
        address: None,
        client_name: upstream.client_name.to_string(),
        connect_timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        pinned_max: upstream.pinned_max as u64,
        idle_timeout: upstream.idle_identity_timeout,
    }
}
