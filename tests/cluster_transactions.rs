//! MULTI and WATCH in front of a cluster: a transaction runs at the node of its keys, and what it cannot be a cluster says.

mod cluster_support;
mod session_support;
mod support;

use cluster_support::{CROSSSLOT, Front, told};
use session_support::commands;
use support::{Reply, SOON, eventually};

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// Transactions that one server runs, and so does a cluster: ` / ` is between sessions.
const WHOLE: &[&str] = &[
    "MULTI | SET t1{a} 1 | INCR t1{a} | GET t1{a} | EXEC | GET t1{a}",
    "MULTI | PING | ECHO x | INCR t2{b} | PING | EXEC | GET t2{b}",
    "MULTI | PING | PING x | EXEC",
    "MULTI | EXEC | EXEC",
    "EXEC | DISCARD | MULTI x | UNWATCH",
    "MULTI | DISCARD | GET t3{c} | DISCARD",
    "MULTI | PING | DISCARD | SET t3{c} 1 | MULTI | SET t3{c} 2 | DISCARD | GET t3{c}",
    "MULTI | MULTI | SET t4{a} 1 | EXEC | GET t4{a}",
    "MULTI | SET t5{a} 1 | MULTI | EXEC | GET t5{a}",
    "MULTI | GET | SET t6{a} 1 | EXEC | GET t6{a}",
    "MULTI | SET t7{b} 1 | GET | EXEC | GET t7{b}",
    "MULTI | NOSUCH x | SET t8{c} 1 | EXEC | GET t8{c}",
    "MULTI | EXEC x | SET t9{c} 1 | EXEC",
    "MULTI | SET t10{c} 1 | EXEC x | GET t10{c} | EXEC | GET t10{c}",
    "MULTI | WATCH t11{a} | SET t11{a} 1 | EXEC",
    "MULTI | SET t12{a} x | INCR t12{a} | LPUSH t12{a} y | GET t12{a} | EXEC",
    "MULTI | BLPOP t13{b} 0 | EXEC",
    "MULTI | RPUSH t14{b} e | BLPOP t14{b} 0 | EXEC",
    "MULTI | MGET t15{c} t15:x{c} | MSET t15{c} 1 t15:x{c} 2 | DEL t15{c} t15:x{c} | EXEC",
    "WATCH t16{a} | MULTI | SET t16{a} 1 | EXEC | UNWATCH | GET t16{a}",
    "WATCH t17{a} | SET t17{a} 1 | MULTI | SET t17{a} 2 | EXEC | GET t17{a}",
    "WATCH t18{a} | GET t18{b} | SET t18{c} 1 | MULTI | SET t18{a} 2 | EXEC | MGET t18{a} t18{b} t18{c}",
    "WATCH t19{b} | UNWATCH | SET t19{b} 1 | MULTI | SET t19{a} 2 | EXEC | MGET t19{a} t19{b}",
    "WATCH t20{b} | MULTI | PING | EXEC | SET t20{a} 1 | GET t20{a}",
    "MULTI | SELECT 0 | CLIENT SETNAME me | SET t21{a} 1 | CLIENT GETNAME | EXEC | CLIENT GETNAME",
    "MULTI | CLIENT SETNAME you | EXEC | CLIENT GETNAME",
    "MULTI | RESET | EXEC | SET t22{a} 1 | GET t22{a}",
    "MULTI | SET t23{a} 1 | RESET | EXEC | GET t23{a}",
    "WATCH t24{a} | RESET | SET t24{a} 1 | MULTI | GET t24{a} | EXEC",
    "MULTI | LOLWUT VERSION 5 1 1 1 x | TYPE t25{b} | DISCARD",
    "WATCH t37{a} | MGET t37{b} t37{a} | MSET t37{c} 1 t37{b} 2 | DEL t37{c} t37{b} | MULTI | SET t37{a} 1 | EXEC",
    "MULTI | OBJECT HELP | SET t26{c} 1 | EXEC",
    "MULTI | EVAL return 0 | SET t27{c} 1 | EXEC",
    "MULTI | XREAD STREAMS t28{c} 0 | EXEC",
    "MULTI | HELLO 3 | SET t29{c} 1 | HGETALL t29:h{c} | EXEC | HGETALL t29:h{c}",
    "MULTI | SUNION t30{c} | AUTH x | EXEC",
    "MULTI | HELLO 3 | PING | EXEC | HGETALL t32{a}",
    "MULTI | PING | CLIENT NOSUCH | SET t33{a} 1 | EXEC | GET t33{a}",
    "MULTI | CLIENT | SET t34{a} 1 | EXEC | GET t34{a}",
    "MULTI | MULTI x | DISCARD x | EXEC | DISCARD",
    "MULTI | CLIENT REPLY ON | SELECT 0 | SET t35{a} 1 | EXEC | GET t35{a}",
    "MULTI | SET t38{a} 1 | EXEC | MULTI | SET t38{b} 1 | EXEC | WATCH t38{c} | MULTI | PING | EXEC | MULTI | GET t38{a} | EXEC",
    "MULTI | UNWATCH | SET t39{c} 1 | UNWATCH | EXEC",
    "MULTI | CLUSTER INFO | SET t40{c} 1 | READONLY | EXEC",
    "MULTI | SELECT x | SELECT 0 | SET t36{b} 1 | EXEC | GET t36{b}",
    "DEL t18{c} t19{b} t19{a} | MSET t31{a} 1 t31{b} 2 | MULTI | INCR t31{a} | EXEC | MGET t31{a} t31{b}",
];

#[test]
fn a_transaction_is_what_it_is_on_one_server() {
    let front = Front::shared();
    for lines in WHOLE {
        let mut twin = front.twin(2);
        for line in commands(lines) {
            if let Some(difference) = twin.compare(line) {
                panic!("{lines}: {difference}");
            }
        }
    }
}

#[test]
fn a_transaction_may_stand_anywhere_in_a_pipeline() {
    let front = Front::shared();
    for lines in WHOLE {
        // Everything again, with other keys, in one packet, between commands of all nodes.
        let lines = format!(
            "MSET p{{a}} 1 p{{b}} 2 | {} | MGET p{{a}} p{{b}} p{{c}} | PING",
            lines.replace(" t", " p:t")
        );
        let mut twin = front.twin(2);
        twin.pipeline(&lines.split(" | ").collect::<Vec<_>>());
    }
}

#[test]
fn a_session_that_says_quit_within_a_transaction_is_closed() {
    let front = Front::shared();
    for lines in [
        "MULTI | QUIT",
        "MULTI | SET q{a} 1 | QUIT",
        "MULTI | PING | QUIT | SET q{a} 1",
    ] {
        let mut twin = front.twin(2);
        let bytes: Vec<u8> = commands(lines)
            .into_iter()
            .flat_map(session_support::line_bytes)
            .collect();
        twin.send(&bytes);
        twin.closes(&bytes);
    }
    assert_eq!(front.proxy.connect().line("GET q{a}"), Reply::Nil);
}

#[test]
fn a_transaction_with_keys_of_two_nodes_is_refused_as_a_whole() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    let error = format!("(error) {CROSSSLOT}");
    for (refused, keyless) in [
        ("SET two{b} 2", ""),
        ("MGET two{a} two{b}", ""),
        ("MGET two{b} two{c}", "PING"),
        ("DEL two{b} two{c}", ""),
        ("MSET two{a} 1 two{b} 2", "PING"),
        ("RENAME two{a} two{b}", ""),
    ] {
        client.lines_ok(&["MULTI"]);
        if !keyless.is_empty() {
            assert_eq!(client.line(keyless), "QUEUED");
        }
        let said = told(
            &mut client,
            &["SET two{a} 1", refused, "GET two{a}", "EXEC", "MGET two{a} two{b}"],
        );
        let aborted = format!("(error) {ABORTED}");
        assert_eq!(
            said,
            ["+QUEUED", &error, "+QUEUED", &aborted, "[(nil), (nil)]"],
            "{refused}"
        );
    }
}

#[test]
fn a_first_command_with_keys_of_two_slots_spoils_the_transaction() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    for refused in [
        "MGET first{a} first{b}",
        "SINTER first{b} first{c}",
        "DEL first{a} first{c}",
    ] {
        let said = told(
            &mut client,
            &["MULTI", "PING", refused, "SET first{a} 1", "EXEC", "GET first{a}"],
        );
        assert_eq!(said[2], format!("(error) {CROSSSLOT}"), "{refused}: {said:?}");
        assert_eq!(said[4], format!("(error) {ABORTED}"), "{refused}: {said:?}");
        assert_eq!(said[5], "(nil)", "{refused}: {said:?}");
    }
}

#[test]
fn two_slots_of_one_node_are_refused_no_later_than_by_exec() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    let mut keys = front.cluster.keys_at(0, "pair:");
    let (one, other) = (keys.next().expect("a key"), keys.next().expect("another"));
    client.lines_ok(&["MULTI"]);
    client.cmd(&["SET", &one, "1"]);
    client.cmd(&["SET", &other, "1"]);
    let said = client.line("EXEC");
    assert!(said == CROSSSLOT || said == ABORTED, "{said:?}");
    assert_eq!(
        client.cmd(&["MGET", &one, &other]),
        Reply::Array(vec![Reply::Nil, Reply::Nil])
    );
}

#[test]
fn a_watched_key_that_is_written_ends_the_transaction() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    for tag in cluster_support::TAGS {
        let key = format!("watched{tag}");
        // Given a key that is in memory.
        client.cmd(&["SET", &key, "1"]);
        client.cmd(&["GET", &key]);
        client.cmd(&["GET", &key]);
        assert_eq!(client.cmd(&["WATCH", &key]), "OK");
        assert_eq!(client.cmd(&["GET", &key]), "1");
        // When it is written at its node.
        front.owner(&key).cmd(&["SET", &key, "2"]);
        client.lines_ok(&["MULTI"]);
        assert_eq!(client.cmd(&["SET", &key, "3"]), "QUEUED");
        // Then nothing is done, and nothing is watched any more.
        assert_eq!(client.line("EXEC"), Reply::NilArray);
        assert!(eventually(SOON, || client.cmd(&["GET", &key]) == "2"));
        client.lines_ok(&["MULTI"]);
        client.cmd(&["SET", &key, "4"]);
        assert_eq!(client.line("EXEC"), ["OK"]);
    }
}

#[test]
fn keys_of_two_nodes_cannot_be_watched() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    let said = told(
        &mut client,
        &[
            "WATCH both{a}",
            "WATCH both{b}",
            "MULTI",
            "SET both{a} 1",
            "EXEC",
            "GET both{a}",
        ],
    );
    assert_eq!(
        said,
        [
            "+OK",
            &format!("(error) {CROSSSLOT}"),
            "+OK",
            "+QUEUED",
            "[+OK]",
            "\"1\""
        ]
    );
}

#[test]
fn increments_guarded_by_watch_lose_nothing() {
    let front = Front::shared();
    let add = |tag: &str| {
        let (mut client, key) = (front.proxy.connect(), format!("guarded{tag}"));
        let mut done = 0;
        while done < 40 {
            client.cmd(&["WATCH", &key]);
            let read = client.cmd(&["GET", &key]);
            let value: i64 = if read.is_nil() {
                0
            } else {
                read.text().parse().expect("a number")
            };
            let next = (value + 1).to_string();
            let said = client.pipeline(&[vec!["MULTI"], vec!["SET", &key, &next], vec!["EXEC"]]);
            done += i64::from(!said[2].is_nil());
        }
    };
    std::thread::scope(|scope| {
        for tag in cluster_support::TAGS.iter().chain(&cluster_support::TAGS) {
            scope.spawn(|| add(tag));
        }
    });
    for tag in cluster_support::TAGS {
        let key = format!("guarded{tag}");
        assert_eq!(front.owner(&key).cmd(&["GET", &key]), "80");
    }
}

#[test]
fn what_is_for_all_nodes_is_refused_in_a_transaction_rather_than_done_by_halves() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    client.lines_ok(&["MSET all{a} 1 all{b} 2 all{c} 3"]);
    for refused in [
        "FLUSHALL",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "SCRIPT FLUSH",
        "CONFIG SET maxmemory-samples 5",
    ] {
        for first in ["PING", "GET all{b}"] {
            let said = told(&mut client, &["MULTI", first, refused, "GET all{b}", "EXEC"]);
            assert!(
                said[2].contains("is for all nodes of the cluster"),
                "{refused}: {said:?}"
            );
            assert_eq!(said[4], format!("(error) {ABORTED}"), "{refused}: {said:?}");
        }
    }
    assert_eq!(client.line("MGET all{a} all{b} all{c}"), ["1", "2", "3"]);
}

#[test]
fn a_session_that_watches_still_asks_all_nodes() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    client.lines_ok(&["MSET seen{a} 1 seen{b} 2 seen{c} 3", "WATCH seen{b}"]);
    assert_eq!(client.line("KEYS seen{?}").items().len(), 3);
    assert_eq!(client.line("MGET seen{a} seen{b} seen{c}"), ["1", "2", "3"]);
    // What it writes itself ends the transaction, wherever it was sent from.
    client.lines_ok(&["MSET seen{b} 4 seen{c} 5", "MULTI", "GET seen{b}"]);
    assert_eq!(client.line("EXEC"), Reply::NilArray);
}
