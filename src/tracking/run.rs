//! A tracked connection's life: bring it up, serve it until it must be given up, start over.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::canary::{Want, Watch};
use super::ladder::{Ladder, NoneUp, PassedOver, Source, Up, climb};
use super::live::Live;
use super::{Order, Outbox, Status, Waiting};
use crate::coherence::{Delivery, Fill, NearCache, Origin, Stream};
use crate::metrics::{FenceReason, InvalidationSource, Label, Metrics, Refusal};
use crate::mutants::{Mutant, mutated};
use crate::time;
use crate::upstream::{Handshake, Here, Loss, Whereabouts};

/// Fills written in one go at most.
const BATCH: usize = 256;
/// No keeper waits longer than that many times 80 ms before it tries again: when the server is back, so are its entries.
const MOST: u32 = 25;
/// The first and the longest pause after the server has refused. Chosen, not measured: a user who may not be tracked is
/// likely to stay one, and when rights change it is tried at once.
const REFUSED: Duration = Duration::from_secs(1);
const REFUSED_MOST: Duration = Duration::from_secs(60);
/// A connection that lasted so long was a good one. Chosen, not measured.
const STABLE: Duration = Duration::from_secs(1);

pub(super) struct Keeper<W, O> {
    /// What it says; its address is that of the node it is or was connected to last.
    pub(super) handshake: Handshake,
    pub(super) master: Whereabouts,
    /// Where that was when it was connected last.
    pub(super) here: Option<Here>,
    pub(super) ladder: Arc<Ladder>,
    /// It is nearhit's own user's: the one that writes the canary, and whose state is shown.
    pub(super) own: bool,
    /// Sources that the canary found to be silent.
    pub(super) silent: Arc<watch::Sender<u8>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cache: Arc<NearCache<W>>,
    pub(super) origin: Arc<Origin>,
    pub(super) outbox: O,
    pub(super) inbox: mpsc::UnboundedReceiver<Order>,
    pub(super) keepers: Arc<AtomicUsize>,
    pub(super) kicked: Arc<AtomicBool>,
    pub(super) retry: Arc<Notify>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) status: Arc<Status>,
    /// What all keepers do.
    pub(super) all: Arc<Status>,
    /// What was said about sources that were passed over: each thing once.
    pub(super) said: Vec<(Source, Refusal)>,
}

/// Why serving ended.
enum End {
    Stopped,
    Lost(String),
    /// Invalidations do not come by this source.
    Silent(Source, String),
}

impl<W, O: Outbox<W>> Keeper<W, O> {
    pub(super) async fn run(mut self) {
        self.keep().await;
        // A session that does not know yet may still ask: whoever waits must not wait for ever.
        while let Some(order) = self.inbox.recv().await {
            if let Order::Fill(fill) = order {
                self.refuse(fill);
                self.outbox.flush();
            }
        }
    }

    async fn keep(&mut self) {
        let (mut failing, mut refused) = (false, REFUSED);
        // Sources that proved to be silent since the connection was lost last.
        let mut silent = 0;
        loop {
            let skip = silent | if self.own { 0 } else { *self.silent.borrow() };
            let Some(climbed) = self.climb_at_master(skip).await else {
                return;
            };
            let Some((up, passed)) = climbed else { continue };
            passed.into_iter().for_each(|passed| self.note(passed));
            let pause = match up {
                Ok(up) => {
                    (failing, refused) = (false, REFUSED);
                    let since = time::now();
                    match self.serve(up).await {
                        End::Stopped => return,
                        End::Lost(why) => {
                            tracing::warn!(upstream = %self.handshake.address, user = %self.user(), why, "tracked connection lost; the near-cache starts over");
                            silent = 0;
                        }
                        End::Silent(source, why) => {
                            silent |= source.bit();
                            self.silent.send_modify(|set| *set |= source.bit());
                            self.note(PassedOver(source, Refusal::Silent, why));
                            continue;
                        }
                    }
                    // A server that lets us in and throws us out at once must not be asked without a pause.
                    if time::now().since(since) < STABLE {
                        self.pause()
                    } else {
                        Duration::ZERO
                    }
                }
                Err(none) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(upstream = %self.handshake.address, user = %self.user(), why = %none, "no tracked connection; nothing is cached until there is one");
                    }
                    silent = 0;
                    self.pause_after(&none, &mut refused)
                }
            };
            let retry = Arc::clone(&self.retry);
            let pause = tokio::time::timeout(pause, async move { retry.notified().await });
            match self.while_refusing(pause).await {
                None => return,
                Some(Ok(())) => refused = REFUSED,
                Some(Err(_over)) => {}
            }
        }
    }

    /// Connects to the master, once it is known where that is. `None`: told to stop. `Some(None)`: it is elsewhere by now.
    async fn climb_at_master(&mut self, skip: u8) -> Option<Option<(Result<Up, NoneUp>, Vec<PassedOver>)>> {
        let master = self.master.clone();
        let here = self.while_refusing(master.known()).await?;
        self.handshake.address = here.address.clone();
        self.here = Some(here.clone());
        let handshake = self.handshake.clone();
        let climbing = climb(Arc::clone(&self.ladder), handshake, skip);
        let climbing = async {
            tokio::select! {
                climbed = climbing => Some(climbed),
                () = master.left(&here) => None,
            }
        };
        self.while_refusing(climbing).await
    }

    /// A server that refuses is asked less often than one that is away; about what it will not do for this user, less and
    /// less often.
    fn pause_after(&self, none: &NoneUp, refused: &mut Duration) -> Duration {
        if self.own && matches!(none, NoneUp::Nothing(_)) {
            self.metrics.invalidation_source.set_only(InvalidationSource::Off);
        }
        match none {
            NoneUp::Lost(Loss::Refused(text)) if !is_about_rights(text) => REFUSED,
            NoneUp::Lost(Loss::Refused(_)) | NoneUp::Nothing(_) => {
                let pause = *refused;
                *refused = (pause * 2).min(REFUSED_MOST);
                pause
            }
            NoneUp::Lost(_) => self.pause(),
        }
    }

    /// Says once why a source is passed over.
    fn note(&mut self, PassedOver(source, why, text): PassedOver) {
        if self.said.contains(&(source, why)) {
            return;
        }
        self.forget(source);
        self.said.push((source, why));
        tracing::warn!(upstream = %self.handshake.address, user = %self.user(), ?source, reason = why.value(), why = text, "invalidations cannot come this way");
        if self.own {
            self.metrics.invalidation_refused.set((source.label(), why), 1.0);
        }
    }

    fn forget(&mut self, source: Source) {
        self.said.retain(|(said, _)| *said != source);
        if self.own {
            for why in Refusal::ALL {
                self.metrics.invalidation_refused.set((source.label(), *why), 0.0);
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
                    Some(Order::Touch(_)) => {}
                    Some(Order::Stop) | None => return None,
                },
            }
        }
    }

    /// Between two attempts: all keepers together make some twenty to forty a second, however many there are.
    fn pause(&self) -> Duration {
        let keepers = u32::try_from(self.keepers.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        crate::upstream::jittered_pause().saturating_mul(keepers.div_ceil(2).clamp(1, MOST))
    }

    fn user(&self) -> impl fmt::Display + '_ {
        self.handshake.identity.user().escape_ascii()
    }

    fn refuse(&mut self, fill: Fill) {
        for waiter in self.cache.abandon(fill.lease) {
            self.outbox.deliver(waiter, Delivery::Home);
        }
    }

    /// Serves one incarnation until it ends, and fences it.
    async fn serve(&mut self, up: Up) -> End {
        let stream = self.origin.stream();
        let source = up.source;
        if self.own && self.ladder.canary_interval.is_some() && source != Source::Age {
            stream.set_canary(self.ladder.canary_key.clone());
        }
        let mut live = Live::new(up, &self.cache, &stream, self.handshake.db);
        let (ladder, metrics, handshake) = (
            Arc::clone(&self.ladder),
            Arc::clone(&self.metrics),
            self.handshake.clone(),
        );
        let ((wants, wanted), progress) = (mpsc::unbounded_channel(), Notify::new());
        let watch = Watch {
            ladder: &ladder,
            handshake: &handshake,
            metrics: &metrics,
            stream: &stream,
            wants,
            progress: &progress,
        };
        let watching = Box::pin(watch.until_silent());
        let end = self.pump(&mut live, &stream, watching, wanted, &progress).await;
        if matches!(end, End::Silent(..)) {
            self.cache.note_fence(FenceReason::Canary);
        }
        self.status.connected.store(false, Ordering::Relaxed);
        if source != Source::Redirect || !mutated(Mutant::RedirectDeathIgnored) {
            self.cache.fence(&self.origin);
        }
        live.tracked.abandon(&mut self.outbox);
        self.outbox.flush();
        self.waiting.wake();
        end
    }

    async fn pump(
        &mut self,
        live: &mut Live<W>,
        stream: &Arc<Stream>,
        mut watching: impl Future<Output = String> + Unpin,
        mut wanted: mpsc::UnboundedReceiver<Want>,
        progress: &Notify,
    ) -> End {
        // A third of the bound, and a third of that: a PING is at most a ninth late.
        let mut ticks = tokio::time::interval(self.cache.limits().max_staleness / 9);
        let (source, mut silent, retry) = (live.source, self.silent.subscribe(), Arc::clone(&self.retry));
        let best = self.ladder.sources.first() == Some(&source);
        let (master, here) = (self.master.clone(), self.here.clone());
        let left = async || {
            // It was known when the connection was made.
            if let Some(here) = &here {
                master.left(here).await;
            }
        };
        loop {
            let step = tokio::select! {
                // Biased: a node that is the master no more is not listened to. The canary is rare, and what it wants is short. Then what the server says, then new fills; the
                // tick is only for quiet times.
                biased;
                () = left() => {
                    self.cache.note_fence(FenceReason::Moved);
                    return End::Lost("the node is not known to be the master any more".to_owned());
                }
                why = &mut watching => return End::Silent(source, why),
                Some(want) = wanted.recv() => {
                    self.give(&want, live, stream);
                    Ok(None)
                }
                _ = silent.wait_for(|set| set & source.bit() != 0), if !self.own => {
                    return End::Lost("nearhit's own canary was not heard of".to_owned());
                }
                () = retry.notified(), if !best => {
                    return End::Lost("rights changed, so a better source may work".to_owned());
                }
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
                Ok(Some(from)) => {
                    let handled = live.receive(from, &mut self.outbox);
                    progress.notify_one();
                    handled
                }
                Ok(None) => Ok(()),
                Err(why) => Err(why),
            };
            self.outbox.flush();
            self.waiting.wake();
            if let Err(why) = handled {
                return End::Lost(why);
            }
        }
    }

    /// What the canary wants.
    fn give(&mut self, want: &Want, live: &mut Live<W>, stream: &Arc<Stream>) {
        match want {
            Want::Ask => live.ask_for_canary(),
            Want::Ping => live.ping(),
            Want::GoLive => self.go_live(live.source, stream),
        }
    }

    fn go_live(&mut self, source: Source, stream: &Stream) {
        stream.go_live_within(self.ladder.reach(source));
        self.status.since.store(time::now().as_nanos(), Ordering::Relaxed);
        self.status.connected.store(true, Ordering::Relaxed);
        if self.status.connects.fetch_add(1, Ordering::Relaxed) > 0 {
            self.status.reconnects.fetch_add(1, Ordering::Relaxed);
            self.all.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.all.connects.fetch_add(1, Ordering::Relaxed);
        // What would come after it was not tried.
        let ladder = Arc::clone(&self.ladder);
        let tried = ladder.sources.iter().take_while(|tried| **tried != source).count();
        ladder
            .sources
            .iter()
            .skip(tried)
            .for_each(|source| self.forget(*source));
        if self.own {
            self.metrics.invalidation_source.set_only(source.label());
            self.silent.send_modify(|set| *set &= !source.bit());
        }
        tracing::info!(upstream = %self.handshake.address, user = %self.user(), ?source, "tracking is on");
    }

    /// Takes an order and all that are queued behind it, so that they leave in one write; false: told to stop.
    fn take(&mut self, first: Order, live: &mut Live<W>) -> bool {
        let now = time::now();
        let (mut next, mut left) = (Some(first), BATCH - 1);
        while let Some(order) = next {
            match order {
                Order::Stop => return false,
                Order::Ping => {
                    self.kicked.store(false, Ordering::Relaxed);
                    live.ping();
                }
                Order::Touch(keys) => live.tracked.touch(&keys, now, &mut live.filling.out),
                Order::Fill(fill) => {
                    if let Err(refused) = live.tracked.fill(fill, now, &mut live.filling.out) {
                        self.refuse(refused);
                    }
                }
            }
            next = next_order(&mut self.inbox, &mut left);
        }
        true
    }
}

/// The next queued order while the batch has room. None is taken out that is not handled: a PING that was asked for and not
/// sent would never be asked for again.
fn next_order(inbox: &mut mpsc::UnboundedReceiver<Order>, left: &mut usize) -> Option<Order> {
    *left = left.checked_sub(1)?;
    inbox.try_recv().ok()
}

fn is_about_rights(refusal: &str) -> bool {
    ["NOAUTH ", "WRONGPASS ", "NOPERM "]
        .iter()
        .any(|code| refusal.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_a_batch_stays_for_the_next_one() {
        let (orders, mut inbox) = mpsc::unbounded_channel();
        (0..BATCH).for_each(|_| orders.send(Order::Ping).unwrap_or_default());
        orders.send(Order::Stop).unwrap_or_default();
        let mut left = BATCH;
        while next_order(&mut inbox, &mut left).is_some() {}
        assert!(matches!(inbox.try_recv(), Ok(Order::Stop)));
    }
}
