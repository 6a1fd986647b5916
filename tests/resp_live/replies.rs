//! Replies: RESP3 made RESP2, and structured values, compared with what the server sends.

use nearhit::resp::{Shape, Value, Version, to_resp2};

use crate::server::{Connection, Server};

/// Sets up one value of every kind, with the numbers that are hard to print.
const FILL: &[&str] = &[
    "SET string hello",
    "SET number 3.0e3",
    "SET empty ''",
    "RPUSH list a b c",
    "HSET hash f1 v1 f2 v2 f3 3",
    "SADD set a b c",
    "SADD numbers 1 2 3",
    "ZADD zset 1 one 2.5 two-and-a-half -inf low +inf high 0.1 tenth 3.3333333333333335 third 1e300 large 1e-7 small",
    "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "XADD stream 1-1 field value other 2",
    "XADD stream 2-1 field value",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group me COUNT 1 STREAMS stream >",
    "PFADD hll a b c",
    "SETBIT bits 7 1",
    "SET lcs1 ohmytext",
    "SET lcs2 mynewtext",
];

/// Reads whose reply in RESP2 must be what `to_resp2` makes of the reply in RESP3.
const READS: &[(Shape, &str)] = &[
    (Shape::Same, "STRLEN string"),
    (Shape::Same, "EXISTS string missing"),
    (Shape::Same, "TYPE string"),
    (Shape::Same, "LRANGE list 0 -1"),
    (Shape::Generic, "GET string"),
    (Shape::Generic, "GET missing"),
    (Shape::Generic, "GET empty"),
    (Shape::Generic, "GET hash"),
    (Shape::Generic, "GETRANGE missing 0 -1"),
    (Shape::Generic, "MGET string missing hash number"),
    (Shape::Generic, "LINDEX list 9"),
    (Shape::Generic, "LPOS list missing"),
    (Shape::Generic, "HGETALL hash"),
    (Shape::Generic, "HGETALL missing"),
    (Shape::Generic, "HMGET hash f1 none f3"),
    (Shape::Generic, "HGET hash none"),
    (Shape::Generic, "HSCAN hash 0"),
    (Shape::Generic, "SMEMBERS set"),
    (Shape::Generic, "SMEMBERS missing"),
    (Shape::Generic, "SINTER set set"),
    (Shape::Generic, "SMISMEMBER set a z"),
    (Shape::Generic, "SISMEMBER set a"),
    (Shape::Generic, "ZSCORE zset third"),
    (Shape::Generic, "ZSCORE zset low"),
    (Shape::Generic, "ZSCORE zset large"),
    (Shape::Generic, "ZSCORE zset missing"),
    (Shape::Generic, "ZMSCORE zset tenth missing small"),
    (Shape::Pairs, "ZRANGE zset 0 -1"),
    (Shape::Pairs, "ZRANGE zset 0 -1 WITHSCORES"),
    (Shape::Pairs, "ZRANGE missing 0 -1 WITHSCORES"),
    (Shape::Pairs, "ZRANGE string 0 -1 WITHSCORES"),
    (Shape::Pairs, "ZREVRANGE zset 0 -1 WITHSCORES"),
    (Shape::Pairs, "ZRANGEBYSCORE zset -inf +inf WITHSCORES"),
    (Shape::Pairs, "ZREVRANGEBYSCORE zset +inf -inf WITHSCORES LIMIT 0 2"),
    (Shape::Pairs, "ZUNION 2 zset zset WITHSCORES"),
    (Shape::Pairs, "ZINTER 2 zset zset WITHSCORES"),
    (Shape::Pairs, "ZDIFF 2 zset missing WITHSCORES"),
    (Shape::Generic, "ZSCAN zset 0"),
    (Shape::Generic, "ZRANK zset tenth"),
    (Shape::Generic, "ZRANK zset missing"),
    (Shape::NilArray, "ZRANK zset tenth WITHSCORE"),
    (Shape::NilArray, "ZRANK zset missing WITHSCORE"),
    (Shape::NilArrayElements, "GEOPOS geo Palermo missing Catania"),
    (Shape::NilArrayElements, "GEOPOS missing a b"),
    (Shape::Generic, "GEODIST geo Palermo Catania"),
    (Shape::Generic, "GEODIST geo Palermo missing"),
    (Shape::Generic, "GEOHASH geo Palermo missing"),
    (
        Shape::Generic,
        "GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST WITHCOORD WITHHASH",
    ),
    (Shape::Generic, "XRANGE stream - +"),
    (Shape::Generic, "XRANGE missing - +"),
    (Shape::Generic, "XREVRANGE stream + - COUNT 1"),
    (Shape::Generic, "XPENDING stream group"),
    (Shape::Generic, "XINFO GROUPS stream"),
    (Shape::Generic, "XINFO STREAM stream"),
    (Shape::Generic, "XLEN stream"),
    (Shape::Generic, "PFCOUNT hll"),
    (Shape::Generic, "GETBIT bits 7"),
    (Shape::Generic, "BITFIELD_RO bits GET u8 0"),
    (Shape::Generic, "LCS lcs1 lcs2 IDX WITHMATCHLEN"),
    (Shape::Generic, "LCS lcs1 lcs2"),
    (Shape::Generic, "SORT_RO numbers BY nosort GET # GET missing_*"),
    (Shape::Generic, "DUMP missing"),
    (Shape::Generic, "OBJECT ENCODING string"),
    (Shape::Generic, "OBJECT ENCODING missing"),
    (Shape::Generic, "TTL string"),
    (Shape::Generic, "CONFIG GET maxmemory*"),
    (Shape::Generic, "COMMAND INFO GET"),
    (Shape::Generic, "LATENCY DOCTOR"),
    (Shape::Generic, "NOSUCHCOMMAND a b"),
    (Shape::Generic, "GET too many"),
];

fn fill(connection: &mut Connection) {
    for command in FILL {
        let reply = connection.call(&command.split(' ').collect::<Vec<_>>());
        assert!(!reply.starts_with(b"-"), "{command}: {}", reply.escape_ascii());
    }
}

#[test]
fn resp2_clients_get_exactly_the_bytes_redis_would_have_sent() {
    let server = Server::start();
    let (mut resp2, mut resp3) = (server.connect(Version::V2), server.connect(Version::V3));
    fill(&mut resp2);
    for (shape, command) in READS {
        let args: Vec<_> = command.split(' ').collect();
        let (expected, fetched) = (resp2.call(&args), resp3.call(&args));
        let mut converted = Vec::new();
        to_resp2(*shape, &fetched, &mut converted).expect("a whole reply");
        assert_eq!(
            converted.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{command}: {}",
            fetched.escape_ascii()
        );
    }
}

#[test]
fn random_members_have_the_same_shape_in_resp2() {
    let server = Server::start();
    let (mut resp2, mut resp3) = (server.connect(Version::V2), server.connect(Version::V3));
    for command in ["HSET one f v", "ZADD zone 1.5 m"] {
        resp2.call(&command.split(' ').collect::<Vec<_>>());
    }
    for (shape, command) in [
        (Shape::Pairs, "HRANDFIELD one -3 WITHVALUES"),
        (Shape::Pairs, "ZRANDMEMBER zone -3 WITHSCORES"),
        (Shape::Pairs, "ZRANDMEMBER zone -3"),
        (Shape::Generic, "HRANDFIELD one"),
    ] {
        let args: Vec<_> = command.split(' ').collect();
        let mut converted = Vec::new();
        to_resp2(shape, &resp3.call(&args), &mut converted).expect("a whole reply");
        assert_eq!(
            converted.escape_ascii().to_string(),
            resp2.call(&args).escape_ascii().to_string(),
            "{command}"
        );
    }
}

#[test]
fn what_a_script_answers_is_converted_too() {
    let server = Server::start();
    let (mut resp2, mut resp3) = (server.connect(Version::V2), server.connect(Version::V3));
    for script in [
        "redis.setresp(3); return {map={b=1}}",
        "redis.setresp(3); return {set={x=true}}",
        "redis.setresp(3); return {double=3.25}",
        "redis.setresp(3); return {double=1e300}",
        "redis.setresp(3); return true",
        "redis.setresp(3); return false",
        "redis.setresp(3); return {big_number='12345678901234567890'}",
        "redis.setresp(3); return {verbatim_string={format='txt', string='hi'}}",
        "return {1,{2,{3,{}}},'x',redis.status_reply('S')}",
        "return redis.status_reply('a\\rb\\nc\\r\\nd')",
        "return redis.error_reply('ERR a\\rb\\nc')",
    ] {
        let args = ["EVAL", script, "0"];
        let (expected, fetched) = (resp2.call(&args), resp3.call(&args));
        let mut converted = Vec::new();
        to_resp2(Shape::Generic, &fetched, &mut converted).expect("a whole reply");
        assert_eq!(
            converted.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{script}: {}",
            fetched.escape_ascii()
        );
    }
}

#[test]
fn structured_replies_are_read_in_both_protocols() {
    let server = Server::start();
    for version in [Version::V2, Version::V3] {
        let mut connection = server.connect(version);
        let digit = if version == Version::V2 { "2" } else { "3" };
        let hello = Value::decode(&connection.call(&["HELLO", digit]), version).expect("a map");
        assert_eq!(hello.get(b"server").and_then(Value::as_bytes), Some(&b"redis"[..]));
        assert!(hello.get(b"id").and_then(Value::as_integer).is_some_and(|id| id > 0));
        for args in [
            &["INFO"][..],
            &["ROLE"],
            &["COMMAND"],
            &["COMMAND", "DOCS"],
            &["CONFIG", "GET", "*"],
        ] {
            let reply = connection.call(args);
            let value = Value::decode(&reply, version).expect("a reply");
            let mut again = Vec::new();
            value.encode(version, &mut again);
            assert!(again == reply, "{args:?} reads and writes back the same");
        }
    }
}

#[test]
fn an_invalidation_is_a_push_of_its_own() {
    let server = Server::start();
    let (mut reader, mut writer) = (server.connect(Version::V3), server.connect(Version::V2));
    reader.call(&["CLIENT", "TRACKING", "ON"]);
    reader.call(&["GET", "key"]);
    writer.call(&["SET", "key", "value"]);
    let push = Value::decode(&reader.reply(), Version::V3).expect("a push");
    assert_eq!(
        push,
        Value::Push(vec![Value::bulk("invalidate"), Value::Array(vec![Value::bulk("key")])])
    );
    writer.call(&["FLUSHALL"]);
    let push = Value::decode(&reader.reply(), Version::V3).expect("a push");
    assert_eq!(push, Value::Push(vec![Value::bulk("invalidate"), Value::Null]));
}
