//! Many clients, slow ones, and values of half a gigabyte: what they cost nearhit in memory, and others in time.
//!
//! ```text
//! cargo bench --bench load               10,000 connections, about a minute
//! cargo bench --bench load -- --quick    1,000 connections, smaller values
//! ```
//! The clients are in this process, redis-server and nearhit have one each. Every reply is checked; a wrong or missing
//! one ends the run with an error. Figures go to stdout as Markdown. Times of others are those of one client that reads
//! the same key all the while, from memory where it asks nearhit.

#[path = "../tests/support/mod.rs"]
mod harness;
#[path = "support/machine.rs"]
mod machine;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Nearhit, RedisServer, Resp, wait_for};
use machine::Machine;
use nearhit::time;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: usize = 1 << 20;
/// How long slow readers do not read.
const SLOW: Duration = Duration::from_secs(3);

/// How much of everything.
struct Scale {
    connections: usize,
    /// Megabytes asked for by a client that does not read.
    unread: usize,
    /// Megabytes of the largest value.
    largest: usize,
}

fn main() -> ExitCode {
    let scale = match std::env::args().any(|arg| arg == "--quick") {
        true => Scale {
            connections: 1000,
            unread: 100,
            largest: 64,
        },
        false => Scale {
            connections: 10_000,
            unread: 400,
            largest: 512,
        },
    };
    match run(&scale) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(scale: &Scale) -> Result<(), String> {
    let machine = Machine::look();
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("raise the limit of open files: {error}"))?;
    let most = (scale.connections + 1000).to_string();
    let redis = RedisServer::builder().arg("--maxclients", &most).start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--server.max-clients", &most]);
    nearhit.wait_for_stderr("tracking is on");
    println!("{}\n", machine.with_redis(redis.info("redis_version")).line());
    crowds(&redis, &nearhit, scale.connections)?;
    slow_readers(&redis, &nearhit, scale.unread)?;
    values(&redis, &nearhit, scale.largest)
}

/// Idle connections: how long they take to come, what they weigh, and who notices.
fn crowds(redis: &RedisServer, nearhit: &Nearhit, count: usize) -> Result<(), String> {
    println!(
        "| {count} connections | all served after | KiB each | others: p50 | p99 | max | connections at redis-server |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, addr, pid) in [
        ("redis-server", redis.addr(), redis.pid()),
        ("nearhit", nearhit.addr(), nearhit.pid()),
    ] {
        let mut probe = Probe::of(addr)?;
        let before = resident(pid);
        let (crowd, took) = probe.meanwhile(|| storm(addr, count))?;
        let crowd = crowd?;
        let each = resident(pid).saturating_sub(before) as f64 / count as f64 / 1024.0;
        let [p50, p99, max] = probe.figures();
        let behind = redis.info("connected_clients");
        println!("| {name} | {took:.1?} | {each:.1} | {p50:.0?} | {p99:.0?} | {max:.0?} | {behind} |");
        drop(crowd);
        let alone = || {
            redis
                .info("connected_clients")
                .parse()
                .is_ok_and(|clients: usize| clients < 50)
        };
        wait_for("all to have left", Duration::from_secs(20), alone);
    }
    println!();
    Ok(())
}

/// All at once; each is served before it counts.
fn storm(addr: SocketAddr, count: usize) -> Result<Vec<TcpStream>, String> {
    const THREADS: usize = 20;
    let part = |many: usize| -> std::io::Result<Vec<TcpStream>> {
        let mut streams = Vec::new();
        for _ in 0..many {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"PING\r\n*2\r\n$3\r\nGET\r\n$3\r\nhot\r\n")?;
            let mut reply = [0; 14];
            stream.read_exact(&mut reply)?;
            if reply != *b"+PONG\r\n$1\r\nv\r\n" {
                return Err(std::io::Error::other(reply.escape_ascii().to_string()));
            }
            streams.push(stream);
        }
        Ok(streams)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| part(count / THREADS))).collect();
        let mut all = Vec::new();
        for part in parts {
            let streams = part.join().map_err(|_| "a client panicked")?;
            all.extend(streams.map_err(|error| format!("a client was not served: {error}"))?);
        }
        Ok(all)
    })
}

/// Clients that ask for much and do not read it: nearhit's memory, and who notices.
fn slow_readers(redis: &RedisServer, nearhit: &Nearhit, megabytes: usize) -> Result<(), String> {
    let mut client = redis.client();
    client.cmd(&["SETRANGE", "mid", &(MIB - 1).to_string(), "x"]);
    client.cmd(&["SETRANGE", "big", &(megabytes * MIB - 1).to_string(), "x"]);
    println!("| a client does not read for {SLOW:?} | MiB more | others: p50 | p99 | max | then it reads in |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let header = |size: usize| format!("${size}\r\n").len() + size + 2;
    let cases = [
        ("nothing asked", "PING\r\n".to_owned(), 7),
        (
            "1 MB many times",
            "GET mid\r\n".repeat(megabytes),
            megabytes * header(MIB),
        ),
        ("one large value", "GET big\r\n".to_owned(), header(megabytes * MIB)),
        ("the same again", "GET big\r\n".to_owned(), header(megabytes * MIB)),
    ];
    for (name, requests, bytes) in cases {
        let mut probe = Probe::of(nearhit.addr())?;
        let before = resident(nearhit.pid());
        let mut slow = TcpStream::connect(nearhit.addr()).map_err(|error| error.to_string())?;
        slow.write_all(requests.as_bytes()).map_err(|error| error.to_string())?;
        let (most, _) = probe.meanwhile(|| watch(nearhit.pid(), SLOW))?;
        let grown = most.saturating_sub(before) / MIB as u64;
        let start = time::now();
        read_all(&mut slow, bytes)?;
        let took = time::now().since(start);
        let [p50, p99, max] = probe.figures();
        println!(
            "| {name} ({} MB) | {grown} | {p50:.0?} | {p99:.0?} | {max:.0?} | {took:.1?} |",
            bytes / MIB
        );
    }
    println!();
    Ok(())
}

/// The largest values there are, both ways.
fn values(redis: &RedisServer, nearhit: &Nearhit, megabytes: usize) -> Result<(), String> {
    println!(
        "| {megabytes} MB | SET directly | through nearhit | MiB more | GET directly | through nearhit | MiB more |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let set = |addr: SocketAddr| -> Result<Duration, String> {
        let start = time::now();
        let mut stream = TcpStream::connect(addr).map_err(|error| error.to_string())?;
        let chunk = vec![b'x'; MIB];
        let send = |stream: &mut TcpStream| -> std::io::Result<()> {
            write!(stream, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n", megabytes * MIB)?;
            (0..megabytes).try_for_each(|_| stream.write_all(&chunk))?;
            stream.write_all(b"\r\n")
        };
        send(&mut stream).map_err(|error| error.to_string())?;
        read_all(&mut stream, 5)?;
        Ok(time::now().since(start))
    };
    let get = |addr: SocketAddr| -> Result<Duration, String> {
        let start = time::now();
        let mut stream = TcpStream::connect(addr).map_err(|error| error.to_string())?;
        stream.write_all(b"GET large\r\n").map_err(|error| error.to_string())?;
        let size = megabytes * MIB;
        read_all(&mut stream, format!("${size}\r\n").len() + size + 2)?;
        Ok(time::now().since(start))
    };
    let (set_direct, (set_near, set_grown)) = (set(redis.addr())?, growth(nearhit, || set(nearhit.addr()))?);
    let (get_direct, (get_near, get_grown)) = (get(redis.addr())?, growth(nearhit, || get(nearhit.addr()))?);
    println!(
        "| one value | {set_direct:.2?} | {set_near:.2?} | {set_grown} | {get_direct:.2?} | {get_near:.2?} | {get_grown} |"
    );
    Ok(())
}

/// How long something takes, and how much nearhit grows by meanwhile, in MiB.
fn growth(nearhit: &Nearhit, work: impl FnOnce() -> Result<Duration, String>) -> Result<(Duration, u64), String> {
    let (before, done) = (resident(nearhit.pid()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(watch(nearhit.pid(), Duration::from_millis(5)));
            }
            most
        });
        let took = work();
        done.store(true, Ordering::Relaxed);
        let most = most.join().map_err(|_| "the watch panicked")?;
        Ok((took?, most.saturating_sub(before) / MIB as u64))
    })
}

/// Reads exactly so many bytes, of which the last are a line end.
fn read_all(stream: &mut TcpStream, mut left: usize) -> Result<(), String> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .map_err(|error| error.to_string())?;
    let mut chunk = vec![0; MIB];
    let mut last = 0;
    while left > 0 {
        let most = chunk.len().min(left);
        let count = stream.read(&mut chunk[..most]).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(format!("closed with {left} bytes missing"));
        }
        (left, last) = (left - count, chunk[count - 1]);
    }
    match last {
        b'\n' => Ok(()),
        other => Err(format!("the last byte is {other}")),
    }
}

/// The most memory a process has within a time.
fn watch(pid: u32, long: Duration) -> u64 {
    let (start, mut most) = (time::now(), 0);
    while time::now().since(start) < long {
        most = most.max(resident(pid));
        harness::eventually(Duration::from_millis(4), || false);
    }
    most
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// One client that reads a key all the while.
struct Probe {
    client: Resp,
    times: Vec<Duration>,
}

impl Probe {
    fn of(addr: SocketAddr) -> Result<Self, String> {
        let mut client = Resp::try_connect(addr).map_err(|error| format!("connect to {addr}: {error}"))?;
        for line in ["SET hot v", "GET hot", "GET hot", "GET hot"] {
            client.line(line);
        }
        Ok(Self {
            client,
            times: Vec::new(),
        })
    }

    /// Reads while `work` is done; gives what it came to, and how long it took.
    fn meanwhile<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> Result<(T, Duration), String> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let start = time::now();
                let result = work();
                done.store(true, Ordering::Relaxed);
                (result, time::now().since(start))
            });
            while !done.load(Ordering::Relaxed) {
                let sent = time::now();
                if self.client.line("GET hot") != "v" {
                    return Err("the probe was told something else".to_owned());
                }
                self.times.push(time::now().since(sent));
            }
            worker.join().map_err(|_| "a client panicked".to_owned())
        })
    }

    /// The median, the 99th percentile and the maximum.
    fn figures(mut self) -> [Duration; 3] {
        self.times.sort_unstable();
        let at = |per_mille: usize| {
            let index = self.times.len() * per_mille / 1000;
            self.times
                .get(index.min(self.times.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        [at(500), at(990), at(1000)]
    }
}
