//! What the server's URL says: which nodes or sentinels, which database, and who to be there. `url` reads it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, ConfigErrors};
use super::{Routing, Secret, Sentinel, Upstream, UpstreamTls, url};
use crate::tls::{ClientTls, Files, Wrong};

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address (IPv6 without brackets), and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Where the server is: which nodes it may be, or who knows that. Displays as in [`UpstreamUrl::name`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamPlace {
    /// A primary and nodes that follow it, in any order; which is which, discovery finds out. Invariant: at least one.
    Nodes(Vec<Address>),
    /// Sentinels know it. Invariant: at least one.
    Sentinel {
        /// Where sentinels are; not all of them need be listed.
        sentinels: Vec<Address>,
        /// What they call the primary and its replicas.
        group: String,
    },
    /// A Redis Cluster: keys are spread over several primaries, and every node knows where they are.
    Cluster {
        /// Where nodes are; not all of them need be listed. Invariant: at least one.
        seeds: Vec<Address>,
    },
}

/// Where the server is, which database to use, and who to be there. Displays without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Where the server is.
    pub place: UpstreamPlace,
    /// All nodes, sentinels too, are spoken to in TLS. Invariant: not so with a Unix socket.
    pub tls: bool,
    /// The database clients start in.
    pub db: u32,
    /// The user in the URL; empty = the default user.
    pub username: String,
    /// The password in the URL; empty = none.
    pub password: Secret,
}

/// What to authenticate with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user; empty = the default user, for whom `AUTH password` is enough. Any bytes, as clients may send them.
    pub username: Box<[u8]>,
    /// The password; may be empty for a user who needs none.
    pub password: Secret,
}

impl Upstream {
    /// What to authenticate with, from the URL or from `username` and `password`; `None` = not at all.
    pub fn credentials(&self) -> Option<Credentials> {
        Credentials::of(&self.url.username, &self.url.password)
            .or_else(|| Credentials::of(&self.username, &self.password))
    }

    /// What TLS connections to the server need, read from the files of `[upstream.tls]` now; `None`: the URL says nothing of
    /// TLS.
    ///
    /// # Errors
    /// A file that cannot be read or used, and settings that do not fit together.
    pub fn client_tls(&self) -> Result<Option<ClientTls>, ConfigErrors> {
        if !self.url.tls {
            return Ok(None);
        }
        let errors = |wrong: Vec<Wrong>| ConfigErrors(wrong.into_iter().map(ConfigError::of_tls).collect());
        self.tls.load().map(Some).map_err(errors)
    }
}

impl UpstreamTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them, at least one.
    pub(super) fn load(&self) -> Result<ClientTls, Vec<Wrong>> {
        ClientTls::load(&Files {
            ca_file: self.ca_file.as_deref(),
            cert_file: self.cert_file.as_deref(),
            key_file: self.key_file.as_deref(),
            server_name: &self.server_name,
            skip_verify: self.insecure_skip_verify,
        })
    }
}

impl Routing {
    /// The zones of nodes that the configuration tells, by the nodes' addresses.
    pub fn zones_by_node(&self) -> HashMap<Address, String> {
        let pairs = self.zones.iter().filter_map(|entry| pair(entry));
        pairs
            .filter_map(|(at, zone)| Some((url::node(at).ok()?, zone.to_owned())))
            .collect()
    }

    /// Where nodes are reached, by where they announce themselves.
    pub fn addresses_by_announced(&self) -> HashMap<Address, Address> {
        let pairs = self.addresses.iter().filter_map(|entry| pair(entry));
        pairs
            .filter_map(|(announced, reached)| Some((url::node(announced).ok()?, url::node(reached).ok()?)))
            .collect()
    }
}

/// `left=right`, both of which are something.
pub(super) fn pair(entry: &str) -> Option<(&str, &str)> {
    let (left, right) = entry.split_once('=')?;
    let (left, right) = (left.trim(), right.trim());
    (!left.is_empty() && !right.is_empty()).then_some((left, right))
}

impl Sentinel {
    /// What to authenticate with at the sentinels; `None` = not at all.
    pub fn credentials(&self) -> Option<Credentials> {
        Credentials::of(&self.username, &self.password)
    }
}

impl Credentials {
    fn of(username: &str, password: &Secret) -> Option<Self> {
        (!username.is_empty() || !password.is_empty()).then(|| Self {
            username: username.as_bytes().into(),
            password: password.clone(),
        })
    }
}

/// Redis' own port.
pub(super) const PORT: u16 = 6379;

impl UpstreamUrl {
    /// The server at this host and port: no credentials, database 0.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self {
            place: UpstreamPlace::Nodes(vec![Address::Tcp {
                host: host.into(),
                port,
            }]),
            tls: false,
            db: 0,
            username: String::new(),
            password: Secret::default(),
        }
    }

    /// The nodes one of which is the primary; `None` when sentinels or nodes of a cluster are named.
    pub fn nodes(&self) -> Option<&[Address]> {
        match &self.place {
            UpstreamPlace::Nodes(nodes) => Some(nodes),
            UpstreamPlace::Sentinel { .. } | UpstreamPlace::Cluster { .. } => None,
        }
    }

    /// Whether keys are spread over the nodes of a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, UpstreamPlace::Cluster { .. })
    }

    /// The first of [`UpstreamUrl::nodes`].
    pub fn first(&self) -> Option<Address> {
        self.nodes()?.first().cloned()
    }

    /// Where the server is, in few words and without secrets: `10.0.0.1:6379`, or `s1:26379,s2:26379/mymaster`.
    pub fn name(&self) -> String {
        self.place.to_string()
    }

    pub(super) fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }
}

impl Default for UpstreamUrl {
    fn default() -> Self {
        Self::tcp("127.0.0.1", PORT)
    }
}

impl Address {
    /// Where no node is: stands for one that is not known yet.
    pub fn nowhere() -> Self {
        Self::Tcp {
            host: String::new(),
            port: 0,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for UpstreamPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addresses, group) = match self {
            Self::Nodes(nodes) | Self::Cluster { seeds: nodes } => (nodes, None),
            Self::Sentinel { sentinels, group } => (sentinels, Some(group)),
        };
        for (index, address) in addresses.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        group.map_or(Ok(()), |group| write!(f, "/{group}"))
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, db) = match &self.place {
            UpstreamPlace::Nodes(nodes) if matches!(nodes.first(), Some(Address::Unix(_))) => ("unix", "?db="),
            UpstreamPlace::Nodes(_) => ("redis", "/"),
            UpstreamPlace::Sentinel { .. } => ("redis+sentinel", "/"),
            UpstreamPlace::Cluster { .. } => ("redis+cluster", "/"),
        };
        // The last letter of what stands for the protocol.
        let secured = self.tls.then(|| scheme.replacen("redis", "rediss", 1));
        write!(f, "{}://{}", secured.as_deref().unwrap_or(scheme), self.username)?;
        if !self.password.is_empty() {
            write!(f, ":{}", self.password)?;
        }
        if self.has_credentials() {
            f.write_str("@")?;
        }
        write!(f, "{}{db}{}", self.place, self.db)
    }
}
