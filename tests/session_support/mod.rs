//! The same bytes to a redis-server directly and, through nearhit, to a second one: replies and closes must be equal.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use crate::support::resp::{decode, encode};
use crate::support::{Nearhit, RedisServer, Reply, Resp, SOON, wait_for};

/// What nearhit is started with: the second read of a key is a hit.
pub const CACHE_ALL: &[&str] = &["--cache.admission", "always"];

/// nearhit in front of `redis`, with a live cache.
#[track_caller]
pub fn caching(redis: &RedisServer, args: &[&str]) -> Nearhit {
    let nearhit = Nearhit::serve_with(&redis.url(), &[CACHE_ALL, args].concat());
    wait_for_cache(&nearhit);
    nearhit
}

/// Waits until the cache can be filled.
#[track_caller]
pub fn wait_for_cache(nearhit: &Nearhit) {
    nearhit.wait_for_stderr("tracking is on");
}

/// Reads until a read is answered from memory: a busy machine may need a second look.
#[track_caller]
pub fn wait_for_hit(nearhit: &Nearhit, client: &mut Resp, line: &str) {
    let before = hits(nearhit);
    wait_for(&format!("a hit of {line}"), SOON, || {
        let reply = client.line(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
        hits(nearhit) > before
    });
}

/// Two servers with the same settings, nearhit in front of one.
pub struct Pair {
    pub direct: RedisServer,
    pub behind: RedisServer,
    pub nearhit: Nearhit,
}

impl Pair {
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// `redis`: settings of both servers; `nearhit`: more arguments.
    pub fn start_with(redis: &[(&str, &str)], nearhit: &[&str]) -> Self {
        let server = || {
            let with = |builder: crate::support::redis::Builder, (name, value): &(&str, &str)| builder.arg(name, value);
            redis.iter().fold(RedisServer::builder(), with).start()
        };
        let (direct, behind) = (server(), server());
        let nearhit = caching(&behind, nearhit);
        Self {
            direct,
            behind,
            nearhit,
        }
    }

    pub fn twin(&self) -> Twin {
        Twin {
            direct: self.direct.client(),
            proxied: self.nearhit.connect(),
        }
    }

    /// A twin that speaks RESP2 or RESP3.
    pub fn twin_in(&self, version: u8) -> Twin {
        let mut twin = self.twin();
        if version == 3 {
            twin.line("HELLO 3");
        }
        twin
    }

    /// One command on a connection of its own to each server, past nearhit.
    pub fn foreign(&self, line: &str) {
        let answers = [&self.direct, &self.behind].map(|server| server.client().line(line));
        assert_eq!(answers[0], answers[1], "{line}");
    }

    /// Reads that were answered from memory so far.
    pub fn hits(&self) -> f64 {
        hits(&self.nearhit)
    }
}

/// Reads that `nearhit` has answered from memory so far.
pub fn hits(nearhit: &Nearhit) -> f64 {
    ["hit", "negative_hit"]
        .iter()
        .map(|result| nearhit.metric("nearhit_cache_requests_total", &[&format!("\"{result}\"")]))
        .sum()
}

/// A connection to the server and one to nearhit.
pub struct Twin {
    pub direct: Resp,
    pub proxied: Resp,
}

impl Twin {
    /// Sends one command to both; the replies must be equal.
    #[track_caller]
    pub fn same<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        let bytes = encode(args);
        self.send(&bytes);
        self.reply(&bytes)
    }

    /// The same with a command written as a line, words separated by blanks.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> Reply {
        self.same(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// All lines, one after the other.
    #[track_caller]
    pub fn lines(&mut self, lines: &[&str]) -> Vec<Reply> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    /// All lines, each so many times; says all differences at once.
    #[track_caller]
    pub fn table(&mut self, lines: &[&str], times: usize) {
        let mut differences = Vec::new();
        for line in lines {
            differences.extend((0..times).find_map(|_| self.compare(line)));
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// One line; says what is different.
    #[track_caller]
    pub fn compare(&mut self, line: &str) -> Option<String> {
        self.send(&line_bytes(line));
        let direct = self.direct.read_frame_bytes();
        match self.proxied.try_read_frame() {
            Some(proxied) => difference(&direct, &proxied, line.as_bytes()),
            None => Some(format!("no reply to {line}, instead of {}", direct.escape_ascii())),
        }
    }

    /// All lines in one write, then all replies.
    #[track_caller]
    pub fn pipeline(&mut self, lines: &[&str]) -> Vec<Reply> {
        self.send(&lines.iter().flat_map(|line| line_bytes(line)).collect::<Vec<_>>());
        lines.iter().map(|line| self.reply(line.as_bytes())).collect()
    }

    /// Sends the same bytes to both.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.direct.send_raw(bytes);
        self.proxied.send_raw(bytes);
    }

    /// The next frame of both, which must be equal; `sent` is for the message.
    #[track_caller]
    pub fn reply(&mut self, sent: &[u8]) -> Reply {
        let direct = self.direct.read_frame_bytes();
        let proxied = self.proxied.read_frame_bytes();
        same_bytes(&direct, &proxied, sent);
        decode(&proxied)
    }

    /// So many frames of both.
    #[track_caller]
    pub fn frames(&mut self, count: usize) -> Vec<Reply> {
        (0..count).map(|_| self.reply(b"")).collect()
    }

    /// Both close after the same bytes, which are given back.
    #[track_caller]
    pub fn closes(&mut self, sent: &[u8]) -> Vec<u8> {
        let direct = self.direct.read_to_close();
        let proxied = self.proxied.read_to_close();
        same_bytes(&direct, &proxied, sent);
        proxied
    }
}

/// The commands of a list, which is written `GET a | SET b c`.
pub fn commands(list: &'static str) -> Vec<&'static str> {
    list.split(" | ").collect()
}

/// A line's words as a request.
pub fn line_bytes(line: &str) -> Vec<u8> {
    encode(&line.split_ascii_whitespace().collect::<Vec<_>>())
}

/// Bytes of a server and bytes of nearhit, equal up to the wanted differences.
#[track_caller]
pub fn same_bytes(direct: &[u8], proxied: &[u8], sent: &[u8]) {
    if let Some(difference) = difference(direct, proxied, sent) {
        panic!("{difference}");
    }
}

/// What is not equal, in words.
pub fn difference(direct: &[u8], proxied: &[u8], sent: &[u8]) -> Option<String> {
    if direct == proxied {
        return None;
    }
    let (left, right) = (wanted_alike(direct), wanted_alike(proxied));
    if left == right {
        return None;
    }
    let show = |bytes: &[u8]| {
        let text = bytes.escape_ascii().to_string();
        match text.char_indices().nth(1500) {
            Some((at, _)) => format!("{}… ({} bytes)", &text[..at], bytes.len()),
            None => text,
        }
    };
    let at = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    Some(format!(
        "different from byte {at} on\n sent:    {}\n direct:  {}\n proxied: {}",
        show(sent),
        show(&left[at.saturating_sub(60)..]),
        show(&right[at.saturating_sub(60)..])
    ))
}

/// In HELLO's reply the client's id is nearhit's. All other wanted differences stand in
/// `differential_support/wanted.rs`.
pub fn wanted_alike(bytes: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let mut alike = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(ID.len()).position(|window| window == ID) {
        let (head, tail) = rest.split_at(at + ID.len());
        alike.extend_from_slice(head);
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &tail[digits..];
    }
    alike.extend_from_slice(rest);
    alike
}

/// A small random generator (splitmix64), so that a failing seed fails again.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("a small number")
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
