//! What the coherence tests share: a server with a proxy before it, clients of both protocols, and counting hits.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

pub mod cases;
pub mod laggard;
pub mod severer;

use crate::support::resp::encode;
use crate::support::{Nearhit, RedisServer, Resp, eventually, wait_for};
use std::time::Duration;

/// How long an invalidation may take here; it takes a millisecond, but the machine may be busy.
pub const BOUND: Duration = Duration::from_secs(1);

/// How the near-cache learns of changes; every test that can runs with both.
pub const MODES: [&str; 3] = ["tracking", "redirect", "broadcast"];

/// A client's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

/// Both protocols.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Resp2, Protocol::Resp3];

/// A server and a nearhit in front of it.
pub struct Bench {
    pub redis: RedisServer,
    pub nearhit: Nearhit,
}

impl Bench {
    /// A plain server; the second read of a key is a hit.
    #[track_caller]
    pub fn always(mode: &str) -> Self {
        Self::new(server_for(mode), mode, &["--cache.admission", "always"])
    }

    /// Everything chosen.
    #[track_caller]
    pub fn new(redis: RedisServer, mode: &str, args: &[&str]) -> Self {
        let nearhit = front(&redis, mode, args);
        Self { redis, nearhit }
    }

    /// A client of the proxy.
    #[track_caller]
    pub fn client(&self, protocol: Protocol) -> Resp {
        speaking(self.nearhit.connect(), protocol)
    }

    /// A client of the server itself.
    #[track_caller]
    pub fn direct(&self, protocol: Protocol) -> Resp {
        speaking(self.redis.client(), protocol)
    }

    /// Hits so far, of missing keys too.
    #[track_caller]
    pub fn hits(&self) -> f64 {
        self.nearhit.metric("nearhit_cache_requests_total", &["hit\""])
    }

    /// Reads until a read is answered from memory, and gives back that answer's bytes.
    #[track_caller]
    pub fn read_from_memory(&self, client: &mut Resp, read: &str) -> Vec<u8> {
        let mut before = self.hits();
        wait_for(&format!("a hit of {read:?}"), crate::support::SOON, || {
            let reply = bytes(client, read);
            let after = self.hits();
            (std::mem::replace(&mut before, after) < after).then_some(reply)
        })
    }

    /// Kills every connection to the server, and waits until a new one tracks: what was cached before is gone.
    #[track_caller]
    pub fn start_over(&self) {
        let started = || self.nearhit.stderr().matches("tracking is on").count();
        let before = started();
        self.redis.cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
        wait_for("tracking anew", crate::support::SOON, || started() > before);
    }

    /// Waits until a read through the proxy says what the server says.
    #[track_caller]
    pub fn converges(&self, client: &mut Resp, direct: &mut Resp, read: &str) {
        let mut seen = Vec::new();
        let same = eventually(BOUND, || {
            seen = bytes(client, read);
            seen == bytes(direct, read)
        });
        assert!(
            same,
            "{read:?} still says {} where the server says {}",
            seen.escape_ascii(),
            bytes(direct, read).escape_ascii()
        );
    }

    /// How often the server ran a command.
    #[track_caller]
    pub fn calls(&self, command: &str) -> u64 {
        let stats = self.redis.cmd(&["INFO", "commandstats"]).text();
        crate::support::redis::info_field(&stats, &format!("cmdstat_{command}"))
            .and_then(|fields| fields.strip_prefix("calls=")?.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }
}

/// A server that has what `mode` takes.
#[track_caller]
pub fn server_for(mode: &str) -> RedisServer {
    let events = if mode == "keyspace" { "KA" } else { "" };
    RedisServer::builder().arg("--notify-keyspace-events", events).start()
}

/// A nearhit in front of `redis`, once it tracks.
#[track_caller]
pub fn front(redis: &RedisServer, mode: &str, args: &[&str]) -> Nearhit {
    front_at(&redis.url(), mode, args)
}

/// A nearhit in front of whatever is at `url`, once it tracks.
#[track_caller]
pub fn front_at(url: &str, mode: &str, args: &[&str]) -> Nearhit {
    // Everything begins with nothing.
    let covers: &[&str] = if mode == "broadcast" {
        &["--invalidation.prefixes", "[\"\"]"]
    } else {
        &[]
    };
    let all: Vec<_> = ["--invalidation.mode", mode, "--server.threads", "2"]
        .iter()
        .chain(covers)
        .chain(args)
        .copied()
        .collect();
    let nearhit = Nearhit::serve_with(url, &all);
    wait_for("tracking", crate::support::SOON, || {
        nearhit.stderr().contains("tracking is on")
    });
    nearhit
}

/// The connection, speaking `protocol`.
#[track_caller]
pub fn speaking(mut client: Resp, protocol: Protocol) -> Resp {
    if protocol == Protocol::Resp3 {
        client.hello3();
    }
    client
}

/// A command as one line: words between spaces, text in single quotes is one word.
pub fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| {
            if index % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_ascii_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}

/// The exact bytes of the reply to a command given as a line.
#[track_caller]
pub fn bytes(client: &mut Resp, line: &str) -> Vec<u8> {
    client.send(&words(line));
    client.read_reply_bytes()
}

/// Runs a command given as a line, and insists that it works.
#[track_caller]
pub fn run(client: &mut Resp, line: &str) -> crate::support::Reply {
    let reply = client.cmd(&words(line));
    assert!(!reply.is_error(), "{line:?} answered {reply:?}");
    reply
}

/// Sends all lines in one write, and gives back the exact bytes of every reply.
#[track_caller]
pub fn in_one_packet(client: &mut Resp, lines: &[String]) -> Vec<Vec<u8>> {
    client.send_raw(lines.iter().flat_map(|line| encode(&words(line))).collect::<Vec<_>>());
    lines.iter().map(|_| client.read_reply_bytes()).collect()
}
