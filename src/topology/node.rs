//! What is known of one node: written by whoever watches it, read by every worker for each read it routes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Address;
use crate::time::Instant;

/// One life of a node's data: what was read of it earlier is not newer than what is read of it later. A node that was
/// started again, or follows another history, is another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(u32);

impl Source {
    /// The node that takes writes, whichever that is.
    pub const PRIMARY: Self = Self(0);
    /// Several sources: none is at least as new as all of them.
    pub(super) const SEVERAL: Self = Self(u32::MAX);

    /// A source nobody has read yet.
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Relaxed: only uniqueness counts. After four thousand million of them a number comes again; none lives so long.
        Self(NEXT.fetch_add(1, Ordering::Relaxed).clamp(1, u32::MAX - 1))
    }

    /// Which one it is.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Why a replica may not be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It was not asked yet.
    Unknown,
    /// It does not answer.
    Unreachable,
    /// It is not a replica of the primary.
    Stranger,
    /// Its link to the primary is down, or it is being copied to.
    Link,
    /// It lacks too many bytes of the replication stream.
    Bytes,
    /// It lacks what the primary acknowledged too long ago.
    Lag,
}

impl Objection {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "not asked yet",
            Self::Unreachable => "does not answer",
            Self::Stranger => "not a replica of this master",
            Self::Link => "its link to the master is down",
            Self::Bytes => "too many bytes behind",
            Self::Lag => "too far behind",
        }
    }

    const STORED: [Self; 5] = [
        Self::Unknown,
        Self::Unreachable,
        Self::Stranger,
        Self::Link,
        Self::Bytes,
    ];
}

/// What one look at a replica has shown.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it was asked.
    pub asked_at: Instant,
    /// Everything the primary had acknowledged at this time is there.
    pub caught_up: Instant,
    /// Bytes of the replication stream it lacks.
    pub lag_bytes: u64,
    /// How long it took to answer.
    pub took: Duration,
}

/// A node and what is known of it.
#[derive(Debug)]
pub struct Node {
    address: Address,
    /// What its place in the order of candidates for a key is made of.
    seed: u64,
    /// Its availability zone, if the configuration or the node itself has told; empty: there is none.
    zone: OnceLock<String>,
    source: AtomicU32,
    /// Index into [`Objection::STORED`], counted from one; 0: none.
    objection: AtomicU8,
    caught_up: AtomicU64,
    proved: AtomicU64,
    lag_bytes: AtomicU64,
    latency: AtomicU64,
}

/// By this part each answer changes the average of how long answers take.
const SMOOTH: u64 = 8;

impl Node {
    /// A node that was not asked yet; `zone` is empty if it is to tell it itself.
    pub fn new(address: Address, zone: String) -> Self {
        let told = OnceLock::new();
        if !zone.is_empty() {
            let _first = told.set(zone);
        }
        let mut hasher = DefaultHasher::new();
        address.to_string().hash(&mut hasher);
        Self {
            seed: hasher.finish(),
            address,
            zone: told,
            source: AtomicU32::new(Source::fresh().0),
            objection: AtomicU8::new(1),
            caught_up: AtomicU64::new(0),
            proved: AtomicU64::new(0),
            lag_bytes: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its availability zone; empty: not known.
    pub fn zone(&self) -> &str {
        self.zone.get().map_or("", String::as_str)
    }

    /// It says that it is in this zone, unless it was said before.
    pub fn in_zone(&self, zone: &str) {
        if !zone.is_empty() {
            let _first = self.zone.get_or_init(|| zone.to_owned());
        }
    }

    /// Its place among the candidates for a key: the same for a key as long as the nodes are the same.
    pub(super) fn rank(&self, key: u64) -> u64 {
        (self.seed ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ self.seed
    }

    /// The life of its data that is read now.
    pub fn source(&self) -> Source {
        Source(self.source.load(Ordering::Acquire))
    }

    /// Everything the primary had acknowledged at this time is there; [`Instant::ZERO`]: nothing is known.
    pub fn caught_up(&self) -> Instant {
        Instant::from_nanos(self.caught_up.load(Ordering::Acquire))
    }

    /// When it was asked last what it then answered: it still was what it had been.
    pub fn proved(&self) -> Instant {
        Instant::from_nanos(self.proved.load(Ordering::Acquire))
    }

    /// Bytes of the replication stream it lacked when it was asked last.
    pub fn lag_bytes(&self) -> u64 {
        self.lag_bytes.load(Ordering::Relaxed)
    }

    /// How long it takes to answer, on average of late; zero: it has not.
    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Ordering::Relaxed))
    }

    /// Why it may not be read from at `now`.
    pub fn objection(&self, max_lag: Duration, now: Instant) -> Option<Objection> {
        let stored = usize::from(self.objection.load(Ordering::Acquire));
        let stored = stored.checked_sub(1).and_then(|at| Objection::STORED.get(at).copied());
        stored.or_else(|| (now.since(self.caught_up()) > max_lag).then_some(Objection::Lag))
    }

    /// It was asked and may be read from, but for how old what it has is; `max_lag_bytes` is what it may lack.
    pub fn looked(&self, look: &Look, max_lag_bytes: u64) {
        self.lag_bytes.store(look.lag_bytes, Ordering::Relaxed);
        self.answered(look.took);
        // What it has never grows less while it is the same source.
        self.caught_up.fetch_max(look.caught_up.as_nanos(), Ordering::AcqRel);
        self.proved.store(look.asked_at.as_nanos(), Ordering::Release);
        let behind = look.lag_bytes > max_lag_bytes;
        self.objection
            .store(if behind { code(Objection::Bytes) } else { 0 }, Ordering::Release);
    }

    /// It answered within `took`.
    pub fn answered(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.latency.load(Ordering::Relaxed);
        let now = match before {
            0 => took,
            before => before - before / SMOOTH + took / SMOOTH,
        };
        // One thread writes it.
        self.latency.store(now.max(1), Ordering::Relaxed);
    }

    /// It may not be read from.
    pub fn object(&self, why: Objection) {
        self.objection.store(code(why), Ordering::Release);
    }

    /// From here on it is another source: what it had may be gone.
    pub fn renew(&self, why: Objection) {
        self.object(why);
        self.caught_up.store(0, Ordering::Release);
        self.proved.store(0, Ordering::Release);
        self.source.store(Source::fresh().0, Ordering::Release);
    }
}

fn code(why: Objection) -> u8 {
    let at = Objection::STORED.iter().position(|stored| *stored == why).unwrap_or(0);
    u8::try_from(at + 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node::new(
            Address::Tcp {
                host: "a".into(),
                port: 1,
            },
            String::new(),
        )
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn look(asked_at: u64, caught_up: u64, lag_bytes: u64) -> Look {
        Look {
            asked_at: at(asked_at),
            caught_up: at(caught_up),
            lag_bytes,
            took: Duration::from_micros(100),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_is_read_from_while_what_it_has_is_young_enough() {
        let node = node();
        assert_eq!(node.objection(SECOND, at(5000)), Some(Objection::Unknown));
        node.looked(&look(5010, 5000, 7), 10);
        assert_eq!(node.objection(SECOND, at(5900)), None);
        assert_eq!(
            node.objection(SECOND, at(6001)),
            Some(Objection::Lag),
            "nobody has said since that it follows"
        );
        node.looked(&look(6010, 5000, 11), 10);
        assert_eq!(node.objection(SECOND, at(5900)), Some(Objection::Bytes));
    }

    #[test]
    fn what_a_node_has_never_grows_less_before_it_is_another_source() {
        let node = node();
        node.looked(&look(20, 10, 0), 10);
        let source = node.source();
        node.looked(&look(30, 5, 0), 10);
        assert_eq!((node.caught_up(), node.source()), (at(10), source));
        node.renew(Objection::Link);
        assert_eq!(node.caught_up(), Instant::ZERO);
        assert_ne!(node.source(), source);
        assert_eq!(node.objection(SECOND, at(20)), Some(Objection::Link));
    }

    #[test]
    fn how_long_it_takes_is_an_average_of_late() {
        let node = node();
        assert_eq!(node.latency(), Duration::ZERO);
        node.answered(Duration::from_micros(800));
        node.answered(Duration::from_micros(1600));
        assert_eq!(node.latency(), Duration::from_micros(900));
    }
}
