//! Commands of every kind through nearhit: each reply is the server's, byte for byte, the first time, the second (a fill)
//! and the third (a hit), in both protocols.

mod session_support;
mod support;

use session_support::{Pair, commands};

/// What the reads below find.
const DATA: &str = "\
    SET str hello | SET num 41 | SET float 1.5 | SET bits foobar | HSET hash f1 v1 f2 2 | RPUSH list a b c a | \
    SADD set 3 1 2 | SADD set2 2 5 | ZADD zset 1 a 2.5 b 3 c inf d | XADD stream 1-1 f v | XADD stream 2-1 g w x y | \
    XGROUP CREATE stream group 0 | GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | \
    PFADD hll a b c | SET fading x PXAT 99999999999999";

/// Reads and errors: asking again changes nothing.
const READS: &str = "\
    PING | PING hello | PING a b | ECHO hi | ECHO | GET str | GET num | GET missing | GET hash | GET | GET a b | \
    get str | gEt str | MGET str num missing hash | MGET str | MGET | STRLEN str | STRLEN missing | STRLEN list | \
    GETRANGE str 1 3 | GETRANGE str -3 -1 | GETRANGE str x 1 | SUBSTR str 0 1 | GETBIT bits 6 | GETBIT bits x | \
    BITCOUNT bits | BITCOUNT bits 0 0 | BITCOUNT bits 5 30 BIT | BITPOS bits 1 | BITPOS bits 2 | \
    BITFIELD_RO bits GET u8 0 | LCS str bits | LCS str bits LEN | LCS str bits IDX | EXISTS str | \
    EXISTS str str missing | EXISTS | TYPE str | TYPE zset | TYPE missing | TTL str | TTL missing | PTTL str | \
    EXPIRETIME fading | PEXPIRETIME fading | TOUCH str missing | KEYS str | DUMP missing | OBJECT ENCODING str | \
    OBJECT ENCODING num | OBJECT ENCODING missing | OBJECT REFCOUNT hash | OBJECT FOO str | OBJECT | OBJECT HELP | \
    SORT set | SORT set DESC LIMIT 0 2 | SORT_RO list ALPHA | SORT list | HGET hash f1 | HGET hash missing | \
    HGET missing f | HGET str f | HGET hash | HGETALL hash | HGETALL missing | HGETALL str | HMGET hash f1 missing | \
    HKEYS hash | HVALS hash | HLEN hash | HLEN missing | HEXISTS hash f1 | HEXISTS hash f9 | HSTRLEN hash f1 | \
    HRANDFIELD missing | HRANDFIELD missing 3 | HRANDFIELD missing 3 WITHVALUES | HSCAN hash 0 | HSCAN hash x | \
    HINCRBY hash f1 1 | HINCRBY hash f2 x | LRANGE list 0 -1 | LRANGE list 5 9 | LRANGE missing 0 -1 | \
    LRANGE str 0 -1 | LRANGE list a b | LINDEX list 0 | LINDEX list 99 | LLEN list | LLEN str | LPOS list a | \
    LPOS list a COUNT 0 | LPOS list z | LPOS list a RANK 0 | LSET list 99 x | LSET missing 0 x | LPOP missing | \
    LPOP missing 2 | LPUSH str x | RPOPLPUSH missing list | SMEMBERS set | SMEMBERS missing | SMEMBERS str | \
    SISMEMBER set 1 | SISMEMBER set x | SMISMEMBER set 1 9 | SMISMEMBER missing 1 | SCARD set | SCARD missing | \
    SINTER set set2 | SUNION set set2 | SDIFF set set2 | SINTERCARD 2 set set2 | SINTERCARD 0 set | \
    SRANDMEMBER missing | SRANDMEMBER missing 2 | SSCAN set 0 | ZRANGE zset 0 -1 | ZRANGE zset 0 -1 WITHSCORES | \
    ZRANGE zset (1 3 BYSCORE | ZRANGE zset 0 -1 REV | ZRANGE zset - + BYLEX | ZRANGE zset a b | \
    ZRANGE missing 0 -1 WITHSCORES | ZREVRANGE zset 0 -1 WITHSCORES | \
    ZRANGEBYSCORE zset -inf +inf WITHSCORES LIMIT 1 2 | ZREVRANGEBYSCORE zset +inf -inf | ZRANGEBYLEX zset - + | \
    ZREVRANGEBYLEX zset + - | ZRANGEBYSCORE zset x y | ZSCORE zset a | ZSCORE zset b | ZSCORE zset d | \
    ZSCORE zset missing | ZSCORE str a | ZMSCORE zset a b nope | ZRANK zset b | ZRANK zset nope | ZREVRANK zset a | \
    ZCARD zset | ZCOUNT zset 1 2 | ZCOUNT zset x 2 | ZLEXCOUNT zset - + | ZRANDMEMBER missing | ZSCAN zset 0 | \
    ZRANDMEMBER missing 2 WITHSCORES | ZDIFF 2 zset missing WITHSCORES | ZINTER 2 zset set WITHSCORES | \
    ZUNION 2 zset zset WITHSCORES | ZINTERCARD 2 zset zset | ZPOPMIN missing | ZPOPMAX missing 2 | ZADD zset x a | \
    ZADD zset NX XX 1 a | ZINCRBY zset x a | ZADD zset XX INCR 1 nope | XRANGE stream - + | XREVRANGE stream + - | \
    XRANGE stream - + COUNT 1 | XRANGE missing - + | XLEN stream | XREAD STREAMS stream 0 | \
    XREAD COUNT 1 STREAMS stream 0 | XREAD STREAMS stream $ | XREAD STREAMS stream | XREAD STREAMS missing 0 | \
    XINFO STREAM stream | XINFO GROUPS stream | XINFO STREAM missing | \
    XPENDING stream group | XADD stream 1-1 f v | XADD stream * f | XRANGE str - + | \
    XREADGROUP GROUP nope c STREAMS stream > | XACK stream group 1-1 | GEOPOS geo Palermo missing | \
    GEODIST geo Palermo Catania | GEODIST geo Palermo missing | GEOHASH geo Palermo | \
    GEOSEARCH geo FROMLONLAT 15 37 BYRADIUS 200 km ASC | GEORADIUS_RO geo 15 37 200 km WITHDIST WITHCOORD ASC | \
    GEOSEARCH geo FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST | PFCOUNT hll | PFCOUNT str | PFCOUNT missing | \
    INCR str | INCRBY num x | INCRBYFLOAT str 1 | SETBIT str x 1 | SETEX str x v | SET str v EX 0 | SET str v FOO | \
    SETRANGE str -1 x | EXPIRE str x | EXPIRE missing 10 | RENAME missing other | COPY missing other | MOVE str 99 | \
    RESTORE str 0 garbage | APPEND list x | GETSET list x | GETDEL list | GETEX missing | GETEX list | CONFIG | \
    CONFIG GET maxmemory | CONFIG GET max*entries | CONFIG SET nosuch 1 | DBSIZE | LASTSAVE x | COMMAND GETKEYS GET a | \
    COMMAND INFO get | COMMAND GETKEYS SET a b | COMMAND DOCS get | MEMORY USAGE missing | SLOWLOG HELP | ACL WHOAMI | \
    PUBSUB CHANNELS | PUBSUB NUMSUB a | PUBLISH nobody hi | SPUBLISH nobody hi | \
    EVAL return{1,'a',{2,false},redis.status_reply('S')} 0 | EVAL return{double=3.5} 0 | EVAL return(nil) 0 | \
    EVAL return(redis.call('get',KEYS[1])) 1 str | EVAL return(redis.call('incr',KEYS[1])) 1 str | EVAL x 0 | \
    EVAL return(redis.error_reply('MY_ERR')) 0 | EVAL return x | EVAL return 1 | EVALSHA ffff 0 | \
    EVAL_RO return(1) 0 | EVAL redis.setresp(3);return{map={a='b'}} 0 | \
    EVAL redis.setresp(3);return(redis.call('hgetall','hash')) 0 | \
    EVAL redis.setresp(3);return(redis.call('zscore','zset','b')) 0 | FCALL nosuch 0 | FUNCTION LIST | \
    SCRIPT EXISTS ff | SCRIPT LOAD return(1) | SCRIPT FLUSH BAD | SWAPDB 0 99 | FLUSHALL BAD | ROLE | \
    LOLWUT VERSION x | SCAN 0 MATCH str COUNT 1000 | SCAN x | SCAN 0 COUNT 0 | LATENCY RESET nosuch";

/// What is about the connection, or takes one of its own: each on a new connection, between two cached reads.
const STATE: &str = "\
    NOSUCH | NOSUCH a b c | nosuch \"x | CONFIG NOSUCH | XGROUP NOSUCH a | CLIENT NOSUCH | CLIENT | CLIENT KILL | \
    CLIENT GETNAME | CLIENT GETNAME x | CLIENT SETNAME | CLIENT SETNAME me | CLIENT SETNAME a\u{e9} | CLIENT REPLY | \
    CLIENT REPLY maybe | CLIENT CACHING YES | CLIENT TRACKING maybe | CLIENT GETREDIR | CLIENT NO-EVICT x | SELECT | \
    SELECT a b | SELECT x | SELECT 99 | SELECT -1 | SELECT +1 | SELECT 01 | SELECT 1 | SELECT 99999999999999999999 | \
    AUTH | AUTH a b c d | AUTH x | AUTH x y | AUTH default x | EXEC | DISCARD | EXEC x | UNWATCH | RESET x | RESET | \
    MULTI x | WATCH | WAIT 0 1 | BLPOP list x | BLPOP list -1 | BLPOP str 1 | SUBSCRIBE | UNSUBSCRIBE | \
    PUNSUBSCRIBE nope | SUNSUBSCRIBE | HELLO | HELLO 2 | HELLO 3 | HELLO 4 | HELLO 1 | HELLO x | HELLO +3 | HELLO 03 | \
    HELLO 3 FOO | HELLO 3 foo bar | HELLO 3 SETNAME | HELLO 3 SETNAME me | HELLO 2 SETNAME a\u{e9} | HELLO 3 AUTH x | \
    HELLO 3 AUTH nosuch x | HELLO 3 AUTH default x | HELLO 99999999999999999999 | DEBUG SLEEP 0 | ASKING | READONLY | \
    CLUSTER INFO | CLIENT PAUSE x | CLIENT UNPAUSE | MONITOR x | SCRIPT DEBUG maybe | DEBUG | CLIENT HELP | \
    FAILOVER ABORT | SHUTDOWN ABORT";

/// Writes, in this order; then [`READS`] tell whether they arrived.
const WRITES: &str = "\
    SET str world | SET str again GET | SET str x NX | SET fresh 1 NX | SETNX str y | SETNX fresh2 1 | GETSET str z | \
    APPEND str tail | INCR num | INCRBY num 7 | DECR num | DECRBY num 2 | INCRBYFLOAT float 0.25 | MSET a 1 b 2 | \
    MSETNX a 1 new 2 | SETBIT bits 7 1 | SETRANGE str 2 ZZ | BITOP AND dest bits str | BITFIELD bits SET u8 0 200 | \
    GETDEL a | GETEX b PERSIST | SETEX timed 1000 v | PSETEX timed 1000000 v | PERSIST timed | EXPIRE timed 1000 NX | \
    EXPIREAT timed 99999999999 | PEXPIRE timed 100000 GT | DEL fresh missing | UNLINK fresh2 | RENAME b c | \
    RENAMENX c str | COPY str copy | COPY str copy REPLACE | HSET hash f3 v3 f1 w | HSETNX hash f1 x | \
    HMSET hash m 1 | HINCRBY hash f2 5 | HINCRBYFLOAT hash f2 0.5 | HDEL hash m missing | LPUSH list z | \
    RPUSH list y | LPUSHX nope a | RPUSHX list b | LPOP list | RPOP list 2 | LREM list 1 a | LSET list 0 new | \
    LTRIM list 0 2 | LINSERT list BEFORE new first | LMOVE list list2 LEFT RIGHT | RPOPLPUSH list list2 | \
    LMPOP 1 list2 LEFT | SADD set 7 8 | SREM set 1 | SMOVE set set2 7 | SINTERSTORE sdest set set2 | \
    SUNIONSTORE sdest set set2 | SDIFFSTORE sdest set set2 | ZADD zset 5 e 6 f | ZADD zset CH GT 9 e | \
    ZADD zset INCR 1 a | ZINCRBY zset 2.25 a | ZREM zset f | ZPOPMIN zset | ZPOPMAX zset 1 | ZMPOP 1 zset MIN | \
    ZADD zset 1 a 2 b 3 c | ZRANGESTORE zd zset 0 1 | ZREMRANGEBYRANK zset 0 0 | ZREMRANGEBYSCORE zset 3 3 | \
    ZREMRANGEBYLEX zset [x [y | ZUNIONSTORE zd 2 zset zset | ZINTERSTORE zd 2 zset zset WEIGHTS 1 2 | \
    ZDIFFSTORE zd 2 zset missing | XADD stream 3-1 a b | XDEL stream 1-1 | XTRIM stream MAXLEN 2 | \
    XREADGROUP GROUP group me STREAMS stream > | XPENDING stream group | XACK stream group 2-1 | \
    XGROUP CREATECONSUMER stream group you | XGROUP DELCONSUMER stream group you | XSETID stream 9-9 | \
    XAUTOCLAIM stream group me 0 0 | XCLAIM stream group me 0 3-1 | XGROUP DELCONSUMER stream group me | \
    GEOADD geo 2.35 48.85 Paris | \
    GEOSEARCHSTORE gd geo FROMMEMBER Palermo BYRADIUS 500 km | PFADD hll d | PFMERGE hll2 hll | \
    SORT set STORE sorted | EVAL return(redis.call('set',KEYS[1],ARGV[1])) 1 str scripted | \
    EVAL return(redis.call('incr','num')) 0 | MOVE copy 3 | SWAPDB 0 4 | SWAPDB 4 0 | FUNCTION FLUSH | DEL str | \
    SET num 41";

#[test]
fn every_reply_is_the_servers_the_first_second_and_third_time() {
    for version in [2, 3] {
        let pair = Pair::start();
        let mut twin = pair.twin_in(version);
        twin.lines(&commands(DATA));
        let before = pair.hits();
        twin.table(&commands(READS), 3);
        assert!(pair.hits() - before > 100.0, "RESP{version}: the third times are hits");
        // A write is seen by the very next read, whatever was cached.
        for write in commands(WRITES) {
            twin.line(write);
            let key = write.split(' ').nth(1).expect("a key");
            twin.lines(&[&format!("TYPE {key}"), &format!("EXISTS {key}"), &format!("GET {key}")]);
        }
        twin.table(&commands(READS), 1);
    }
}

#[test]
fn commands_about_the_connection_answer_as_the_server_and_leave_the_session_usable() {
    let pair = Pair::start();
    pair.foreign("SET str hello");
    let mut differences = Vec::new();
    for version in [2, 3] {
        for line in commands(STATE) {
            let mut twin = pair.twin_in(version);
            for line in ["GET str", line, line, "GET str", "PING"] {
                differences.extend(twin.compare(line));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
