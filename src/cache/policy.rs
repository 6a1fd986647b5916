//! The policies of the configuration, compiled: which keys may be cached, for how long, up to which size.

use std::time::Duration;

use crate::config::Policy;
use crate::resp::Glob;

/// What applies to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which policy matched, counted from one in the order of the configuration; 0 for keys no policy matches.
    pub number: usize,
    /// Name of the policy that matched; `None` for keys no policy matches.
    pub policy: Option<String>,
    /// Its replies are never stored.
    pub forbidden: bool,
    /// Longest life of an entry; `None`: the cache's own bound.
    pub ttl: Option<Duration>,
    /// Largest reply in bytes; `None`: the cache's own bound.
    pub max_entry: Option<usize>,
    /// Numbers of the commands whose replies may be stored; `None`: all cacheable ones.
    pub commands: Option<Box<[u16]>>,
    /// Fields of its hashes may expire on their own.
    pub hash_field_ttl: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            number: 0,
            policy: None,
            forbidden: false,
            ttl: None,
            max_entry: None,
            commands: None,
            hash_field_ttl: true,
        }
    }
}

impl Terms {
    /// Whether replies of this command may be stored.
    pub fn allows(&self, command: u16) -> bool {
        !self.forbidden
            && self
                .commands
                .as_ref()
                .is_none_or(|commands| commands.contains(&command))
    }
}

/// All policies, in the order of the configuration: the first that matches counts.
#[derive(Default)]
pub struct Policies {
    compiled: Vec<(Glob, Terms)>,
    otherwise: Terms,
}

impl Policies {
    /// Compiles `policies`; `command` gives a command's number by its name. A name it does not know matches no command.
    pub fn new(policies: &[Policy], command: impl Fn(&str) -> Option<u16>) -> Self {
        let compiled = policies.iter().enumerate().map(|(index, policy)| {
            let terms = Terms {
                number: index + 1,
                policy: Some(policy.name.clone()),
                forbidden: !policy.cache,
                ttl: policy.ttl,
                max_entry: policy
                    .max_entry
                    .map(|size| usize::try_from(size.bytes()).unwrap_or(usize::MAX)),
                commands: policy
                    .commands
                    .as_ref()
                    .map(|names| names.iter().filter_map(|name| command(name)).collect()),
                hash_field_ttl: policy.hash_field_ttl,
            };
            (Glob::new(policy.pattern.as_bytes()), terms)
        });
        Self {
            compiled: compiled.collect(),
            otherwise: Terms::default(),
        }
    }

    /// What applies to `key`.
    pub fn terms(&self, key: &[u8]) -> &Terms {
        self.compiled
            .iter()
            .find(|(glob, _)| glob.matches(key))
            .map_or(&self.otherwise, |(_, terms)| terms)
    }

    /// The largest reply any policy stores, given the cache's own bound.
    pub fn largest_entry(&self, own: usize) -> usize {
        self.compiled
            .iter()
            .filter_map(|(_, terms)| terms.max_entry)
            .fold(own, usize::max)
    }
}
