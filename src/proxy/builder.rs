//! How a proxy is told what to be, and started.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::mpsc;

use super::control::{self, Control};
use super::handle::Proxy;
use super::listen::{self, Bound};
use super::worker::{self, Outboxes, Workers};
use crate::admin::{Console, Facts};
use crate::cache::Policies;
use crate::coherence::{Limits, NearCache};
use crate::command::CommandTable;
use crate::config::{Admission, Config, InvalidationMode, Listen, Policy, UpstreamUrl};
use crate::downstream::{Settings, Shared};
use crate::error::{Error, Result};
use crate::metrics::{InvalidationSource, Metrics};
use crate::resp::Version;
use crate::time;
use crate::tracking::{Source, Tracking};
use crate::upstream::{Gauges, Handshake, PoolSettings};

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

    /// Sets the server: `redis://[user[:password]@]host[:port][/db]` or `unix:///path[?db=n]`.
    /// Default: `redis://127.0.0.1:6379`.
    #[must_use]
    pub fn upstream(mut self, url: &str) -> Self {
        if let Some(url) = self.read::<UpstreamUrl>(url) {
            self.config.upstream.url = url;
        }
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
    tracking_thread: Option<std::thread::JoinHandle<()>>,
}

impl Parts {
    fn new(config: &Config, process_metrics: bool) -> Result<Self> {
        let table = CommandTable::builtin();
        let metrics =
            Metrics::new(table.iter().map(|row| row.name().to_owned()), time::now()).with_process(process_metrics);
        let metrics = Arc::new(metrics);
        let policies = Policies::new(&config.policies, |name| {
            table.by_name(&name.to_lowercase()).map(|row| row.id().number())
        });
        let cache = Arc::new(NearCache::new(limits(config), policies));
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..config.server.worker_count())
            .map(|_| mpsc::unbounded_channel())
            .unzip();
        let outboxes = Outboxes::new(senders);
        let source = source(config);
        let (tracking, tracking_thread) = match source {
            Some(source) => {
                let (tracking, thread) =
                    Tracking::start(handshake(config), source, Arc::clone(&cache), outboxes.clone())?;
                (Some(tracking), Some(thread))
            }
            None => (None, None),
        };
        metrics.clients_max.set_count(config.server.max_clients as u64);
        metrics.cache_enabled.set_bool(source.is_some());
        metrics.cache_max_bytes.set_count(if source.is_some() {
            config.cache.max_memory.bytes()
        } else {
            0
        });
        let shared = Arc::new(Shared {
            cache,
            table: ArcSwap::from_pointee(table),
            settings: settings(config, source.is_some()),
            tracking,
            metrics,
            admin: OnceLock::new(),
            peers: DashMap::new(),
            next_id: AtomicU64::new(1),
        });
        let gauges = Arc::new(Gauges::default());
        let facts = Facts {
            name: config.facade.admin_command.to_string(),
            upstream: config.upstream.url.address.to_string(),
            source: label(source),
            revision: option_env!("NEARHIT_REVISION").map(str::to_owned),
            started: time::now(),
        };
        let console = Console::new(Arc::downgrade(&shared), Arc::clone(&gauges), facts);
        let _first_and_only = shared.admin.set(Arc::new(console));
        Ok(Self {
            shared,
            gauges,
            inboxes,
            outboxes,
            tracking_thread,
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
            &self.gauges,
            self.inboxes,
            self.outboxes,
        )?;
        let control = Control {
            shared: Arc::clone(&self.shared),
            gauges: self.gauges,
            source: label(source(config)),
            workers: workers.handle(),
            handshake: Handshake {
                version: Version::V2,
                db: 0,
                ..handshake(config)
            },
            clients,
            metrics: metrics_listener,
            metrics_path: config.metrics.path.to_string(),
            keepalive: config.server.tcp_keepalive,
            max_clients: config.server.max_clients,
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

fn label(source: Option<Source>) -> InvalidationSource {
    match source {
        Some(Source::Tracking) => InvalidationSource::Tracking,
        Some(Source::Redirect) => InvalidationSource::Redirect,
        None => InvalidationSource::Off,
    }
}

fn source(config: &Config) -> Option<Source> {
    match config.invalidation.mode {
        _ if !config.cache.enabled => None,
        InvalidationMode::Auto | InvalidationMode::Tracking => Some(Source::Tracking),
        InvalidationMode::Redirect => Some(Source::Redirect),
        InvalidationMode::Off => None,
    }
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
        max_staleness: config.invalidation.max_staleness,
        admit_always: cache.admission == Admission::Always,
        admission_window: cache.admission_window,
        ..Limits::default()
    }
}

fn settings(config: &Config, caching: bool) -> Settings {
    let timeout = config.upstream.command_timeout;
    Settings {
        limits: config.server.limits.clone(),
        command_timeout: (!timeout.is_zero()).then_some(timeout),
        caching,
        db: config.upstream.url.db,
        upstream: config.upstream.url.address.to_string(),
        credentials: config.upstream.credentials(),
        info_section: config.facade.info_section,
        admin_command: config.facade.admin_command.to_lowercase(),
    }
}

fn handshake(config: &Config) -> Handshake {
    let upstream = &config.upstream;
    Handshake {
        address: upstream.url.address.clone(),
        credentials: upstream.credentials(),
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
        address: upstream.url.address.clone(),
        credentials: upstream.credentials(),
        client_name: upstream.client_name.to_string(),
        connect_timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        pinned_max: upstream.pinned_max as u64,
    }
}
