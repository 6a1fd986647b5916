//! Asking one node what it is: `ROLE`, again and again.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::{Discovery, Task};
use crate::config::Address;
use crate::resp::Value;
use crate::upstream::{Control, Loss, jittered_pause};

/// How often a node is asked: how long a demotion may go unseen that nobody announces. Chosen, not measured.
const EVERY: Duration = Duration::from_secs(1);

/// What a node says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes writes.
    Primary {
        /// Who follows it and is up to date, as they announce themselves.
        replicas: Vec<Address>,
    },
    /// It follows another node.
    Replica {
        /// Whom it follows, as it was told.
        of: Option<Address>,
        /// Whether it hears from that node.
        connected: bool,
    },
}

/// What was found out about a node.
#[derive(Debug)]
pub(super) enum Heard {
    /// It says what it is; and where its name led.
    Says(Role, Option<SocketAddr>),
    /// It could not be asked.
    Lost(Loss),
}

/// A node, and what was found out about it.
#[derive(Debug)]
pub(super) struct Report {
    /// The node.
    pub(super) address: Address,
    /// What was found out.
    pub(super) heard: Heard,
}

/// A node that is asked until this is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    _task: Task,
    nudge: Arc<Notify>,
}

impl Watched {
    /// Asks `address` every second and says to `reports` what comes of it; while `eager` is set, a node that is no primary
    /// is asked as often as a broken connection is made again, because it may become one.
    pub(super) fn start(
        discovery: Arc<Discovery>,
        address: Address,
        eager: Arc<AtomicBool>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let nudge = Arc::new(Notify::new());
        let asker = Asker {
            discovery,
            address,
            eager,
            reports,
            nudge: Arc::clone(&nudge),
        };
        Self {
            _task: Task::spawn(asker.run()),
            nudge,
        }
    }

    /// Has the node asked now.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }
}

struct Asker {
    discovery: Arc<Discovery>,
    address: Address,
    eager: Arc<AtomicBool>,
    reports: mpsc::Sender<Report>,
    nudge: Arc<Notify>,
}

impl Asker {
    async fn run(self) {
        // A connection that breaks says nothing about the node: only one that cannot be made does.
        let mut was_connected = false;
        loop {
            let Err(loss) = self.ask(&mut was_connected).await;
            let pause = match loss {
                // Each attempt would stand in the server's ACL LOG.
                Loss::Refused(_) => EVERY,
                _ => jittered_pause(),
            };
            if !std::mem::take(&mut was_connected) || matches!(loss, Loss::Refused(_)) {
                self.report(Heard::Lost(loss)).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks on one connection for as long as it lasts.
    async fn ask(&self, was_connected: &mut bool) -> Result<Infallible, Loss> {
        let handshake = self.discovery.handshake(&self.address, &self.discovery.identity);
        let mut control = Control::connect(&handshake).await?;
        loop {
            let answer = tokio::time::timeout(handshake.timeout, control.demand(&[b"ROLE"])).await;
            let answer = answer.map_err(|_| Loss::Timeout(handshake.timeout))??;
            let role = read(&answer).ok_or_else(|| Loss::Refused("ROLE: this is no node with data".into()))?;
            *was_connected = true;
            let pause = match role {
                // Relaxed: whoever sets it nudges as well.
                Role::Replica { .. } if self.eager.load(Ordering::Relaxed) => jittered_pause(),
                _ => EVERY,
            };
            self.report(Heard::Says(role, control.peer_addr())).await;
            if self.discovery.resolver.has_left(&self.address, control.peer_addr()) {
                return Err(Loss::Left("the name of the node leads elsewhere now".into()));
            }
            // Too late is nudged soon enough: a permit stays until it is used.
            drop(tokio::time::timeout(pause, self.nudge.notified()).await);
        }
    }

    async fn report(&self, heard: Heard) {
        let address = self.address.clone();
        // Nobody listens only when this task is about to be ended.
        drop(self.reports.send(Report { address, heard }).await);
    }
}

/// The answer to `ROLE`; `None` if a sentinel gave it, or something else that is no node with data.
fn read(answer: &Value) -> Option<Role> {
    match answer.as_values()? {
        [role, _, replicas] if role.as_bytes() == Some(b"master") => {
            let replicas = replicas.as_values()?.iter().map(Value::as_values);
            let address = |replica: Option<&[Value]>| match replica {
                Some([host, port, ..]) => address(host, port),
                _ => None,
            };
            Some(Role::Primary {
                replicas: replicas.filter_map(address).collect(),
            })
        }
        [role, host, port, state, ..] if role.as_bytes() == Some(b"slave") => Some(Role::Replica {
            of: address(host, port),
            connected: state.as_bytes() == Some(b"connected"),
        }),
        _ => None,
    }
}

/// An address from a host and a port, as servers name them; `None` when it is not known.
pub(super) fn address(host: &Value, port: &Value) -> Option<Address> {
    let host = String::from_utf8(host.as_bytes()?.to_vec()).ok()?;
    let port = u16::try_from(port.as_integer()?).ok()?;
    (!host.is_empty() && port > 0).then_some(Address::Tcp { host, port })
}

/// Whether two addresses are one: they read the same, or the name of the one led to where the other says.
pub(super) fn is_at(address: &Address, led_to: Option<SocketAddr>, said: &Address) -> bool {
    let leads_there = match (led_to, said) {
        (Some(led_to), Address::Tcp { host, port }) => {
            let ip = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
            *port == led_to.port() && ip == Ok(led_to.ip().to_canonical())
        }
        _ => false,
    };
    leads_there || address == said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Version;

    fn read_text(text: &str) -> Option<Role> {
        read(&Value::decode(text.as_bytes(), Version::V2).unwrap())
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_primary_says_who_follows_it() {
        let text = "*3\r\n$6\r\nmaster\r\n:7\r\n*2\r\n\
            *3\r\n$8\r\n10.0.0.1\r\n$4\r\n6380\r\n$1\r\n7\r\n*3\r\n$0\r\n\r\n$1\r\n0\r\n$1\r\n7\r\n";
        let replicas = vec![at("10.0.0.1", 6380)];
        assert_eq!(read_text(text), Some(Role::Primary { replicas }));
    }

    #[test]
    fn a_replica_says_whom_it_follows_and_whether_it_hears_from_it() {
        for (state, connected) in [("connected", true), ("connect", false), ("sync", false)] {
            let text = format!(
                "*5\r\n$5\r\nslave\r\n$2\r\ndb\r\n:6379\r\n${}\r\n{state}\r\n:7\r\n",
                state.len()
            );
            let of = Some(at("db", 6379));
            assert_eq!(read_text(&text), Some(Role::Replica { of, connected }), "{state}");
        }
    }

    #[test]
    fn a_sentinel_is_no_node() {
        assert_eq!(read_text("*2\r\n$8\r\nsentinel\r\n*1\r\n$8\r\nmymaster\r\n"), None);
        assert_eq!(read_text("+OK\r\n"), None);
    }

    #[test]
    fn a_name_and_where_it_led_are_one_address() {
        let led_to = Some(SocketAddr::from(([10, 0, 0, 1], 6379)));
        assert!(is_at(&at("db", 6379), led_to, &at("10.0.0.1", 6379)));
        assert!(is_at(&at("db", 6379), led_to, &at("::ffff:10.0.0.1", 6379)));
        assert!(is_at(&at("db", 6379), None, &at("db", 6379)));
        assert!(!is_at(&at("db", 6379), led_to, &at("10.0.0.1", 6380)));
        assert!(!is_at(&at("db", 6379), led_to, &at("10.0.0.2", 6379)));
    }
}
