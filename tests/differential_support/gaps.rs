//! What stands in the gaps of templates.

use crate::session_support::Dice;

/// Every kind of key, of which `{any}` is one. The type is what the key usually holds.
pub const KEY_KINDS: [&str; 12] = ["s", "b", "g", "p", "l", "u", "one", "h", "oneh", "z", "onez", "x"];

/// Stands for the number of a connection's client, as its side knows it.
pub const CLIENT: &str = "<client>";

/// Two commands that know the same script find it by this hash: `return redis.call('get',KEYS[1])`.
const GET_SHA: &str = "fd758d1589d044dd850a6f05d52f2eefd27f033f";
const GET_SCRIPT: &str = "return redis.call('get',KEYS[1])";

const LIBRARY: &str = "#!lua name=lib\n\
    redis.register_function('setget', function(keys, args) redis.call('set', keys[1], args[1]) return redis.call('get', keys[1]) end)\n\
    redis.register_function{function_name='get', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}\n";

/// Scripts that name their key.
const LUA_ONE: &[&str] = &[
    GET_SCRIPT,
    "return redis.call('set',KEYS[1],ARGV[1])",
    "return redis.call('incr',KEYS[1])",
    "return redis.pcall('lpush',KEYS[1],ARGV[1])",
    "redis.call('set',KEYS[1],1) return redis.call('nosuch')",
    "return {KEYS[1],ARGV[1],redis.call('exists',KEYS[1]),{ok='fine'},{err='ODD one'},false,true,1.9}",
];

/// Scripts without keys.
const LUA_NONE: &[&str] = &[
    "return 1",
    "return {1,{2,{3}},'x'}",
    "return redis.error_reply('MY own')",
    "return redis.status_reply('FINE')",
    "return nosuch",
    "return {",
    "redis.setresp(3) return redis.call('hgetall','h1')",
    "return redis.sha1hex('')",
    "return {double=3.5}",
    "error('oops')",
];

/// Scripts that write what they do not name. Other sessions see it when Redis says so.
pub const HIDDEN: &[&str] = &[
    "return redis.call('set','s1','hidden')",
    "return redis.call('del','s2','l1')",
];

/// `DUMP` of the string `dumped`, by Redis 7.0.
const DUMPED: &[u8] = b"\x00\x06dumped\n\x00\xdcJ\x84\xcd\x9a\x91\xec\xe2";

/// What a gap may hold.
pub fn fill(gap: &str, connection: usize, waits: bool, dice: &mut Dice) -> Vec<u8> {
    match gap {
        "v" => value(dice),
        "any" => {
            let kind = *dice.pick(&KEY_KINDS);
            key(kind, dice)
        }
        "lua1" => text(LUA_ONE, dice),
        "lua0" => text(LUA_NONE, dice),
        "hidden" => text(HIDDEN, dice),
        "lib" => LIBRARY.into(),
        "sha" => text(&[GET_SHA, GET_SHA, "ffffffffffffffffffffffffffffffffffffffff"], dice),
        "dump" => DUMPED.to_vec(),
        "w" if waits => b"0".to_vec(),
        "w" => text(&["0.01", "0.005"], dice),
        "wms" if waits => b"0".to_vec(),
        "wms" => text(&["5", "10"], dice),
        "n" => text(
            &[
                "0",
                "1",
                "-1",
                "10",
                "42",
                "9223372036854775807",
                "-9223372036854775808",
            ],
            dice,
        ),
        "r" => text(&["1", "2", "0.5", "-3", "1e2", "inf", "-inf", "3.14159265358979"], dice),
        "i" => text(&["0", "1", "-1", "2", "-3", "100"], dice),
        "m" => text(&["1", "2", "3", "4", "-7", "70000", "99999999999"], dice),
        "f" => text(&["f1", "f2", "f3", "a"], dice),
        // Known when it is sent: each side numbers its own.
        "client" => format!("{CLIENT}{}", dice.below(4)).into(),
        "id" => format!("{}-{}", 1 + dice.below(12), dice.below(3)).into(),
        "off" => text(&["0", "1", "7", "8", "100"], dice),
        "ttl" => b"100000".to_vec(),
        "ttlms" => b"100000000".to_vec(),
        "at" => b"33177117420000".to_vec(),
        "db" => text(&["0", "0", "1", "2"], dice),
        "grp" => text(&["g1", "g2"], dice),
        "ch" => text(&["c1", "c2", "ch\u{e9}"], dice),
        "pat" => text(&["c*", "c*", "c[12]"], dice),
        "sch" => text(&["sc1", "sc2"], dice),
        "name" => text(&["me", "you", "", "a b", "n\u{e9}"], dice),
        "user" => text(&["alice", "bob", "off", "nobody", "default"], dice),
        "pw" => text(&["wonderland", "wrong", "opensesame", "builder"], dice),
        "mine" => format!("mine{connection}").into(),
        kind => key(kind, dice),
    }
}

/// All keys of a kind: one is binary, one has a hash tag.
pub fn keys(kind: &str) -> [Vec<u8>; 4] {
    [&b"1"[..], b"2", b"{tag}", b"\x00\xff\r\n"].map(|end| [kind.as_bytes(), end].concat())
}

fn key(kind: &str, dice: &mut Dice) -> Vec<u8> {
    let at = *dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3]);
    keys(kind)[at].clone()
}

fn value(dice: &mut Dice) -> Vec<u8> {
    match dice.below(12) {
        0 => Vec::new(),
        1 => b"\r\n".to_vec(),
        2 => b"\x00\x01\xfe\xff binary \r\n$3\r\nabc".to_vec(),
        3 => b"*1\r\n$4\r\nPING\r\n".to_vec(),
        4 => vec![b'x'; 1 + dice.below(300)],
        5 if dice.below(8) == 0 => vec![b'y'; 10_000 + dice.below(90_000)],
        6 => b"10".to_vec(),
        7 => "with spaces and \"quotes\" and 'these'".into(),
        _ => format!("v{}", dice.below(5)).into(),
    }
}

fn text(from: &[&str], dice: &mut Dice) -> Vec<u8> {
    (*dice.pick(from)).into()
}
