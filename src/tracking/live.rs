//! The sockets of a stream that is up, and what is done with what they bring.

use std::sync::Arc;

use super::Outbox;
use super::ladder::{Source, Up};
use super::link::{Did, Link};
use crate::coherence::{NearCache, Stream, Subscriber, Tracked};
use crate::time;

/// Which socket was read.
pub(super) enum From {
    Filling,
    Subscribed,
}

/// A stream that is up.
pub(super) struct Live<W> {
    pub(super) source: Source,
    pub(super) filling: Link,
    pub(super) tracked: Tracked<W>,
    subscribed: Option<(Link, Subscriber<W>)>,
}

impl<W> Live<W> {
    pub(super) fn new(up: Up, cache: &Arc<NearCache<W>>, stream: &Arc<Stream>, db: u32) -> Self {
        let (cache, stream) = (Arc::clone(cache), Arc::clone(stream));
        let tracked = match up.source {
            Source::Tracking => Tracked::new(Arc::clone(&cache), Arc::clone(&stream), db, true),
            Source::Redirect => Tracked::new(Arc::clone(&cache), Arc::clone(&stream), db, false),
            Source::Broadcast | Source::Keyspace | Source::Age => {
                Tracked::filling_only(Arc::clone(&cache), Arc::clone(&stream), db)
            }
        };
        let subscriber = up
            .source
            .dialect()
            .map(|dialect| Subscriber::speaking(dialect, cache, stream));
        let subscribed = up.subscribed.zip(subscriber);
        Self {
            source: up.source,
            filling: up.filling,
            tracked,
            subscribed,
        }
    }

    pub(super) async fn step(&mut self) -> Result<Option<From>, String> {
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

    pub(super) fn receive(&mut self, from: From, outbox: &mut impl Outbox<W>) -> Result<(), String> {
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

    pub(super) fn ping(&mut self) {
        let now = time::now();
        if let Some((link, subscriber)) = &mut self.subscribed {
            subscriber.ping(now, &mut link.out);
        }
        // Where another connection is told of changes, this one's answers prove nothing, but that it tracks.
        if self.subscribed.is_none() || self.source == Source::Redirect {
            self.tracked.ping(now, &mut self.filling.out);
        }
    }

    /// Has the server speak of the canary once.
    pub(super) fn ask_for_canary(&mut self) {
        self.tracked.ask_for_canary(time::now(), &mut self.filling.out);
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        let now = time::now();
        let mut outcome = self.tracked.tick(now, &mut self.filling.out);
        if let Some((link, subscriber)) = &mut self.subscribed {
            outcome = outcome.and_then(|()| subscriber.tick(now, &mut link.out));
        }
        outcome.map_err(|fence| fence.to_string())
    }
}
