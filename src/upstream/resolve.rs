//! Where host names lead, and whether they have led elsewhere since somebody connected.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Address;

/// The answer to [`Resolve::resolve`], which is still to come.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Says where host names lead. Programs that find their servers by other means than the system's resolver give nearhit one of
/// their own ([`crate::proxy::Builder::resolver`]).
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, best first; they are tried in this order. It is asked for each connection, and each
    /// `upstream.resolve_interval` once more. IP addresses are never asked for.
    ///
    /// # Errors
    /// Whatever kept it from finding out. What it said last counts until it can say something again; if it has said nothing yet,
    /// connecting fails and says why.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system's resolver.
struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// A name and a port.
type Name = (String, u16);

/// A resolver, and what came of it; clones know the same.
#[derive(Clone)]
pub struct Resolver {
    resolve: Arc<dyn Resolve>,
    names: Arc<Mutex<Names>>,
}

/// Names are those of nodes, so there are few.
#[derive(Debug, Default)]
struct Names {
    /// Where connections by a name went since it led elsewhere last.
    connected: HashMap<Name, HashSet<SocketAddr>>,
    /// Where it led when somebody looked last.
    leads_to: HashMap<Name, Vec<SocketAddr>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Arc::new(System))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks `resolve`.
    pub fn new(resolve: Arc<dyn Resolve>) -> Self {
        let names = Arc::default();
        Self { resolve, names }
    }

    /// The addresses of `host`, of an IP address itself; when nobody can say now, those that were said last.
    ///
    /// # Errors
    /// See [`Resolve::resolve`]; and that there are none.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let name = (host.to_owned(), port);
        match self.look(&name).await {
            Ok(found) => Ok(found),
            Err(error) => self.names.lock().leads_to.get(&name).cloned().ok_or(error),
        }
    }

    /// Where a name leads now.
    async fn look(&self, name: &Name) -> io::Result<Vec<SocketAddr>> {
        let found = self.resolve.resolve(&name.0, name.1).await?;
        if found.is_empty() {
            let why = format!("{} has no address", name.0);
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        self.names.lock().leads_to.insert(name.clone(), found.clone());
        Ok(found)
    }

    /// A connection by this name has been made.
    pub(super) fn connected(&self, host: &str, port: u16, to: SocketAddr) {
        if host.parse::<IpAddr>().is_err() {
            let mut names = self.names.lock();
            names.connected.entry((host.to_owned(), port)).or_default().insert(to);
        }
    }

    /// Looks where `address` leads now, if that is a name. Whether it has led elsewhere, and no more, since somebody connected.
    ///
    /// # Errors
    /// See [`Resolve::resolve`].
    pub async fn has_moved(&self, address: &Address) -> io::Result<bool> {
        let Some(name) = name(address) else { return Ok(false) };
        let found = self.look(&name).await?;
        let mut names = self.names.lock();
        let connected = names.connected.get_mut(&name);
        let moved = connected.is_some_and(|connected| {
            let before = connected.len();
            connected.retain(|to| found.contains(to));
            connected.len() < before
        });
        Ok(moved)
    }

    /// Whether a connection by the name of `address` went to where that leads no more.
    pub fn has_left(&self, address: &Address, to: Option<SocketAddr>) -> bool {
        let Some((name, to)) = name(address).zip(to) else {
            return false;
        };
        let names = self.names.lock();
        names.leads_to.get(&name).is_some_and(|found| !found.contains(&to))
    }
}

/// The name in an address; `None`: there is none to be resolved.
fn name(address: &Address) -> Option<Name> {
    match address {
        Address::Tcp { host, port } if host.parse::<IpAddr>().is_err() => Some((host.clone(), *port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed(Mutex<Vec<SocketAddr>>);

    impl Resolve for Listed {
        fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Resolving<'a> {
            Box::pin(async { Ok(self.0.lock().clone()) })
        }
    }

    fn ip(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 6379))
    }

    fn at(host: &str) -> Address {
        let (host, port) = (host.to_owned(), 6379);
        Address::Tcp { host, port }
    }

    #[tokio::test]
    async fn a_name_has_moved_when_it_leads_no_more_to_where_somebody_is_connected() {
        let listed = Arc::new(Listed(Mutex::new(vec![ip(1), ip(2)])));
        let (resolver, db) = (Resolver::new(Arc::clone(&listed) as _), at("db"));
        assert!(!resolver.has_moved(&db).await.unwrap());
        resolver.connected("db", 6379, ip(1));
        *listed.0.lock() = vec![ip(1), ip(3)];
        assert!(!resolver.has_moved(&db).await.unwrap(), "nobody was connected there");
        assert!(!resolver.has_left(&db, Some(ip(1))) && resolver.has_left(&db, Some(ip(2))));
        *listed.0.lock() = vec![ip(3)];
        assert!(resolver.has_moved(&db).await.unwrap());
        assert!(!resolver.has_moved(&db).await.unwrap(), "once");
        listed.0.lock().clear();
        assert!(resolver.has_moved(&db).await.is_err(), "nobody knows");
        assert_eq!(resolver.resolve("db", 6379).await.unwrap(), [ip(3)], "what was known");
        assert!(resolver.resolve("other", 6379).await.is_err());
        assert!(resolver.has_left(&db, Some(ip(1))) && !resolver.has_left(&db, Some(ip(3))));
    }

    #[tokio::test]
    async fn an_ip_address_is_what_it_is() {
        let resolver = Resolver::new(Arc::new(Listed(Mutex::default())));
        assert_eq!(resolver.resolve("10.0.0.1", 6379).await.unwrap(), [ip(1)]);
        resolver.connected("10.0.0.1", 6379, ip(1));
        assert!(!resolver.has_moved(&at("10.0.0.1")).await.unwrap());
        assert!(!resolver.has_left(&at("10.0.0.1"), Some(ip(2))));
    }
}
