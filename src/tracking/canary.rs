//! The canary: a key that is written and deleted in one transaction every few seconds, so that nobody ever sees it, by
//! another connection than the one its invalidation must come on.
//!
//! ```text
//! connect ─ ask to be told ─ MULTI, SET, DEL, EXEC ─ answered ─ PING on the stream ─ PONG ┬ told before it: works
//!                                                                                        └ not told: silent
//! ```
//! What was acknowledged before a PING was sent is told before its PONG. So nothing is guessed from time: a stream that
//! answers the PING and did not speak of the canary carries no invalidations, because something between here and the server
//! drops them, or spreads connections over several servers.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::ladder::Ladder;
use crate::coherence::{Asked, Canary, Stream};
use crate::metrics::{CanaryFailure, Metrics};
use crate::resp::{Value, Version};
use crate::time::{self, Instant};
use crate::upstream::{Control, Handshake, Loss};

/// What a round needs of the connection's reader.
pub(super) enum Want {
    /// Ask the server to speak of the canary.
    Ask,
    /// A PING on the stream.
    Ping,
    /// Nothing speaks against serving entries.
    GoLive,
}

/// Writes the canary for one incarnation of a stream.
pub(super) struct Watch<'a> {
    pub(super) ladder: &'a Ladder,
    pub(super) handshake: &'a Handshake,
    pub(super) metrics: &'a Metrics,
    pub(super) stream: &'a Stream,
    pub(super) wants: mpsc::UnboundedSender<Want>,
    /// Told whenever the reader has handled something.
    pub(super) progress: &'a Notify,
}

/// How a round ended: the invalidation came so long after the write was sent; `None`: something else wrote the key or flushed
/// everything meanwhile, so there is nothing to time.
type Round = Result<Option<Duration>, (CanaryFailure, String)>;

impl Watch<'_> {
    /// Watches until the stream is known to carry no invalidations. Before that it says once that entries may be served:
    /// after the first round, whatever it showed.
    pub(super) async fn until_silent(self) -> String {
        let (mut live, mut failing) = (false, None);
        let watched = self.stream.canary().zip(self.ladder.canary_interval);
        let Some((canary, interval)) = watched else {
            self.want(Want::GoLive);
            return std::future::pending().await;
        };
        loop {
            let before = failing.take();
            match self.round(canary).await {
                Ok(after) => {
                    self.metrics.canary_last_success.set(time::unix_seconds());
                    after.into_iter().for_each(|after| self.metrics.canary.record(after));
                }
                Err((why, text)) => {
                    self.metrics.canary_failures.inc(why);
                    if why == CanaryFailure::Silent {
                        return text;
                    }
                    failing = Some(why);
                    if before != failing {
                        tracing::warn!(upstream = %self.handshake.address, why = text, "the canary cannot be written; nobody checks that invalidations come");
                    }
                }
            }
            if !std::mem::replace(&mut live, true) {
                self.want(Want::GoLive);
            }
            if failing == Some(CanaryFailure::Denied) {
                // The server would note every attempt in its ACL LOG.
                return std::future::pending().await;
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn round(&self, canary: &Canary) -> Round {
        let handshake = Handshake {
            version: Version::V3,
            ..self.handshake.clone()
        };
        let mut control = Control::connect(&handshake).await.map_err(failed)?;
        // Counted from before the server is asked: whoever else writes the key uses up what is registered.
        let (heard, flush) = (canary.heard(), self.stream.stamp().flush);
        canary.ask_again();
        self.want(Want::Ask);
        self.until(|| canary.asked() != Asked::Unanswered).await;
        match canary.asked() {
            Asked::Denied => return Err((CanaryFailure::Denied, "its key may not be read".into())),
            Asked::Refused => return Err((CanaryFailure::Refused, "its key cannot be read now".into())),
            Asked::Unanswered | Asked::Granted => {}
        }
        let began = time::now();
        let (written, heard_at) = self.write(&mut control, canary, heard).await;
        written?;
        let acknowledged = time::now();
        self.want(Want::Ping);
        self.until(|| self.stream.fresh() >= acknowledged).await;
        if canary.heard() > heard {
            return Ok(Some(heard_at.unwrap_or_else(time::now).since(began)));
        }
        if self.stream.stamp().flush != flush {
            return Ok(None);
        }
        Err((
            CanaryFailure::Silent,
            "the canary was written, and no invalidation of it came before the answer to a later PING; does a proxy drop pushes, or spread connections over several servers?".into(),
        ))
    }

    /// Writes the canary, and notes when its invalidation came: that may be before the answer.
    async fn write(
        &self,
        control: &mut Control,
        canary: &Canary,
        heard: u64,
    ) -> (Result<(), (CanaryFailure, String)>, Option<Instant>) {
        let set: [&[u8]; 5] = [b"SET", canary.key(), b"1", b"PX", b"5000"];
        let write = [set.to_vec(), vec![b"DEL", canary.key()]];
        let mut heard_at = None;
        let mut listening = std::pin::pin!(self.until(|| canary.heard() > heard));
        let mut answer = std::pin::pin!(tokio::time::timeout(self.handshake.timeout, transact(control, &write)));
        let answer = loop {
            tokio::select! {
                () = &mut listening, if heard_at.is_none() => heard_at = Some(time::now()),
                answer = &mut answer => break answer,
            }
        };
        let written = match answer {
            Err(_) => Err(failed(Loss::Timeout(self.handshake.timeout))),
            Ok(Err(loss)) => Err(failed(loss)),
            Ok(Ok(written)) => written.first_error().map_or(Ok(()), |text| {
                Err(failed(Loss::Refused(String::from_utf8_lossy(text).into_owned())))
            }),
        };
        (written, heard_at)
    }

    fn want(&self, want: Want) {
        // The reader is gone only if this is about to be dropped.
        let _gone = self.wants.send(want);
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            self.progress.notified().await;
        }
    }
}

/// Which failure it is that the canary could not be written.
#[allow(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn failed(loss: Loss) -> (CanaryFailure, String) {
    let text = loss.to_string();
    let failure = match loss {
        Loss::Refused(_)
            if ["NOPERM ", "READONLY ", "ERR unknown "]
                .iter()
                .any(|code| text.starts_with(code)) =>
        {
            CanaryFailure::Denied
        }
        Loss::Refused(_) => CanaryFailure::Refused,
        _ => CanaryFailure::Unanswered,
    };
    (failure, text)
}

/// What became of a transaction.
pub(super) struct Written(Vec<Value>);

impl Written {
    /// The first error of all its replies: what one of its commands was refused for says more than that all of it was.
    pub(super) fn first_error(&self) -> Option<&[u8]> {
        let executed = self.0.last().and_then(Value::as_values).unwrap_or_default();
        self.0.iter().chain(executed).find_map(|reply| match reply {
            Value::Error(text) => Some(&**text),
            _ => None,
        })
    }
}

/// Executes `commands` as one transaction: nobody sees a state between them.
pub(super) async fn transact(control: &mut Control, commands: &[Vec<&[u8]>]) -> Result<Written, Loss> {
    let (multi, exec): ([&[u8]; 1], [&[u8]; 1]) = ([b"MULTI"], [b"EXEC"]);
    let mut requests: Vec<&[&[u8]]> = vec![&multi];
    requests.extend(commands.iter().map(Vec::as_slice));
    requests.push(&exec);
    control.exchange_all(&requests).await.map(Written)
}
