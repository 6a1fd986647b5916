//! The relay between one instance and the server: it delays, stalls, dribbles and cuts, each way and by kind of connection.
//!
//! ```text
//! instance ══to══> relay ══to══> server      tracked: a client has said TRACKING, or subscribes to invalidations
//!          <═from═       <═from═             data:    all others
//! ```

use nearhit::time::{self, Instant};
use parking_lot::Mutex;
use socket2::SockRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    #[default]
    Clear,
    /// They arrive so much later.
    Delay(Duration),
    /// They stay where they are; nothing is closed.
    Stall,
    /// One byte a segment.
    Dribble,
    /// After so many more bytes the connection is closed, by a reset or in order.
    Cut { after: usize, reset: bool },
}

/// The weather on all ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sky {
    pub(super) tracked_to: Weather,
    pub(super) tracked_from: Weather,
    pub(super) data_to: Weather,
    pub(super) data_from: Weather,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    To,
    From,
}

impl Sky {
    fn weather(&self, way: Way, tracked: bool) -> Weather {
        match (way, tracked) {
            (Way::To, true) => self.tracked_to,
            (Way::From, true) => self.tracked_from,
            (Way::To, false) => self.data_to,
            (Way::From, false) => self.data_from,
        }
    }
}

/// A handle on a relay; the relay ends with its runtime.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) port: u16,
    /// Guards the sky while it is changed; held for a store.
    sky: Arc<Mutex<watch::Sender<Sky>>>,
}

/// Bytes taken at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for their time on one way; then it is full, and its writer waits.
const QUEUE: usize = 1024;
/// A client says within so many bytes what its connection is for.
const INTRODUCTION: usize = 4096;

impl Relay {
    /// Listens on a free port and relays to `server` (`host:port`). Call it within a runtime.
    pub(super) async fn start(server: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (sender, sky) = watch::channel(Sky::default());
        tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(connect(client, server.clone(), sky.clone()));
                } else {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        });
        Ok(Self {
            port,
            sky: Arc::new(Mutex::new(sender)),
        })
    }

    /// Changes the weather.
    pub(super) fn set(&self, change: impl FnOnce(&mut Sky)) {
        self.sky.lock().send_modify(change);
    }
}

async fn connect(mut client: TcpStream, server: String, sky: watch::Receiver<Sky>) {
    // Whoever connects while the server is down is closed, as by the server's machine.
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let tracked = AtomicBool::new(false);
    let reset = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let to = Pump::new(Way::To, &tracked, sky.clone());
        let from = Pump::new(Way::From, &tracked, sky);
        // Both ends close when either does: half a connection is of no use to anybody here.
        tokio::select! {
            end = to.run(client_read, server_write) => end,
            end = from.run(server_read, client_write) => end,
        }
    };
    if reset == End::Reset {
        for stream in [&client, &server] {
            drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// Bytes, and when they may leave.
type Chunk = (Instant, Vec<u8>);

/// One way of one connection: what leaves it.
struct Pump<'a> {
    way: Way,
    /// Relaxed: found out by one pump, heeded by the other a little later.
    tracked: &'a AtomicBool,
    sky: watch::Receiver<Sky>,
}

impl<'a> Pump<'a> {
    fn new(way: Way, tracked: &'a AtomicBool, sky: watch::Receiver<Sky>) -> Self {
        Self { way, tracked, sky }
    }

    /// Reads on while what was read waits for its time: a delay delays, it does not make the way narrow.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut looker = Looker::new(&self);
        // What was sent before a connection was closed still arrives, however late: as through a network.
        let reading = async {
            looker.read(&mut from, sender).await;
            std::future::pending().await
        };
        tokio::select! {
            end = reading => end,
            end = self.write(receiver, &mut to) => end,
        }
    }

    async fn write(&mut self, mut queue: mpsc::Receiver<Chunk>, to: &mut WriteHalf<'_>) -> End {
        while let Some((due, bytes)) = queue.recv().await {
            sleep(due.since(time::now())).await;
            if let Some(end) = self.pass(&bytes, to).await {
                return end;
            }
        }
        End::Closed
    }

    fn weather(&mut self) -> Weather {
        let tracked = self.tracked.load(Ordering::Relaxed);
        self.sky.borrow_and_update().weather(self.way, tracked)
    }

    /// Passes bytes on as the weather allows. `Some`: the connection ends.
    async fn pass(&mut self, bytes: &[u8], to: &mut WriteHalf<'_>) -> Option<End> {
        loop {
            match self.weather() {
                // What is delayed has waited before it came here.
                Weather::Clear | Weather::Delay(_) => break,
                Weather::Stall => {
                    if self.sky.changed().await.is_err() {
                        return Some(End::Closed);
                    }
                }
                Weather::Dribble => {
                    return dribble(bytes, to).await.is_err().then_some(End::Closed);
                }
                Weather::Cut { after, reset } => {
                    let some = bytes.get(..after.min(bytes.len())).unwrap_or_default();
                    drop(to.write_all(some).await);
                    return Some(if reset { End::Reset } else { End::Closed });
                }
            }
        }
        to.write_all(bytes).await.is_err().then_some(End::Closed)
    }
}

/// One way of one connection: what enters it.
struct Looker<'a> {
    way: Way,
    tracked: &'a AtomicBool,
    sky: watch::Receiver<Sky>,
    /// Bytes from the client that were looked at to find out what the connection is for.
    introduction: Vec<u8>,
}

impl<'a> Looker<'a> {
    fn new(pump: &Pump<'a>) -> Self {
        Self {
            way: pump.way,
            tracked: pump.tracked,
            sky: pump.sky.clone(),
            introduction: Vec::new(),
        }
    }

    /// Until the connection ends; the queue's end then says so to whoever writes.
    async fn read(&mut self, from: &mut ReadHalf<'_>, queue: mpsc::Sender<Chunk>) {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            let bytes = chunk.get(..count).unwrap_or_default();
            self.look(bytes);
            let tracked = self.tracked.load(Ordering::Relaxed);
            let weather = self.sky.borrow().weather(self.way, tracked);
            let delay = match weather {
                Weather::Delay(delay) => delay,
                _ => Duration::ZERO,
            };
            if queue.send((time::now().after(delay), bytes.to_vec())).await.is_err() {
                return;
            }
        }
    }

    /// Finds out what the connection is for.
    fn look(&mut self, bytes: &[u8]) {
        if self.way == Way::From || self.introduction.len() >= INTRODUCTION || self.tracked.load(Ordering::Relaxed) {
            return;
        }
        self.introduction.extend_from_slice(bytes);
        let says = |word: &[u8]| self.introduction.windows(word.len()).any(|said| said == word);
        if says(b"TRACKING") || says(b"__redis__:invalidate") || says(b"__keyspace@") {
            self.tracked.store(true, Ordering::Relaxed);
        }
    }
}

async fn dribble(bytes: &[u8], to: &mut WriteHalf<'_>) -> std::io::Result<()> {
    for byte in bytes.chunks(1) {
        to.write_all(byte).await?;
    }
    Ok(())
}
