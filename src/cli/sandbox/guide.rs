//! What the sandbox tells a person: what runs where, and what to try.

use super::RunningProxy;
use super::servers::{Server, Servers};
use std::io::Write;
use std::net::SocketAddr;

/// Printed when there is no server: one line per family of systems.
pub(super) const HOW_TO_INSTALL: &str = "there is no redis-server here. Install it:
    Debian, Ubuntu   sudo apt-get install redis-server
    Fedora, RHEL     sudo dnf install redis   (or: valkey valkey-compat-redis)
    Alpine           sudo apk add redis
    Arch             sudo pacman -S valkey
    macOS            brew install redis
or say where one is: nearhit sandbox --redis-server PATH";

/// Prints the guide. A reader that has gone away is no reason to stop.
pub(super) fn print(proxy: &RunningProxy, servers: &Servers) {
    let servers: Vec<_> = servers.running().iter().map(Server::line).collect();
    say(&guide(proxy.listen, proxy.metrics, &servers));
}

/// Prints one message. `println!` would panic on a closed pipe.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// One server in the guide.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) port: u16,
    pub(super) pid: u32,
}

fn guide(listen: SocketAddr, metrics: SocketAddr, servers: &[Line]) -> String {
    let mut text = String::from("nearhit sandbox: running until Ctrl-C; nothing is kept\n\n");
    text.push_str(&format!(
        "  {:<10} {:<21} metrics http://{metrics}/metrics\n",
        "nearhit",
        listen.to_string()
    ));
    for Line { name, port, pid } in servers {
        text.push_str(&format!("  {name:<10} {:<21} pid {pid}\n", format!("127.0.0.1:{port}")));
    }
    let near = redis_cli(listen);
    let behind = format!("redis-cli -p {}", servers.first().map_or(0, |primary| primary.port));
    let tries = [
        (format!("{near} SET greeting hello"), "Redis as ever, through nearhit"),
        // A key is cached from its second read on (cache.admission).
        (
            format!("{near} -r 5 GET greeting"),
            "twice from Redis, then from memory",
        ),
        (
            format!("{behind} SET greeting changed"),
            "a write behind nearhit's back",
        ),
        (format!("{near} GET greeting"), "and nearhit knows"),
        (format!("{near} PROXY STATS"), "what was answered from where"),
        (format!("{near} PROXY TOPOLOGY"), "the nodes, and what replicas lack"),
        (
            format!("{near} PROXY EXPLAIN STRLEN greeting"),
            "who would answer that, and why",
        ),
    ];
    let width = tries.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    text.push_str("\ntry, in another terminal:\n");
    for (command, why) in tries {
        text.push_str(&format!("  {command:<width$}   # {why}\n"));
    }
    text
}

/// The command that reaches `addr`; the host is only said where `redis-cli` would not guess it.
fn redis_cli(addr: SocketAddr) -> String {
    let ip = addr.ip();
    if ip.is_unspecified() || ip == std::net::Ipv4Addr::LOCALHOST {
        format!("redis-cli -p {}", addr.port())
    } else {
        format!("redis-cli -h {ip} -p {}", addr.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_says_what_runs_where_and_what_to_try() {
        let servers =
            [("primary", 7001, 11), ("replica 1", 7002, 12)].map(|(name, port, pid)| Line { name, port, pid });
        let text = guide(
            "127.0.0.1:6380".parse().unwrap(),
            "127.0.0.1:9381".parse().unwrap(),
            &servers,
        );
        for wanted in [
            "nearhit    127.0.0.1:6380        metrics http://127.0.0.1:9381/metrics\n",
            "primary    127.0.0.1:7001        pid 11\n",
            "replica 1  127.0.0.1:7002        pid 12\n",
            "redis-cli -p 6380 -r 5 GET greeting ",
            "redis-cli -p 6380 GET greeting ",
            "redis-cli -p 7001 SET greeting changed ",
            "redis-cli -p 6380 PROXY STATS ",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
        }
    }

    #[test]
    fn another_host_is_part_of_the_command() {
        assert_eq!(
            redis_cli("10.0.0.1:6380".parse().unwrap()),
            "redis-cli -h 10.0.0.1 -p 6380"
        );
        assert_eq!(redis_cli("0.0.0.0:6380".parse().unwrap()), "redis-cli -p 6380");
    }
}
