//! The tracking thread's life: bring the connection up, serve it until it must be given up, start over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::link::{Did, Link};
use super::{Order, Outbox, Source, Status};
use crate::coherence::{Delivery, Fill, NearCache, Stream, Subscriber, Tracked};
use crate::resp::Version;
use crate::time;
use crate::upstream::{Control, Handshake, Loss};

/// Fills written in one go at most.
const BATCH: usize = 256;
/// A connection that lasted so long was a good one. Chosen, not measured.
const STABLE: Duration = Duration::from_secs(1);

pub(super) struct Keeper<W, O> {
    pub(super) handshake: Handshake,
    pub(super) source: Source,
    pub(super) cache: Arc<NearCache<W>>,
    pub(super) outbox: O,
    pub(super) inbox: mpsc::UnboundedReceiver<Order>,
    pub(super) kicked: Arc<AtomicBool>,
    pub(super) status: Arc<Status>,
}

/// A connection that is up: the filling one, and the subscribed one when invalidations are redirected.
struct Up {
    filling: Link,
    subscribed: Option<Link>,
}

/// Why serving ended.
enum End {
    Stopped,
    Lost(String),
}

impl<W, O: Outbox<W>> Keeper<W, O> {
    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            let Some(up) = self.while_refusing(bring_up(self.handshake.clone(), self.source)).await else {
                return;
            };
            let pause = match up {
                Ok(up) => {
                    failing = false;
                    let since = time::now();
                    match self.serve(up).await {
                        End::Stopped => return,
                        End::Lost(why) => {
                            tracing::warn!(upstream = %self.handshake.address, why, "tracked connection lost; the near-cache starts over")
                        }
                    }
                    // A server that lets us in and throws us out at once must not be asked without a pause.
                    if time::now().since(since) < STABLE {
                        crate::upstream::jittered_pause()
                    } else {
                        Duration::ZERO
                    }
                }
                Err(loss) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(upstream = %self.handshake.address, why = %loss, "no tracked connection; nothing is cached until there is one");
                    }
                    // A server that refuses is asked less often than one that is away.
                    if matches!(loss, Loss::Refused(_)) {
                        Duration::from_secs(1)
                    } else {
                        crate::upstream::jittered_pause()
                    }
                }
            };
            if self.while_refusing(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Waits for `work` and sends every fill home meanwhile; `None`: told to stop.
    async fn while_refusing<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                order = self.inbox.recv() => match order {
                    Some(Order::Fill(fill)) => {
                        self.refuse(fill);
                        self.outbox.flush();
                    }
                    Some(Order::Ping) => self.kicked.store(false, Ordering::Relaxed),
                    Some(Order::Stop) | None => return None,
                },
            }
        }
    }

    fn refuse(&mut self, fill: Fill) {
        for waiter in self.cache.abandon(fill.lease) {
            self.outbox.deliver(waiter, Delivery::Home);
        }
    }

    /// Serves one incarnation until it ends, and fences it.
    async fn serve(&mut self, up: Up) -> End {
        let stream = self.cache.origin().stream();
        let mut live = Live::new(up, &self.cache, &stream, self.handshake.db);
        stream.go_live();
        self.status.connected.store(true, Ordering::Relaxed);
        if self.status.connects.fetch_add(1, Ordering::Relaxed) > 0 {
            self.status.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        tracing::info!(upstream = %self.handshake.address, source = ?self.source, "tracking is on");
        let end = self.pump(&mut live).await;
        self.status.connected.store(false, Ordering::Relaxed);
        self.cache.fence();
        live.tracked.abandon(&mut self.outbox);
        self.outbox.flush();
        end
    }

    async fn pump(&mut self, live: &mut Live<W>) -> End {
        // A third of the bound, and a third of that: a PING is at most a ninth late.
        let mut ticks = tokio::time::interval(self.cache.limits().max_staleness / 9);
        loop {
            let step = tokio::select! {
                // Biased: what the server says goes first, then new fills; the tick is only for quiet times.
                biased;
                step = live.step() => step,
                order = self.inbox.recv() => match order {
                    Some(order) => match self.take(order, live) {
                        true => Ok(None),
                        false => return End::Stopped,
                    },
                    None => return End::Stopped,
                },
                _ = ticks.tick() => live.tick().map(|()| None),
            };
            let handled = match step {
                Ok(Some(from)) => live.receive(from, &mut self.outbox),
                Ok(None) => Ok(()),
                Err(why) => Err(why),
            };
            self.outbox.flush();
            if let Err(why) = handled {
                return End::Lost(why);
            }
        }
    }

    /// Takes an order and all that are queued behind it, so that they leave in one write; false: told to stop.
    fn take(&mut self, first: Order, live: &mut Live<W>) -> bool {
        let now = time::now();
        let mut next = Some(first);
        for _ in 0..BATCH {
            match next {
                None => break,
                Some(Order::Stop) => return false,
                Some(Order::Ping) => {
                    self.kicked.store(false, Ordering::Relaxed);
                    live.ping();
                }
                Some(Order::Fill(fill)) => {
                    if let Err(refused) = live.tracked.fill(fill, now, &mut live.filling.out) {
                        self.refuse(refused);
                    }
                }
            }
            next = self.inbox.try_recv().ok();
        }
        if let Some(Order::Fill(fill)) = next {
            // The batch is full; the one taken out too many goes with it.
            if let Err(refused) = live.tracked.fill(fill, now, &mut live.filling.out) {
                self.refuse(refused);
            }
        }
        true
    }
}

/// Which socket was read.
enum From {
    Filling,
    Subscribed,
}

struct Live<W> {
    filling: Link,
    tracked: Tracked<W>,
    subscribed: Option<(Link, Subscriber<W>)>,
}

impl<W> Live<W> {
    fn new(up: Up, cache: &Arc<NearCache<W>>, stream: &Arc<Stream>, db: u32) -> Self {
        let renews = up.subscribed.is_none();
        let tracked = Tracked::new(Arc::clone(cache), Arc::clone(stream), db, renews);
        let subscribed = up
            .subscribed
            .map(|link| (link, Subscriber::new(Arc::clone(cache), Arc::clone(stream))));
        Self {
            filling: up.filling,
            tracked,
            subscribed,
        }
    }

    async fn step(&mut self) -> Result<Option<From>, String> {
        let step = match &mut self.subscribed {
            None => self.filling.step().await.map(|did| (did, From::Filling)),
            Some((link, _)) => tokio::select! {
                biased;
                did = link.step() => did.map(|did| (did, From::Subscribed)),
                did = self.filling.step() => did.map(|did| (did, From::Filling)),
            },
        };
        match step {
            Ok((Did::Read, from)) => Ok(Some(from)),
            Ok((Did::Wrote, _)) => Ok(None),
            Err(loss) => Err(loss.to_string()),
        }
    }

    fn receive(&mut self, from: From, outbox: &mut impl Outbox<W>) -> Result<(), String> {
        let now = time::now();
        let handled = match (from, &mut self.subscribed) {
            (From::Subscribed, Some((link, subscriber))) => subscriber.receive(link.input()).and_then(|()| {
                while let Some(bytes) = subscriber.release() {
                    self.tracked.receive(&bytes, now, outbox)?;
                }
                Ok(())
            }),
            (_, Some((link, subscriber))) => {
                subscriber.hold(self.filling.input(), now, &mut link.out);
                Ok(())
            }
            (_, None) => self.tracked.receive(self.filling.input(), now, outbox),
        };
        handled.map_err(|fence| fence.to_string())
    }

    fn ping(&mut self) {
        let now = time::now();
        match &mut self.subscribed {
            Some((link, subscriber)) => subscriber.ping(now, &mut link.out),
            None => self.tracked.ping(now, &mut self.filling.out),
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        let now = time::now();
        let mut outcome = self.tracked.tick(now, &mut self.filling.out);
        if let Some((link, subscriber)) = &mut self.subscribed {
            outcome = outcome.and_then(|()| subscriber.tick(now, &mut link.out));
        }
        outcome.map_err(|fence| fence.to_string())
    }
}

async fn bring_up(handshake: Handshake, source: Source) -> Result<Up, Loss> {
    let mut filling = Control::connect(&Handshake {
        version: Version::V3,
        ..handshake.clone()
    })
    .await?;
    filling.must_track_reliably()?;
    match source {
        Source::Tracking => {
            filling.demand(&[b"CLIENT", b"TRACKING", b"ON", b"OPTIN"]).await?;
            Ok(Up {
                filling: Link::new(filling.into_socket()),
                subscribed: None,
            })
        }
        Source::Redirect => {
            let mut subscribed = Control::connect(&Handshake {
                version: Version::V2,
                db: 0,
                ..handshake
            })
            .await?;
            let id = subscribed.client_id().await?.to_string();
            subscribed.demand(&[b"SUBSCRIBE", b"__redis__:invalidate"]).await?;
            filling
                .demand(&[b"CLIENT", b"TRACKING", b"ON", b"OPTIN", b"REDIRECT", id.as_bytes()])
                .await?;
            Ok(Up {
                filling: Link::new(filling.into_socket()),
                subscribed: Some(Link::new(subscribed.into_socket())),
            })
        }
    }
}
