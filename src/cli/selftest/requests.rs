//! Requests as bytes: one operation on its keys.

use super::cell::{Content, FIELDS, padding};
use super::workload::Op;
use nearhit::resp::encode;
use std::time::Duration;

/// Scripts. What they do to keys that they do not declare nobody can know before they are answered.
const GET: &[u8] = b"return redis.call('GET', ARGV[1])";
const GET_DECLARED: &[u8] = b"return redis.call('GET', KEYS[1])";
const SET: &[u8] = b"redis.call('SET', KEYS[1], ARGV[1]) return 1";
const SET_UNDECLARED: &[u8] = b"redis.call('SET', ARGV[1], ARGV[2]) return 1";
const MSET: &[u8] = b"redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1]) return 1";
const LIST: &[u8] = b"redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[1], ARGV[1]) return 1";
const INCR: &[u8] = b"return redis.call('INCR', KEYS[1])";
const INCR_UNDECLARED: &[u8] = b"return redis.call('INCR', ARGV[1])";

/// How long BLPOP waits for an element that an eviction took, in seconds.
const BLPOP_TIMEOUT: &[u8] = b"0.01";

/// Appends one request.
pub(super) fn request(out: &mut Vec<u8>, args: &[&[u8]]) {
    encode::request(out, args.iter().copied());
}

/// Appends an operation, all its requests. `names` are its keys; a pair is two of them.
pub(super) fn operation(out: &mut Vec<u8>, op: Op, names: &[Vec<u8>], content: Content, ttl: Duration) {
    let first: &[u8] = names.first().map_or(b"", Vec::as_slice);
    let second: &[u8] = names.get(1).map_or(b"", Vec::as_slice);
    let id = match content {
        Content::Held { id, .. } => id,
        Content::Nothing => 0,
    };
    let (number, text) = (id.to_string(), text(id));
    let (number, text) = (number.as_bytes(), text.as_slice());
    let millis = ttl.as_millis().to_string();
    let millis = millis.as_bytes();
    if op.is_transaction() {
        request(out, &[b"MULTI"]);
    }
    match op {
        Op::Set | Op::ExecSet => request(out, &[b"SET", first, text]),
        Op::CasIncr => request(out, &[b"SET", first, number]),
        Op::SetPx => request(out, &[b"SET", first, text, b"PX", millis]),
        Op::EvalSet => request(out, &[b"EVAL", SET, b"1", first, text]),
        Op::EvalSetUndeclared => request(out, &[b"EVAL", SET_UNDECLARED, b"0", first, text]),
        Op::Del | Op::DelPair | Op::DelMany => many(out, b"DEL", names),
        Op::MsetMany => set_all(out, names, text),
        Op::Pexpire => request(out, &[b"PEXPIRE", first, millis]),
        Op::Persist => request(out, &[b"PERSIST", first]),
        Op::Rename => request(out, &[b"RENAME", first, second]),
        Op::Copy => request(out, &[b"COPY", first, second, b"REPLACE"]),
        Op::Hset => fields(out, b"HSET", first, number),
        Op::Zadd => fields(out, b"ZADD", first, number),
        Op::ExecHset => {
            request(out, &[b"DEL", first]);
            fields(out, b"HSET", first, number);
        }
        Op::ExecZadd => {
            request(out, &[b"DEL", first]);
            fields(out, b"ZADD", first, number);
        }
        Op::EvalList => request(out, &[b"EVAL", LIST, b"1", first, number]),
        Op::ExecList => {
            request(out, &[b"DEL", first]);
            request(out, &[b"RPUSH", first, number, number, number]);
        }
        Op::Blpop => request(out, &[b"BLPOP", first, BLPOP_TIMEOUT]),
        Op::Mset => request(out, &[b"MSET", first, text, second, text]),
        Op::ExecMset => {
            request(out, &[b"SET", first, text]);
            request(out, &[b"SET", second, text]);
        }
        Op::EvalMset => request(out, &[b"EVAL", MSET, b"2", first, second, text]),
        Op::Incr | Op::ExecIncr => request(out, &[b"INCR", first]),
        Op::EvalIncr => request(out, &[b"EVAL", INCR, b"1", first]),
        Op::EvalIncrUndeclared => request(out, &[b"EVAL", INCR_UNDECLARED, b"0", first]),
        _ => read(out, op, names),
    }
    if op.is_transaction() {
        request(out, &[b"EXEC"]);
    }
}

fn read(out: &mut Vec<u8>, op: Op, names: &[Vec<u8>]) {
    let first: &[u8] = names.first().map_or(b"", Vec::as_slice);
    match op {
        Op::Get => request(out, &[b"GET", first]),
        Op::EvalGet => request(out, &[b"EVAL_RO", GET, b"0", first]),
        Op::EvalGetDeclared => request(out, &[b"EVAL_RO", GET_DECLARED, b"1", first]),
        Op::Strlen => request(out, &[b"STRLEN", first]),
        Op::Exists => request(out, &[b"EXISTS", first]),
        Op::Type => request(out, &[b"TYPE", first]),
        Op::Mget | Op::MgetPair => many(out, b"MGET", names),
        Op::Hget => request(out, &[b"HGET", first, b"f1"]),
        Op::Hgetall => request(out, &[b"HGETALL", first]),
        Op::Hlen => request(out, &[b"HLEN", first]),
        Op::Lrange => request(out, &[b"LRANGE", first, b"0", b"-1"]),
        Op::Llen => request(out, &[b"LLEN", first]),
        Op::Zrange => request(out, &[b"ZRANGE", first, b"0", b"-1", b"WITHSCORES"]),
        Op::Zscore => request(out, &[b"ZSCORE", first, b"f1"]),
        Op::Zcard => request(out, &[b"ZCARD", first]),
        // No request: the checker does it by itself.
        _ => {}
    }
}

/// How many commands a transaction queues.
pub(super) fn queued(op: Op) -> usize {
    match op {
        Op::ExecHset | Op::ExecList | Op::ExecZadd | Op::ExecMset => 2,
        _ => 1,
    }
}

fn many(out: &mut Vec<u8>, command: &[u8], names: &[Vec<u8>]) {
    encode::array_header(out, names.len() + 1);
    encode::bulk(out, command);
    names.iter().for_each(|name| encode::bulk(out, name));
}

/// `MSET k text …`
fn set_all(out: &mut Vec<u8>, names: &[Vec<u8>], text: &[u8]) {
    encode::array_header(out, 1 + 2 * names.len());
    encode::bulk(out, b"MSET");
    for name in names {
        encode::bulk(out, name);
        encode::bulk(out, text);
    }
}

/// `HSET k f0 id …`, or `ZADD k id f0 …`.
fn fields(out: &mut Vec<u8>, command: &[u8], name: &[u8], number: &[u8]) {
    encode::array_header(out, 2 + 2 * FIELDS);
    encode::bulk(out, command);
    encode::bulk(out, name);
    for field in [b"f0", b"f1", b"f2", b"f3"] {
        let pair: [&[u8]; 2] = if command == b"ZADD" {
            [number, field]
        } else {
            [field, number]
        };
        pair.iter().for_each(|arg| encode::bulk(out, arg));
    }
}

fn text(id: u64) -> Vec<u8> {
    let mut text = id.to_string().into_bytes();
    text.push(b':');
    text.resize(text.len() + padding(id), b'x');
    text
}
