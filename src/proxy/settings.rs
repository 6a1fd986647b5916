//! What the settings mean to each part of the proxy.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::coherence::Limits;
use crate::config::{Address, Admission, CacheMode, Config, InvalidationMode, PartitionBy, Reads};
use crate::discovery::{Discovery, Hurry};
use crate::downstream::{AccountSettings, Partitions, Settings};
use crate::resp::Version;
use crate::tls::ClientTls;
use crate::topology::{Routing, Rules};
use crate::tracking::{Ladder, Source};
use crate::upstream::{Handshake, Identity, PoolSettings, Resolver};

/// Where invalidations may come from; no source at all means that nothing is cached.
pub(super) fn ladder(config: &Config) -> Ladder {
    let invalidation = &config.invalidation;
    let auto = [
        (Source::Tracking, true),
        (Source::Redirect, true),
        (Source::Broadcast, !invalidation.prefixes.is_empty()),
        (Source::Keyspace, true),
        (Source::Age, !invalidation.fallback_ttl.is_zero()),
    ];
    let sources = match invalidation.mode {
        _ if config.cache.mode == CacheMode::Off => vec![],
        InvalidationMode::Auto => auto
            .into_iter()
            .filter_map(|(source, may)| may.then_some(source))
            .collect(),
        InvalidationMode::Tracking => vec![Source::Tracking],
        InvalidationMode::Redirect => vec![Source::Redirect],
        InvalidationMode::Broadcast => vec![Source::Broadcast],
        InvalidationMode::Keyspace => vec![Source::Keyspace],
        InvalidationMode::Ttl => vec![Source::Age],
        InvalidationMode::Off => vec![],
    };
    // Random, so that no two nearhits take each other's canary for their own.
    let id = RandomState::new().build_hasher().finish();
    let canary = invalidation.canary_key.replace("{id}", &format!("{id:016x}"));
    Ladder {
        sources,
        prefixes: invalidation
            .prefixes
            .iter()
            .map(|prefix| prefix.as_bytes().into())
            .collect(),
        keyspace_ttl: invalidation.keyspace_ttl,
        fallback_ttl: invalidation.fallback_ttl,
        canary_key: canary.into_bytes().into(),
        canary_interval: (!invalidation.canary_interval.is_zero()).then_some(invalidation.canary_interval),
    }
}

/// How reads are routed, where there may be more than one node.
pub(super) fn routing(config: &Config) -> Option<Arc<Routing>> {
    let routing = &config.routing;
    let by_policy = config.policies.iter().any(|policy| policy.reads.is_some());
    let rules = Rules {
        reads: routing.reads,
        max_lag: routing.replica_max_lag,
        max_lag_bytes: routing.replica_max_lag_bytes.bytes(),
        stale_reads: routing.stale_reads,
        zone: routing.zone.clone(),
    };
    (by_policy || routing.reads != Reads::Master).then(|| Arc::new(Routing::new(rules, &config.policies)))
}

/// How nodes are connected to.
pub(super) struct Dialing {
    /// `None`: in the clear.
    pub(super) tls: Option<ClientTls>,
    /// Who says where host names lead.
    pub(super) resolver: Resolver,
}

pub(super) fn discovery(config: &Config, dialing: &Dialing, find_replicas: bool, doubt: Arc<Hurry>) -> Discovery {
    let upstream = &config.upstream;
    Discovery {
        place: upstream.url.place.clone(),
        tls: dialing.tls.clone(),
        identity: Identity::new(upstream.credentials()),
        sentinel_identity: Identity::new(config.sentinel.credentials()),
        client_name: upstream.client_name.to_string(),
        timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        find_replicas,
        addresses: config.routing.addresses_by_announced(),
        doubt,
        resolver: dialing.resolver.clone(),
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let cache = &config.cache;
    Limits {
        max_bytes: cache.max_memory.bytes(),
        max_entry: cache.max_entry.as_usize(),
        compress_above: match cache.compress_above.as_usize() {
            0 => usize::MAX,
            above => above,
        },
        max_entry_ttl: if cache.max_entry_ttl.is_zero() {
            Duration::MAX
        } else {
            cache.max_entry_ttl
        },
        // Of a key that is created where its slot goes, nobody hears.
        negative_ttl: match config.upstream.url.is_cluster() {
            true => cache.negative_ttl.min(config.invalidation.max_staleness),
            false => cache.negative_ttl,
        },
        hash_ttl: cache.hash_max_ttl,
        max_staleness: config.invalidation.max_staleness,
        admit_always: cache.admission == Admission::Always,
        admission_window: cache.admission_window,
        eviction: cache.eviction,
        cluster: config.upstream.url.is_cluster(),
    }
}

pub(super) fn settings(config: &Config, caching: bool) -> Settings {
    // Zero says "never" in the settings.
    let limited = |timeout: Duration| (!timeout.is_zero()).then_some(timeout);
    Settings {
        limits: config.server.limits.clone(),
        idle_timeout: limited(config.server.idle_timeout),
        auth_timeout: limited(config.server.auth_timeout),
        command_timeout: limited(config.upstream.command_timeout),
        caching,
        shadow: caching && config.cache.mode == CacheMode::Shadow,
        strict_sessions: config.cache.strict_sessions,
        db: config.upstream.url.db,
        upstream: config.upstream.url.name(),
        info_section: config.facade.info_section,
        admin_command: config.facade.admin_command.to_lowercase(),
        monitor: config.facade.monitor,
        present_as: config.facade.present_as,
        pubsub: config.pubsub.clone(),
        fence_hold: config.invalidation.fence_hold,
        split_writes: config.routing.split_writes,
    }
}

pub(super) fn account_settings(config: &Config, partitions: Option<Box<dyn Partitions>>) -> AccountSettings {
    AccountSettings {
        own: config.upstream.credentials(),
        require_auth: config.server.require_auth,
        by_user: config.cache.partition_by == PartitionBy::User,
        idle_timeout: config.upstream.idle_identity_timeout,
        partitions,
        cluster: config.upstream.url.is_cluster(),
    }
}

/// What connections say. Where they go is known once discovery has found the master.
pub(super) fn handshake(config: &Config, dialing: &Dialing, identity: &Identity) -> Handshake {
    let upstream = &config.upstream;
    Handshake {
        address: Address::nowhere(),
        tls: dialing.tls.clone(),
        identity: identity.clone(),
        version: Version::V3,
        db: upstream.url.db,
        client_name: upstream.client_name.to_string(),
        timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        reads_replica: false,
        resolver: dialing.resolver.clone(),
    }
}

pub(super) fn pool_settings(config: &Config, dialing: &Dialing) -> PoolSettings {
    let upstream = &config.upstream;
    PoolSettings {
        address: None,
        tls: dialing.tls.clone(),
        client_name: upstream.client_name.to_string(),
        connect_timeout: upstream.connect_timeout,
        max_reply_depth: config.server.limits.max_reply_depth,
        pinned_max: upstream.pinned_max as u64,
        connect_rate: upstream.connect_rate as u64,
        idle_timeout: upstream.idle_identity_timeout,
        keeps_requests: !matches!(upstream.url.nodes(), Some([_])),
        reads_replica: false,
        resolver: dialing.resolver.clone(),
    }
}
