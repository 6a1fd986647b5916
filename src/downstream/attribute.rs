//! Where an answer came from, for clients that ask (`PROXY ATTRIBUTES ON`): a RESP3 attribute in front of each reply to
//! a cacheable read. Not every client that speaks RESP3 knows attributes, though the protocol has them: redis-rs skips
//! them, redis-cli 7.0 and redis-py 8.1 take them for an error. So they are for connections made to look at this.
//!
//! ```text
//! |1 nearhit → %4 source: hit | coalesced | fetch | upstream | replica · age_ms · node · why: the reason it was not cached
//! ```

use std::time::Duration;

use super::request::Turn;
use super::session::Core;
use crate::coherence::{Lookup, Sight};
use crate::metrics::{Bypass, Label};
use crate::resp::{Value, Version};

/// Where an answer came from, and how old it is, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Memory; of several keys nobody says which.
    Hit(Option<Duration>),
    /// A fetch that another request had started.
    Coalesced,
    /// A fetch for memory, started by this request.
    Fetch,
    /// The server, over the client's own way to it, and why; `None`: a fetch was sent home.
    Upstream(Option<Bypass>),
    /// A replica.
    Replica,
}

impl Source {
    /// Appends the attribute of an answer from `node`.
    fn write(self, node: &str, out: &mut Vec<u8>) {
        let now = Some(Duration::ZERO);
        let (source, age, why) = match self {
            Self::Hit(age) => ("hit", age, None),
            Self::Coalesced => ("coalesced", None, None),
            Self::Fetch => ("fetch", now, None),
            Self::Replica => ("replica", None, None),
            Self::Upstream(why) => ("upstream", now, Some(why.map_or("fetch_failed", Label::value))),
        };
        let text = |text: &str| Value::bulk(text.to_owned());
        let millis = |age: Duration| Value::Integer(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let pairs = vec![
            (text("source"), text(source)),
            (text("age_ms"), age.map_or(Value::Null, millis)),
            (text("node"), text(node)),
            (text("why"), why.map_or(Value::Null, text)),
        ];
        out.extend_from_slice(b"|1\r\n+nearhit\r\n");
        Value::Map(pairs).encode(Version::V3, out);
    }
}

impl Core {
    /// The attribute of an answer; `None`: the session has not asked for it.
    pub(super) fn attribute(&self, source: Source, node: &str) -> Option<Box<[u8]>> {
        if !self.attributes.get() || self.version != Version::V3 {
            return None;
        }
        let mut attribute = Vec::new();
        source.write(node, &mut attribute);
        Some(attribute.into())
    }
}

impl Turn<'_> {
    /// Has the reply to the request in hand told where it comes from, when the server has given it.
    pub(super) fn tell(&mut self, why: Bypass) {
        self.attribute = self.core.attribute(Source::Upstream(Some(why)), self.upstream_name());
    }

    /// The server's address.
    pub(super) fn upstream_name(&self) -> &str {
        &self.context.shared.settings.upstream
    }
}

/// Puts the attribute of a hit in front of its answer, which begins at `start`.
#[cold]
pub(super) fn before_hit(out: &mut Vec<u8>, start: usize, lookup: &Lookup, sight: &Sight, node: &str) {
    if let Lookup::Hit { fetched_at, .. } = lookup {
        let mut attribute = Vec::new();
        Source::Hit(Some(sight.now().since(*fetched_at))).write(node, &mut attribute);
        out.splice(start..start, attribute);
    }
}
