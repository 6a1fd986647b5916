//! The limit of open files: every client is one, and so is every connection to the server.

use nearhit::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, logs, runtimes, shared connections: files that are nobody's in particular. Chosen, not measured.
const OTHERS: u64 = 200;

/// Raises the process's limit so far that all clients the settings allow find room, as Redis does, or says how many do.
pub(super) fn make_room(config: &Config) {
    let wanted = config.server.max_clients as u64 + config.upstream.pinned_max as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(limit.maximum.map_or(wanted, |most| wanted.min(most))),
        ..limit
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "fewer files may be open than server.max_clients and upstream.pinned_max need; raise the limit (ulimit -n, LimitNOFILE) or lower them"
        );
    }
}
