//! One side of the comparison: a server, what its counters say, and the connections that talk to it, directly or not.

use super::steps::Request;
use crate::support::redis::info_field;
use crate::support::resp::{encode, split_frames};
use crate::support::{RedisServer, Resp, SOON, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// How long one look at the sockets may take.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// What a server's digest says of database 0 when it has keys: that of `a`, of `b`, and of both, put together.
const ANY_KEY: [u8; 20] = [
    0xaa, 0x30, 0x98, 0xf3, 0xaa, 0xe9, 0x4b, 0xaa, 0xc1, 0x4e, 0x3b, 0x8b, 0x8d, 0xca, 0xe9, 0x89, 0xaf, 0x93, 0xf6,
    0xa2,
];

/// The most connections of a sequence.
const CONNECTIONS: usize = 4;

/// One connection and all it has heard.
pub struct Talk {
    stream: TcpStream,
    pub heard: Vec<u8>,
    /// Up to here it has been compared.
    pub compared: usize,
    pub closed: bool,
}

impl Talk {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        stream.set_nodelay(true).expect("change the socket");
        stream.set_nonblocking(true).expect("change the socket");
        Self {
            stream,
            heard: Vec::new(),
            compared: 0,
            closed: false,
        }
    }

    /// Writes; a peer that has closed is no error.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.read(),
                Err(_) => return,
            }
        }
    }

    /// Reads what is there.
    pub fn read(&mut self) {
        let mut chunk = [0; 16 * 1024];
        while !self.closed {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(count) => self.heard.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }

    /// What has not been compared yet.
    pub fn fresh(&self) -> &[u8] {
        &self.heard[self.compared..]
    }

    /// Whether there is nothing more to wait for.
    pub fn has_said_as_much_as(&self, direct: &Self) -> bool {
        self.closed || (!direct.closed && direct.frames() <= self.frames())
    }

    /// How many whole frames are fresh, and whether there is a part of one more.
    pub fn frames(&self) -> (usize, bool) {
        let (frames, rest) = split_frames(self.fresh());
        (frames.len(), !rest.is_empty())
    }
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub clients: u64,
    pub blocked: u64,
    pub channels: u64,
    pub patterns: u64,
    pub shards: u64,
    net_in: u64,
}

impl Counters {
    /// What both sides must agree on before anything else may happen.
    fn waiting(self, base: Self) -> [u64; 4] {
        [
            self.blocked.saturating_sub(base.blocked),
            self.channels.saturating_sub(base.channels),
            self.patterns.saturating_sub(base.patterns),
            self.shards.saturating_sub(base.shards),
        ]
    }
}

/// A server and the connections of one side.
pub struct Side {
    /// Where connections go: to the server, or to nearhit.
    addr: SocketAddr,
    /// Always to the server, or to each node of a cluster.
    controls: Vec<Resp>,
    /// Tells the numbers of clients, where that is not the server.
    guide: Option<Resp>,
    pub talks: Vec<Option<Talk>>,
    /// What was true before anybody talked.
    base: Counters,
    /// Bytes that were sent to the server since its counter stood at `base`; of interest if all of them went directly.
    sent: u64,
}

impl Side {
    pub fn new(servers: &[RedisServer], addr: SocketAddr, password: Option<&str>) -> Self {
        let mut side = Self {
            addr,
            controls: servers.iter().map(RedisServer::client).collect(),
            guide: (addr != servers[0].addr()).then(|| Resp::connect(addr)),
            talks: Vec::new(),
            base: Counters::default(),
            sent: 0,
        };
        if let Some(password) = password {
            let auth = format!("AUTH {password}");
            side.controls[0].lines_ok(&[&auth]);
            if let Some(guide) = &mut side.guide {
                guide.lines_ok(&[&auth]);
            }
        }
        side.base = side.counters();
        side.sent = 0;
        side
    }

    /// Closes all connections, without a word, and makes room for others.
    pub fn clear(&mut self) {
        self.talks.clear();
        self.talks.resize_with(CONNECTIONS, || None);
    }

    /// For the side that talks to its server directly: from here on all that is sent is read.
    pub fn count_anew(&mut self) -> Result<(), String> {
        self.left()?;
        self.base.net_in = self.counters().net_in;
        self.sent = 0;
        Ok(())
    }

    /// The connection, which is opened if it is not open.
    pub fn talk(&mut self, at: usize) -> &mut Talk {
        if self.talks[at].as_ref().is_none_or(|talk| talk.closed) {
            self.talks[at] = Some(Talk::open(self.addr));
        }
        self.talks[at].as_mut().expect("an open connection")
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.sent += bytes.len() as u64;
        self.talk(at).write(bytes);
    }

    pub fn read(&mut self) {
        self.talks.iter_mut().flatten().for_each(Talk::read);
    }

    /// Waits for a moment until one of the connections has something to say, and reads it.
    pub fn listen(&mut self) {
        let open = self.talks.iter().flatten().filter(|talk| !talk.closed);
        let mut fds: Vec<_> = open.map(|talk| PollFd::new(&talk.stream, PollFlags::IN)).collect();
        // Interrupted is as good as nothing heard: the caller looks again.
        let _: Result<usize, _> = poll(&mut fds, Some(&LOOK));
        self.read();
    }

    /// One command on the connection that is not part of the test.
    pub fn ask<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Vec<u8> {
        self.sent += encode(words).len() as u64;
        let ask = |control: &mut Resp| {
            control.send(words);
            control.read_reply_bytes()
        };
        if self.controls.len() == 1 {
            return ask(&mut self.controls[0]);
        }
        let name = words[0].as_ref().to_ascii_uppercase();
        if [&b"FLUSHALL"[..], b"FLUSHDB", b"SCRIPT", b"FUNCTION", b"ACL"].contains(&&*name) {
            let replies: Vec<_> = self.controls.iter_mut().map(ask).collect();
            return replies[0].clone();
        }
        let reply = ask(&mut self.controls[0]);
        let port = String::from_utf8_lossy(&reply);
        let port = port
            .strip_prefix("-MOVED ")
            .and_then(|moved| moved.trim_end().rsplit_once(':'));
        let owner = port.and_then(|(_, port)| {
            let has = |control: &&mut Resp| {
                control
                    .stream()
                    .peer_addr()
                    .is_ok_and(|addr| addr.port().to_string() == port)
            };
            self.controls.iter_mut().find(has)
        });
        owner.map_or(reply.clone(), ask)
    }

    /// What the servers hold together. A server's digest is that of each key, and of there being any, all put together by
    /// exclusive or.
    pub fn digest(&mut self) -> Vec<u8> {
        let nodes = self.controls.iter_mut().map(|control| {
            let text = control.line("DEBUG DIGEST").text();
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
            (0..text.len()).step_by(2).map(byte).collect::<Vec<u8>>()
        });
        let filled: Vec<_> = nodes.filter(|digest| digest.iter().any(|byte| *byte != 0)).collect();
        let odd = if filled.len() % 2 == 0 { ANY_KEY } else { [0; 20] };
        let add = |sum: Vec<u8>, digest: &Vec<u8>| sum.iter().zip(digest).map(|(a, b)| a ^ b).collect();
        filled.iter().fold(odd.to_vec(), add)
    }

    /// Waits until so many replicas have all that was written until now.
    pub fn replicas_follow(&mut self, replicas: usize) -> Result<(), String> {
        // WAIT is about what its own connection wrote.
        for words in [
            &["SELECT", "14"][..],
            &["SET", "written", "last"],
            &["DEL", "written"],
            &["SELECT", "0"],
        ] {
            self.ask(words);
        }
        until("the replicas to follow", || {
            self.ask(&["WAIT", &replicas.to_string(), "100"]) == format!(":{replicas}\r\n").into_bytes()
        })
    }

    /// What stands in `INFO`.
    pub fn counters(&mut self) -> Counters {
        let words = ["INFO", "clients", "stats"];
        self.sent += encode(&words).len() as u64;
        let infos: Vec<_> = self
            .controls
            .iter_mut()
            .map(|control| control.cmd(&words).text())
            .collect();
        let number = |info: &String, name| info_field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let field = |name| infos.iter().map(|info| number(info, name)).sum::<u64>();
        Counters {
            clients: field("connected_clients"),
            blocked: field("blocked_clients"),
            channels: field("pubsub_channels"),
            patterns: field("pubsub_patterns"),
            shards: field("pubsubshard_channels"),
            net_in: field("total_net_input_bytes"),
        }
    }

    pub fn waiting(&mut self) -> [u64; 4] {
        let base = self.base;
        self.counters().waiting(base)
    }

    /// For the side that talks to its server directly: waits until the server has handled everything, and hears it all.
    pub fn handled(&mut self, at: Option<usize>, timed: bool) -> Result<(), String> {
        until("the server to read what it was sent", || {
            self.read();
            self.is_closed(at) || self.counters().net_in - self.base.net_in >= self.sent
        })?;
        if timed && let Some(at) = at {
            until("the server to end what it waits for", || !self.is_blocked(at))?;
        }
        // What it read it has handled, and before it answers a second time it has answered everybody once.
        self.counters();
        self.counters();
        until("the server to write its last reply as a whole", || {
            self.read();
            let cut = |talk: &Talk| !talk.closed && talk.frames().1;
            !self.talks.iter().flatten().any(cut)
        })?;
        if self.is_closed(at) {
            // It never reads what came behind.
            let now = self.counters().net_in;
            self.sent = now - self.base.net_in;
        }
        Ok(())
    }

    fn is_closed(&self, at: Option<usize>) -> bool {
        at.and_then(|at| self.talks[at].as_ref())
            .is_some_and(|talk| talk.closed)
    }

    /// Waits until the server knows that so many connections, and no more, are open.
    pub fn left(&mut self) -> Result<(), String> {
        let open = self.talks.iter().flatten().filter(|talk| !talk.closed).count() as u64;
        until("the server to see who left", || self.counters().clients <= open + 1)
    }

    /// For the side that talks to its server directly.
    pub fn is_blocked(&mut self, at: usize) -> bool {
        let addr = self.addr_of(at);
        let list = self.ask(&["CLIENT", "LIST"]);
        client_field(&list, addr, "flags=").is_some_and(|flags| flags.contains('b'))
    }

    /// The requests' bytes, with this side's numbers of its clients.
    pub fn bytes(&mut self, requests: &[Request]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend(request.naming(|connection| self.client_id(connection)));
        }
        bytes
    }

    /// What this side calls a connection's client; a number nobody has if it is not open.
    fn client_id(&mut self, at: usize) -> String {
        let list = match &mut self.guide {
            Some(guide) => {
                guide.send(&["CLIENT", "LIST"]);
                guide.read_reply_bytes()
            }
            None => self.ask(&["CLIENT", "LIST"]),
        };
        client_field(&list, self.addr_of(at), "id=").unwrap_or_else(|| "424242".to_owned())
    }

    fn addr_of(&self, at: usize) -> Option<SocketAddr> {
        self.talks[at].as_ref().and_then(|talk| talk.stream.local_addr().ok())
    }
}

/// A field of the client from `addr`, in the reply to CLIENT LIST.
fn client_field(list: &[u8], addr: Option<SocketAddr>, field: &str) -> Option<String> {
    let (list, addr) = (String::from_utf8_lossy(list), format!(" addr={} ", addr?));
    let line = list.lines().find(|line| line.contains(&addr))?;
    let value = line.split(' ').find_map(|part| part.strip_prefix(field))?;
    Some(value.to_owned())
}

/// Waits for a condition; `Err` says which one did not come about.
pub fn until(what: &str, condition: impl FnMut() -> bool) -> Result<(), String> {
    match eventually(SOON, condition) {
        true => Ok(()),
        false => Err(format!("waited {SOON:?} in vain for {what}")),
    }
}
