//! Every kind of write that Redis announces to clients that track: what is there before, what is read, what is written.
//!
//! `$` at the start of a key keeps the cases of one server apart; it is replaced by a prefix.

/// One kind of write.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Commands that prepare the keys, separated by `;`.
    pub setup: &'static str,
    /// Cacheable reads, separated by `;`. Each says something else afterwards.
    pub reads: &'static str,
    /// The write: commands of one connection, separated by `;`.
    pub write: &'static str,
}

const fn case(setup: &'static str, reads: &'static str, write: &'static str) -> Case {
    Case { setup, reads, write }
}

impl Case {
    /// The commands of one part, their keys prefixed.
    pub fn lines(part: &str, prefix: &str) -> Vec<String> {
        part.split(';')
            .map(|line| line.trim().replace('$', prefix))
            .filter(|line| !line.is_empty())
            .collect()
    }
}

/// All cases that can run through a shared connection of the proxy as well as directly.
#[rustfmt::skip] // A case is one line.
pub const CASES: &[Case] = &[
    // Strings.
    case("SET $k a", "GET $k; STRLEN $k; GETRANGE $k 0 -1", "SET $k bb"),
    case("", "GET $k; EXISTS $k; TYPE $k; STRLEN $k", "SET $k a"),
    case("SET $k a", "GET $k", "SET $k b KEEPTTL"),
    case("SET $k a", "GET $k", "SET $k b XX GET"),
    case("", "GET $k", "SETNX $k b"),
    case("SET $k a", "GET $k", "SETEX $k 100 b"),
    case("SET $k a", "GET $k", "PSETEX $k 100000 b"),
    case("SET $k a", "GET $k", "GETSET $k b"),
    case("SET $k a; SET $j a", "GET $k; GET $j", "MSET $k b $j c"),
    case("", "GET $k; GET $j", "MSETNX $k b $j c"),
    case("SET $k a", "GET $k; STRLEN $k", "APPEND $k b"),
    case("SET $k a", "GET $k", "SETRANGE $k 3 b"),
    case("SET $k a", "GET $k; GETBIT $k 7; BITCOUNT $k", "SETBIT $k 7 0"),
    case("SET $k a", "GET $k; BITPOS $k 1", "BITFIELD $k SET u8 0 7"),
    case("SET $k 1", "GET $k", "INCR $k"),
    case("SET $k 1", "GET $k", "INCRBY $k 4"),
    case("SET $k 1", "GET $k", "INCRBYFLOAT $k 0.5"),
    case("SET $k 1", "GET $k", "DECR $k"),
    case("SET $k 1", "GET $k", "DECRBY $k 4"),
    case("SET $k a", "GET $k; EXISTS $k; TYPE $k", "GETDEL $k"),
    case("SET $k a", "GET $k", "GETEX $k PXAT 1"),
    case("SET $a a; SET $b b; SET $d d", "GET $d", "BITOP OR $d $a $b"),
    // Any type.
    case("SET $k a", "GET $k; EXISTS $k; TYPE $k", "DEL $k"),
    case("SET $k a", "GET $k", "UNLINK $k"),
    case("SET $k a", "GET $k", "EXPIRE $k 0"),
    case("SET $k a", "GET $k", "EXPIREAT $k 1"),
    case("SET $k a", "GET $k", "PEXPIRE $k -1"),
    case("SET $k a", "GET $k", "PEXPIREAT $k 1"),
    case("SET $k a", "GET $k; GET $j", "RENAME $k $j"),
    case("SET $k a; SET $j b", "GET $k; GET $j", "RENAME $k $j"),
    case("SET $k a", "GET $k; GET $j; EXISTS $j", "RENAMENX $k $j"),
    case("SET $k a", "GET $j", "COPY $k $j"),
    case("SET $k a; SET $j b", "GET $j", "COPY $k $j REPLACE"),
    case("SET $k a", "GET $k; EXISTS $k", "MOVE $k 1"),
    case("SET $k a", "TYPE $k", "DEL $k; HSET $k f v"),
    case("RPUSH $k 3 1 2; SET $d x", "TYPE $d", "SORT $k STORE $d"),
    // Hashes.
    case("HSET $k f a", "HGET $k f; HGETALL $k; HLEN $k; HEXISTS $k g; HMGET $k f g; HSTRLEN $k f; HKEYS $k; HVALS $k", "HSET $k f bb g c"),
    case("", "HGET $k f; HGETALL $k; HLEN $k; HEXISTS $k f; HMGET $k f g", "HMSET $k f a"),
    case("", "HGET $k f", "HSETNX $k f a"),
    case("HSET $k f 1", "HGET $k f", "HINCRBY $k f 1"),
    case("HSET $k f 1", "HGET $k f", "HINCRBYFLOAT $k f 0.5"),
    case("HSET $k f 1 g 2", "HGET $k f; HLEN $k", "HDEL $k f"),
    // Lists.
    case("RPUSH $k a", "LRANGE $k 0 -1; LINDEX $k 0; LLEN $k", "LPUSH $k b"),
    case("RPUSH $k a", "LRANGE $k 0 -1", "LPUSHX $k b"),
    case("RPUSH $k a", "LRANGE $k 0 -1", "RPUSH $k b"),
    case("RPUSH $k a", "LRANGE $k 0 -1", "RPUSHX $k b"),
    case("RPUSH $k a b", "LRANGE $k 0 -1; LPOS $k b", "LPOP $k"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "RPOP $k 2"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "LSET $k 0 c"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "LINSERT $k BEFORE b x"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "LREM $k 0 a"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "LTRIM $k 1 1"),
    case("RPUSH $k a b", "LRANGE $k 0 -1; LLEN $j", "LMOVE $k $j LEFT RIGHT"),
    case("RPUSH $k a b", "LRANGE $k 0 -1; LLEN $j", "RPOPLPUSH $k $j"),
    case("RPUSH $k a b", "LRANGE $k 0 -1", "LMPOP 1 $k LEFT COUNT 2"),
    // Sets.
    case("SADD $k a", "SMEMBERS $k; SISMEMBER $k b; SMISMEMBER $k a b; SCARD $k", "SADD $k b"),
    case("", "SMEMBERS $k; SISMEMBER $k b; SMISMEMBER $k a b; SCARD $k", "SADD $k b"),
    case("SADD $k a b", "SMEMBERS $k", "SREM $k a"),
    case("SADD $k a", "SMEMBERS $k", "SPOP $k"),
    case("SADD $k a b", "SISMEMBER $k a; SMEMBERS $j", "SMOVE $k $j a"),
    case("SADD $k a b; SADD $j b c", "SMEMBERS $d", "SINTERSTORE $d $k $j"),
    case("SADD $k a b; SADD $j b c; SADD $d x", "SMEMBERS $d", "SUNIONSTORE $d $k $j"),
    case("SADD $k a b; SADD $j b c; SADD $d x", "SMEMBERS $d", "SDIFFSTORE $d $k $j"),
    // Sorted sets.
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1 WITHSCORES; ZSCORE $k a; ZRANK $k a; ZREVRANK $k a; ZCOUNT $k 0 2; ZREVRANGE $k 0 0; ZRANGEBYSCORE $k 0 2 WITHSCORES; ZMSCORE $k a b", "ZADD $k 3 a"),
    case("", "ZRANGE $k 0 -1; ZSCORE $k a; ZRANK $k a; ZCARD $k; ZCOUNT $k 0 2", "ZADD $k 1 a"),
    case("ZADD $k 1 a", "ZSCORE $k a", "ZINCRBY $k 1.5 a"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1; ZCARD $k", "ZREM $k a"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1", "ZPOPMIN $k"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1", "ZPOPMAX $k"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1", "ZMPOP 1 $k MIN"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1", "ZREMRANGEBYRANK $k 0 0"),
    case("ZADD $k 1 a 2 b", "ZRANGE $k 0 -1", "ZREMRANGEBYSCORE $k 1 1"),
    case("ZADD $k 0 a 0 b", "ZRANGE $k 0 -1; ZLEXCOUNT $k - +", "ZREMRANGEBYLEX $k [a [a"),
    case("ZADD $k 1 a 2 b; ZADD $d 1 x", "ZRANGE $d 0 -1", "ZRANGESTORE $d $k 0 -1"),
    case("ZADD $k 1 a; ZADD $j 1 a 2 b; ZADD $d 1 x", "ZRANGE $d 0 -1", "ZUNIONSTORE $d 2 $k $j"),
    case("ZADD $k 1 a; ZADD $j 1 a 2 b; ZADD $d 1 x", "ZRANGE $d 0 -1", "ZINTERSTORE $d 2 $k $j"),
    case("ZADD $k 1 a; ZADD $j 1 a 2 b; ZADD $d 1 x", "ZRANGE $d 0 -1", "ZDIFFSTORE $d 2 $j $k"),
    // Streams.
    case("XADD $k 1-1 f v", "XRANGE $k - +; XREVRANGE $k + -; XLEN $k", "XADD $k 2-1 f w"),
    case("", "XRANGE $k - +; XLEN $k", "XADD $k 2-1 f w"),
    case("XADD $k 1-1 f v; XADD $k 2-1 f w", "XRANGE $k - +; XLEN $k", "XDEL $k 1-1"),
    case("XADD $k 1-1 f v; XADD $k 2-1 f w", "XRANGE $k - +; XLEN $k", "XTRIM $k MAXLEN 1"),
    case("", "TYPE $k; EXISTS $k", "XGROUP CREATE $k g 0 MKSTREAM"),
    // Geo.
    case("GEOADD $k 13.36 38.11 p", "GEOPOS $k p; GEOSEARCH $k FROMLONLAT 15 37 BYRADIUS 400 km ASC; GEOHASH $k p; GEODIST $k p q", "GEOADD $k 14.5 37.5 p 15.08 37.5 q"),
    case("", "GEOPOS $k p; GEOSEARCH $k FROMLONLAT 15 37 BYRADIUS 400 km ASC", "GEOADD $k 15.08 37.5 p"),
    case("GEOADD $k 13.36 38.11 p; ZADD $d 1 x", "ZRANGE $d 0 -1; ZCARD $j", "GEOSEARCHSTORE $d $k FROMLONLAT 15 37 BYRADIUS 400 km; GEORADIUS $k 15 37 400 km STORE $j"),
    // HyperLogLogs.
    case("PFADD $k a", "GET $k", "PFADD $k b"),
    case("PFADD $k a; PFADD $j b", "GET $k", "PFMERGE $k $j"),
    case("PFADD $k a b c", "GET $k", "PFCOUNT $k"),
    // Scripts, transactions, another database.
    case("SET $k a", "GET $k", "EVAL 'return redis.call(\"SET\", KEYS[1], \"b\")' 1 $k"),
    case("SET $k a", "GET $k", "EVAL 'return redis.call(\"SET\", ARGV[1], \"b\")' 0 $k"),
    case("SET $k a; SET $j a", "GET $k; GET $j", "EVAL 'redis.call(\"DEL\", ARGV[1]) return redis.call(\"INCR\", ARGV[2])' 0 $k $n; EVAL 'return redis.call(\"DEL\", KEYS[1])' 1 $j"),
    case("SET $k a; HSET $h f a", "GET $k; HGETALL $h", "MULTI; SET $k b; HSET $h f b; EXEC"),
    case("SET $k a", "GET $k", "MULTI; EVAL 'return redis.call(\"SET\", ARGV[1], \"b\")' 0 $k; EXEC"),
    case("SET $k a; RPUSH $l x", "GET $k; LLEN $l", "MULTI; RENAME $l $k; EXEC"),
];
