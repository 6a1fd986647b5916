//! Commands that are about all keys, or about every node, in front of a cluster: the client sees one plain Redis.

mod cluster_support;
mod session_support;
mod support;

use cluster_support::Front;
use session_support::wait_for_hit;
use std::collections::HashSet;
use support::{Reply, Resp, SOON, eventually};

/// Writes so many strings, and as many lists.
fn fill(client: &mut Resp, count: usize) -> HashSet<String> {
    let (mut all, mut commands) = (HashSet::new(), Vec::new());
    for number in 0..count {
        let (string, list) = (format!("string:{number}"), format!("list:{number}"));
        commands.push(vec!["SET".to_owned(), string.clone(), "v".into()]);
        commands.push(vec!["RPUSH".to_owned(), list.clone(), "v".into()]);
        all.extend([string, list]);
    }
    let replies = client.pipeline(&commands);
    assert!(replies.iter().all(|reply| !reply.is_error()));
    all
}

/// All keys that a SCAN with these options finds, and how often it was asked.
fn scan(client: &mut Resp, options: &[&str]) -> (Vec<String>, usize) {
    let (mut cursor, mut found, mut asked) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let page = client.cmd(&[&["SCAN", &cursor], options].concat()).items();
        found.extend(page[1].items().iter().map(Reply::text));
        (cursor, asked) = (page[0].text(), asked + 1);
        if cursor == "0" {
            return (found, asked);
        }
    }
}

#[test]
fn keys_of_all_nodes_are_counted_and_named() {
    let front = Front::shared();
    let _turn = front.alone();
    for version in [2, 3] {
        let mut client = front.twin(version).proxied;
        let all = fill(&mut client, 60);
        assert_eq!(client.line("DBSIZE"), 120);
        let keys: Vec<_> = client.line("KEYS *").items().iter().map(Reply::text).collect();
        assert_eq!(keys.len(), 120);
        assert_eq!(keys.into_iter().collect::<HashSet<_>>(), all);
        assert_eq!(client.line("KEYS list:1?").items().len(), 10);
        assert_eq!(client.line("KEYS nothing*"), Reply::Array(Vec::new()));
    }
}

#[test]
fn a_random_key_is_a_key_of_any_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    assert_eq!(client.line("RANDOMKEY"), Reply::Nil);
    client.lines_ok(&["SET random{b} 1"]);
    for _ in 0..20 {
        assert_eq!(client.line("RANDOMKEY"), "random{b}", "two nodes have none");
    }
    client.lines_ok(&["MSET random{a} 1 random{c} 1"]);
    let mut seen = HashSet::new();
    assert!(eventually(SOON, || {
        seen.insert(client.line("RANDOMKEY").text());
        seen.len() == 3
    }));
}

#[test]
fn a_scan_finds_every_key_once() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    let all = fill(&mut client, 300);
    for (options, wanted) in [
        (&[][..], ""),
        (&["COUNT", "100"], ""),
        (&["COUNT", "100000"], ""),
        (&["MATCH", "list:*", "COUNT", "50"], "list"),
        (&["TYPE", "string", "COUNT", "50"], "string"),
        (&["COUNT", "7", "MATCH", "*", "TYPE", "list"], "list"),
    ] {
        let (found, asked) = scan(&mut client, options);
        let wanted: HashSet<_> = all.iter().filter(|key| key.starts_with(wanted)).cloned().collect();
        assert_eq!(found.len(), wanted.len(), "{options:?}");
        assert_eq!(found.into_iter().collect::<HashSet<_>>(), wanted, "{options:?}");
        assert!(asked >= 3, "each node is asked");
    }
    let (none, _) = scan(&mut client, &["MATCH", "nothing*"]);
    assert!(none.is_empty());
}

#[test]
fn what_is_wrong_with_a_scan_the_server_says() {
    let front = Front::shared();
    let _turn = front.alone();
    for version in [2, 3] {
        let mut twin = front.twin(version);
        twin.lines(&[
            "SCAN x",
            "SCAN 0 COUNT x",
            "SCAN 0 COUNT 0",
            "SCAN 0 NOSUCH",
            "SCAN",
            "SCAN 0 MATCH",
        ]);
        // And a scan that is under way goes on as it would have.
        let all = fill(&mut twin.proxied, 50);
        let page = twin.proxied.line("SCAN 0 COUNT 10").items();
        assert!(twin.proxied.line("SCAN 99999999999999999999999").is_error());
        assert!(twin.proxied.line("SELECT 1").is_error());
        let mut found: Vec<_> = page[1].items().iter().map(Reply::text).collect();
        let mut cursor = page[0].text();
        while cursor != "0" {
            let page = twin.proxied.cmd(&["SCAN", &cursor, "COUNT", "10"]).items();
            found.extend(page[1].items().iter().map(Reply::text));
            cursor = page[0].text();
        }
        assert_eq!(found.into_iter().collect::<HashSet<_>>(), all);
    }
}

#[test]
fn a_flush_empties_all_nodes_and_the_memory() {
    let front = Front::shared();
    let _turn = front.alone();
    let (mut client, mut other) = (front.proxy.connect(), front.proxy.connect());
    for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC", "FLUSHDB SYNC"] {
        client.lines_ok(&["MSET flush{a} 1 flush{b} 2 flush{c} 3"]);
        for tag in cluster_support::TAGS {
            wait_for_hit(&front.proxy, &mut client, &format!("GET flush{tag}"));
        }
        assert_eq!(client.line(flush), "OK");
        for reader in [&mut client, &mut other] {
            assert_eq!(
                reader.line("MGET flush{a} flush{b} flush{c}"),
                Reply::Array(vec![Reply::Nil; 3]),
                "{flush}"
            );
            assert_eq!(reader.line("GET flush{b}"), Reply::Nil);
            assert_eq!(reader.line("DBSIZE"), 0);
        }
    }
    assert!(client.line("FLUSHALL NOSUCH").is_error());
}

#[test]
fn a_flush_behind_writes_in_a_pipeline_is_behind_them() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut twin = front.twin(2);
    for _ in 0..50 {
        twin.pipeline(&[
            "MSET pipe{a} 1 pipe{b} 2",
            "SET pipe{c} 3",
            "DBSIZE",
            "FLUSHALL",
            "DBSIZE",
            "SET pipe{b} 4",
            "DBSIZE",
            "MGET pipe{a} pipe{b} pipe{c}",
            "KEYS *",
            "SCRIPT EXISTS a",
            "DEL pipe{b} pipe{a}",
        ]);
    }
}

#[test]
fn scripts_are_known_at_every_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let (script, sha) = (
        "return redis.call('get',KEYS[1])",
        "fd758d1589d044dd850a6f05d52f2eefd27f033f",
    );
    let mut twin = front.twin(2);
    twin.lines(&[
        "MSET s{a} 1 s{b} 2 s{c} 3",
        &format!("SCRIPT EXISTS {sha} x"),
        &format!("EVALSHA {sha} 1 s{{a}}"),
    ]);
    assert_eq!(twin.same(&["SCRIPT", "LOAD", script]), sha);
    for tag in cluster_support::TAGS {
        twin.line(&format!("EVALSHA {sha} 1 s{tag}"));
        twin.line(&format!("EVALSHA_RO {sha} 1 s{tag}"));
    }
    twin.lines(&[
        &format!("SCRIPT EXISTS {sha} x"),
        "SCRIPT FLUSH",
        &format!("SCRIPT EXISTS {sha} x"),
    ]);
    for tag in cluster_support::TAGS {
        assert!(twin.line(&format!("EVALSHA {sha} 1 s{tag}")).is_error_with("NOSCRIPT"));
    }
    // One that was only run is known where it ran; it does not pass for one that everybody knows.
    twin.proxied.cmd(&["EVAL", script, "1", "s{b}"]);
    assert_eq!(twin.proxied.line(&format!("SCRIPT EXISTS {sha}")), [0]);
    twin.lines(&[
        "SCRIPT LOAD return(",
        "SCRIPT NOSUCH",
        "SCRIPT EXISTS",
        "SCRIPT FLUSH NOSUCH",
    ]);
}

#[test]
fn functions_are_known_at_every_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let library = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)";
    let mut twin = front.twin(2);
    assert_eq!(twin.same(&["FUNCTION", "LOAD", library]), "lib");
    for tag in cluster_support::TAGS {
        twin.line(&format!("FCALL put 1 f{tag} value"));
        twin.line(&format!("GET f{tag}"));
    }
    assert!(twin.same(&["FUNCTION", "LOAD", library]).is_error());
    twin.lines(&[
        "FUNCTION LIST",
        "FUNCTION DELETE lib",
        "FUNCTION DELETE lib",
        "FUNCTION LIST",
    ]);
    assert!(twin.line("FCALL put 1 f{c} value").is_error());
}

#[test]
fn settings_are_changed_at_every_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    assert_eq!(client.line("CONFIG SET maxmemory-samples 7"), "OK");
    for node in 0..3 {
        let setting = front.cluster.node(node).cmd(&["CONFIG", "GET", "maxmemory-samples"]);
        assert_eq!(setting, ["maxmemory-samples", "7"]);
    }
    front.twin(2).lines(&[
        "CONFIG SET nosuch 1",
        "CONFIG SET maxmemory-samples x",
        "CONFIG SET maxmemory-samples",
    ]);
}

#[test]
fn users_are_made_and_deleted_at_every_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut twin = front.twin(2);
    twin.lines(&["ACL SETUSER tester on >secret ~* +@all", "ACL SETUSER other nosuch"]);
    let mut user = front.twin(2);
    user.lines(&[
        "AUTH tester wrong",
        "AUTH tester secret",
        "MSET u{a} 1 u{b} 2 u{c} 3",
        "MGET u{a} u{b} u{c}",
    ]);
    for tag in cluster_support::TAGS {
        user.line(&format!("GET u{tag}"));
    }
    twin.lines(&["ACL SETUSER tester resetkeys ~u{a}"]);
    assert_eq!(user.proxied.line("GET u{a}"), "1");
    assert!(user.proxied.line("GET u{b}").is_error_with("NOPERM"));
    assert!(user.proxied.line("MGET u{a} u{b}").is_error_with("NOPERM"));
    twin.lines(&["ACL DELUSER tester", "ACL DELUSER tester"]);
    for node in 0..3 {
        assert_eq!(front.cluster.node(node).cmd(&["ACL", "USERS"]), ["default"]);
    }
}

#[test]
fn counting_is_never_answered_before_what_was_written_before_it() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    for round in 1..50 {
        let mut commands: Vec<Vec<String>> = (0..10)
            .map(|number| vec!["SET".into(), format!("count:{round}:{number}"), "v".into()])
            .collect();
        commands.push(vec!["DBSIZE".into()]);
        let replies = client.pipeline(&commands);
        assert_eq!(replies[10], round * 10);
    }
}
