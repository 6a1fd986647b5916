//! What clients see of the server behind nearhit: one primary that is alone, and the last known figures while it is away.

mod session_support;
mod support;

use session_support::{Pair, Twin};
use support::{Nearhit, RedisServer, Reply, SOON, wait_for};

const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";

/// A server of a cluster.
fn cluster_node() -> RedisServer {
    RedisServer::builder().arg("--cluster-enabled", "yes").start()
}

#[test]
fn commands_about_topology_are_answered_as_a_server_that_is_alone_answers_them() {
    let pair = Pair::start();
    let list = [
        "READONLY",
        "READWRITE",
        "ASKING",
        "READONLY x",
        "CLUSTER",
        "CLUSTER INFO",
        "CLUSTER NODES",
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER KEYSLOT a",
        "CLUSTER KEYSLOT",
        "CLUSTER HELP",
        "CLUSTER FOO",
        "CLUSTER MYID",
        "CLUSTER COUNTKEYSINSLOT x",
        "CLUSTER RESET",
        "SENTINEL",
        "SENTINEL masters",
        "SENTINEL get a b c",
        "ROLE x",
        "ROLE",
        "WAITAOF 0 0 0",
        "FAILOVER TO x",
        "REPLICAOF",
        "HELLO",
        "INFO cluster",
    ];
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        twin.table(&list, 1);
        for line in [
            "CLUSTER INFO",
            "READONLY",
            "ROLE",
            "CLUSTER KEYSLOT",
            "CLUSTER FOO",
            "SENTINEL x",
            "INFO cluster",
        ] {
            twin.lines(&["MULTI", "SET k 1", line, "GET k", "EXEC"]);
        }
        twin.line("WATCH k");
        twin.lines(&["ROLE", "CLUSTER INFO", "READONLY", "UNWATCH"]);
    }
    // None of it needs a connection that stays.
    wait_for("no pinned client", SOON, || {
        pair.nearhit.metric("nearhit_clients_pinned", &[]) == 0.0
    });
}

#[test]
fn a_cluster_is_hidden_and_cannot_be_changed() {
    let node = cluster_node();
    let nearhit = Nearhit::serve(&node.url());
    let mut client = nearhit.connect();
    for line in [
        "CLUSTER INFO",
        "CLUSTER ADDSLOTS 1",
        "CLUSTER RESET HARD",
        "READONLY",
        "ASKING",
    ] {
        assert!(client.line(line).is_error_with(NO_CLUSTER), "{line}");
    }
    assert!(
        node.cmd(&["CLUSTER", "INFO"])
            .text()
            .contains("cluster_slots_assigned:0")
    );
    let info = client.line("INFO").text();
    assert!(
        info.contains("redis_mode:standalone\r\n") && info.contains("cluster_enabled:0\r\n"),
        "{info}"
    );
    assert_eq!(
        client.line("HELLO 3").get("mode"),
        Some(Reply::Bulk(b"standalone".to_vec()))
    );
    client.lines_ok(&["MULTI", "CLUSTER INFO", "INFO server"]);
    let parts = client.line("EXEC").items();
    assert!(parts[0].is_error_with(NO_CLUSTER), "{parts:?}");
    assert!(parts[1].text().contains("redis_mode:standalone\r\n"));
}

#[test]
fn a_cluster_is_shown_to_who_wants_to_see_it() {
    let node = cluster_node();
    let nearhit = Nearhit::serve_with(&node.url(), &["--facade.present-as", "transparent"]);
    let mut client = nearhit.connect();
    assert!(client.line("CLUSTER INFO").text().contains("cluster_state:"));
    assert_eq!(client.line("READONLY"), "OK");
    assert!(
        client.line("CLUSTER MYID").text().len() == 40,
        "on the connection that READONLY has changed"
    );
    assert!(client.line("INFO server").text().contains("redis_mode:cluster\r\n"));
    assert_eq!(
        client.line("HELLO 3").get("mode"),
        Some(Reply::Bulk(b"cluster".to_vec()))
    );
}

#[test]
fn replicas_and_primaries_are_hidden() {
    let primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    primary.cmd(&["SET", "k", "v"]);
    for server in [&primary, &replica] {
        let nearhit = Nearhit::serve(&server.url());
        let mut client = nearhit.connect3();
        let info = client.line("INFO replication").text();
        let names: Vec<_> = info.lines().filter_map(|line| line.split_once(':')).collect();
        let shown = |name: &str| names.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        assert_eq!(
            (shown("role"), shown("connected_slaves")),
            (Some("master"), Some("0")),
            "{info}"
        );
        assert!(!info.contains("slave0") && !info.contains("master_host"), "{info}");
        let alone: Vec<_> = RedisServer::start()
            .cmd(&["INFO", "replication"])
            .text()
            .lines()
            .map(name_of)
            .collect();
        assert_eq!(info.lines().map(name_of).collect::<Vec<_>>(), alone);
        let role = wait_for("an offset", SOON, || {
            Some(client.line("ROLE").items()).filter(|role| role[1].int() > 0)
        });
        assert_eq!(role[0], "master");
        assert!(role[2].items().is_empty(), "{role:?}");
        assert_eq!(client.line("HELLO").get("role"), Some(Reply::Bulk(b"master".to_vec())));
        let seen = Nearhit::serve_with(&server.url(), &["--facade.present-as", "transparent"]);
        let info = seen.connect().line("INFO replication").text();
        assert!(info.contains("slave0:") || info.contains("master_host:"), "{info}");
    }
}

fn name_of(line: &str) -> String {
    line.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn info_is_the_servers_but_for_the_section_of_the_proxy() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        for sections in [
            "",
            " server",
            " replication keyspace",
            " all",
            " everything",
            " nosuch",
            " commandstats",
        ] {
            let line = format!("INFO{sections}");
            let names = |text: &str| -> Vec<String> {
                text.lines().map(name_of).filter(|name| same_everywhere(name)).collect()
            };
            let direct = twin.direct.line(&line).text();
            let proxied = twin.proxied.line(&line).text();
            let (servers, own) = proxied.split_once("# Proxy\r\n").unwrap_or((&proxied, ""));
            assert_eq!(names(servers.trim_end()), names(direct.trim_end()), "{line}");
            assert_eq!(
                !own.is_empty(),
                matches!(sections, "" | " all" | " everything"),
                "{line}"
            );
        }
        let only = twin.proxied.line("INFO proxy").text();
        assert!(only.starts_with("# Proxy\r\nproxy_name:nearhit\r\n"), "{only}");
    }
}

/// Statistics of commands differ: nearhit sends its own.
fn same_everywhere(name: &str) -> bool {
    !["cmdstat_", "errorstat_", "latency_percentiles_", "db0"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[test]
fn while_the_server_is_away_info_says_what_it_said_last() {
    let mut redis = RedisServer::start();
    let nearhit = Nearhit::serve_with(&redis.url(), &["--upstream.command-timeout", "300ms"]);
    let mut client = nearhit.connect();
    nearhit.wait_for_stderr("the server is known");
    redis.pause();
    let late = client.line("INFO").text();
    assert!(
        late.contains("redis_version:") && late.contains("proxy_upstream_state:down"),
        "{late}"
    );
    redis.resume();
    wait_for("the server", SOON, || {
        client.line("INFO").text().contains("proxy_upstream_state:up")
    });
    redis.kill9();
    wait_for("it to be missed", SOON, || client.line("PING").is_error());
    for version in ["HELLO 2", "HELLO 3"] {
        client.line(version);
        let info = client.line("INFO").text();
        assert!(
            info.contains("# Keyspace") && info.contains("proxy_upstream_state:down"),
            "{info}"
        );
        let part = client.line("INFO keyspace server").text();
        assert!(part.starts_with("# Server\r\n") && !part.contains("# CPU"), "{part}");
        assert!(client.line("INFO proxy").text().starts_with("# Proxy\r\n"));
    }
    assert!(nearhit.metric("nearhit_info_stale_total", &[]) >= 7.0);
    redis.restart();
    wait_for("the server", SOON, || {
        client.line("INFO").text().contains("proxy_upstream_state:up")
    });
}

/// The last known figures are for who was told them.
#[test]
fn who_has_not_said_the_password_is_told_nothing_while_the_server_is_away() {
    let mut redis = RedisServer::start();
    redis.cmd(&["CONFIG", "SET", "requirepass", "secret"]);
    let nearhit = Nearhit::serve(&redis.url());
    let mut known = nearhit.connect();
    assert_eq!(known.line("AUTH secret"), "OK");
    assert!(known.line("INFO").text().contains("redis_version"));
    redis.kill9();
    wait_for("it to be missed", SOON, || known.line("PING").is_error());
    assert!(nearhit.connect().line("INFO").is_error());
}

/// nearhit's own command stands where the server's stand, and nothing else is different.
#[test]
fn nearhits_command_is_one_of_the_servers() {
    let pair = Pair::start();
    for version in [2, 3] {
        let mut twin = pair.twin_in(version);
        let count = twin.direct.line("COMMAND COUNT").int();
        assert_eq!(twin.proxied.line("COMMAND COUNT"), count + 1);
        for line in ["COMMAND", "COMMAND INFO", "COMMAND LIST", "COMMAND DOCS"] {
            more(&mut twin, line);
        }
        twin.table(
            &[
                "COMMAND INFO get nosuch ping",
                "COMMAND INFO client|id",
                "COMMAND DOCS ping nosuch",
                "COMMAND HELP",
                "COMMAND LIST FILTERBY MODULE x",
                "COMMAND LIST FILTERBY ACLCAT foo",
                "COMMAND LIST FILTERBY",
                "COMMAND LIST FOO",
                "COMMAND FOO",
                "COMMAND GETKEYS MSET a 1 b 2",
                "COMMAND GETKEYS",
                "COMMAND COUNT x",
                "COMMAND GETKEYS NOSUCH a",
                "COMMAND GETKEYS PING x",
                "COMMAND GETKEYSANDFLAGS SET a b",
                "COMMAND LIST FILTERBY PATTERN pin*",
                "COMMAND LIST FILTERBY PATTERN config|g*",
                "COMMAND GETKEYS PING",
            ],
            1,
        );
    }
}

/// The proxied reply names what the direct one names, and nearhit's command.
fn more(twin: &mut Twin, line: &str) {
    let names = |reply: Reply| -> std::collections::BTreeSet<String> {
        let name = |item: &Reply| match item {
            Reply::Array(row) => row[0].text(),
            item => item.text(),
        };
        match &reply {
            Reply::Map(pairs) => pairs.iter().map(|(key, _)| key.text()).collect(),
            _ if line == "COMMAND DOCS" => reply.items().chunks(2).map(|pair| pair[0].text()).collect(),
            _ => reply.items().iter().map(name).collect(),
        }
    };
    let (direct, proxied) = (names(twin.direct.line(line)), names(twin.proxied.line(line)));
    assert!(proxied.is_superset(&direct), "{line}");
    let added: Vec<_> = proxied
        .difference(&direct)
        .filter(|name| !name.starts_with("proxy|"))
        .collect();
    assert_eq!(added, ["proxy"], "{line}");
}

#[test]
fn nearhits_command_is_described_as_the_servers_are() {
    let redis = RedisServer::start();
    let nearhit = Nearhit::serve(&redis.url());
    let mut client = nearhit.connect3();
    let rows = client.line("COMMAND INFO config PROXY nosuch proxy|stats ping").items();
    let own = rows[1].items();
    assert_eq!((&own[0], &own[1]), (&Reply::Bulk(b"proxy".to_vec()), &Reply::Int(-2)));
    let kinds = |row: &[Reply]| row.iter().map(std::mem::discriminant).collect::<Vec<_>>();
    assert_eq!(kinds(&own), kinds(&rows[0].items()), "a command with subcommands");
    assert_eq!(kinds(&rows[3].items()), kinds(&rows[4].items()), "one without");
    assert!(rows[2].is_nil());
    assert_eq!(rows[3].items()[0], "proxy|stats");
    let docs = client.line("COMMAND DOCS ping proxy");
    let own = docs.get("proxy").expect("its docs");
    assert!(docs.get("ping").is_some() && own.get("summary").is_some() && own.get("since").is_some());
    assert!(
        own.get("subcommands")
            .expect("verbs")
            .get("proxy|stats")
            .expect("one")
            .get("summary")
            .is_some()
    );
    assert!(
        client
            .line("COMMAND GETKEYS PROXY STATS")
            .is_error_with("ERR The command has no key arguments")
    );
    for filter in ["PATTERN prox*", "ACLCAT admin", "PATTERN *"] {
        let names = client.line(&format!("COMMAND LIST FILTERBY {filter}")).items();
        assert!(names.iter().any(|name| *name == "proxy"), "{filter}");
    }
    client.lines_ok(&["MULTI", "COMMAND COUNT", "COMMAND INFO proxy"]);
    let parts = client.line("EXEC").items();
    assert!(
        parts[0].int() > 200 && parts[1].items()[0].items()[0] == "proxy",
        "{parts:?}"
    );
}

#[test]
fn nearhits_command_goes_by_the_name_it_is_given() {
    let redis = RedisServer::start();
    let count = redis.cmd(&["COMMAND", "COUNT"]).int();
    let renamed = Nearhit::serve_with(&redis.url(), &["--facade.admin-command", "NearCtl"]);
    let mut client = renamed.connect();
    assert_eq!(client.line("COMMAND COUNT"), count + 1);
    assert_eq!(client.line("COMMAND INFO nearctl").items()[0].items()[0], "nearctl");
    assert!(client.line("COMMAND INFO proxy").items()[0].is_nil());
    assert_eq!(client.line("NEARCTL PING"), "PONG");
    client.lines_ok(&["MULTI", "nearctl PING"]);
    assert_eq!(client.line("EXEC").items()[0], "PONG");
    let off = Nearhit::serve_with(&redis.url(), &["--facade.admin-command", ""]);
    let mut client = off.connect();
    assert_eq!(client.line("COMMAND COUNT"), count);
    assert!(client.line("PROXY PING").is_error_with("ERR unknown command 'PROXY'"));
}
