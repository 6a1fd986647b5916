//! What clients see of the server behind nearhit: one primary without replicas and without a cluster, so that no client
//! looks for other servers and goes there past nearhit.

use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;

use super::answers::text_reply;
use super::context::{Settings, Shared};
use super::session::Core;
use crate::config::PresentAs;
use crate::resp::{Request, Value, Version, encode};

/// What a server without a cluster says to every command about one.
const NO_CLUSTER: &[u8] = b"ERR This instance has cluster support disabled";

/// Whether a command is about a cluster and nothing else.
pub(super) fn is_about_cluster(name: &str) -> bool {
    name.starts_with("cluster|") || matches!(name, "readonly" | "readwrite" | "asking")
}

/// What the server is asked in the place of a command about a cluster that clients are not to know of: a server without
/// one says so itself, and one that has one must not do as it was told. Either says who may ask.
pub(super) fn cluster_question(shared: &Shared, request: &Request<'_>) -> Vec<u8> {
    // Relaxed: until the server is known, the harmless question is the right one.
    if shared.common.is_alone.load(Ordering::Relaxed) {
        return request.frame().to_vec();
    }
    let mut frame = Vec::new();
    if request.name().eq_ignore_ascii_case(b"cluster") {
        encode::request(&mut frame, [b"CLUSTER".as_slice(), b"INFO"]);
    } else {
        // Of the three that change the connection, the one that changes nothing about a connection as it begins.
        encode::request(&mut frame, [b"READWRITE".as_slice()]);
    }
    frame
}

/// What becomes of the answer to that question.
pub(super) fn no_cluster() -> Vec<u8> {
    let mut reply = Vec::new();
    encode::error(&mut reply, NO_CLUSTER);
    reply
}

/// The last answer to INFO, so that tools go on working while the server does not answer.
#[derive(Debug, Default)]
pub struct LastInfo(ArcSwapOption<Known>);

#[derive(Debug)]
struct Known {
    /// As whom it was asked: nobody else is shown it.
    identity: u64,
    text: String,
}

impl LastInfo {
    /// The server has answered INFO to a connection of this identity.
    pub fn remember(&self, identity: u64, text: String) {
        self.0.store(Some(Known { identity, text }.into()));
    }
}

/// What an INFO asks for.
#[derive(Debug)]
pub(super) struct Info {
    /// In lower case; none means all.
    sections: Vec<String>,
    /// nearhit's own section goes behind the server's.
    own: bool,
}

impl Info {
    pub(super) fn of(request: &Request<'_>, settings: &Settings) -> Self {
        let mut sections: Vec<String> = request
            .args_from(1)
            .map(|section| String::from_utf8_lossy(section).to_lowercase())
            .collect();
        let own = sections.iter().any(|section| section == "proxy");
        let is_all = |section: &String| matches!(section.as_str(), "default" | "all" | "everything");
        if sections.iter().any(is_all) {
            sections.clear();
        }
        Self {
            own: settings.info_section && (own || sections.is_empty()),
            sections,
        }
    }

    /// The server's text as the client is to read it.
    pub(super) fn apply(&self, shared: &Shared, core: &Core, frame: &[u8]) -> Option<Vec<u8>> {
        let text = Value::decode(frame, core.version).ok()?;
        let text = String::from_utf8_lossy(text.as_bytes()?).into_owned();
        let shown = self.shown(shared, &text, self.own, "");
        if self.sections.is_empty() {
            let identity = core.account.identity().number();
            shared.common.last_info.remember(identity, text);
        }
        Some(text_reply(core.version, &shown))
    }

    /// The last known text, which says that it is no more than that.
    pub(super) fn last_known(&self, shared: &Shared, core: &Core) -> Option<Vec<u8>> {
        let known = shared.common.last_info.0.load_full()?;
        if known.identity != core.account.identity().number() {
            return None;
        }
        shared.metrics.info_stale.inc();
        let text = match self.sections.is_empty() {
            true => known.text.clone(),
            false => self.cut(&known.text),
        };
        Some(text_reply(core.version, &self.shown(shared, &text, true, "down")))
    }

    /// The sections that are asked for, of a text that has all.
    fn cut(&self, text: &str) -> String {
        let wanted = |section: &&str| {
            let name = section.lines().next().unwrap_or_default().trim_start_matches("# ");
            self.sections.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let sections: Vec<&str> = text.split("\r\n\r\n").filter(wanted).map(str::trim_end).collect();
        match sections.is_empty() {
            true => String::new(),
            false => sections.join("\r\n\r\n") + "\r\n",
        }
    }

    /// `state`: what nearhit's section says about the server, unless it is empty.
    fn shown(&self, shared: &Shared, text: &str, own: bool, state: &str) -> String {
        let mut shown = match shared.settings.present_as {
            PresentAs::Standalone => standalone(text),
            PresentAs::Transparent => text.to_owned(),
        };
        if own && let Some(admin) = shared.admin.get() {
            if !shown.is_empty() {
                shown.push_str("\r\n");
            }
            let section = admin.info_section();
            match state {
                "" => shown.push_str(&section),
                // What the prober found a moment ago may be older than what this request met.
                state => shown.push_str(&section.replace("_upstream_state:up", &format!("_upstream_state:{state}"))),
            }
        }
        shown
    }
}

/// INFO's text of a server that stands alone.
fn standalone(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut section = "";
    for line in text.split_inclusive("\r\n") {
        let (name, value) = line.trim_end().split_once(':').unwrap_or((line.trim_end(), ""));
        if name.starts_with("# ") {
            section = name;
        }
        match (section, name) {
            ("# Server", "redis_mode") => shown.push_str("redis_mode:standalone\r\n"),
            ("# Cluster", "cluster_enabled") => shown.push_str("cluster_enabled:0\r\n"),
            ("# Replication", "role") => shown.push_str("role:master\r\n"),
            ("# Replication", "connected_slaves") => shown.push_str("connected_slaves:0\r\n"),
            ("# Replication", name) if is_about_others(name, value) => {}
            _ => shown.push_str(line),
        }
    }
    shown
}

/// Whether a line of `# Replication` is about a replica, or about being one.
fn is_about_others(name: &str, value: &str) -> bool {
    const ABOUT_ITSELF: [&str; 4] = [
        "master_failover_state",
        "master_replid",
        "master_replid2",
        "master_repl_offset",
    ];
    let named = ["slave", "master_", "replica_"]
        .iter()
        .any(|start| name.starts_with(start));
    named && !value.is_empty() && !ABOUT_ITSELF.contains(&name)
}

/// ROLE of a server that stands alone, as far as it got with writing.
pub(super) fn role(version: Version, frame: &[u8]) -> Option<Vec<u8>> {
    let role = Value::decode(frame, version).ok()?;
    let offset = match role.as_values()? {
        [_, offset @ Value::Integer(_), ..] | [_, _, _, _, offset @ Value::Integer(_), ..] => offset.clone(),
        _ => Value::Integer(0),
    };
    let offset = offset.as_integer().map_or(0, |offset| offset.max(0));
    let mut reply = Vec::new();
    let alone = Value::Array(vec![
        Value::bulk("master"),
        Value::Integer(offset),
        Value::Array(Vec::new()),
    ]);
    alone.encode(version, &mut reply);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_looks_like_a_primary_that_is_alone() {
        let replica = "# Server\r\nredis_mode:cluster\r\n\r\n# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\n\
                       master_port:6379\r\nslave_repl_offset:9\r\nslave_priority:100\r\nreplica_announced:1\r\n\
                       connected_slaves:2\r\nslave0:ip=10.0.0.2,port=1\r\nmaster_failover_state:no-failover\r\n\
                       master_replid:7c90\r\nmaster_repl_offset:9\r\nrepl_backlog_active:1\r\n\r\n# CPU\r\nslave:x\r\n\
                       \r\n# Cluster\r\ncluster_enabled:1\r\n";
        let alone = "# Server\r\nredis_mode:standalone\r\n\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\
                     master_failover_state:no-failover\r\nmaster_replid:7c90\r\nmaster_repl_offset:9\r\n\
                     repl_backlog_active:1\r\n\r\n# CPU\r\nslave:x\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n";
        assert_eq!(standalone(replica), alone);
        assert_eq!(standalone(alone), alone);
    }

    #[test]
    fn every_role_becomes_that_of_a_primary_without_replicas() {
        for (role_of, alone) in [
            (
                "*3\r\n$6\r\nmaster\r\n:7\r\n*1\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n7\r\n",
                7,
            ),
            ("*5\r\n$5\r\nslave\r\n$1\r\na\r\n:1\r\n$9\r\nconnected\r\n:5\r\n", 5),
            ("*5\r\n$5\r\nslave\r\n$1\r\na\r\n:1\r\n$9\r\nhandshake\r\n:-1\r\n", 0),
            ("*2\r\n$8\r\nsentinel\r\n*0\r\n", 0),
        ] {
            let shown = role(Version::V2, role_of.as_bytes()).unwrap();
            assert_eq!(
                String::from_utf8(shown).unwrap(),
                format!("*3\r\n$6\r\nmaster\r\n:{alone}\r\n*0\r\n")
            );
        }
    }

    #[test]
    fn sections_are_cut_out_of_a_whole_text() {
        let text = "# Server\r\na:1\r\n\r\n# CPU\r\nb:2\r\n\r\n# Keyspace\r\nc:3\r\n";
        let cut = |names: &[&str]| {
            let sections = names.iter().map(|name| (*name).to_owned()).collect();
            Info { sections, own: false }.cut(text)
        };
        assert_eq!(
            cut(&["keyspace", "server"]),
            "# Server\r\na:1\r\n\r\n# Keyspace\r\nc:3\r\n"
        );
        assert_eq!(cut(&["proxy"]), "");
    }
}
