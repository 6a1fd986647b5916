//! Keeping keys warm: which keys the server is told of, and what its answers mean.

use super::*;
use crate::coherence::TOUCH_PARTS;

const TOUCH_K: &str = "*2\r\n$5\r\nTOUCH\r\n$1\r\nk\r\n";
const VALUE: &str = "$1\r\nv\r\n";

impl Bench {
    /// Goes through the whole near-cache, and gives back what that made T write.
    fn keep_warm(&mut self) -> String {
        self.sent.clear();
        for part in 0..TOUCH_PARTS {
            for touches in self.cache.gather_touches(part, self.now) {
                assert_eq!(touches.origin, self.origin.number());
                self.tracked.touch(&touches.keys, self.now, &mut self.sent);
            }
        }
        text(&self.sent)
    }

    fn skipped(&self) -> u64 {
        let tally = self.cache.tally();
        tally.touches_skipped.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// `k` was answered from memory.
fn hit_once(bench: &mut Bench) {
    bench.fill(VALUE, -1);
    assert_eq!(bench.get("k"), hit(VALUE));
}

#[test]
fn a_key_is_told_once_for_all_its_hits_since_it_was_told_last() {
    let mut bench = Bench::new();
    bench.fill(VALUE, -1);
    assert_eq!(bench.keep_warm(), "", "nobody was answered from memory");
    (0..3).for_each(|_| assert_eq!(bench.get("k"), hit(VALUE)));
    assert_eq!(bench.keep_warm(), TOUCH_K);
    bench.server(":1\r\n");
    assert_eq!(bench.keep_warm(), "");
    bench.get("k");
    assert_eq!(bench.keep_warm(), TOUCH_K);
}

#[test]
fn a_key_with_several_replies_is_told_once_per_database() {
    let mut bench = Bench::new();
    let reads = [
        Read::of("k"),
        Read::of("k").command(STRLEN, Shape::Same),
        Read::of("k").db(2),
    ];
    for read in reads {
        let select = if read.db == 2 { "+OK\r\n" } else { "" };
        assert!(matches!(bench.read(read), Seen::Lead(_)));
        bench.server(format!("{select}+OK\r\n{VALUE}:-1\r\n"));
        assert_eq!(bench.read(read), hit(VALUE));
    }
    let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
    let back = "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n";
    assert_eq!(bench.keep_warm(), format!("{select}{TOUCH_K}{back}{TOUCH_K}"));
    bench.server("+OK\r\n:1\r\n+OK\r\n:1\r\n");
    assert_eq!(bench.entries(), 3);
}

#[test]
fn missing_keys_and_entries_of_a_lost_connection_are_not_told() {
    let mut bench = Bench::new();
    bench.fill("_\r\n", -2);
    assert_eq!(bench.get("k"), hit("_\r\n"));
    assert_eq!(bench.keep_warm(), "");
    let mut bench = Bench::new();
    hit_once(&mut bench);
    bench.reconnect();
    assert_eq!(bench.keep_warm(), "");
}

#[test]
fn an_answer_to_a_touch_renews_the_lease_from_when_it_was_sent() {
    let mut bench = Bench::new();
    hit_once(&mut bench);
    bench.pass(millis(700));
    bench.keep_warm();
    bench.pass(millis(900));
    bench.server(":1\r\n");
    assert_eq!(bench.get("k"), hit(VALUE));
    bench.pass(millis(101));
    assert_ne!(bench.get("k"), hit(VALUE));
}

#[test]
fn a_touch_that_finds_no_key_or_may_not_look_drops_the_key() {
    for answer in [
        ":0\r\n",
        "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n",
        "-MOVED 7 127.0.0.1:1\r\n",
    ] {
        let mut bench = Bench::new();
        hit_once(&mut bench);
        bench.keep_warm();
        bench.server(answer);
        assert_eq!(bench.entries(), 0, "{answer:?}");
        bench.validate();
    }
}

#[test]
fn a_user_who_may_not_touch_is_not_asked_again_and_keeps_its_entries() {
    for answer in [
        "-NOPERM this user has no permissions to run the 'touch' command\r\n",
        "-NOPERM User u has no permissions to run the 'touch' command\r\n",
        "-ERR unknown command 'TOUCH', with args beginning with: 'k'\r\n",
    ] {
        let mut bench = Bench::new();
        hit_once(&mut bench);
        bench.keep_warm();
        bench.server(answer);
        assert_eq!(bench.get("k"), hit(VALUE));
        assert_eq!(bench.keep_warm(), "", "{answer:?}");
    }
}

#[test]
fn a_server_that_has_not_answered_is_given_no_more() {
    let mut bench = Bench::new();
    hit_once(&mut bench);
    bench.keep_warm();
    bench.get("k");
    assert_eq!((bench.keep_warm().as_str(), bench.skipped()), ("", 1));
    bench.server(":1\r\n");
    bench.get("k");
    assert_eq!(bench.keep_warm(), TOUCH_K);
}

#[test]
fn a_refused_select_before_a_touch_fences() {
    let mut bench = Bench::new();
    let read = Read::of("k").db(2);
    bench.read(read);
    bench.server(format!("+OK\r\n+OK\r\n{VALUE}:-1\r\n"));
    bench.read(Read::of("l"));
    bench.server("+OK\r\n+OK\r\n_\r\n:-2\r\n");
    assert_eq!(bench.read(read), hit(VALUE));
    bench.keep_warm();
    assert_eq!(
        bench.receive(b"-ERR DB index is out of range\r\n:1\r\n"),
        Err(Fence::SelectRefused)
    );
}

#[test]
fn more_hot_keys_than_are_told_at_once_have_their_turns() {
    const KEYS: usize = 8192;
    let mut bench = Bench::new();
    let names: Vec<&'static str> = (0..KEYS).map(|key| &*format!("key:{key}").leak()).collect();
    for &name in &names {
        bench.fill_of(Read::of(name), VALUE, -1);
    }
    let mut told = std::collections::HashSet::new();
    let mut random = Random(1);
    for _ in 0..16 {
        names.iter().for_each(|&name| assert_eq!(bench.get(name), hit(VALUE)));
        let touched = bench.keep_warm_all();
        assert!(touched.len() <= 4096, "{}", touched.len());
        told.extend(touched);
        bench.pass(Duration::from_nanos(random.next() % 1_000_003));
    }
    // Each time half of them are told.
    assert!(told.len() > KEYS * 99 / 100, "{} of {KEYS}", told.len());
    assert!(bench.skipped() > 0);
}

impl Bench {
    /// The keys that are told in a whole round; T answers all at once.
    fn keep_warm_all(&mut self) -> Vec<Box<[u8]>> {
        let mut told = Vec::new();
        for part in 0..TOUCH_PARTS {
            for touches in self.cache.gather_touches(part, self.now) {
                self.tracked.touch(&touches.keys, self.now, &mut self.sent);
                self.server(":1\r\n".repeat(touches.keys.len()));
                told.extend(touches.keys.into_iter().map(|touch| touch.key));
            }
        }
        told
    }
}
