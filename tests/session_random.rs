//! Random sequences of commands of all groups, pipelined and cut at random, on one connection each: nearhit's bytes are
//! the server's. A failure names its seed.

mod session_support;
mod support;

use session_support::{Dice, Pair, commands, difference, line_bytes, wanted_alike};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::Resp;

const SEQUENCES: u64 = 350;

const DATA: &str = "\
    SET k1 a | SET k2 10 | SET k3 b | SET k1 c GET | GET k1 | GET k1 | GET k2 | GET k3 | GET k4 | MGET k1 k2 k3 | \
    INCR k2 | INCR k1 | INCRBY k2 5 | APPEND k1 xy | DEL k1 | DEL k2 k3 | EXISTS k1 | EXISTS k1 k2 | TYPE k1 | \
    STRLEN k1 | GETRANGE k1 0 1 | MSET k1 m k2 7 | SETNX k3 n | GETDEL k3 | TTL k1 | PERSIST k1 | RENAME k1 k3 | \
    COPY k1 k3 REPLACE | LPUSH l x y | RPUSH l z | LRANGE l 0 -1 | LPOP l | LLEN l | LINDEX l 0 | DEL l | GET l | \
    HSET h f v | HSET h g w | HGETALL h | HGETALL h | HGET h f | HMGET h f g x | HDEL h f | HINCRBY h n 1 | HLEN h | \
    SADD s 1 2 3 | SMEMBERS s | SISMEMBER s 1 | SREM s 2 | SCARD s | SADD k1 1 | ZADD z 1 a 2 b | ZINCRBY z 1.5 a | \
    ZRANGE z 0 -1 WITHSCORES | ZSCORE z a | ZRANK z b | ZREM z a | XADD x 1-1 f v | XADD x 2-1 f v | XRANGE x - + | \
    XLEN x | XREAD STREAMS x 0 | DBSIZE | KEYS nothing | OBJECT ENCODING k1 | EVAL return(redis.call('get','k1')) 0 | \
    EVAL return(redis.call('incr',KEYS[1])) 1 k2 | EVAL return{1,{2}} 0 | FLUSHDB | MOVE k1 1 | SWAPDB 0 1 | \
    BLPOP l 0.01 | BLPOP none 0.01 | BRPOP l none 0.01 | XREAD BLOCK 5 STREAMS x $ | XREAD BLOCK 5 STREAMS x 0 | \
    PING | PING hi | ECHO hi | GET | SET k1 | NOSUCH | NOSUCH a b | CONFIG NOSUCH | GETRANGE k1 x y | \
    PUBLISH nobody x";

const STATE: &str = "\
    MULTI | MULTI | MULTI | EXEC | EXEC | EXEC | EXEC | DISCARD | WATCH k1 | WATCH k1 k2 | UNWATCH | SELECT 0 | \
    SELECT 0 | SELECT 1 | SELECT 2 | SELECT 99 | SELECT x | HELLO 2 | HELLO 3 | HELLO | HELLO 4 | HELLO 3 SETNAME me | \
    RESET | CLIENT SETNAME you | CLIENT GETNAME | CLIENT SETNAME | CLIENT NOSUCH | CLIENT REPLY ON | CLIENT REPLY ON | \
    CLIENT REPLY OFF | CLIENT REPLY SKIP | CLIENT REPLY x | EXEC x | MULTI x | WAIT 0 1 | AUTH x | AUTH nosuch x";

/// One channel of each kind: in which order a server ends several subscriptions differs from run to run.
const PUBSUB: &str = "\
    SUBSCRIBE c1 | SUBSCRIBE c1 c1 | PSUBSCRIBE c* | UNSUBSCRIBE | UNSUBSCRIBE c1 | UNSUBSCRIBE c1 c1 x | \
    PUNSUBSCRIBE | PUNSUBSCRIBE c* | SSUBSCRIBE s1 | SUNSUBSCRIBE | PUBLISH c1 hello | PUBLISH c1 subscribe | \
    SPUBLISH s1 x | PING | PING x | GET k1 | CLIENT GETNAME | SELECT 1 | HELLO 3 | PUBSUB NUMSUB c1 | UNSUBSCRIBE | \
    PUNSUBSCRIBE | SUNSUBSCRIBE";

/// Wanted differences: within MULTI Redis lets these make EXEC's reply something else than the array it announced, and
/// nearhit does not.
const NOT_IN_MULTI: &[&str] = &["SUBSCRIBE", "CLIENT REPLY"];

/// A sequence: its commands in batches that are written at once.
fn sequence(dice: &mut Dice) -> Vec<Vec<&'static str>> {
    let (state, pubsub) = *dice.pick(&[(0, 0), (20, 0), (35, 0), (15, 20), (10, 50)]);
    let batch = *dice.pick(&[1, 4, 100]);
    let mut batches = vec![Vec::new()];
    let mut in_multi = false;
    for _ in 0..20 + dice.below(41) {
        let group = match dice.below(100) {
            at if at < state => STATE,
            at if at < state + pubsub => PUBSUB,
            _ => DATA,
        };
        if dice.below(batch) == 0 {
            batches.push(Vec::new());
        }
        let mut line = *dice.pick(&commands(group));
        if in_multi && NOT_IN_MULTI.iter().any(|word| line.contains(word)) {
            line = "PING";
        }
        match line {
            "MULTI" => in_multi = true,
            "EXEC" | "DISCARD" | "RESET" => in_multi = false,
            _ => {}
        }
        batches.last_mut().expect("a batch").push(line);
    }
    // Whatever state it is in, this ends it, and is heard.
    batches.push(vec!["RESET", "QUIT"]);
    batches
}

/// One connection, and all it has said.
struct Talk {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Talk {
    fn new(resp: &Resp) -> Self {
        let stream = resp.stream().try_clone().expect("a second handle");
        Self {
            stream,
            heard: Vec::new(),
        }
    }

    /// Writes in pieces of random size.
    fn write(&mut self, bytes: &[u8], dice: &mut Dice) {
        let most = *dice.pick(&[1, 7, 100, 100_000]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(1 + dice.below(most)));
            self.stream.write_all(piece).expect("send");
            rest = left;
        }
    }

    /// Reads what is there now.
    fn drain(&mut self) {
        self.stream.set_nonblocking(true).expect("change the socket");
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = self.stream.read(&mut chunk) {
            self.heard.extend_from_slice(&chunk[..count]);
        }
        self.stream.set_nonblocking(false).expect("change the socket");
    }

    /// Reads until so many bytes are there; false when it is closed or silent before.
    fn read_until(&mut self, length: usize) -> bool {
        let mut chunk = [0; 4096];
        while wanted_alike(&self.heard).len() < length {
            match self.stream.read(&mut chunk) {
                Ok(count @ 1..) => self.heard.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }
}

/// What is different, if anything is.
fn run(pair: &Pair, beside: &mut Resp, seed: u64) -> Option<String> {
    let mut dice = Dice(seed);
    let batches = sequence(&mut dice);
    let (one, two) = (pair.direct.client(), pair.nearhit.connect());
    let (mut direct, mut proxied) = (Talk::new(&one), Talk::new(&two));
    for talk in [&direct, &proxied] {
        let limit = Some(Duration::from_secs(3));
        talk.stream.set_read_timeout(limit).expect("change the socket");
    }
    for batch in &batches {
        let bytes: Vec<u8> = batch.iter().flat_map(|line| line_bytes(line)).collect();
        direct.write(&bytes, &mut dice);
        // The server handles one connection after the other: after the second PONG it has handled what came before.
        beside.line("PING");
        beside.line("PING");
        direct.drain();
        proxied.write(&bytes, &mut dice);
        if !proxied.read_until(wanted_alike(&direct.heard).len()) {
            break;
        }
    }
    while direct.read_until(usize::MAX) {}
    while proxied.read_until(usize::MAX) {}
    let sent = format!("{batches:?}");
    difference(&direct.heard, &proxied.heard, sent.as_bytes()).map(|text| format!("seed {seed}: {text}"))
}

#[test]
fn random_sequences_are_answered_as_the_server_answers_them() {
    // A server that looks at its clocks often, so that what blocks in vain ends soon.
    let pair = Pair::start_with(&[("--hz", "500")], &[]);
    let mut beside = pair.direct.client();
    let seed = std::env::var("NEARHIT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(1..=SEQUENCES, |seed: u64| seed..=SEQUENCES);
    let mut failed = Vec::new();
    for seed in seeds {
        pair.foreign("FLUSHALL");
        failed.extend(run(&pair, &mut beside, seed));
        assert!(failed.len() < 3, "{}", failed.join("\n"));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(pair.nearhit.metric("nearhit_panics_total", &[]), 0.0);
    assert!(pair.hits() > 20.0, "some of the reads were hits");
}
