//! nearhit in front of a cluster: every command reaches the node that has its keys, and the client sees one plain Redis.

mod cluster_support;
mod session_support;
mod support;

use cluster_support::{CROSSSLOT, Front, told};
use session_support::{line_bytes, wait_for_hit};
use support::resp::encode;
use support::{Nearhit, Reply, SOON, eventually, wait_for};

#[test]
fn keys_are_written_to_and_read_from_the_node_that_has_them() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    for number in 0..100 {
        let key = format!("key:{number}");
        assert_eq!(client.cmd(&["SET", &key, "value"]), "OK");
        assert_eq!(front.owner(&key).cmd(&["GET", &key]), "value");
        assert_eq!(client.cmd(&["GET", &key]), "value");
    }
}

/// Commands on keys of several nodes that are one command for a client.
const SEVERAL: &[&str] = &[
    "DEL m{a} m{b} m{c} list{b}",
    "MGET m{a} m{b} m{c}",
    "MSET m{a} 1 m{b} 2 m{c} 3",
    "MGET m{a} m{b} m{c}",
    "MGET m{c} m{a} m{c} none{a} m{b} none{b} m{a}",
    "MSET m{a} x m{b} y m{a} z",
    "MGET m{a} m{b}",
    "RPUSH list{b} e",
    "MGET m{a} list{b} m{c}",
    "EXISTS m{a} m{b} m{b} none{a} list{b}",
    "TOUCH m{a} m{b} none{c} m{b}",
    "MSET m{a} 1 m{b}",
    "MGET m{a} m{b}",
    "MSET m{a} 1 list{b} 2",
    "TYPE list{b}",
    "DEL m{a} m{a} m{b} none{c}",
    "UNLINK m{a} m{c} list{b}",
    "EXISTS m{a} m{b} m{c} list{b}",
    "MGET m{a} m{b} m{c}",
    "MGET",
    "DEL",
    "MSET m{a}",
    "EXISTS",
];

#[test]
fn commands_on_keys_of_several_nodes_are_one_command() {
    // It begins with nothing, which is not to be done to others.
    let front = Front::start();
    let uncached = Nearhit::serve_with(&front.cluster.url(), &["--cache.mode", "off"]);
    for version in [2, 3] {
        front.twin(version).table(SEVERAL, 1);
        // Whatever is in memory by then.
        front.twin(version).lines(SEVERAL);
        front.twin_at(&uncached, version).lines(SEVERAL);
    }
}

#[test]
fn a_repeated_mget_is_answered_from_memory_until_a_key_is_written_at_its_node() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    client.lines_ok(&["MSET mem{a} 1 mem{b} 2 mem{c} 3"]);
    let line = "MGET mem{a} mem{b} mem{c} mem:none{a} mem{a}";
    wait_for_hit(&front.proxy, &mut client, line);
    // When one of them is written past nearhit.
    assert_eq!(front.owner("mem{b}").cmd(&["SET", "mem{b}", "new"]), "OK");
    // Then it is soon seen, and is answered from memory again.
    let new = [Some("1"), Some("new"), Some("3"), None, Some("1")].map(|value| match value {
        Some(text) => Reply::Bulk(text.into()),
        None => Reply::Nil,
    });
    assert!(eventually(SOON, || client.line(line) == Reply::Array(new.to_vec())));
    wait_for_hit(&front.proxy, &mut client, line);
    assert_eq!(client.line(line), Reply::Array(new.to_vec()));
}

#[test]
fn a_session_reads_its_own_writes_over_several_nodes() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    for number in 0..300 {
        let number = number.to_string();
        let written = client.pipeline(&[
            vec!["MSET", "own{a}", &number, "own{b}", &number, "own{c}", &number],
            vec!["MGET", "own{a}", "own{b}", "own{c}"],
            vec!["GET", "own{b}"],
        ]);
        assert_eq!(written[1], [number.as_str(); 3]);
        assert_eq!(written[2], number);
        assert_eq!(client.line("MGET own{c} own{a}"), [number.as_str(); 2]);
    }
    // And as much when they come from memory.
    wait_for_hit(&front.proxy, &mut client, "MGET own{c} own{a}");
    assert_eq!(client.line("MGET own{c} own{a}"), ["299"; 2]);
}

#[test]
fn what_cannot_be_cut_is_refused_as_a_cluster_refuses_it() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    for line in [
        "SINTER x{a} x{b}",
        "SUNIONSTORE x{a} x{b} x{c}",
        "RENAME x{a} x{b}",
        "RENAMENX x{a} x{b}",
        "COPY x{a} x{b}",
        "MSETNX x{a} 1 x{b} 2",
        "PFMERGE x{a} x{b}",
        "LMOVE x{a} x{b} LEFT RIGHT",
        "SMOVE x{a} x{b} m",
        "BITOP AND x{a} x{b} x{c}",
        "ZUNIONSTORE x{a} 2 x{b} x{c}",
        "XREAD STREAMS x{a} x{b} 0 0",
        "EVAL return 2 x{a} x{b}",
        "BLPOP x{a} x{b} 0",
        "BLMOVE x{a} x{b} LEFT RIGHT 0",
        "WATCH x{a} x{b}",
        "LCS x{a} x{b}",
        "SORT x{a} STORE x{b}",
    ] {
        assert_eq!(client.line(line), CROSSSLOT, "{line}");
    }
    assert_eq!(client.line("PING"), "PONG");
}

#[test]
fn commands_of_one_slot_are_what_they_are_on_one_server() {
    let front = Front::shared();
    let lines = [
        "SADD one:1{a} x y",
        "SADD one:2{a} y z",
        "SINTER one:1{a} one:2{a}",
        "SUNIONSTORE one:3{a} one:1{a} one:2{a}",
        "RENAME one:3{a} one:4{a}",
        "SCARD one:4{a}",
        "SET one:5{b} 1",
        "RENAME one:5{b} one:6{b}",
        "GET one:6{b}",
        "MSETNX one:7{c} 1 one:8{c} 2",
        "MSETNX one:7{c} 1 one:9{c} 2",
        "LPUSH one:10{c} 1 2 3",
        "LMOVE one:10{c} one:11{c} LEFT RIGHT",
        "INCR one:12{b}",
        "SET one:1{b} x",
        "INCR one:1{b}",
        "HGETALL one:13{a}",
        "HSET one:13{a} f v",
        "HGETALL one:13{a}",
        "XADD one:14{c} 1-1 f v",
        "XREAD STREAMS one:14{c} 0",
        "GET one:13{a}",
        "DEL one:13{a} one:14{a}",
        "OBJECT ENCODING one:12{b}",
        "TTL one:12{b}",
        "NOSUCH one:1{a}",
        "GET",
        "SET one:1{a}",
    ];
    for version in [2, 3] {
        let mut twin = front.twin(version);
        twin.lines(&lines);
        for server in [&mut twin.direct, &mut twin.proxied] {
            (1..15).for_each(|key| {
                server.line(&format!("DEL one:{key}{{a}} one:{key}{{b}} one:{key}{{c}}"));
            });
        }
    }
}

#[test]
fn replies_of_a_long_pipeline_come_in_order() {
    let front = Front::shared();
    let mut twin = front.twin(2);
    let lines: Vec<String> = (0..900)
        .map(|number| {
            let (key, other) = (format!("long:{}", number % 37), format!("long:{}", number % 11));
            match number % 9 {
                0 => format!("SET {key} {number}"),
                1 | 2 => format!("APPEND {key} {number}"),
                3 => format!("MGET {key} {other} long:none"),
                4 => format!("STRLEN {key}"),
                5 => format!("MSET {key} {number} {other} {number}"),
                6 => format!("EXISTS {key} {other}"),
                7 => format!("ECHO {number}"),
                _ => format!("GET {other}"),
            }
        })
        .collect();
    twin.pipeline(&lines.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn big_values_pass_in_both_directions() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    let values = ["x", "y", "z"].map(|letter| letter.repeat(2 << 20));
    for (tag, value) in cluster_support::TAGS.iter().zip(&values) {
        assert_eq!(client.cmd(&["SET", &format!("big:1{tag}"), value]), "OK");
    }
    let [a, b, c] = &values;
    let written = client.cmd(&["MSET", "big:2{a}", a, "big:2{b}", b, "big:2{c}", c]);
    assert_eq!(written, "OK");
    for (tag, value) in cluster_support::TAGS.iter().zip(&values) {
        assert_eq!(client.cmd(&["GET", &format!("big:2{tag}")]), *value);
    }
    for _ in 0..3 {
        let read = client.line("MGET big:1{c} big:1{a} big:2{b}").items();
        assert!(read[0] == *c && read[1] == *a && read[2] == *b, "each in its place");
    }
    client.line("DEL big:1{a} big:1{b} big:1{c} big:2{a} big:2{b} big:2{c}");
}

#[test]
fn replies_that_nobody_wants_do_not_come() {
    let front = Front::shared();
    let mut twin = front.twin(2);
    let mut say = |lines: &[&str], replies: usize| {
        twin.send(&lines.iter().flat_map(|line| line_bytes(line)).collect::<Vec<_>>());
        twin.frames(replies)
    };
    say(
        &["CLIENT REPLY SKIP", "MSET mute{a} 1 mute{b} 2", "MGET mute{a} mute{b}"],
        1,
    );
    say(
        &[
            "CLIENT REPLY OFF",
            "MSET mute{a} 3 mute{b} 4",
            "MGET mute{a} mute{b}",
            "DEL mute{a} mute{c}",
        ],
        0,
    );
    say(&["SET mute{c} 5", "CLIENT REPLY ON", "MGET mute{a} mute{b} mute{c}"], 2);
    say(
        &[
            "CLIENT REPLY SKIP",
            "EXISTS mute{a} mute{b}",
            "CLIENT REPLY SKIP",
            "MGET mute{a} mute{b}",
            "PING",
        ],
        1,
    );
}

#[test]
fn scripts_run_where_their_keys_are() {
    let front = Front::shared();
    let mut twin = front.twin(2);
    for tag in cluster_support::TAGS {
        let key = format!("script{tag}");
        let say = |script, words: &[&str]| encode(&[&["EVAL", script], words].concat());
        for bytes in [
            say("return redis.call('incrby', KEYS[1], ARGV[1])", &["1", &key, "7"]),
            say("return redis.call('get', KEYS[1])", &["1", &key]),
            say("return {1, 'two', false}", &["0"]),
            say("return redis.call('nosuch')", &["0"]),
            say("return 1", &["x"]),
        ] {
            twin.send(&bytes);
            twin.reply(&bytes);
        }
    }
}

#[test]
fn what_is_wrong_with_a_number_of_keys_the_server_says() {
    let front = Front::shared();
    let mut twin = front.twin(2);
    for tag in cluster_support::TAGS {
        let key = format!("numbered{tag}");
        // A node takes these for numbers while it looks for keys, and only then.
        for number in [" 1", "1x", "", "x", "-1", "0", "99"] {
            twin.same(&["LMPOP", number, &key, "LEFT"]);
            twin.same(&["ZUNION", number, &key]);
            twin.same(&["EVAL", "return 1", number, &key]);
        }
    }
}

#[test]
fn a_blocked_client_hears_of_an_element_that_somebody_else_pushes() {
    let front = Front::shared();
    let (mut waiting, mut other) = (front.proxy.connect(), front.proxy.connect());
    for tag in cluster_support::TAGS {
        let key = format!("blocked{tag}");
        waiting.send(&["BLPOP", &format!("none{tag}"), &key, "0"]);
        let node = front.owner(&key);
        wait_for("the client to wait", SOON, || node.info("blocked_clients") == "1");
        assert_eq!(other.cmd(&["RPUSH", &key, "element"]), 1);
        assert_eq!(waiting.reply(), [key.as_str(), "element"]);
    }
    assert_eq!(waiting.line("MGET x{a} x{b}").items().len(), 2);
    assert_eq!(waiting.line("BLPOP blocked{a} 0.01"), Reply::NilArray);
}

#[test]
fn a_pipeline_behind_a_blocked_command_waits_for_it() {
    let front = Front::shared();
    let (mut waiting, mut other) = (front.proxy.connect(), front.proxy.connect());
    for line in [
        "SET behind{b} 1",
        "BLPOP behind:list{a} 0",
        "GET behind{b}",
        "MGET behind{b} behind{c}",
    ] {
        waiting.send(&line.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(waiting.reply(), "OK");
    let node = front.owner("behind:list{a}");
    wait_for("the client to wait", SOON, || node.info("blocked_clients") == "1");
    other.lines_ok(&["SET behind{b} 2", "RPUSH behind:list{a} e"]);
    assert_eq!(waiting.reply(), ["behind:list{a}", "e"]);
    assert_eq!(waiting.reply(), "2");
    assert_eq!(waiting.reply().items()[0], "2");
}

#[test]
fn there_is_one_database() {
    let front = Front::shared();
    let mut client = front.proxy.connect();
    let said = told(
        &mut client,
        &[
            "SELECT 0",
            "SELECT 1",
            "SELECT 99",
            "SELECT x",
            "SET db{a} 1",
            "GET db{a}",
        ],
    );
    assert_eq!(said[0], "+OK");
    for refused in &said[1..4] {
        assert!(refused.starts_with("(error) ERR"), "{said:?}");
    }
    assert_eq!(said[4..], ["+OK", "\"1\""]);
}

#[test]
fn a_big_value_goes_where_its_key_is_whatever_the_session_does() {
    let front = Front::shared();
    let (mut client, value) = (front.proxy.connect(), "x".repeat(2 << 20));
    // Watching a key of another node.
    client.lines_ok(&["WATCH huge{a}"]);
    assert_eq!(client.cmd(&["SET", "huge{b}", &value]), "OK");
    // In a transaction that is not known to be anywhere, and in one that is.
    for line in ["PING", "GET huge{c}"] {
        client.lines_ok(&["UNWATCH", "MULTI", line]);
        assert_eq!(client.cmd(&["SET", "huge{c}", &value]), "QUEUED");
        assert_eq!(client.line("EXEC").items()[1], "OK");
        assert_eq!(client.line("DEL huge{c} huge{b}").int(), 1 + i64::from(line == "PING"));
    }
}

#[test]
fn writes_are_not_cut_where_that_is_not_wanted() {
    let front = Front::shared();
    let whole = Nearhit::serve_with(&front.cluster.url(), &["--routing.split-writes", "false"]);
    let mut client = whole.connect();
    assert_eq!(client.line("MSET uncut{a} 1 uncut:other{a} 2"), "OK");
    for line in [
        "MSET uncut{a} 3 uncut{b} 4",
        "DEL uncut{a} uncut{b}",
        "UNLINK uncut{a} uncut{b}",
    ] {
        assert_eq!(client.line(line), CROSSSLOT, "{line}");
    }
    let values = [Reply::Bulk("1".into()), Reply::Nil];
    assert_eq!(client.line("MGET uncut{a} uncut{b}"), Reply::Array(values.to_vec()));
}

#[test]
fn what_keys_of_several_nodes_count_together_is_what_one_server_says() {
    let front = Front::shared();
    for version in [2, 3] {
        let mut twin = front.twin(version);
        // Sparse, dense after many elements, and one that shares some with each.
        for (key, elements) in [
            ("hll{a}", 0..20),
            ("hll{b}", 10..3000),
            ("hll{c}", 2000..60_000),
            ("few{c}", 5..15),
        ] {
            for elements in elements.collect::<Vec<u32>>().chunks(1000) {
                let elements = elements.iter().map(|number| format!("element:{number}"));
                let args: Vec<String> = ["PFADD".to_owned(), key.to_owned()]
                    .into_iter()
                    .chain(elements)
                    .collect();
                twin.same(&args);
            }
        }
        twin.line("SET string{b} text");
        twin.line("RPUSH list{a} x");
        for line in [
            "PFCOUNT hll{a} hll{b}",
            "PFCOUNT hll{a} hll{b} hll{c}",
            "PFCOUNT few{c} hll{a} none{b}",
            "PFCOUNT hll{a} few{c} hll{a} few{c}",
            "PFCOUNT none{a} none{b}",
            "PFCOUNT hll{a} string{b}",
            "PFCOUNT list{a} hll{b}",
        ] {
            twin.line(line);
        }
        // What was written before in the same packet counts.
        twin.pipeline(&[
            "PFADD hll{a} new:1 new:2",
            "PFCOUNT hll{a} few{c}",
            "DEL few{c} hll{a}",
            "PFCOUNT few{c} hll{a}",
        ]);
    }
}

#[test]
fn counting_keys_of_several_nodes_is_no_write() {
    let front = Front::start();
    let mut client = front.proxy.connect();
    client.lines_ok(&["PFADD h{a} 1 2 3", "PFADD h{b} 3 4"]);
    let counted = |outcome: &str| {
        let labels = ["cmd=\"pfcount\"", outcome];
        front.proxy.metric("nearhit_commands_total", &labels)
    };
    assert_eq!(client.line("PFCOUNT h{a}"), 3);
    assert_eq!((counted("outcome=\"write\""), counted("")), (1.0, 1.0));
    assert_eq!(client.line("PFCOUNT h{a} h{b}"), 4);
    assert_eq!(counted("outcome=\"write\""), 1.0);
    assert!(counted("") > 1.0);
}
