//! Slots that go from node to node while clients work: nobody hears of it, nothing is done twice, and no value is older
//! than the staleness bound. One test after the other: nodes that outbid each other for several slots at once may come to
//! disagree for good.

mod cluster_support;
mod session_support;
mod support;

use cluster_support::{Front, told};
use nearhit::time::{self, Instant};
use session_support::wait_for_hit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::cluster::slot_of;
use support::{Reply, Resp, SOON, eventually, wait_for};

/// No value is served for longer after it was changed where nobody tells of it.
const BOUND: Duration = Duration::from_secs(1);

/// A key at this node, in a slot of its own.
fn key_at(front: &Front, node: usize, prefix: &str) -> (String, u16) {
    let key = front.cluster.key_at(node, prefix);
    let slot = slot_of(&key);
    (key, slot)
}

/// Reads until the bound has passed since `changed`: a read that begins later sees `new`, and after one that saw it none
/// sees anything else.
#[track_caller]
fn expect_new(client: &mut Resp, line: &str, new: &Reply, changed: Instant) {
    let mut seen = false;
    let end = changed.after(BOUND * 2);
    eventually(BOUND * 4, || {
        let asked = time::now();
        let read = client.line(line);
        assert!(read == *new || !seen, "{line} went back to {read:?}");
        assert!(read == *new || asked < changed.after(BOUND), "{line} is still {read:?}");
        seen |= read == *new;
        asked > end
    });
    assert!(seen, "it was read");
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.into())
}

#[test]
fn commands_follow_a_slot_to_another_node() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    let (key, slot) = key_at(&front, 0, "follow:");
    let other = format!("follow:{{{key}}}");
    client.cmd(&["MSET", &key, "1", &other, "x"]);
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        front.cluster.move_slot(slot, from, to);
        // Given one session that has just spoken to the node, and one that has not.
        for client in [&mut client, &mut front.proxy.connect()] {
            let said = told(
                client,
                &[
                    &format!("INCR {key}"),
                    &format!("MGET {key} {other}"),
                    &format!("APPEND {other} y"),
                    &format!("EXISTS {key} {other} none"),
                    &format!("RPUSH list:{{{key}}} e"),
                    &format!("BLPOP list:{{{key}}} 1"),
                    "MULTI",
                    &format!("GET {key}"),
                    "EXEC",
                    &format!("EVAL return(redis.call('get',KEYS[1])) 1 {key}"),
                ],
            );
            assert!(!said.iter().any(|reply| reply.contains("error")), "{said:?}");
        }
    }
    assert_eq!(front.cluster.node(0).cmd(&["GET", &key]), "7");
}

#[test]
fn the_first_command_after_a_move_is_followed_whatever_it_is() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    let (key, slot) = key_at(&front, 0, "first:");
    client.cmd(&["SET", &key, "1"]);
    let mut at = 0;
    for lines in [
        vec![format!("GET {key}")],
        vec![format!("SET {key} 2")],
        vec![format!("MGET {key} none{{a}}")],
        vec![format!("DEL none{{b}} none:{{{key}}}")],
        vec![
            format!("TYPE {key}"),
            format!("TTL {key}"),
            format!("GET {key}"),
            format!("INCR {key}"),
        ],
        vec![format!("EVAL return(redis.call('get',KEYS[1])) 1 {key}")],
    ] {
        front.cluster.move_slot(slot, at, (at + 1) % 3);
        at = (at + 1) % 3;
        let commands: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
        let said = client.pipeline(&commands);
        assert!(!said.iter().any(Reply::is_error), "{lines:?}: {said:?}");
    }
}

/// Says that it is over when it is dropped, so that nobody goes on for ever after a failure.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Adds to a counter of its own and to one that all share, in pipelines, until it is over; gives how often.
fn add(front: &Front, number: usize, tag: &str, is_over: &AtomicBool) -> i64 {
    let (mut client, own) = (front.proxy.connect(), format!("own:{number}:{{{tag}}}"));
    let shared = format!("shared:{{{tag}}}");
    let mut pipeline: Vec<Vec<&str>> = Vec::new();
    for _ in 0..10 {
        pipeline.push(vec!["INCR", &own]);
        pipeline.push(vec!["INCR", &shared]);
        pipeline.push(vec!["GET", &own]);
        pipeline.push(vec!["INCR", "elsewhere{a}"]);
    }
    let (mut count, mut last) = (0, 0);
    while !is_over.load(Ordering::Acquire) {
        for replies in client.pipeline(&pipeline).chunks(4) {
            count += 1;
            assert_eq!(replies[0], count, "each is done once, in its turn");
            assert!(replies[1].int() > last, "the shared one grows");
            last = replies[1].int();
            assert_eq!(replies[2], count.to_string(), "a session reads its own writes");
            assert!(!replies[3].is_error());
        }
    }
    count
}

#[test]
fn increments_are_done_once_while_their_slot_goes_to_and_fro() {
    let front = Front::shared();
    let _turn = front.alone();
    let (tag, slot) = key_at(&front, 0, "counted:");
    let is_over = AtomicBool::new(false);
    let counts: Vec<i64> = std::thread::scope(|scope| {
        let (front, tag, is_over) = (&front, &tag, &is_over);
        let adders: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || add(front, number, tag, is_over)))
            .collect();
        {
            let _over = Over(is_over);
            for _ in 0..25 {
                front.cluster.move_slot(slot, 0, 1);
                front.cluster.move_slot(slot, 1, 0);
            }
        }
        adders
            .into_iter()
            .map(|adder| adder.join().expect("no failure"))
            .collect()
    });
    let sum = counts.iter().sum::<i64>().to_string();
    assert_eq!(front.cluster.node(0).cmd(&["GET", &format!("shared:{{{tag}}}")]), sum);
}

#[test]
fn keys_of_a_slot_on_its_way_are_found_on_both_sides() {
    let front = Front::shared();
    let _turn = front.alone();
    let (tag, slot) = key_at(&front, 0, "half:");
    let key = |name: &str| format!("{name}{{{tag}}}");
    let mut client = front.proxy.connect();
    for name in ["went", "stayed"] {
        client.cmd(&["SET", &key(name), "1"]);
    }
    front.cluster.begin_move(slot, 0, 1);
    let port = front.cluster.node(1).port().to_string();
    let went = ["MIGRATE", "127.0.0.1", &port, &key("went"), "0", "5000"];
    assert_eq!(front.cluster.node(0).cmd(&went), "OK");
    for client in [&mut client, &mut front.proxy.connect3()] {
        for name in ["went", "stayed", "new"] {
            client.cmd(&["SET", &key(name), "7"]);
            assert_eq!(client.cmd(&["GET", &key(name)]), "7", "{name}");
            assert_eq!(client.cmd(&["INCR", &key(name)]), 8, "{name}");
            assert_eq!(client.cmd(&["MGET", &key(name), "none{a}"]).items()[0], "8", "{name}");
            assert_eq!(client.cmd(&["EXISTS", &key(name)]), 1, "{name}");
        }
        let replies = client.pipeline(&[
            vec!["INCR".to_owned(), key("went")],
            vec!["INCR".to_owned(), key("stayed")],
            vec!["GET".to_owned(), key("went")],
            vec!["DEL".to_owned(), key("new")],
            vec!["GET".to_owned(), key("new")],
        ]);
        assert_eq!(replies[..4], [Reply::Int(9), Reply::Int(9), bulk("9"), Reply::Int(1)]);
        assert!(replies[4].is_nil());
    }
    front.cluster.move_keys(slot, 0, 1);
    front.cluster.end_move(slot, 0, 1);
    front.cluster.wait_until_agreed(slot, 1);
    assert_eq!(client.cmd(&["MGET", &key("went"), &key("stayed")]), ["9", "9"]);
    front.cluster.move_slot(slot, 1, 0);
}

#[test]
fn what_needs_keys_of_both_sides_waits_for_the_move_and_not_for_ever() {
    let front = Front::shared();
    let _turn = front.alone();
    let (tag, slot) = key_at(&front, 0, "torn:");
    let [went, stayed] = ["went", "stayed"].map(|name| format!("{name}{{{tag}}}"));
    let mut client = front.proxy.connect();
    client.cmd(&["MSET", &went, "1", &stayed, "2"]);
    front.cluster.begin_move(slot, 0, 1);
    let port = front.cluster.node(1).port().to_string();
    let moved = front
        .cluster
        .node(0)
        .cmd(&["MIGRATE", "127.0.0.1", &port, &went, "0", "5000"]);
    assert_eq!(moved, "OK");
    // Given nobody ends the move, then the client is told in time.
    let begun = time::now();
    let said = client.cmd(&["MGET", &went, &stayed]);
    assert!(said.is_error_with("TRYAGAIN "), "{said:?}");
    assert!(time::now().since(begun) < SOON);
    // Given somebody does meanwhile, then it is answered.
    client.send(&["MGET", &went, &stayed]);
    client.send(&["INCR", "torn{a}"]);
    front.cluster.move_keys(slot, 0, 1);
    front.cluster.end_move(slot, 0, 1);
    assert_eq!(client.reply(), ["1", "2"]);
    assert_eq!(client.reply(), 1);
    front.cluster.wait_until_agreed(slot, 1);
    front.cluster.move_slot(slot, 1, 0);
}

#[test]
fn a_value_in_memory_dies_with_the_move_of_its_slot() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    let (key, slot) = key_at(&front, 0, "value:");
    client.cmd(&["SET", &key, "old"]);
    let line = format!("GET {key}");
    wait_for_hit(&front.proxy, &mut client, &line);
    front.cluster.move_slot(slot, 0, 1);
    front.cluster.node(1).cmd(&["SET", &key, "new"]);
    expect_new(&mut client, &line, &bulk("new"), time::now());
    wait_for_hit(&front.proxy, &mut client, &line);
    // And the other way, with a change while it is on its way.
    front.cluster.begin_move(slot, 1, 0);
    front.cluster.move_keys(slot, 1, 0);
    wait_for("the key to be found", SOON, || client.line(&line) == "new");
    front.cluster.end_move(slot, 1, 0);
    front.cluster.node(0).cmd(&["SET", &key, "newer"]);
    expect_new(&mut client, &line, &bulk("newer"), time::now());
}

#[test]
fn a_key_that_is_not_there_is_seen_when_another_node_creates_it() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    // After the move.
    let (key, slot) = key_at(&front, 0, "absent:");
    let line = format!("GET {key}");
    wait_for_hit(&front.proxy, &mut client, &line);
    front.cluster.move_slot(slot, 0, 1);
    front.cluster.node(1).cmd(&["SET", &key, "new"]);
    expect_new(&mut client, &line, &bulk("new"), time::now());
    // While the slot is on its way: the node that had it is never told.
    let (key, slot) = key_at(&front, 1, "absent:");
    let line = format!("GET {key}");
    wait_for_hit(&front.proxy, &mut client, &line);
    front.cluster.begin_move(slot, 1, 2);
    let mut owner = front.cluster.node(2).client();
    assert_eq!(owner.pipeline(&[vec!["ASKING"], vec!["SET", &key, "new"]])[1], "OK");
    expect_new(&mut client, &line, &bulk("new"), time::now());
    front.cluster.end_move(slot, 1, 2);
    assert_eq!(client.line(&line), "new");
}

#[test]
fn a_slot_that_another_node_takes_is_believed_for_no_longer_than_the_bound() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    for (name, before) in [("taken:", "old"), ("taken:none:", "")] {
        let (key, slot) = key_at(&front, 0, name);
        let line = format!("GET {key}");
        if !before.is_empty() {
            client.cmd(&["SET", &key, before]);
        }
        wait_for_hit(&front.proxy, &mut client, &line);
        front.cluster.take_slot(slot, 1);
        front.cluster.node(1).cmd(&["SET", &key, "new"]);
        // Until it hears of it, the node that had it says it has it.
        wait_for("the other node to hear of it", SOON, || {
            front.cluster.node(0).cmd(&["GET", &key]).is_error_with("MOVED ")
        });
        expect_new(&mut client, &line, &bulk("new"), time::now());
        front.cluster.wait_until_agreed(slot, 1);
    }
}

#[test]
fn a_slot_that_comes_back_has_what_was_changed_meanwhile() {
    let front = Front::shared();
    let _turn = front.alone();
    let mut client = front.proxy.connect();
    let (key, slot) = key_at(&front, 0, "back:");
    let (absent, line) = (format!("absent:{{{key}}}"), format!("GET {key}"));
    let absent_line = format!("GET {absent}");
    for round in 0..3 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        client.cmd(&["SET", &key, &old]);
        client.cmd(&["DEL", &absent]);
        wait_for_hit(&front.proxy, &mut client, &line);
        wait_for_hit(&front.proxy, &mut client, &absent_line);
        front.cluster.move_slot(slot, 0, 1);
        front.cluster.node(1).cmd(&["MSET", &key, &new, &absent, &new]);
        front.cluster.move_slot(slot, 1, 0);
        let changed = time::now();
        expect_new(&mut client, &absent_line, &bulk(&new), changed);
        assert_eq!(client.line(&line), new);
    }
}

/// Writes and reads a key until it is over.
fn write_and_read(front: &Front, key: &str, is_over: &AtomicBool) {
    let (mut client, mut value) = (front.proxy.connect(), 0);
    while !is_over.load(Ordering::Acquire) {
        value += 1;
        let value = value.to_string();
        assert_eq!(client.cmd(&["SET", key, &value]), "OK");
        for _ in 0..3 {
            assert_eq!(client.cmd(&["GET", key]), value);
        }
    }
}

#[test]
fn a_session_that_wrote_reads_it_wherever_the_slot_is() {
    let front = Front::shared();
    let _turn = front.alone();
    let (key, slot) = key_at(&front, 0, "written:");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (front, key, is_over) = (&front, &key, &is_over);
        for number in 0..2 {
            scope.spawn(move || write_and_read(front, &format!("{number}:{{{key}}}"), is_over));
        }
        let _over = Over(is_over);
        for _ in 0..20 {
            front.cluster.move_slot(slot, 0, 1);
            front.cluster.move_slot(slot, 1, 0);
        }
    });
}

#[test]
fn a_transaction_at_a_node_that_lost_the_slot_is_not_run_at_all() {
    let front = Front::shared();
    let _turn = front.alone();
    let (key, slot) = key_at(&front, 2, "exec:");
    let mut client = front.proxy.connect();
    client.cmd(&["SET", &key, "1"]);
    // Given a transaction that was begun where the slot was.
    client.lines_ok(&["MULTI"]);
    assert_eq!(client.cmd(&["INCR", &key]), "QUEUED");
    front.cluster.move_slot(slot, 2, 0);
    let said = told(&mut client, &[&format!("INCR {key}"), "EXEC"]);
    assert!(said[0].starts_with("(error) TRYAGAIN nearhit: "), "{said:?}");
    assert!(said[1].starts_with("(error) "), "{said:?}");
    // Then the next one finds it, and nothing was done.
    let said = told(&mut client, &["MULTI", &format!("INCR {key}"), "EXEC"]);
    assert_eq!(said[2], "[(integer) 2]", "{said:?}");
}
