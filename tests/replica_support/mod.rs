//! What tests of replica reads share: a link to the master that is late, and questions to servers and nearhit.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nearhit::time::{self, Instant};

use super::support::{Nearhit, RedisServer, Reply, SOON, wait_for};

/// A way to a server by which everything the server says comes late.
pub struct LateLink {
    port: u16,
    late: Arc<AtomicU64>,
}

impl LateLink {
    /// A link to `server`, which is not late yet. Its threads end with their connections.
    pub fn to(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (late, addr) = (Arc::new(AtomicU64::new(0)), server.addr());
        let shared = Arc::clone(&late);
        std::thread::spawn(move || {
            for asking in listener.incoming().map_while(Result::ok) {
                let Ok(answering) = TcpStream::connect(addr) else {
                    continue;
                };
                let (asks, answers) = (clone(&asking), clone(&answering));
                std::thread::spawn(move || std::io::copy(&mut &asks, &mut &answers));
                let late = Arc::clone(&shared);
                std::thread::spawn(move || pass_on(answering, asking, &late));
            }
        });
        Self { port, late }
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on what the server says comes so late.
    pub fn be_late(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.late.store(millis, Ordering::Relaxed);
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("clone a socket")
}

#[allow(clippy::disallowed_methods, reason = "being late is what the link is for")]
fn pass_on(mut from: TcpStream, mut to: TcpStream, late: &AtomicU64) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (due, bytes) in receive {
            std::thread::sleep(due.since(time::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _gone = to.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let due = time::now().after(Duration::from_millis(late.load(Ordering::Relaxed)));
        if send.send((due, buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(send);
    let _ended = writer.join();
}

/// A replica that follows `master` over `link`.
pub fn replica_over(link: &LateLink) -> RedisServer {
    let replica = RedisServer::builder()
        .conf(super::support::root().join("redis-conf/replica.conf"))
        .arg("--replicaof", &format!("127.0.0.1 {}", link.port()))
        .start();
    replica.wait_for_link();
    replica
}

/// nearhit before a master and a replica whose link can be late, with a connection to the replica that is in use.
pub struct Late {
    pub master: RedisServer,
    pub link: LateLink,
    pub replica: RedisServer,
    pub proxy: Nearhit,
}

impl Late {
    #[track_caller]
    pub fn serve(args: &[&str]) -> Self {
        let master = RedisServer::start();
        let link = LateLink::to(&master);
        let replica = replica_over(&link);
        let proxy = prefer_replica(&master, args);
        wait_for_replicas(&proxy, 1);
        warm(&proxy, &replica);
        Self {
            master,
            link,
            replica,
            proxy,
        }
    }
}

/// Ends the threads of a scope when it is over, or has failed.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls of a command at a server, whoever asked.
pub fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cmd(&["INFO", "commandstats"]).text();
    let head = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&head));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// nearhit without a cache, unless `args` say so, that reads from replicas.
pub fn prefer_replica(master: &RedisServer, args: &[&str]) -> Nearhit {
    let all = [&["--cache.mode", "off", "--routing.reads", "prefer-replica"], args].concat();
    Nearhit::serve_with(&master.url(), &all)
}

/// The replicas as nearhit sees them.
pub fn replicas(proxy: &Nearhit) -> Vec<Reply> {
    let nodes = proxy.connect3().cmd(&["PROXY", "TOPOLOGY"]).items();
    let is_replica = |node: &Reply| node.get("role").is_some_and(|role| role == "replica");
    nodes.into_iter().filter(is_replica).collect()
}

/// Waits until nearhit may read from so many replicas.
#[track_caller]
pub fn wait_for_replicas(proxy: &Nearhit, count: usize) {
    wait_for("replicas that may be read from", Duration::from_secs(20), || {
        let ok = |node: &Reply| node.get("state").is_some_and(|state| state == "ok");
        replicas(proxy).iter().filter(|node| ok(node)).count() == count
    });
}

/// Waits until a read has been answered by `replica`.
#[track_caller]
pub fn warm(proxy: &Nearhit, replica: &RedisServer) {
    let before = calls(replica, "pttl");
    wait_for("a read of the replica", SOON, || {
        // Somebody new each time: who goes on reading of the master a key that the replica is to have, goes on.
        proxy.connect().cmd(&["PTTL", "a key nobody uses"]);
        calls(replica, "pttl") > before
    });
}

/// Reads that were routed like this so far.
pub fn routed(proxy: &Nearhit, to: &str, reason: &str) -> f64 {
    let labels = [format!("to=\"{to}\""), format!("reason=\"{reason}\"")];
    proxy.metric("nearhit_reads_routed_total", &[&labels[0], &labels[1]])
}
