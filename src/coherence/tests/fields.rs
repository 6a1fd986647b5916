//! Fields of hashes that expire on their own: when the server is asked, and what its answer means to a reply.

use super::*;
use crate::config::Policy;

const ONE: Read = Read {
    key: "k",
    db: 0,
    command: HGET,
    rest: "$1\r\nf\r\n",
    shape: Shape::Same,
    version: Version::V3,
};
const WHOLE: Read = Read { rest: "", ..ONE };
const TWO: Read = Read {
    rest: "$1\r\nf\r\n$1\r\ng\r\n",
    ..ONE
};

/// A server that knows HPTTL.
fn bench(policies: &[Policy]) -> Bench {
    let bench = Bench::with(eager(), Policies::new(policies, |_| None));
    bench.cache.set_hash_fields_expire(true);
    bench
}

/// The life of a reply, in milliseconds; 0: it is not stored.
fn life(bench: &mut Bench, read: Read, answers: &str) -> u128 {
    bench.read(read);
    bench.server(answers);
    let report = bench.cache.report(b"k", bench.now);
    let entries = report.map(|report| report.entries).unwrap_or_default();
    entries.first().map_or(0, |entry| entry.left.as_millis())
}

#[test]
fn ttls_of_named_fields_are_asked_for_behind_the_read_and_its_pttl() {
    let mut bench = bench(&[]);
    bench.read(TWO);
    let pttl = "*2\r\n$4\r\nPTTL\r\n$1\r\nk\r\n";
    let hpttl = "*6\r\n$5\r\nHPTTL\r\n$1\r\nk\r\n$6\r\nFIELDS\r\n$1\r\n2\r\n$1\r\nf\r\n$1\r\ng\r\n";
    assert!(text(&bench.sent).ends_with(&format!("{pttl}{hpttl}")));
}

#[test]
fn nothing_is_asked_of_a_server_that_is_not_known_to_answer() {
    let mut unknown = Bench::new();
    unknown.read(ONE);
    let mut old = Bench::new();
    old.cache.set_hash_fields_expire(false);
    old.read(ONE);
    let mut whole = bench(&[]);
    whole.read(WHOLE);
    let mut free = bench(&[Policy::new("free", "k").hash_field_ttl(false)]);
    free.read(ONE);
    for bench in [unknown, old, whole, free] {
        assert!(!text(&bench.sent).contains("HPTTL"));
    }
}

#[test]
fn a_reply_lives_until_the_first_of_its_fields_expires() {
    for (read, answers, expected) in [
        (ONE, "+OK\r\n$1\r\nv\r\n:-1\r\n*1\r\n:-1\r\n", 60_000),
        (ONE, "+OK\r\n$1\r\nv\r\n:-1\r\n*1\r\n:70\r\n", 70),
        (ONE, "+OK\r\n$1\r\nv\r\n:50\r\n*1\r\n:70\r\n", 50),
        (
            TWO,
            "+OK\r\n*2\r\n$1\r\nv\r\n$1\r\nw\r\n:-1\r\n*2\r\n:9000\r\n:80\r\n",
            80,
        ),
        (TWO, "+OK\r\n*2\r\n$1\r\nv\r\n_\r\n:-1\r\n*2\r\n:-1\r\n:-2\r\n", 60_000),
        // It is over, or was over before it was asked.
        (ONE, "+OK\r\n$1\r\nv\r\n:-1\r\n*1\r\n:0\r\n", 0),
        (ONE, "+OK\r\n$1\r\nv\r\n:-1\r\n*1\r\n:-2\r\n", 0),
        // Missing keys: HMGET says so of each field.
        (TWO, "+OK\r\n*2\r\n_\r\n_\r\n:-2\r\n*2\r\n:-2\r\n:-2\r\n", 1000),
        // A user who may not ask.
        (ONE, "+OK\r\n$1\r\nv\r\n:-1\r\n-NOPERM no\r\n", 1000),
        (WHOLE, "+OK\r\n%1\r\n$1\r\nf\r\n$1\r\nv\r\n:-1\r\n", 1000),
    ] {
        assert_eq!(life(&mut bench(&[]), read, answers), expected, "{answers:?}");
    }
}

#[test]
fn a_policy_without_field_ttls_keeps_hashes_like_other_keys() {
    let policy = || [Policy::new("free", "k").hash_field_ttl(false)];
    for read in [ONE, WHOLE] {
        assert_eq!(life(&mut bench(&policy()), read, "+OK\r\n$1\r\nv\r\n:-1\r\n"), 60_000);
    }
}

/// HPEXPIRE of a stranger between the read and the question: the answer is about another state than the reply.
#[test]
fn a_change_between_the_read_and_the_answer_keeps_the_reply_out() {
    let change = text(INVALIDATE_K);
    for answers in [
        format!("+OK\r\n$1\r\nv\r\n:-1\r\n{change}*1\r\n:9000\r\n"),
        format!("+OK\r\n$1\r\nv\r\n{change}:-1\r\n*1\r\n:9000\r\n"),
    ] {
        let mut bench = bench(&[]);
        assert_eq!(life(&mut bench, ONE, &answers), 0);
        assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
        bench.validate();
    }
}

#[test]
fn an_answer_of_another_kind_means_that_replies_have_slipped() {
    let mut bench = bench(&[]);
    bench.read(ONE);
    let fence = bench.receive(b"+OK\r\n$1\r\nv\r\n:-1\r\n$1\r\nw\r\n");
    assert!(matches!(fence, Err(Fence::Protocol(_))), "{fence:?}");
}
