//! The load: connections that send requests, wait for all replies, check them byte for byte, and send the next ones.
//!
//! One thread waits for all connections with one epoll. Sockets block: they are read only when the kernel says that
//! there is something to read, and a batch of requests is far smaller than a socket's buffer. Checking a reply is a
//! comparison with the bytes that must come; an error reply, a wrong length or a wrong value ends the run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nearhit::time::{Instant, now};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::script::{Picker, Script};

/// How long a server may stay silent before the run fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Large enough that one read takes a whole batch of replies.
const READ_BYTES: usize = 64 * 1024;
/// Requests sent at once by [`pass`].
const PASS_BATCH: usize = 100;

/// What a stretch of load did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Requests that were answered, correctly.
    pub(crate) requests: u64,
    /// From the first request to the last reply.
    pub(crate) elapsed: Duration,
    /// Nanoseconds from the sending of each batch to its last reply; empty unless asked for.
    pub(crate) latencies: Vec<u64>,
}

/// Open connections to one address, all playing one script.
pub(crate) struct Load<'a> {
    script: &'a Script,
    picker: Picker,
    pipeline: usize,
    lanes: Vec<Lane>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Connects; nothing is sent yet.
    pub(crate) fn open(
        addr: SocketAddr,
        script: &'a Script,
        connections: usize,
        pipeline: usize,
    ) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("create an epoll: {error}"))?;
        let mut lanes = Vec::with_capacity(connections);
        for index in 0..connections {
            let lane = Lane::connect(addr)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &lane.stream, data, epoll::EventFlags::IN)
                .map_err(|error| format!("watch a connection to {addr}: {error}"))?;
            lanes.push(lane);
        }
        Ok(Self {
            script,
            picker: script.picker(),
            pipeline,
            lanes,
            epoll,
            events: Vec::with_capacity(connections),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Keeps every connection busy for `duration`, then waits for the last replies. `timed` reads the clock twice more
    /// for each batch.
    pub(crate) fn run(&mut self, duration: Duration, timed: bool) -> Result<Done, String> {
        let start = now();
        let deadline = start.after(duration);
        let mut batches: u64 = 0;
        let mut latencies = Vec::new();
        let mut busy = self.lanes.len();
        for lane in &mut self.lanes {
            lane.send(self.script, &mut self.picker, self.pipeline, timed)?;
        }
        while busy > 0 {
            self.wait()?;
            let over = now() >= deadline;
            for event in self.events.drain(..) {
                let Some(lane) = usize::try_from(event.data.u64())
                    .ok()
                    .and_then(|at| self.lanes.get_mut(at))
                else {
                    continue;
                };
                if !lane.receive(&mut self.buffer)? {
                    continue;
                }
                batches += 1;
                if timed {
                    latencies.push(now().as_nanos().saturating_sub(lane.sent.as_nanos()));
                }
                if over {
                    busy -= 1;
                } else {
                    lane.send(self.script, &mut self.picker, self.pipeline, timed)?;
                }
            }
        }
        Ok(Done {
            requests: batches * self.pipeline as u64,
            elapsed: now().since(start),
            latencies,
        })
    }

    /// Fills `events` with the connections that have something to read.
    fn wait(&mut self) -> Result<(), String> {
        let patience = Timespec::try_from(PATIENCE).map_err(|error| format!("a timeout: {error}"))?;
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&patience)) {
                Ok(0) => return Err(format!("no reply within {PATIENCE:?}")),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("wait for replies: {error}")),
            }
        }
    }
}

/// Plays the whole script once, in order, on one connection.
pub(crate) fn pass(addr: SocketAddr, script: &Script) -> Result<(), String> {
    let mut lane = Lane::connect(addr)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut in_order = Picker::InTurn {
        count: script.count(),
        next: 0,
    };
    let mut left = script.count();
    while left > 0 {
        let batch = left.min(PASS_BATCH);
        lane.send(script, &mut in_order, batch, false)?;
        while !lane.receive(&mut buffer)? {}
        left -= batch;
    }
    Ok(())
}

/// One connection and what it waits for.
struct Lane {
    stream: TcpStream,
    /// The requests of the batch on its way.
    requests: Vec<u8>,
    /// The replies they must get, and how many bytes of them have come.
    expected: Vec<u8>,
    received: usize,
    /// When the batch was sent; only kept up when somebody asks for latencies.
    sent: Instant,
}

impl Lane {
    fn connect(addr: SocketAddr) -> Result<Self, String> {
        let open = || {
            let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = open().map_err(|error: std::io::Error| format!("connect to {addr}: {error}"))?;
        Ok(Self {
            stream,
            requests: Vec::new(),
            expected: Vec::new(),
            received: 0,
            sent: Instant::ZERO,
        })
    }

    /// Sends the next `count` requests in one write.
    fn send(&mut self, script: &Script, picker: &mut Picker, count: usize, timed: bool) -> Result<(), String> {
        self.requests.clear();
        self.expected.clear();
        self.received = 0;
        for _ in 0..count {
            let index = picker.pick();
            self.requests.extend_from_slice(script.request(index));
            self.expected.extend_from_slice(script.reply(index));
        }
        if timed {
            self.sent = now();
        }
        self.stream
            .write_all(&self.requests)
            .map_err(|error| format!("send requests: {error}"))
    }

    /// Reads what is there and compares it; true when the batch is answered. Blocks when nothing is there.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, String> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err("the server closed a connection".to_owned()),
            Ok(count) => count,
            Err(error) => return Err(format!("read replies: {error}")),
        };
        let expected = &self.expected[self.received..];
        let got = &buffer[..count];
        if expected.get(..count) != Some(got) {
            return Err(wrong_reply(expected, got));
        }
        self.received += count;
        Ok(self.received == self.expected.len())
    }
}

/// Says what came instead of what had to come, from the first byte that differs.
fn wrong_reply(expected: &[u8], got: &[u8]) -> String {
    /// Enough to read an error reply.
    const SHOWN: usize = 120;
    let same = expected
        .iter()
        .zip(got)
        .take_while(|(left, right)| left == right)
        .count();
    let show = |bytes: &[u8]| {
        let from = bytes.get(same..).unwrap_or_default();
        from[..from.len().min(SHOWN)].escape_ascii().to_string()
    };
    format!("wrong reply: expected \"{}\", got \"{}\"", show(expected), show(got))
}
