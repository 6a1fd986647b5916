//! Reply shapes, held against one server that answers the same request in both protocols.

mod command_support;

use std::collections::HashSet;

use command_support::{OwnedRequest, Reply, Server};
use nearhit::command::{Cacheable, CommandTable, Lookup};
use nearhit::resp::Shape;

/// What the requests below read.
const DATA: &str = "SET s hello|SET b abcdef|RPUSH l a b c b|SADD set x y|HSET h f 1 g 2|ZADD z 1 one 2.5 two inf three \
    -inf four|GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania|XADD x 1-1 f v|XADD x 2-1 f w g w";

/// Requests that read it, what is missing, and what is of another type.
const REQUESTS: &str = "GET s|GET none|GET l|STRLEN s|STRLEN none|GETRANGE s 1 3|SUBSTR s 0 -1|GETBIT s 7|BITCOUNT s|BITCOUNT s 0 1 BIT\
    |BITPOS s 1|BITFIELD_RO s GET u8 0 GET i5 1|BITFIELD_RO none GET u8 0|EXISTS s|EXISTS none|TYPE z|TYPE none|MGET s none l\
    |HGET h f|HGET h none|HGET none f|HMGET h f none g|HMGET none f|HGETALL h|HGETALL none|HKEYS h|HVALS h|HLEN h|HEXISTS h f\
    |HSTRLEN h f|HRANDFIELD h -3|HRANDFIELD h 2 WITHVALUES|HRANDFIELD none|HRANDFIELD none 2|LRANGE l 0 -1|LRANGE none 0 -1\
    |LINDEX l 1|LINDEX l 9|LLEN l|LPOS l b|LPOS l none|LPOS l b COUNT 0|LPOS l none COUNT 0|LPOS none a COUNT 1\
    |SMEMBERS set|SMEMBERS none|SISMEMBER set x|SMISMEMBER set x q|SCARD set|SDIFF set none|SINTER set set|SUNION set none\
    |SINTERCARD 1 set|ZSCORE z two|ZSCORE z none|ZMSCORE z one none three four|ZMSCORE none a|ZCARD z|ZCOUNT z 1 2\
    |ZLEXCOUNT z - +|ZRANGE z 0 -1|ZRANGE z 0 -1 WITHSCORES|ZRANGE z 0 1|ZRANGE z 5 9 WITHSCORES|ZRANGE z 0 5 BYSCORE WITHSCORES\
    |ZREVRANGE z 0 -1 WITHSCORES|ZREVRANGE z 0 1|ZRANGEBYSCORE z -inf inf WITHSCORES|ZRANGEBYSCORE z 0 1\
    |ZREVRANGEBYSCORE z inf -inf WITHSCORES LIMIT 0 2|ZRANGEBYLEX z - +|ZREVRANGEBYLEX z + -|ZRANK z two|ZRANK z none\
    |ZRANK none a|ZREVRANK z one|ZREVRANK z none|ZRANK z two WITHSCORE|ZRANK z none WITHSCORE|ZREVRANK z two WITHSCORE\
    |ZREVRANK none a WITHSCORE|ZRANDMEMBER z 0|ZRANDMEMBER none|ZDIFF 1 z WITHSCORES|ZDIFF 2 z none|ZINTER 1 z WITHSCORES|ZUNION 1 z\
    |ZUNION 2 z none WITHSCORES|ZINTERCARD 1 z|GEODIST geo Palermo Catania|GEODIST geo Palermo none|GEOHASH geo Palermo none\
    |GEOPOS geo Palermo none|GEOPOS none a b|GEOPOS geo|GEOSEARCH geo FROMMEMBER Palermo BYRADIUS 200 km WITHCOORD WITHDIST WITHHASH\
    |GEOSEARCH geo FROMMEMBER Palermo BYRADIUS 200 km|GEORADIUS_RO geo 15 37 200 km WITHCOORD WITHDIST\
    |GEORADIUSBYMEMBER_RO geo Palermo 200 km WITHCOORD|GEORADIUS_RO none 15 37 200 km|XLEN x|XRANGE x - +|XRANGE none - +\
    |XREVRANGE x + - COUNT 1|LCS s b|LCS s b IDX WITHMATCHLEN|LCS s b LEN|TTL s|EXPIRETIME s|OBJECT ENCODING s|OBJECT ENCODING none\
    |MEMORY USAGE none|XINFO STREAM x|XINFO GROUPS x|XPENDING x nogroup|SORT_RO l ALPHA GET none_*|DUMP none|RANDOMKEY|DBSIZE\
    |GET s s|ZRANGE l 0 -1 WITHSCORES";

/// Turns a RESP3 reply into RESP2 as the documentation of [`Shape`] says.
fn to_resp2(shape: Shape, reply: Reply) -> Reply {
    match (shape, reply) {
        (Shape::Same, reply) => reply,
        (Shape::NilArray, Reply::Null) => Reply::NilArray,
        (Shape::NilArrayElements, Reply::Array(items)) => {
            Reply::Array(items.into_iter().map(|item| to_resp2(Shape::NilArray, item)).collect())
        }
        (Shape::Pairs, Reply::Array(items))
            if items
                .iter()
                .all(|item| matches!(item, Reply::Array(pair) if pair.len() == 2)) =>
        {
            let pairs = items.into_iter().flat_map(|item| item.items().to_vec());
            Reply::Array(pairs.map(|item| to_resp2(Shape::Generic, item)).collect())
        }
        (_, Reply::Array(items) | Reply::Set(items) | Reply::Map(items)) => {
            Reply::Array(items.into_iter().map(|item| to_resp2(Shape::Generic, item)).collect())
        }
        (_, Reply::Double(text)) => Reply::Bulk(text),
        (_, Reply::Null) => Reply::Nil,
        (_, reply) => reply,
    }
}

fn words(request: &str) -> Vec<&str> {
    request.split_whitespace().collect()
}

#[test]
fn a_reply_in_resp3_becomes_the_servers_reply_in_resp2() {
    let server = Server::start(&[]);
    let (mut second, mut third) = (server.connect(), server.connect());
    assert!(matches!(third.call(&["HELLO", "3"]), Reply::Map(_)));
    for write in DATA.split('|') {
        assert!(!matches!(second.call(&words(write)), Reply::Error(_)), "{write}");
    }
    let table = CommandTable::builtin();
    let mut seen = HashSet::new();
    for text in REQUESTS.split('|') {
        let owned = OwnedRequest::new(&words(text));
        let Lookup::Known(command) = table.lookup(&owned.request()) else {
            panic!("{text} has no row")
        };
        let shape = command.shape(&owned.request());
        let converted = to_resp2(shape, third.call(&words(text)));
        let expected = second.call(&words(text));
        // Random replies differ in anything but their form.
        let form = |reply: &Reply| {
            (
                std::mem::discriminant(reply),
                matches!(reply, Reply::Array(_)).then(|| reply.items().len()),
            )
        };
        if ["hrandfield", "randomkey"].contains(&command.name()) {
            assert_eq!(form(&converted), form(&expected), "{text}: {converted:?} {expected:?}");
        } else {
            assert_eq!(converted, expected, "{text} as {shape:?}");
        }
        seen.insert(command.name().to_owned());
    }
    let unseen: Vec<_> = table
        .iter()
        .filter(|row| row.cache != Cacheable::No && !seen.contains(row.name()))
        .collect();
    assert!(
        unseen.is_empty(),
        "no request for {:?}",
        unseen.iter().map(|row| row.name()).collect::<Vec<_>>()
    );
}
