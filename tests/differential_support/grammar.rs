//! What clients say: templates of commands by group, and what may stand in their gaps.
//!
//! A template is a line of words; `{name}` is filled with one of [`gap`]'s choices. Templates are separated by ` | `.
//! Replies must depend on nothing but the commands: keys of which a random member is asked have one member, stream ids
//! and times are absolute, and what cannot be made equal stands in `wanted.rs`.

/// A group of commands: its templates.
pub type Group = str;

pub const STRINGS: &Group = "\
    SET {s} {v} | SET {s} {n} | SET {s} {v} NX | SET {s} {v} XX | SET {s} {v} GET | SET {s} {v} EX {ttl} | \
    SET {s} {v} PXAT {at} KEEPTTL | SET {s} {v} KEEPTTL | SET {s} {v} EX 0 | SETNX {s} {v} | SETEX {s} {ttl} {v} | \
    PSETEX {s} {ttlms} {v} | SETEX {s} -1 {v} | GET {s} | GET {s} | GET {s} | GET {s} | GET {s} | GET {any} | \
    GETDEL {s} | GETEX {s} | GETEX {s} PERSIST | GETEX {s} EXAT {at} | GETSET {s} {v} | MGET {s} {s} {any} | \
    MGET {s} {s} | MGET {s} | MSET {s} {v} {s} {n} | MSET {s} {v} {s} | MSETNX {s} {v} {s} {v} | APPEND {s} {v} | \
    STRLEN {s} | STRLEN {any} | INCR {s} | DECR {s} | INCRBY {s} {n} | DECRBY {s} {n} | INCRBYFLOAT {s} {r} | \
    GETRANGE {s} {i} {i} | SUBSTR {s} {i} {i} | SETRANGE {s} {off} {v} | LCS {s} {s} | LCS {s} {s} IDX WITHMATCHLEN";

pub const BITS: &Group = "\
    SETBIT {b} {off} 1 | SETBIT {b} {off} 0 | GETBIT {b} {off} | BITCOUNT {b} | BITCOUNT {b} {i} {i} BIT | \
    BITCOUNT {b} {i} | BITPOS {b} 1 | BITPOS {b} 0 {i} {i} | BITOP AND {b} {b} {s} | BITOP NOT {b} {b} | \
    BITOP XOR {b} {b} {b} | BITFIELD {b} SET u8 {off} {n} GET u4 0 | BITFIELD {b} INCRBY i5 {off} 1 OVERFLOW FAIL | \
    BITFIELD_RO {b} GET u8 0 | BITFIELD_RO {b} SET u8 0 1 | GET {b} | \
    GEOADD {g} 13.361389 38.115556 Palermo 15.087269 37.502669 Catania | GEOADD {g} NX CH 2.349 48.8566 Paris | \
    GEOADD {g} 200 100 nowhere | GEODIST {g} Palermo Catania | GEODIST {g} Palermo Catania km | \
    GEODIST {g} Palermo none | GEOHASH {g} Palermo Catania none | GEOPOS {g} Palermo none | \
    GEOSEARCH {g} FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHCOORD WITHDIST WITHHASH | \
    GEOSEARCH {g} FROMMEMBER Palermo BYBOX 400 400 km ASC COUNT 1 | GEOSEARCHSTORE {g} {g} FROMMEMBER Palermo BYRADIUS 500 km ASC STOREDIST | \
    GEORADIUS {g} 15 37 200 km WITHDIST ASC | GEORADIUS_RO {g} 15 37 100 km ASC | GEORADIUSBYMEMBER {g} Palermo 200 km ASC | \
    GEORADIUS {g} 15 37 200 km STORE {z} | PFADD {p} a b c | PFADD {p} {v} | PFADD {p} | PFCOUNT {p} | PFCOUNT {p} {p} | \
    PFMERGE {p} {p} | PFCOUNT {any} | PFDEBUG ENCODING {p} | STRLEN {p}";

pub const LISTS: &Group = "\
    LPUSH {l} {v} {v} | RPUSH {l} {v} | RPUSH {l} 1 2 3 | LPUSHX {l} {v} | RPUSHX {l} {v} | LPOP {l} | RPOP {l} | \
    LPOP {l} {i} | RPOP {l} 2 | LRANGE {l} 0 -1 | LRANGE {l} {i} {i} | LRANGE {l} 0 -1 | LLEN {l} | LINDEX {l} {i} | \
    LSET {l} {i} {v} | LINSERT {l} BEFORE {v} {v} | LREM {l} {i} {v} | LTRIM {l} {i} {i} | LPOS {l} {v} | \
    LPOS {l} {v} RANK -1 COUNT 0 | LMOVE {l} {l} LEFT RIGHT | LMOVE {l} {l} LEFT SIDEWAYS | RPOPLPUSH {l} {l} | \
    LMPOP 2 {l} {l} LEFT COUNT 2 | LMPOP 1 {l} MIDDLE | LMPOP 0 {l} LEFT | SORT {l} ALPHA | SORT {l} | \
    SORT {l} ALPHA DESC LIMIT 0 2 STORE {l} | SORT_RO {l} BY nosort GET # GET {s}* | LLEN {any}";

pub const SETS: &Group = "\
    SADD {u} {m} {m} {m} | SADD {u} {m} | SREM {u} {m} {m} | SMEMBERS {u} | SMEMBERS {u} | SCARD {u} | SISMEMBER {u} {m} | \
    SMISMEMBER {u} {m} {m} | SMOVE {u} {u} {m} | SUNION {u} {u} | SINTER {u} {u} | SDIFF {u} {u} | SUNIONSTORE {u} {u} {u} | \
    SINTERSTORE {u} {u} {u} | SDIFFSTORE {u} {u} {u} | SINTERCARD 2 {u} {u} LIMIT 2 | SINTERCARD 0 {u} | SADD {one} a | \
    SPOP {one} | SPOP {one} 3 | SPOP {one} -1 | SRANDMEMBER {one} | SRANDMEMBER {one} 3 | SRANDMEMBER {one} -2 | \
    SMEMBERS {one} | SSCAN {u} 0 | SSCAN {one} 0 MATCH a* COUNT 10 | SSCAN {u} x | SORT {u} | SORT {u} STORE {l} | SCARD {any}";

pub const HASHES: &Group = "\
    HSET {h} {f} {v} {f} {v} | HSET {h} {f} | HSETNX {h} {f} {v} | HMSET {h} {f} {v} | HGET {h} {f} | HGET {h} {f} | \
    HMGET {h} {f} {f} none | HGETALL {h} | HGETALL {h} | HKEYS {h} | HVALS {h} | HLEN {h} | HSTRLEN {h} {f} | HEXISTS {h} {f} | \
    HDEL {h} {f} {f} | HINCRBY {h} {f} {n} | HINCRBYFLOAT {h} {f} {r} | HSCAN {h} 0 | HSCAN {h} 0 COUNT 100 MATCH f* | \
    HSET {oneh} f v | HRANDFIELD {oneh} | HRANDFIELD {oneh} 2 WITHVALUES | HRANDFIELD {oneh} -2 | HLEN {any}";

pub const ZSETS: &Group = "\
    ZADD {z} {r} {f} {r} {f} | ZADD {z} NX CH {r} {f} | ZADD {z} XX GT {r} {f} | ZADD {z} INCR {r} {f} | ZADD {z} NX XX 1 a | \
    ZINCRBY {z} {r} {f} | ZREM {z} {f} {f} | ZCARD {z} | ZSCORE {z} {f} | ZMSCORE {z} {f} none | ZRANK {z} {f} | ZREVRANK {z} {f} | \
    ZRANGE {z} 0 -1 | ZRANGE {z} 0 -1 WITHSCORES | ZRANGE {z} (1 +inf BYSCORE LIMIT 0 2 | ZRANGE {z} [a (c BYLEX REV | \
    ZRANGESTORE {z} {z} 0 1 | ZREVRANGE {z} 0 -1 WITHSCORES | ZRANGEBYSCORE {z} -inf {r} WITHSCORES | \
    ZREVRANGEBYSCORE {z} +inf {r} | ZRANGEBYLEX {z} - + | ZREVRANGEBYLEX {z} + - | ZCOUNT {z} -inf {r} | ZLEXCOUNT {z} - + | \
    ZPOPMIN {z} | ZPOPMAX {z} 2 | ZMPOP 1 {z} MIN COUNT 2 | ZREMRANGEBYRANK {z} 0 0 | ZREMRANGEBYSCORE {z} 5 9 | \
    ZREMRANGEBYLEX {z} [b [c | ZUNION 2 {z} {z} WITHSCORES | ZINTER 2 {z} {z} WEIGHTS 2 1 AGGREGATE MAX | ZDIFF 2 {z} {z} WITHSCORES | \
    ZUNIONSTORE {z} 2 {z} {z} | ZINTERSTORE {z} 1 {z} | ZDIFFSTORE {z} 2 {z} {z} | ZINTERCARD 1 {z} | ZSCAN {z} 0 | \
    ZADD {onez} 1.5 a | ZRANDMEMBER {onez} | ZRANDMEMBER {onez} 2 WITHSCORES | ZRANDMEMBER {onez} -2 | ZCARD {any}";

pub const STREAMS: &Group = "\
    XADD {x} {id} {f} {v} | XADD {x} {id} {f} {v} {f} {v} | XADD {x} NOMKSTREAM {id} {f} {v} | XADD {x} MAXLEN 2 {id} {f} {v} | \
    XADD {x} 0-0 a b | XADD {x} {id} {f} | XLEN {x} | XRANGE {x} - + | XRANGE {x} {id} + COUNT 1 | XREVRANGE {x} + - | \
    XREVRANGE {x} + ({id} | XDEL {x} {id} | XTRIM {x} MAXLEN 1 | XTRIM {x} MINID {id} | XSETID {x} 99-1 | \
    XREAD STREAMS {x} 0 | XREAD COUNT 1 STREAMS {x} {x} 0 {id} | XREAD STREAMS {x} $ | XREAD STREAMS {x} | \
    XGROUP CREATE {x} {grp} 0 MKSTREAM | XGROUP CREATE {x} {grp} $ | XGROUP CREATE {x} {grp} | XGROUP SETID {x} {grp} 0 | \
    XGROUP DESTROY {x} {grp} | XGROUP CREATECONSUMER {x} {grp} {f} | XGROUP DELCONSUMER {x} {grp} {f} | \
    XREADGROUP GROUP {grp} {f} COUNT 2 STREAMS {x} > | XREADGROUP GROUP {grp} {f} STREAMS {x} 0 | \
    XREADGROUP GROUP {grp} {f} NOACK STREAMS {x} > | XACK {x} {grp} {id} | XPENDING {x} {grp} | XCLAIM {x} {grp} {f} 0 {id} | \
    XCLAIM {x} {grp} {f} 0 {id} JUSTID | XAUTOCLAIM {x} {grp} {f} 0 0 COUNT 5 | XINFO STREAM {x} | XINFO GROUPS {x} | XINFO NOSUCH {x} | \
    XLEN {any}";

pub const KEYS: &Group = "\
    DEL {any} | DEL {any} {any} {any} | UNLINK {any} | EXISTS {any} | EXISTS {any} {any} | TYPE {any} | TYPE {any} | TOUCH {any} {any} | \
    RENAME {any} {any} | RENAMENX {any} {any} | COPY {any} {any} | COPY {any} {any} REPLACE | COPY {any} {any} DB {db} REPLACE | \
    MOVE {any} {db} | EXPIRE {any} {ttl} | EXPIRE {any} -1 | EXPIRE {any} {ttl} NX | PEXPIREAT {any} {at} | EXPIREAT {any} 1 | \
    EXPIRE {any} {ttl} GT LT | PERSIST {any} | TTL {any} | PTTL {any} | EXPIRETIME {any} | PEXPIRETIME {any} | OBJECT ENCODING {any} | \
    OBJECT REFCOUNT {s} | OBJECT FREQ {any} | OBJECT HELP | OBJECT NOSUCH {any} | DUMP {s} | DUMP {l} | \
    RESTORE {any} 0 {dump} | RESTORE {any} 0 {dump} REPLACE | RESTORE {any} 0 {v} | MEMORY USAGE {l} | SCAN 0 COUNT 1000 | \
    SCAN 0 MATCH nothing* COUNT 1000 | SCAN 0 TYPE list COUNT 1000 | SCAN x | KEYS nothing* | KEYS * | DBSIZE | RANDOMKEY x | \
    SORT {l} ALPHA LIMIT 0 1 | WAIT 0 0 | FLUSHDB | SWAPDB 0 {db} | SWAPDB 0 99 | OBJECT ENCODING none";

pub const SCRIPTS: &Group = "\
    EVAL {lua1} 1 {s} {v} | EVAL {lua1} 1 {s} {n} | EVAL {lua1} 1 {any} {v} | EVAL {lua0} 0 | EVAL_RO {lua0} 0 | \
    EVAL_RO {lua1} 1 {s} {v} | EVAL {hidden} 0 | EVAL {lua1} 3 {s} | EVAL {lua1} -1 | EVAL {lua0} x | SCRIPT LOAD {lua1} | \
    EVALSHA {sha} 1 {s} {v} | EVALSHA_RO {sha} 1 {s} {v} | EVALSHA nosuch 0 | SCRIPT EXISTS {sha} {sha} | SCRIPT FLUSH | \
    SCRIPT HELP | SCRIPT KILL | FUNCTION LOAD {lib} | FUNCTION LOAD REPLACE {lib} | FUNCTION LOAD {v} | FCALL setget 1 {s} {v} | \
    FCALL_RO get 1 {s} | FCALL_RO setget 1 {s} {v} | FCALL none 0 | FUNCTION LIST | FUNCTION LIST LIBRARYNAME l* WITHCODE | \
    FUNCTION DELETE lib | FUNCTION FLUSH | FUNCTION DUMP | FUNCTION STATS | FUNCTION KILL";

pub const TRANSACTIONS: &Group = "\
    MULTI | MULTI | MULTI | MULTI | EXEC | EXEC | EXEC | EXEC | EXEC | DISCARD | WATCH {s} | WATCH {any} {any} | UNWATCH | \
    MULTI x | EXEC x | WATCH | GET {s} | GET {s} | SET {s} {v} | INCR {s} | LRANGE {l} 0 -1 | RPUSH {l} {v} | BLPOP {l} {w}";

pub const STATE: &Group = "\
    SELECT {db} | SELECT {db} | SELECT 0 | SELECT 99 | SELECT x | HELLO | HELLO 2 | HELLO 3 | HELLO 3 | HELLO 4 | HELLO x | \
    HELLO 3 SETNAME {name} | HELLO 2 AUTH {user} {pw} | HELLO 3 AUTH {user} {pw} SETNAME {name} | HELLO 3 AUTH {user} {pw} SETNAME me | HELLO 3 SETNAME {name} AUTH {user} {pw} | HELLO 3 NOSUCH | HELLO 3 AUTH {user} | \
    AUTH {pw} | AUTH {user} {pw} | AUTH {user} {pw} | AUTH a b c | RESET | RESET x | CLIENT SETNAME {name} | CLIENT GETNAME | \
    CLIENT GETNAME | CLIENT ID | CLIENT SETINFO lib-name {name} | CLIENT NOSUCH | CLIENT | CLIENT NO-EVICT ON | \
    CLIENT NO-EVICT x | CLIENT REPLY ON | CLIENT REPLY x | CLIENT REPLY SKIP | CLIENT REPLY OFF | CLIENT HELP | CLIENT GETREDIR | \
    CLIENT TRACKINGINFO | CLIENT UNBLOCK {n} | CLIENT UNBLOCK x | PING | PING {v} | PING a b | ECHO {v} | QUIT | QUIT x | READONLY | \
    READWRITE | ASKING | ACL WHOAMI | ACL WHOAMI | CLIENT INFO | CLIENT LIST ID {client} | CLIENT LIST ID {client} {client} | \
    CLIENT LIST ID x | CLIENT UNBLOCK {client} | CLIENT UNBLOCK {client} ERROR | CLIENT UNBLOCK {client} TIMEOUT | CLIENT UNBLOCK {client} x | \
    CLIENT KILL ID {client} | CLIENT KILL ID {client} SKIPME no | CLIENT KILL ID x | CLIENT KILL ID | CLIENT KILL TYPE x";

/// Clients that cache by themselves; only in RESP3 they hear of changes.
pub const TRACKING: &Group = "\
    CLIENT TRACKING ON | CLIENT TRACKING ON NOLOOP | CLIENT TRACKING ON OPTIN | CLIENT TRACKING ON OPTOUT | CLIENT TRACKING OFF | \
    CLIENT TRACKING ON OPTIN OPTOUT | CLIENT TRACKING x | \
    CLIENT CACHING YES | CLIENT CACHING NO | CLIENT CACHING x | CLIENT TRACKINGINFO | CLIENT GETREDIR | HELLO 3 | HELLO 3 | GET {s} | \
    GET {s} | MGET {s} {s} | LRANGE {l} 0 -1 | SET {s} {v} | SET {s} {v} | RPUSH {l} {v} | DEL {any} | INCR {s} | FLUSHDB | RESET";

pub const PUBSUB: &Group = "\
    SUBSCRIBE {ch} | SUBSCRIBE {ch} {ch} | SUBSCRIBE {ch} | PSUBSCRIBE {pat} | SSUBSCRIBE {sch} | UNSUBSCRIBE {ch} | \
    UNSUBSCRIBE {ch} {ch} | PUNSUBSCRIBE {pat} | SUNSUBSCRIBE {sch} | PUBLISH {ch} {v} | PUBLISH {ch} {v} | PUBLISH {ch} subscribe | \
    SPUBLISH {sch} {v} | SPUBLISH {sch} {v} | PUBSUB NUMSUB {ch} {ch} | PUBSUB NUMPAT | PUBSUB CHANNELS | PUBSUB CHANNELS none* | \
    PUBSUB SHARDNUMSUB {sch} | PUBSUB SHARDCHANNELS | PUBSUB NOSUCH | PUBSUB HELP | PING | PING {v} | GET {s} | SUBSCRIBE | \
    PUBLISH {ch} | UNSUBSCRIBE | PUNSUBSCRIBE | SUNSUBSCRIBE | RESET";

/// `{w}` and `{wms}` are how long they wait: for ever, or as short as can be.
pub const BLOCKING: &Group = "\
    BLPOP {l} {w} | BLPOP {l} {l} {w} | BRPOP {l} {l} {w} | BLMOVE {l} {l} LEFT RIGHT {w} | BRPOPLPUSH {l} {l} {w} | \
    BLMPOP {w} 2 {l} {l} LEFT COUNT 2 | BZPOPMIN {z} {w} | BZPOPMAX {z} {z} {w} | BZMPOP {w} 1 {z} MAX | \
    XREAD BLOCK {wms} STREAMS {x} $ | XREAD BLOCK {wms} STREAMS {x} {x} 0 $ | XREADGROUP GROUP {grp} {f} BLOCK {wms} STREAMS {x} >";

pub const SERVER: &Group = "\
    COMMAND GETKEYS SET {s} {v} | COMMAND INFO get | COMMAND INFO nosuch | COMMAND NOSUCH | COMMAND HELP | \
    COMMAND LIST FILTERBY PATTERN xadd* | CONFIG GET maxmemory-policy | CONFIG GET nosuch* | CONFIG GET | CONFIG SET maxmemory-samples 6 | \
    CONFIG SET nosuch 1 | CONFIG SET maxmemory-samples x | CONFIG HELP | CONFIG NOSUCH | ACL CAT | ACL CAT string | ACL CAT x | ACL USERS | \
    ACL GETUSER alice | ACL GETUSER none | ACL DRYRUN alice GET {s} | ACL DRYRUN alice SET {s} {v} | ACL HELP | ACL LIST | \
    ACL SETUSER tmp on >pw ~* +@all | ACL SETUSER tmp nosuch | ACL DELUSER tmp | ROLE | LOLWUT VERSION 5 1 1 1 | TIME | LASTSAVE | \
    SLOWLOG HELP | SLOWLOG RESET | LATENCY RESET | LATENCY HELP | LATENCY HISTORY x | MEMORY HELP | MEMORY NOSUCH | MODULE LIST | \
    CLUSTER INFO | CLUSTER NODES | REPLICAOF NO ONE | FAILOVER | DEBUG NOSUCH | DEBUG JMAP x y z | MODULE HELP | CLUSTER HELP | \
    ACL GENPASS 5 | ACL LOG RESET | INFO nosuch | RESTORE-ASKING {any} 0 {v}";

pub const NONSENSE: &Group = "\
    NOSUCH | NOSUCH {v} {v} {v} | {v} | {v} {v} | GET | SET {s} | GETRANGE {s} x y | LPOP {l} -1 | LPOP {l} {v} | INCRBY {s} x | \
    EXPIRE {any} x | SETBIT {b} 4294967296 1 | SETBIT {b} 1 2 | SETRANGE {s} -1 x | BITFIELD {b} GET u64 0 | ZADD {z} x a | ZADD {z} nan a | \
    ZRANGE {z} a b | HINCRBY {h} {f} 9223372036854775807 | XADD {x} x-1 a b | XRANGE {x} x + | GEOADD {g} 1 2 | SORT {l} BY | \
    EVAL | OBJECT | OBJECT ENCODING | CONFIG | MEMORY USAGE | COPY {s} {s} | SINTERCARD x {u} | ZUNION 99 {z} | BLPOP {l} x | \
    BLPOP {l} -1 | XREAD BLOCK x STREAMS {x} 0 | XREADGROUP STREAMS {x} 0 | SUBSCRIBE | PUBLISH {ch} | SELECT | MOVE {any} 99 | \
    SET {s} {v} EX | SET {s} {v} EX x | SET {s} {v} NX XX | SET {s} {v} EX 9223372036854775807 | GETEX {s} EX {ttl} PERSIST | LPOS {l} {v} RANK 0";

pub const ALL: &[&Group] = &[
    STRINGS,
    BITS,
    LISTS,
    SETS,
    HASHES,
    ZSETS,
    STREAMS,
    KEYS,
    SCRIPTS,
    TRANSACTIONS,
    STATE,
    PUBSUB,
    TRACKING,
    BLOCKING,
    SERVER,
    NONSENSE,
];

/// Bytes that end a connection, and some that look so and do not.
pub const BROKEN: &[&[u8]] = &[
    b"*x\r\n",
    b"*+1\r\n",
    b"*01\r\n",
    b"*2147483648\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$-1\r\n",
    b"*2\r\n$3\r\nGET\r\n!1\r\n",
    b"*1\r\n$536870913\r\n",
    b"SET k \"v\r\n",
    b"GET 'k'x\r\n",
    b"*1\r\n$4\r\nPOST\r\n",
    b"Host: here\r\n",
];

/// Bytes that are no request and are not answered.
pub const IGNORED: &[&[u8]] = &[b"\r\n", b"*0\r\n", b"*-1\r\n", b"*-5\r\n", b"  \r\n", b"\n"];
