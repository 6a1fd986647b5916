//! Where invalidations may come from, best first, and how each is set up.
//!
//! ```text
//! tracking ─ refused, silent → redirect → broadcast (prefixes) → keyspace (notifications) → age (fallback_ttl) → nothing
//! ```
//! A source is passed over when the server refuses it, never because the server is away or busy: that is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::canary::transact;
use super::link::Link;
use crate::coherence::{Dialect, Reach};
use crate::metrics::{InvalidationSource, Refusal};
use crate::mutants::{Mutant, mutated};
use crate::resp::{Value, Version};
use crate::upstream::{Control, Handshake, Loss};

/// Where invalidations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// RESP3 pushes on the filling connection itself.
    Tracking,
    /// A RESP2 subscription to `__redis__:invalidate`, to which the filling connection redirects.
    Redirect,
    /// RESP3 pushes on a second connection, about all keys that begin with one of a few prefixes.
    Broadcast,
    /// A RESP2 subscription to keyspace notifications.
    Keyspace,
    /// Nowhere: entries live for a short time.
    Age,
}

impl Source {
    /// What it is called in metrics.
    pub fn label(self) -> InvalidationSource {
        match self {
            Self::Tracking => InvalidationSource::Tracking,
            Self::Redirect => InvalidationSource::Redirect,
            Self::Broadcast => InvalidationSource::Broadcast,
            Self::Keyspace => InvalidationSource::Keyspace,
            Self::Age => InvalidationSource::TtlOnly,
        }
    }

    /// How the second connection is told of changes; `None`: there is no second one.
    pub(super) fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Tracking | Self::Age => None,
            Self::Redirect => Some(Dialect::Redirect),
            Self::Broadcast => Some(Dialect::Broadcast),
            Self::Keyspace => Some(Dialect::Keyspace),
        }
    }

    /// Its place in a set of sources.
    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which sources are tried, and what they need to know.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Best first.
    pub sources: Vec<Source>,
    /// What [`Source::Broadcast`] covers.
    pub prefixes: Vec<Box<[u8]>>,
    /// Longest life of an entry under [`Source::Keyspace`].
    pub keyspace_ttl: Duration,
    /// Longest life of an entry under [`Source::Age`].
    pub fallback_ttl: Duration,
    /// A key that nobody uses.
    pub canary_key: Box<[u8]>,
    /// How often that key is written to see whether its invalidation comes; `None`: never.
    pub canary_interval: Option<Duration>,
}

impl Ladder {
    /// How far the word of a source goes.
    pub(super) fn reach(&self, source: Source) -> Reach {
        let full = Reach::full().clone();
        match source {
            Source::Tracking | Source::Redirect => full,
            Source::Broadcast => Reach {
                prefixes: self.prefixes.clone(),
                ..full
            },
            Source::Keyspace => Reach {
                longest: self.keyspace_ttl,
                ..full
            },
            Source::Age => Reach {
                longest: self.fallback_ttl,
                by_age: true,
                ..full
            },
        }
    }

    /// What is tracked by prefixes: those that are configured, and the canary.
    fn broadcast(&self) -> Vec<&[u8]> {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST"];
        // Redis refuses a prefix that another one covers.
        let overlaps = |prefix: &[u8]| prefix.starts_with(&self.canary_key) || self.canary_key.starts_with(prefix);
        let canary = (!self.prefixes.iter().any(|prefix| overlaps(prefix))).then_some(&self.canary_key);
        for prefix in self.prefixes.iter().chain(canary) {
            words.extend([b"PREFIX".as_slice(), prefix]);
        }
        words
    }
}

/// Connections of a source that is set up: the filling one, and the one that is told of changes if that is another one.
pub(super) struct Up {
    pub(super) source: Source,
    pub(super) filling: Link,
    pub(super) subscribed: Option<Link>,
}

/// Why a source was not set up.
pub(super) enum Failed {
    /// It will not do; the next one may.
    Refused(Refusal, String),
    /// None will do now.
    Lost(Loss),
}

impl From<Loss> for Failed {
    /// What the server says to a question about invalidations.
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Refused(text) if text.starts_with("NOPERM ") => Self::Refused(Refusal::Denied, text),
            Loss::Refused(text) if text.starts_with("ERR ") => Self::Refused(Refusal::Unsupported, text),
            // LOADING, BUSY and the like pass.
            loss => Self::Lost(loss),
        }
    }
}

/// A source that will not do, why, and in the server's words.
pub(super) struct PassedOver(pub(super) Source, pub(super) Refusal, pub(super) String);

/// Why no source was set up.
pub(super) enum NoneUp {
    /// The connection is the reason: any of them may do later.
    Lost(Loss),
    /// None of them will do.
    Nothing(String),
}

impl fmt::Display for NoneUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(loss) => loss.fmt(f),
            Self::Nothing(why) => f.write_str(why),
        }
    }
}

/// Sets up the first source that will do, except those in `skip`; and says which ones would not.
pub(super) async fn climb(
    ladder: Arc<Ladder>,
    handshake: Handshake,
    skip: u8,
) -> (Result<Up, NoneUp>, Vec<PassedOver>) {
    let mut passed = Vec::new();
    for &source in ladder.sources.iter().filter(|source| source.bit() & skip == 0) {
        match open(source, &ladder, &handshake).await {
            Ok(up) => return (Ok(up), passed),
            Err(Failed::Refused(why, text)) => passed.push(PassedOver(source, why, text)),
            Err(Failed::Lost(loss)) => return (Err(NoneUp::Lost(loss)), passed),
        }
    }
    let why = match passed.as_slice() {
        [] => "no invalidations come".to_owned(),
        [PassedOver(_, _, text)] => text.clone(),
        several => {
            let each = several
                .iter()
                .map(|PassedOver(source, _, text)| format!("{source:?}: {text}"));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    (Err(NoneUp::Nothing(why)), passed)
}

/// Sets `source` up.
async fn open(source: Source, ladder: &Ladder, handshake: &Handshake) -> Result<Up, Failed> {
    let connect = async |version| {
        let handshake = Handshake {
            version,
            ..handshake.clone()
        };
        // Who may not log in may do nothing else, and without RESP3 there are no entries: no source would do better.
        Control::connect(&handshake).await.map_err(Failed::Lost)
    };
    let mut filling = connect(Version::V3).await?;
    let mut subscribed = None;
    match source {
        Source::Tracking => {
            reliable(&filling)?;
            filling.demand(&tracking_on()).await?;
            may_opt_in(&mut filling).await?;
        }
        Source::Redirect => {
            reliable(&filling)?;
            let mut listening = connect(Version::V2).await?;
            let id = listening.client_id().await?.to_string();
            listening.demand(&[b"SUBSCRIBE", b"__redis__:invalidate"]).await?;
            filling
                .demand(&[b"CLIENT", b"TRACKING", b"ON", b"OPTIN", b"REDIRECT", id.as_bytes()])
                .await?;
            may_opt_in(&mut filling).await?;
            subscribed = Some(listening);
        }
        Source::Broadcast => {
            reliable(&filling)?;
            let mut listening = connect(Version::V3).await?;
            listening.demand(&ladder.broadcast()).await?;
            subscribed = Some(listening);
        }
        Source::Keyspace => {
            let mut listening = connect(Version::V2).await?;
            listening.demand(&[b"PSUBSCRIBE", b"__keyspace@*__:*"]).await?;
            notifies(&mut filling, &mut listening, &ladder.canary_key).await?;
            subscribed = Some(listening);
        }
        Source::Age => {}
    }
    Ok(Up {
        source,
        filling: Link::new(filling.into_socket()),
        subscribed: subscribed.map(|listening| Link::new(listening.into_socket())),
    })
}

/// Who may switch tracking on may still not say what is to be tracked. The next command uses the word up.
async fn may_opt_in(filling: &mut Control) -> Result<(), Failed> {
    filling.demand(&[b"CLIENT", b"CACHING", b"YES"]).await?;
    filling.exchange(&[b"PING"]).await?;
    Ok(())
}

fn tracking_on() -> Vec<&'static [u8]> {
    let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"OPTIN"];
    if mutated(Mutant::Noloop) {
        words.push(b"NOLOOP");
    }
    words
}

fn reliable(filling: &Control) -> Result<(), Failed> {
    match filling.must_track_reliably() {
        Err(Loss::Refused(text)) => Err(Failed::Refused(Refusal::Version, text)),
        checked => Ok(checked?),
    }
}

/// Whether the server notifies of everything that matters. If it does not tell its setting, it is tried out: a key of
/// every kind is written and deleted, and all of that must be heard of.
async fn notifies(filling: &mut Control, listening: &mut Control, key: &[u8]) -> Result<(), Failed> {
    let lacking = |text: String| Err(Failed::Refused(Refusal::Notifications, text));
    let setting = filling
        .exchange(&[b"CONFIG", b"GET", b"notify-keyspace-events"])
        .await?;
    if let Some(flags) = setting.get(b"notify-keyspace-events").and_then(Value::as_bytes) {
        return match suffices(flags) {
            true => Ok(()),
            false => lacking(format!(
                "notify-keyspace-events is \"{}\"; it takes K and A, or K and g$lshzxet",
                flags.escape_ascii()
            )),
        };
    }
    let written = transact(filling, &trial(key)).await?;
    if let Some(text) = written.first_error() {
        return Err(Loss::Refused(String::from_utf8_lossy(text).into_owned()).into());
    }
    let heard = listening.hear().await?;
    let spoken_of = |event: &str| heard.iter().any(|message| is_about(message, key, event));
    match TRIAL_EVENTS.into_iter().find(|event| !spoken_of(event)) {
        None => Ok(()),
        Some(event) => lacking(format!(
            "no notification of '{event}' came; notify-keyspace-events must hold K and A"
        )),
    }
}

const TRIAL_EVENTS: [&str; 7] = ["set", "rpush", "sadd", "hset", "zadd", "xadd", "del"];

/// Writes a key of every kind, and leaves nothing behind.
fn trial(key: &[u8]) -> Vec<Vec<&[u8]>> {
    let writes: [&[&[u8]]; 6] = [
        &[b"SET", key, b"1", b"PX", b"5000"],
        &[b"RPUSH", key, b"1"],
        &[b"SADD", key, b"1"],
        &[b"HSET", key, b"1", b"1"],
        &[b"ZADD", key, b"1", b"1"],
        &[b"XADD", key, b"*", b"1", b"1"],
    ];
    let delete = [b"DEL".as_slice(), key];
    writes
        .iter()
        .flat_map(|write| [write.to_vec(), delete.to_vec()])
        .collect()
}

/// Whether `message` says that `event` happened to `key`: pmessage, pattern, channel, event.
fn is_about(message: &Value, key: &[u8], event: &str) -> bool {
    let Some([_, _, channel, what]) = message.as_values() else {
        return false;
    };
    what.as_bytes() == Some(event.as_bytes()) && channel.as_bytes().is_some_and(|channel| channel.ends_with(key))
}

/// Whether the flags of `notify-keyspace-events` cover all changes, by key. What modules do (`d`) need not be told: their
/// keys are not cached.
fn suffices(flags: &[u8]) -> bool {
    let all = flags.contains(&b'A') || b"g$lshzxet".iter().all(|class| flags.contains(class));
    flags.contains(&b'K') && all
}
