//! What is checked once all layers are read: each setting's range, and what settings say together.

use super::error::{Code, ConfigError, Invalid, Place, tls_key};
use super::reader::Places;
use super::row::rows;
use super::upstream::pair;
use super::url;
use super::{ByteSize, Config, InvalidationMode, Listen, UpstreamTls};

/// Every problem of the effective settings.
pub(super) fn all(config: &Config, places: &Places) -> Vec<ConfigError> {
    let mut found = Found {
        places,
        errors: Vec::new(),
    };
    for row in rows() {
        if let Err(invalid) = (row.check)(config) {
            found.add(&[row.key], invalid);
        }
    }
    listeners(config, &mut found);
    protection(config, &mut found);
    credentials(config, &mut found);
    tls(config, &mut found);
    sizes(config, &mut found);
    policies(config, &mut found);
    invalidation(config, &mut found);
    routing(config, &mut found);
    found.errors
}

struct Found<'a> {
    places: &'a Places,
    errors: Vec<ConfigError>,
}

impl Found<'_> {
    /// Blames the first of `keys` that somebody set; the first when nobody did.
    fn add<K: AsRef<str>>(&mut self, keys: &[K], invalid: Invalid) {
        let set = keys.iter().find_map(|key| self.places.get_key_value(key.as_ref()));
        let (key, place) = match set {
            Some((key, place)) => (key.clone(), place.clone()),
            None => (
                keys.first().map(|key| key.as_ref().to_owned()).unwrap_or_default(),
                Place::Code,
            ),
        };
        self.errors.push(ConfigError { key, place, invalid });
    }

    fn conflict<K: AsRef<str>>(&mut self, keys: &[K], message: impl Into<String>, expected: impl Into<String>) {
        self.add(keys, Invalid::new(Code::Conflict, message, expected));
    }
}

fn listeners(config: &Config, found: &mut Found<'_>) {
    let listeners = &config.server.listen;
    if listeners.is_empty() {
        let invalid = Invalid::new(Code::Missing, "there is no address to listen on", "at least one");
        found.add(&["server.listen"], invalid);
    }
    for (index, listener) in listeners.iter().enumerate() {
        let free = matches!(listener, Listen::Tcp(address) if address.port() == 0);
        let twice = !free && listeners.iter().take(index).any(|other| same_listener(other, listener));
        if twice {
            found.conflict(
                &[format!("server.listen[{index}]")],
                format!("{listener} is listed twice"),
                "each address once",
            );
        }
        if !free && matches!((listener, config.metrics.listen), (Listen::Tcp(one), Some(other)) if *one == other) {
            found.conflict(
                &["metrics.listen", "server.listen"],
                format!("{listener} is an address of server.listen and of metrics.listen"),
                "another address or port",
            );
        }
    }
}

fn routing(config: &Config, found: &mut Found<'_>) {
    let routing = &config.routing;
    for (index, entry) in routing.zones.iter().enumerate() {
        let what = "a node and its zone, such as \"10.0.0.2:6379=eu-1a\"";
        let readable = pair(entry).is_some_and(|(node, _)| url::node(node).is_ok());
        if !readable {
            let keys = [format!("routing.zones[{index}]"), "routing.zones".to_owned()];
            found.add(&keys, Invalid::value(format!("'{entry}' is no zone of a node"), what));
        }
    }
    let known = routing.addresses_by_announced();
    for (index, entry) in routing.addresses.iter().enumerate() {
        let what = "two addresses, such as \"172.17.0.2:6379=10.0.0.2:7001\"";
        let reached = pair(entry).and_then(|(announced, reached)| url::node(announced).and(url::node(reached)).ok());
        let keys = [format!("routing.addresses[{index}]"), "routing.addresses".to_owned()];
        match reached {
            None => found.add(
                &keys,
                Invalid::value(format!("'{entry}' does not say where a node is reached"), what),
            ),
            Some(reached) if known.get(&reached).is_some_and(|other| *other != reached) => found.conflict(
                &keys,
                format!("{reached} is where one node is reached and where another is announced"),
                "addresses of which none stands on both sides",
            ),
            Some(_) => {}
        }
    }
}

/// Whoever can connect could read everything: the default that Redis' protected mode gives. A Unix socket is protected
/// by its permissions.
fn protection(config: &Config, found: &mut Found<'_>) {
    if config.server.allow_unprotected || config.server.require_auth {
        return;
    }
    for (index, listener) in config.server.listen.iter().enumerate() {
        if matches!(listener, Listen::Tcp(address) if !address.ip().to_canonical().is_loopback()) {
            let invalid = Invalid::new(
                Code::Unprotected,
                format!("other machines can reach {listener}, and nobody is asked who they are"),
                "an address of this machine only (127.0.0.1, [::1]) or a Unix socket",
            )
            .help(
                "set server.require_auth = true, or server.allow_unprotected = true if a firewall or a container's network lets in only those who may",
            );
            found.add(
                &[format!("server.listen[{index}]"), "server.listen".to_owned()],
                invalid,
            );
        }
    }
}

fn same_listener(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix { path: one, .. }, Listen::Unix { path: other, .. }) => one == other,
        _ => one == other,
    }
}

fn credentials(config: &Config, found: &mut Found<'_>) {
    let upstream = &config.upstream;
    let separate = !upstream.username.is_empty() || !upstream.password.is_empty();
    if upstream.url.has_credentials() && separate {
        found.conflict(
            &["upstream.url"],
            "user or password stand both in the URL and in upstream.username, password or password_file",
            "them in one place",
        );
    }
}

/// Files are read here too, so that `nearhit check` says what is wrong with them.
fn tls(config: &Config, found: &mut Found<'_>) {
    let (upstream, defaults) = (&config.upstream, UpstreamTls::default());
    if upstream.url.tls {
        for wrong in upstream.tls.load().err().into_iter().flatten() {
            found.add(&[tls_key(&wrong)], wrong.into());
        }
        return;
    }
    let tls = &upstream.tls;
    let set = [
        ("ca_file", tls.ca_file != defaults.ca_file),
        ("cert_file", tls.cert_file != defaults.cert_file),
        ("key_file", tls.key_file != defaults.key_file),
        ("server_name", tls.server_name != defaults.server_name),
        ("insecure_skip_verify", tls.insecure_skip_verify),
    ];
    // Whoever wrote it believes that nobody can read what is on the way.
    if let Some((name, _)) = set.iter().find(|(_, is_set)| *is_set) {
        let invalid = Invalid::new(
            Code::Conflict,
            format!("upstream.tls.{name} is of no use: upstream.url says nothing of TLS"),
            "upstream.url to begin with rediss:// (or rediss+sentinel://, rediss+cluster://)",
        );
        let keys = [format!("upstream.tls.{name}"), "upstream.url".to_owned()];
        found.add(
            &keys,
            invalid.help("leave [upstream.tls] out if the server is to be spoken to in the clear"),
        );
    }
}

fn sizes(config: &Config, found: &mut Found<'_>) {
    let cache = &config.cache;
    if cache.max_entry > cache.max_memory {
        found.conflict(
            &["cache.max_entry", "cache.max_memory"],
            format!(
                "cache.max_entry ({}) is larger than cache.max_memory ({})",
                cache.max_entry, cache.max_memory
            ),
            format!("cache.max_entry to be at most {}", cache.max_memory),
        );
    }
    let limits = &config.server.limits;
    for (key, size) in [("max_bulk", limits.max_bulk), ("max_inline", limits.max_inline)] {
        if size > limits.client_query_buffer {
            found.conflict(
                &[
                    format!("server.limits.{key}"),
                    "server.limits.client_query_buffer".to_owned(),
                ],
                format!(
                    "such a request ({key} {size}) would not fit into client_query_buffer ({})",
                    limits.client_query_buffer
                ),
                format!("{key} to be at most {}", limits.client_query_buffer),
            );
        }
    }
}

fn invalidation(config: &Config, found: &mut Found<'_>) {
    let invalidation = &config.invalidation;
    let mut missing = |mode, key: &str, lacks: bool, expected: &str| {
        if invalidation.mode == mode && lacks {
            found.conflict(
                &["invalidation.mode", key],
                format!("mode {mode} caches nothing without {key}"),
                expected,
            );
        }
    };
    let no_prefix = invalidation.prefixes.is_empty();
    missing(
        InvalidationMode::Broadcast,
        "invalidation.prefixes",
        no_prefix,
        "at least one prefix",
    );
    missing(
        InvalidationMode::Ttl,
        "invalidation.fallback_ttl",
        invalidation.fallback_ttl.is_zero(),
        "more than 0s, such as 500ms",
    );
    for (index, prefix) in invalidation.prefixes.iter().enumerate() {
        let mut before = invalidation.prefixes.iter().take(index);
        if let Some(other) = before.find(|other| prefix.starts_with(*other) || other.starts_with(prefix)) {
            found.conflict(
                &[
                    format!("invalidation.prefixes[{index}]"),
                    "invalidation.prefixes".to_owned(),
                ],
                format!("one of \"{other}\" and \"{prefix}\" covers the other; Redis refuses that"),
                "prefixes of which none is the beginning of another",
            );
        }
    }
    if invalidation.canary_key.is_empty() {
        found.conflict(
            &["invalidation.canary_key"],
            "a key without a name",
            "a name that nobody uses",
        );
    }
}

fn policies(config: &Config, found: &mut Found<'_>) {
    let max_memory = config.cache.max_memory;
    for (index, policy) in config.policies.iter().enumerate() {
        let key = |name: &str| format!("policy[{index}].{name}");
        if config
            .policies
            .iter()
            .take(index)
            .any(|other| other.name == policy.name && !policy.name.is_empty())
        {
            found.conflict(
                &[key("name")],
                format!("there is another policy called \"{}\"", policy.name),
                "a name of its own",
            );
        }
        if policy.ttl.is_some_and(|ttl| ttl.is_zero()) {
            let invalid = Invalid::new(
                Code::OutOfRange,
                "entries that live for 0s are no entries",
                "more than 0s",
            );
            found.add(&[key("ttl")], invalid.help("write cache = false to cache nothing"));
        }
        if let Some(size) = policy
            .max_entry
            .filter(|size| *size > max_memory || *size == ByteSize::default())
        {
            let invalid = Invalid::new(
                Code::OutOfRange,
                format!("{size} is out of range"),
                format!("1 to {max_memory} (cache.max_memory)"),
            );
            found.add(&[key("max_entry")], invalid);
        }
        if policy.commands.as_ref().is_some_and(Vec::is_empty) {
            let invalid = Invalid::new(Code::Missing, "the list is empty", "at least one command");
            found.add(
                &[key("commands")],
                invalid.help("leave it out for all commands, or write cache = false for none"),
            );
        }
    }
}
