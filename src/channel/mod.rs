//! The application channel: a pub/sub channel on which applications say what they changed, in JSON, so that nearhit drops
//! what it holds of it.
//!
//! ```text
//! Away ─ connected, SUBSCRIBE confirmed: everything is dropped, for messages may have been missed → Listening
//! Listening ─ message → entries dropped │ lost, silent, a message too large to read → Away
//! ```
//! It comes on top of what Redis itself announces: a message that never comes makes nothing staler than it was.

mod message;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use self::message::What;
use crate::coherence::{Dropped, NearCache};
use crate::metrics::{ChannelOp, ChannelOutcome, Metrics};
use crate::resp::{Glob, Value};
use crate::time::{self, Instant};
use crate::upstream::{Control, Handshake, Link, Loss, jittered_pause};

/// A larger message is not read: who sends it may mean everything. Chosen, not measured; it is room for some 30,000 keys.
const LARGEST: usize = 1 << 20;
/// How often the server must show that it is there, and how long it may not. Chosen, not measured.
const PING: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(5);
/// How long a server that refused is not asked again.
const REFUSED: Duration = Duration::from_secs(5);
/// Messages that cannot be read are logged so often at most.
const LOG: Duration = Duration::from_secs(10);

/// Listens on a channel for as long as the proxy runs.
pub struct Channel<W> {
    /// How to connect, as whom.
    pub handshake: Handshake,
    /// The channel's name.
    pub name: String,
    /// What is dropped from.
    pub cache: Arc<NearCache<W>>,
    /// What happens is counted here.
    pub metrics: Arc<Metrics>,
}

impl<W> Channel<W> {
    /// Listens until it is dropped.
    pub async fn watch(self) {
        let mut said = false;
        loop {
            let Err(loss) = self.listen().await;
            let was_heard = self.metrics.channel_connected.get() > 0.0;
            self.metrics.channel_connected.set_bool(false);
            if was_heard || !std::mem::replace(&mut said, true) {
                tracing::warn!(channel = self.name, why = %loss, "the application channel is not heard");
            }
            let pause = match loss {
                Loss::Refused(_) => REFUSED,
                _ => jittered_pause(),
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn listen(&self) -> Result<Infallible, Loss> {
        let socket = Control::connect(&self.handshake).await?.into_socket();
        let mut link = Link::new(socket, LARGEST, SILENT);
        link.send(&[b"SUBSCRIBE", self.name.as_bytes()]).await?;
        let confirmed = tokio::time::timeout(self.handshake.timeout, link.next()).await;
        match confirmed.map_err(|_| Loss::Timeout(self.handshake.timeout))?? {
            Value::Error(text) => return Err(Loss::Refused(String::from_utf8_lossy(&text).into_owned())),
            Value::Array(items) if word(&items, 0) == Some(b"subscribe") => {}
            _ => return Err(Loss::Protocol("SUBSCRIBE was not confirmed".into())),
        }
        // What was published while nobody listened is lost; what is cached from here on is newer.
        self.cache.flush_by_application();
        self.metrics.channel_connected.set_bool(true);
        tracing::info!(channel = self.name, "the application channel is heard");
        self.hear(&mut link).await
    }

    async fn hear(&self, link: &mut Link) -> Result<Infallible, Loss> {
        let mut pings = tokio::time::interval(PING);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut heard, mut complaints) = (time::now(), Complaints::default());
        loop {
            tokio::select! {
                // Biased: messages before the question whether there are any.
                biased;
                frame = link.next() => {
                    heard = time::now();
                    self.take(&frame?, &mut complaints);
                }
                _ = pings.tick() => {
                    if time::now().since(heard) > SILENT {
                        return Err(Loss::Timeout(SILENT));
                    }
                    link.send(&[b"PING"]).await?;
                }
            }
        }
    }

    fn take(&self, frame: &Value, complaints: &mut Complaints) {
        let Value::Array(items) = frame else { return };
        let (Some(b"message"), Some(payload)) = (word(items, 0), word(items, 2)) else {
            return;
        };
        let counted = match message::read(payload) {
            Ok((op, what)) if self.apply(&what) => (op, ChannelOutcome::Removed),
            Ok((op, _)) => (op, ChannelOutcome::Absent),
            Err(why) => {
                complaints.note(&self.name, &why);
                (ChannelOp::Other, ChannelOutcome::Refused)
            }
        };
        self.metrics.channel_messages.inc(counted);
    }

    /// Drops what is said; whether there was anything.
    fn apply(&self, what: &What) -> bool {
        match what {
            What::Keys(keys) => {
                keys.iter()
                    .map(|key| self.cache.drop_key(Dropped::Application, key))
                    .sum::<usize>()
                    > 0
            }
            What::Matching(pattern) => {
                let glob = Glob::new(pattern.as_bytes());
                self.cache
                    .drop_matching(Dropped::Application, |name| glob.matches(name))
                    > 0
            }
            What::Everything => {
                let entries = self.cache.totals().entries;
                self.cache.flush_by_application();
                entries > 0
            }
        }
    }
}

fn word(items: &[Value], at: usize) -> Option<&[u8]> {
    items.get(at).and_then(Value::as_bytes)
}

/// Messages nobody can read: the first of ten seconds is logged, with how many there were before.
#[derive(Default)]
struct Complaints {
    unsaid: u64,
    next: Instant,
}

impl Complaints {
    fn note(&mut self, channel: &str, why: &str) {
        let now = time::now();
        if now < self.next {
            self.unsaid += 1;
            return;
        }
        self.next = now.after(LOG);
        let others = std::mem::take(&mut self.unsaid);
        tracing::warn!(
            channel,
            why,
            others,
            "a message on the application channel cannot be read"
        );
    }
}
