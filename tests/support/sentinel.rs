//! A real sentinel from a temporary copy of `redis-conf/sentinel.conf`.

use super::redis::{Builder, RedisServer};
use super::resp::Resp;
use super::wait::wait_for;
use std::net::SocketAddr;
use std::time::Duration;

/// One running sentinel that watches `mymaster`.
#[derive(Debug)]
pub struct Sentinel {
    server: RedisServer,
}

impl Sentinel {
    /// Watches `primary` with the given quorum and waits until the sentinel has seen it.
    #[track_caller]
    pub fn watch(primary: &RedisServer, quorum: u32) -> Self {
        Self::watch_with(primary, quorum, &[])
    }

    /// The same with text replaced in its configuration.
    #[track_caller]
    pub fn watch_with(primary: &RedisServer, quorum: u32, edits: &[(&str, &str)]) -> Self {
        let with = |builder: Builder| {
            let edit = |builder: Builder, (from, to): &(&str, &str)| builder.edit(from, to);
            edits.iter().fold(builder, edit)
        };
        Self::watch_at(primary.port(), quorum, with)
    }

    /// Watches a primary that speaks TLS, in TLS, and speaks TLS itself on another port.
    #[track_caller]
    pub fn watch_tls(primary: &RedisServer, quorum: u32, tls: impl Fn(Builder) -> Builder) -> Self {
        Self::watch_at(primary.tls_port(), quorum, |builder| {
            tls(builder).arg("--tls-replication", "yes")
        })
    }

    #[track_caller]
    fn watch_at(port: u16, quorum: u32, with: impl Fn(Builder) -> Builder) -> Self {
        let monitor = format!("monitor mymaster 127.0.0.1 {port} {quorum}");
        let builder = RedisServer::builder()
            .conf(super::root().join("redis-conf/sentinel.conf"))
            .edit("monitor mymaster redis-master 6379 1", &monitor)
            .in_memory()
            .flag("--sentinel");
        let sentinel = Self {
            server: with(builder).start(),
        };
        wait_for("the sentinel to see its primary", Duration::from_secs(10), || {
            let known = sentinel.client().cmd(&["SENTINEL", "MASTER", "mymaster"]);
            known.get("flags").is_some_and(|flags| flags == "master")
        });
        sentinel
    }

    /// Waits until the sentinel knows so many replicas (it asks the primary every ten seconds, sooner after a change).
    #[track_caller]
    pub fn wait_for_replicas(&self, count: usize) {
        wait_for("the sentinel to see the replicas", Duration::from_secs(30), || {
            self.client().cmd(&["SENTINEL", "REPLICAS", "mymaster"]).items().len() == count
        });
    }

    /// Where it says the primary is.
    #[track_caller]
    pub fn primary(&self) -> (String, u16) {
        let addr = self
            .client()
            .cmd(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])
            .items();
        (addr[0].text(), addr[1].text().parse().expect("a port"))
    }

    /// A new connection to it.
    #[track_caller]
    pub fn client(&self) -> Resp {
        self.server.client()
    }

    /// Where it speaks TLS.
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        self.server.tls_port()
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// The server process itself, to pause or kill it.
    pub fn server(&mut self) -> &mut RedisServer {
        &mut self.server
    }
}
