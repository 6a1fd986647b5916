//! EXPLAIN: what a session would do with a request, told without doing it. It follows the order of decisions of
//! `downstream/`, and reads what they read; only what depends on the session itself (a transaction, requests on their
//! way) is not known here.

use super::console::Call;
use super::keys::{conditions, obstacle};
use super::reply::{Answer, Map, millis};
use super::topology;
use crate::cache::EntryId;
use crate::coherence::{EntryReport, Query};
use crate::command::{Cacheable, Command, Effect, Lookup, Pin, Place, error_text};
use crate::metrics::{Bypass, Label};
use crate::resp::{Arg, Request, Shape, Value, encode};

/// Explains the request behind the verb.
pub(super) fn explain(call: &Call<'_>) -> Result<Value, String> {
    let (frame, args) = inner_frame(call.request);
    let request = Request::new(&frame, &args);
    let table = call.shared.table.load();
    let own = call.console.facts.name.as_bytes();
    let answer = match table.lookup(&request) {
        _ if request.name().eq_ignore_ascii_case(own) => own_command(call),
        // Under another name this row means nothing: the server is asked what it thinks of it.
        Lookup::Known(command) if command.name() != "proxy" => Plan { call, command }.explain(&request),
        Lookup::UnknownSubcommand(_) => unknown(&request, &error_text::unknown_subcommand(&request)),
        Lookup::Known(_) | Lookup::UnknownCommand => unknown(&request, &error_text::unknown_command(&request)),
    };
    Ok(answer.into_value())
}

/// The arguments from the third on, as a request of their own.
fn inner_frame(outer: &Request<'_>) -> (Vec<u8>, Vec<Arg>) {
    let (mut frame, mut args) = (Vec::new(), Vec::new());
    encode::array_header(&mut frame, outer.len().saturating_sub(2));
    for arg in outer.args_from(2) {
        let header = frame.len();
        encode::bulk(&mut frame, arg);
        // Behind an argument stands its line end.
        let end = frame.len() - 2;
        args.push(Arg {
            header,
            start: end - arg.len(),
            end,
        });
    }
    (frame, args)
}

fn own_command(call: &Call<'_>) -> Map {
    Map::default()
        .with("command", call.console.facts.name.to_lowercase())
        .with("known", true)
        .with("place", "local")
        .with("effect", "none")
        .with("answered_by", "proxy")
        .with("reason", "nearhit's own command")
}

fn unknown(request: &Request<'_>, server_says: &[u8]) -> Map {
    let expected = format!(
        "a command nobody told nearhit about: it gets a connection of its own, and until it is answered its client reads \
         nothing from memory; what it changes, the server's invalidations tell; a server that does not know it either says: \
         {}",
        String::from_utf8_lossy(server_says).trim_end()
    );
    Map::default()
        .with("command", request.name())
        .with("known", false)
        .with("place", "pinned")
        .with("effect", effect_word(Effect::Unknown))
        .with("answered_by", "server")
        .with("reason", expected)
}

/// A command with a row, and everything an explanation of it needs.
struct Plan<'a> {
    call: &'a Call<'a>,
    command: &'a Command,
}

/// Who answers, and why.
struct Verdict {
    /// `memory`, `fetch` (the server, and the reply is kept), `server`, `proxy`, or `nobody` (it is refused).
    answered_by: &'static str,
    /// Why the near-cache is passed by, as the metric's label has it.
    bypass: Option<Bypass>,
    reason: String,
    /// The entry that would answer, servable or not.
    entry: Option<EntryReport>,
}

impl Verdict {
    fn by(answered_by: &'static str, reason: impl Into<String>) -> Self {
        Self {
            answered_by,
            bypass: None,
            reason: reason.into(),
            entry: None,
        }
    }

    fn bypass(why: Bypass) -> Self {
        Self {
            bypass: Some(why),
            ..Self::by("server", meaning(why))
        }
    }
}

impl Plan<'_> {
    fn explain(&self, request: &Request<'_>) -> Map {
        let mut keys = Vec::new();
        let keys_told = self
            .command
            .for_each_key(request, |index| keys.push(request.arg(index)))
            .is_ok();
        let effect = if keys_told {
            self.command.effect
        } else {
            Effect::Unknown
        };
        let place = self.command.place(request);
        let verdict = self.verdict(request, place, effect, &keys);
        let policy = keys.first().map(|key| self.call.shared.cache.terms(key));
        let entry = verdict.entry.as_ref();
        let known = self.call.shared.master.now().map(|master| master.to_string());
        let master = || Some(known.unwrap_or_else(|| self.call.console.facts.upstream.clone()));
        let (node, route) = match topology::route(self.call, self.command, effect, &keys) {
            // Memory is filled from the master.
            _ if place != Place::Shared || verdict.answered_by != "server" => (master(), None),
            Some((node, why)) => (node, Some(why)),
            None => (master(), None),
        };
        Map::default()
            .with("command", self.command.name())
            .with("known", true)
            .with("arity_ok", self.command.check_arity(request))
            .with("place", place_word(place))
            .with("effect", effect_word(effect))
            .with("keys", keys)
            .with("cacheable", cacheable_word(self.command.cacheable(request)))
            .with("policy", policy.and_then(|terms| terms.policy.as_deref()))
            .with("cached", entry.is_some_and(|entry| entry.state == "serve"))
            .with("age_ms", entry.map(|entry| millis(entry.age)))
            .with("ttl_ms", entry.map(|entry| millis(entry.left)))
            .with("node", node)
            .with("route", route)
            .with(
                "conditions",
                entry.map(|entry| conditions(&entry.conditions, self.call.shared.cache.limits())),
            )
            .with("answered_by", verdict.answered_by)
            .with("bypass", verdict.bypass.map(Label::value))
            .with("reason", verdict.reason)
    }

    fn verdict(&self, request: &Request<'_>, place: Place, effect: Effect, keys: &[&[u8]]) -> Verdict {
        let wrong = !self.command.check_arity(request);
        match place {
            Place::Refused => Verdict::by(
                "nobody",
                "refused: it would turn the connection into a replication stream",
            ),
            Place::Local if wrong => Verdict::by("proxy", "an error: the number of arguments is wrong"),
            Place::Local => Verdict::by(
                "proxy",
                "it is about nearhit's clients, or about what they see of the server",
            ),
            _ if wrong => Verdict::by(
                "server",
                "the number of arguments is wrong, and the server is left to say so",
            ),
            Place::Pinned(pin) => Verdict::by("server", pin_reason(pin)),
            Place::Shared => self.shared(request, effect, keys),
        }
    }

    /// A command that may share a connection: only here the near-cache has a say.
    fn shared(&self, request: &Request<'_>, effect: Effect, keys: &[&[u8]]) -> Verdict {
        if effect != Effect::Read {
            return Verdict::by("server", effect_reason(effect));
        }
        match self.command.cacheable(request) {
            Cacheable::No => Verdict::by(
                "server",
                "not cacheable: its reply can change without an invalidation of one key",
            ),
            _ if !self.call.shared.settings.caching => Verdict::bypass(Bypass::Disabled),
            Cacheable::Yes => self.in_this_mode(self.single(request)),
            Cacheable::Decomposed => self.in_this_mode(self.many(keys)),
        }
    }

    /// In shadow mode the server answers all the same.
    fn in_this_mode(&self, verdict: Verdict) -> Verdict {
        if !self.call.shared.settings.shadow {
            return verdict;
        }
        let (by, reason) = (verdict.answered_by, verdict.reason);
        Verdict {
            answered_by: "server",
            bypass: Some(Bypass::Shadow),
            reason: format!("{}; otherwise {by} would: {reason}", meaning(Bypass::Shadow)),
            entry: verdict.entry,
        }
    }

    /// A read of one key.
    fn single(&self, request: &Request<'_>) -> Verdict {
        let number = self.command.id().number();
        let entry = self.entry(request.arg(1), number, request.tail(2));
        let hash = self.call.shared.cache.hash(request.arg(1));
        if let Err(why) = self.call.asker.causality.may_look(hash) {
            return Verdict {
                entry,
                ..Verdict::bypass(why)
            };
        }
        if entry.as_ref().is_some_and(|entry| entry.state == "serve") {
            return Verdict {
                entry,
                ..Verdict::by("memory", "cached")
            };
        }
        let verdict = match self.call.would_admit(request.arg(1), number) {
            Ok(()) => match entry.as_ref().and_then(|entry| obstacle(&entry.conditions)) {
                Some(obstacle) => Verdict::by("fetch", format!("cached, but {obstacle}: it is fetched again")),
                None => Verdict::by("fetch", "not cached: it is fetched and kept"),
            },
            Err(why) => Verdict::bypass(why),
        };
        Verdict { entry, ..verdict }
    }

    /// A read of several keys: from memory only as a whole, and then the entry that dies first is shown.
    fn many(&self, keys: &[&[u8]]) -> Verdict {
        let table = self.call.shared.table.load();
        let get = table.by_name("get").map(|get| get.id().number());
        let Some(get) = get else {
            return Verdict::bypass(Bypass::MultiKeyMiss);
        };
        let entries = keys.iter().filter_map(|key| self.entry(key, get, b""));
        let served: Vec<_> = entries.filter(|entry| entry.state == "serve").collect();
        if served.len() < keys.len() {
            let reason = format!("{} of {} keys are cached, and it takes all", served.len(), keys.len());
            return Verdict {
                reason,
                ..Verdict::bypass(Bypass::MultiKeyMiss)
            };
        }
        Verdict {
            entry: served.into_iter().min_by_key(|entry| entry.left),
            ..Verdict::by("memory", "every key's value is cached")
        }
    }

    fn entry(&self, key: &[u8], command: u16, rest: &[u8]) -> Option<EntryReport> {
        let cache = &self.call.shared.cache;
        let account = self.call.asker.account;
        let query = Query {
            hash: cache.hash(key),
            key,
            id: EntryId {
                origin: account.partition(self.call.owner(key))?.origin.number(),
                db: cache.slots().map_or(self.call.asker.db, |slots| slots.life_of(key)),
                command,
                rest,
            },
            shape: Shape::Generic,
            hash_fields: false,
        };
        cache.entry_report(&query, self.call.asker.causality.must_see(), self.call.now)
    }
}

/// What a reason to pass the near-cache by means, for people.
pub(super) fn meaning(why: Bypass) -> &'static str {
    match why {
        Bypass::Pipelined => "an earlier request of the client on this key is still on its way",
        Bypass::SessionState => "nothing is cached for this user: too many users are connected",
        Bypass::Cold => "it was not read before within the admission window, and single reads are not worth memory",
        Bypass::WriteHot => "it is written about as often as it is read, so its last fetches served nobody",
        Bypass::NotLive => "the invalidation stream is not connected",
        Bypass::FlightStale => "the fetch on its way began before something the session has seen",
        Bypass::Policy => "its policy does not allow it",
        Bypass::NotCovered => "no invalidation would come for it: it has none of invalidation.prefixes",
        Bypass::Disabled => "the near-cache is switched off",
        Bypass::Shadow => "the near-cache only says what it would have answered",
        Bypass::TooLarge => "its reply was too large a moment ago",
        Bypass::MultiKeyMiss => "not all of its keys are cached",
        Bypass::UnknownEffects => "a command with unknown effects is on its way",
    }
}

fn place_word(place: Place) -> &'static str {
    match place {
        Place::Local => "local",
        Place::Shared => "shared",
        Place::Pinned(_) => "pinned",
        Place::Refused => "refused",
    }
}

fn pin_reason(pin: Pin) -> &'static str {
    match pin {
        Pin::Transaction => "a connection of the client's own until its transaction is over",
        Pin::Blocking => "a connection of the client's own, because the command may wait",
        Pin::Subscribe => "a connection of the client's own until its last subscription ends",
        Pin::Monitor => "a connection of the client's own, because it becomes a stream of commands",
        Pin::Sticky => "a connection of the client's own, because the command changes what later ones do",
        Pin::Once => "a connection of the client's own for this command, which may hold it up or close it",
    }
}

fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Write => "write",
        Effect::Unknown => "unknown",
        Effect::Admin => "flush",
        Effect::None => "none",
        Effect::KeylessRead => "keyless-read",
    }
}

fn effect_reason(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "it only reads",
        Effect::Write => {
            "it writes: what is cached for its keys is dropped before it is sent and before it is answered"
        }
        Effect::Unknown => "nobody can tell what it writes: its keys are treated as written",
        Effect::Admin => "it may change every key: the near-cache is flushed before and after",
        Effect::None => "it has nothing to do with keys",
        Effect::KeylessRead => "it reads what its arguments do not name",
    }
}

fn cacheable_word(cacheable: Cacheable) -> &'static str {
    match cacheable {
        Cacheable::No => "no",
        Cacheable::Yes => "yes",
        Cacheable::Decomposed => "by-key",
    }
}
