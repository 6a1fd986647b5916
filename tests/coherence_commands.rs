//! Every command whose replies are cached is answered from memory, and the bytes are those of the server itself.

mod coherence_support;
mod support;

use coherence_support::{Bench, PROTOCOLS, Protocol, bytes, run};
use support::Resp;

/// What the server holds: one key of each type, and large ones.
fn fill(direct: &mut Resp) {
    for line in [
        "SET string 'Hello, World'",
        "SET number 42",
        "SET empty ''",
        "HSET hash f1 v1 f2 v2 f3 ''",
        "RPUSH list a b c a",
        "SADD set a b c",
        "SADD ints 1 2 3",
        "ZADD zset 1 a 2.5 b -inf c inf d 0.1 e 3.0000000000000004 f",
        "XADD stream 1-1 f v",
        "XADD stream 2-1 f w g x",
        "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "PFADD hll a b c",
        "SETBIT bits 7 1",
    ] {
        run(direct, line);
    }
    let big = "x".repeat(100_000);
    direct.cmd(&["SET", "big", &big]);
    for number in 0..3000 {
        let (member, score) = (format!("member-{number}"), format!("{number}.5"));
        direct.cmd(&["HSET", "bighash", &member, &score]);
        direct.cmd(&["ZADD", "bigzset", &score, &member]);
    }
}

/// Reads and the type of key they are for; `$` is replaced by a key of that type, by a missing one and by a wrong one.
#[rustfmt::skip] // A command is one line.
const READS: &[(&str, &str)] = &[
    ("string", "GET $"), ("string", "STRLEN $"), ("string", "GETRANGE $ 1 4"), ("string", "GETRANGE $ -3 -1"),
    ("string", "SUBSTR $ 0 2"), ("string", "GETBIT $ 3"), ("string", "BITCOUNT $"), ("string", "BITPOS $ 1"),
    ("string", "BITFIELD_RO $ GET u8 0 GET i4 3"),
    ("number", "GET $"), ("empty", "GET $"), ("empty", "STRLEN $"), ("empty", "EXISTS $"), ("bits", "GET $"),
    ("hll", "GET $"), ("big", "GET $"), ("big", "GETRANGE $ 0 20000"), ("string", "EXISTS $"), ("string", "TYPE $"),
    ("hash", "TYPE $"), ("stream", "TYPE $"), ("zset", "EXISTS $"),
    ("hash", "HGET $ f1"), ("hash", "HGET $ nosuch"), ("hash", "HGET $ f3"), ("hash", "HMGET $ f1 nosuch f2"),
    ("hash", "HGETALL $"), ("hash", "HLEN $"), ("hash", "HEXISTS $ f1"), ("hash", "HEXISTS $ nosuch"),
    ("hash", "HKEYS $"), ("hash", "HVALS $"), ("hash", "HSTRLEN $ f1"), ("bighash", "HGETALL $"), ("bighash", "HKEYS $"),
    ("list", "LRANGE $ 0 -1"), ("list", "LRANGE $ 5 9"), ("list", "LINDEX $ 0"), ("list", "LINDEX $ -9"), ("list", "LLEN $"),
    ("list", "LPOS $ a"), ("list", "LPOS $ z"), ("list", "LPOS $ a COUNT 0"), ("list", "LPOS $ z COUNT 0"),
    ("set", "SMEMBERS $"), ("ints", "SMEMBERS $"), ("set", "SISMEMBER $ a"), ("set", "SISMEMBER $ z"),
    ("set", "SMISMEMBER $ a z b"), ("set", "SCARD $"),
    ("zset", "ZSCORE $ b"), ("zset", "ZSCORE $ c"), ("zset", "ZSCORE $ f"), ("zset", "ZSCORE $ nosuch"),
    ("zset", "ZMSCORE $ a nosuch d"), ("zset", "ZRANGE $ 0 -1"), ("zset", "ZRANGE $ 0 -1 WITHSCORES"),
    ("zset", "ZRANGE $ 0 -1 REV WITHSCORES"), ("zset", "ZRANGE $ (0 5 BYSCORE LIMIT 0 2"), ("zset", "ZRANGE $ 9 9 WITHSCORES"),
    ("zset", "ZRANGE $ - + BYLEX"), ("zset", "ZREVRANGE $ 0 1"), ("zset", "ZREVRANGE $ 0 -1 WITHSCORES"),
    ("zset", "ZRANGEBYSCORE $ -inf +inf"), ("zset", "ZRANGEBYSCORE $ -inf +inf WITHSCORES LIMIT 1 2"),
    ("zset", "ZREVRANGEBYSCORE $ +inf -inf WITHSCORES"), ("zset", "ZRANGEBYLEX $ - +"), ("zset", "ZREVRANGEBYLEX $ + -"),
    ("zset", "ZRANK $ b"), ("zset", "ZRANK $ nosuch"), ("zset", "ZREVRANK $ b"), ("zset", "ZCARD $"),
    ("zset", "ZCOUNT $ -inf 2"), ("zset", "ZLEXCOUNT $ - +"), ("bigzset", "ZRANGE $ 0 -1 WITHSCORES"),
    ("stream", "XRANGE $ - +"), ("stream", "XRANGE $ - + COUNT 1"), ("stream", "XRANGE $ 3 4"), ("stream", "XREVRANGE $ + -"),
    ("stream", "XLEN $"),
    ("geo", "GEOPOS $ Palermo nosuch Catania"), ("geo", "GEOPOS $ nosuch"), ("geo", "GEODIST $ Palermo Catania km"),
    ("geo", "GEODIST $ Palermo nosuch"), ("geo", "GEOHASH $ Palermo nosuch"),
    ("geo", "GEOSEARCH $ FROMLONLAT 15 37 BYRADIUS 200 km ASC"),
    ("geo", "GEOSEARCH $ FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST WITHHASH"),
    ("geo", "GEORADIUS_RO $ 15 37 200 km WITHDIST"), ("geo", "GEORADIUSBYMEMBER_RO $ Palermo 200 km WITHCOORD"),
    ("geo", "ZRANGE $ 0 -1 WITHSCORES"),
];

#[track_caller]
fn same(got: &[u8], wanted: &[u8], what: &str) {
    assert!(
        got == wanted,
        "{what}:\n  got    {}\n  wanted {}",
        got[..got.len().min(400)].escape_ascii(),
        wanted[..wanted.len().min(400)].escape_ascii()
    );
}

/// All bytes a client gets for each read: the first is fetched, the others may come from memory.
fn readings(
    bench: &Bench,
    first: Protocol,
    second: Protocol,
    line: impl Fn(&str, &str) -> Option<String>,
) -> (usize, f64) {
    let (mut filler, mut client) = (bench.client(first), bench.client(second));
    let (mut truth1, mut truth2) = (bench.direct(first), bench.direct(second));
    let (hits, mut lines) = (bench.hits(), 0);
    for line in READS.iter().filter_map(|(key, read)| line(key, read)) {
        let fetched = bytes(&mut filler, &line);
        same(
            &fetched,
            &bytes(&mut truth1, &line),
            &format!("{line:?}, fetched by {first:?}"),
        );
        let wanted = bytes(&mut truth2, &line);
        for _ in 0..3 {
            same(
                &bytes(&mut client, &line),
                &wanted,
                &format!("{line:?}, for {second:?}"),
            );
        }
        lines += 1;
    }
    (lines, bench.hits() - hits)
}

fn hits_of(line: impl Fn(&str, &str) -> Option<String>) -> Vec<(usize, f64)> {
    let bench = Bench::always("tracking");
    fill(&mut bench.direct(Protocol::Resp2));
    let mut found = Vec::new();
    for first in PROTOCOLS {
        for second in PROTOCOLS {
            found.push(readings(&bench, first, second, &line));
            bench.start_over();
        }
    }
    found
}

#[test]
fn hits_have_the_bytes_of_the_server() {
    for (lines, hits) in hits_of(|key, read| Some(read.replace('$', key))) {
        // The first of the three may be a moment too early for a hit, the other two are not.
        assert!(hits >= 2.0 * lines as f64, "{hits} hits of {lines} reads");
    }
}

#[test]
fn hits_of_missing_keys_have_the_bytes_of_the_server() {
    for (lines, hits) in hits_of(|_, read| Some(read.replace('$', "nosuchkey"))) {
        assert!(hits >= 2.0 * lines as f64, "{hits} hits of {lines} reads");
    }
}

#[test]
fn errors_are_the_servers_and_are_never_cached() {
    let wrong = |key: &str, read: &str| {
        let any_type = read.starts_with("EXISTS") || read.starts_with("TYPE");
        let wrong = if key == "list" { "hash" } else { "list" };
        (!any_type).then(|| read.replace('$', wrong))
    };
    for (_, hits) in hits_of(wrong) {
        assert!(hits < 1.0, "{hits} errors came from memory");
    }
}

/// Each read alone, so that a missing hit has a name.
#[test]
fn the_third_read_of_every_command_is_a_hit() {
    let bench = Bench::always("tracking");
    let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
    fill(&mut direct);
    let mut commands: Vec<&str> = Vec::new();
    for (key, read) in READS {
        let name = read.split(' ').next().expect("a name");
        if !commands.contains(&name) {
            commands.push(name);
            bench.read_from_memory(&mut client, &read.replace('$', key));
            bench.read_from_memory(&mut client, &read.replace('$', &format!("nosuchkey-{name}")));
        }
    }
}

#[test]
fn one_entry_serves_every_spelling_of_a_command() {
    let bench = Bench::always("tracking");
    let mut client = bench.client(Protocol::Resp3);
    run(&mut client, "SET k v");
    bench.read_from_memory(&mut client, "GET k");
    let (hits, calls) = (bench.hits(), bench.calls("get"));
    for spelling in ["get k", "Get k", "gET k"] {
        assert_eq!(bytes(&mut client, spelling), b"$1\r\nv\r\n");
    }
    client.send_raw("GET k\r\nget \"k\"\r\n");
    assert_eq!(client.reply(), "v");
    assert_eq!(client.reply(), "v");
    assert_eq!(bench.hits() - hits, 5.0);
    assert_eq!(bench.calls("get"), calls);
}

#[test]
fn keys_and_arguments_of_any_bytes_are_told_apart() {
    let bench = Bench::always("tracking");
    for protocol in PROTOCOLS {
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        let keys: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\r\n",
            b"a b",
            b"a",
            b"A",
            "\u{e4}".as_bytes(),
            b"\xff\xfe",
        ];
        for (number, key) in keys.iter().enumerate() {
            direct.cmd(&[b"HSET".as_slice(), key, key, number.to_string().as_bytes()]);
        }
        for _ in 0..4 {
            for (number, key) in keys.iter().enumerate() {
                assert_eq!(client.cmd(&[b"HGET".as_slice(), key, key]), number.to_string());
                assert!(client.cmd(&[b"HGET".as_slice(), key, b"other"]).is_nil());
            }
        }
        for key in keys {
            direct.cmd(&[b"HSET".as_slice(), key, key, b"new"]);
            let seen = support::eventually(coherence_support::BOUND, || {
                client.cmd(&[b"HGET".as_slice(), key, key]) == "new"
            });
            assert!(seen, "{}", key.escape_ascii());
            direct.cmd(&[b"DEL".as_slice(), key]);
        }
    }
    assert!(bench.hits() > 32.0);
}

#[test]
fn what_is_not_cacheable_is_never_a_hit() {
    let bench = Bench::always("tracking");
    let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
    fill(&mut direct);
    for line in [
        "EXISTS string hash",
        "EXISTS string string",
        "TTL string",
        "PTTL string",
        "EXPIRETIME string",
        "PEXPIRETIME string",
        "DUMP string",
        "TOUCH string",
        "OBJECT ENCODING string",
        "HRANDFIELD hash",
        "SRANDMEMBER set",
        "ZRANDMEMBER zset",
        "HSCAN hash 0",
        "SSCAN set 0",
        "ZSCAN zset 0",
        "SINTER set ints",
        "SUNION set ints",
        "ZUNION 1 zset",
        "ZINTERCARD 1 zset",
        "XREAD STREAMS stream 0",
        "XINFO STREAM stream",
        "LCS string number",
        "SORT_RO ints",
        "SORT ints",
        "GETEX string",
        "BITFIELD string GET u8 0",
        "PFCOUNT hll",
        "EVAL_RO 'return redis.call(\"GET\", KEYS[1])' 1 string",
        "SCAN 0",
        "DBSIZE",
        "GEORADIUS geo 15 37 200 km",
    ] {
        let hits = bench.hits();
        (0..4).for_each(|_| drop(run(&mut client, line)));
        assert_eq!(bench.hits(), hits, "{line:?}");
    }
}
