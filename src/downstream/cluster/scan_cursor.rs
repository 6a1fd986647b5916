//! SCAN over all primaries, one after another. What has been scanned is in the cursor and nowhere else, as with Redis.
//!
//! ```text
//! client's cursor = node's cursor · 2^14 + shard's place        0: begin with the first shard; at the end: all are done
//!
//! 0 → (shard 0, 0) → node says 7 → 7·2^14 → (shard 0, 7) → node says 0 → 1 → (shard 1, 0) … → last node says 0 → 0
//! ```
//! There are 2^14 slots and so never more shards, which leaves 50 bits for the node. A node counts its table's buckets,
//! and since Redis 7.4 and Valkey 8 has the slot in the low 14 bits: 2^36 buckets in one slot are left. Whoever gets
//! there is told so, rather than sent elsewhere.
//!
//! Like the cursors of a cluster's own clients these do not survive slots that move meanwhile: keys on the move may be
//! missed or seen twice.

use crate::resp::{Request, Value, Version, canonical, encode, parts};

/// Bits of a shard's place: there are as many places as slots.
const PLACE_BITS: u32 = 14;

/// What is done with a SCAN.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::downstream) enum Scan {
    /// The primary of the shard at this place is asked this.
    Ask {
        /// The shard's place among all.
        place: usize,
        /// The request, in its canonical bytes.
        frame: Vec<u8>,
    },
    /// The shard it is at is no more, for shards were joined meanwhile: this is the reply, and the end.
    Over(Vec<u8>),
}

/// What is done with a SCAN while there are so many shards, at least one.
///
/// Its options stay as they are. What is no cursor goes to the first shard as it is, for Redis to say so.
pub(in crate::downstream) fn ask(request: &Request<'_>, shards: usize) -> Scan {
    let Some((place, node)) = cursor(request.arg(1)).map(decode) else {
        return Scan::Ask {
            place: 0,
            frame: request.frame().to_vec(),
        };
    };
    let mut frame = Vec::with_capacity(request.frame().len());
    if place >= shards {
        reply(0, b"*0\r\n", &mut frame);
        return Scan::Over(frame);
    }
    encode::array_header(&mut frame, request.len());
    encode::bulk(&mut frame, request.name());
    encode::bulk(&mut frame, itoa::Buffer::new().format(node).as_bytes());
    frame.extend_from_slice(request.tail(2));
    Scan::Ask { place, frame }
}

/// The reply of the node at `place` as the client is to read it: with the cursor that leads on. Errors stay as they are.
pub(in crate::downstream) fn answer(place: usize, shards: usize, frame: &[u8]) -> Vec<u8> {
    if matches!(frame.first(), Some(b'-' | b'!')) {
        return frame.to_vec();
    }
    let mut out = Vec::with_capacity(frame.len() + 32);
    match read(frame).map(|(node, keys)| (lead_on(place, node, shards), keys)) {
        Some((Some(cursor), keys)) => reply(cursor, keys, &mut out),
        Some((None, _)) => encode::error(&mut out, b"ERR nearhit: the server's cursor is too large to pass on"),
        None => encode::error(&mut out, b"ERR nearhit: the reply of the server is none of SCAN"),
    }
    out
}

/// The cursor behind one of a node's; `None`: it does not fit.
fn lead_on(place: usize, node: u64, shards: usize) -> Option<u64> {
    match place.checked_add(1)? {
        _ if node > 0 => encode_cursor(place, node),
        next if next < shards => encode_cursor(next, 0),
        _ => Some(0),
    }
}

fn encode_cursor(place: usize, node: u64) -> Option<u64> {
    let place = u64::try_from(place).ok().filter(|place| place >> PLACE_BITS == 0)?;
    Some(node.checked_mul(1 << PLACE_BITS)? | place)
}

/// The shard's place and the node's cursor.
fn decode(cursor: u64) -> (usize, u64) {
    let place = cursor & ((1 << PLACE_BITS) - 1);
    (usize::try_from(place).unwrap_or(usize::MAX), cursor >> PLACE_BITS)
}

/// A cursor as it was given out. Redis takes some more for one (`+1`, `-1`, nothing), which nobody was ever given.
fn cursor(text: &[u8]) -> Option<u64> {
    match canonical(text) {
        Some(number) => u64::try_from(number).ok(),
        // Past 63 bits: all digits, the first of them no zero.
        None if text.iter().all(u8::is_ascii_digit) && !text.starts_with(b"0") => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        None => None,
    }
}

/// A node's cursor, and the array behind it.
fn read(frame: &[u8]) -> Option<(u64, &[u8])> {
    let (_, parts) = parts(frame)?;
    let [node, keys] = parts.as_slice() else { return None };
    // A bulk string is the same in both versions.
    let node = Value::decode(node, Version::V2).ok()?;
    Some((cursor(node.as_bytes()?)?, keys))
}

fn reply(cursor: u64, keys: &[u8], out: &mut Vec<u8>) {
    encode::array_header(out, 2);
    encode::bulk(out, itoa::Buffer::new().format(cursor).as_bytes());
    out.extend_from_slice(keys);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::downstream::cluster::split::tests::words;
    use crate::resp::{RequestLimits, RequestScanner};

    fn asked(line: &str, shards: usize) -> Scan {
        let line = format!("{line}\r\n");
        let mut scanner = RequestScanner::new(RequestLimits::default());
        scanner.scan(line.as_bytes()).unwrap();
        ask(&scanner.request(line.as_bytes()), shards)
    }

    /// Which shard is asked what.
    fn told(line: &str, shards: usize) -> (usize, String) {
        match asked(line, shards) {
            Scan::Ask { place, frame } => (place, String::from_utf8(words(&frame).join(&b' ')).unwrap()),
            Scan::Over(reply) => panic!("{}", reply.escape_ascii()),
        }
    }

    fn node(cursor: u64, keys: &str) -> Vec<u8> {
        let mut out = Vec::new();
        reply(cursor, keys.as_bytes(), &mut out);
        out
    }

    #[test]
    fn a_scan_begins_with_the_first_shard_and_keeps_its_options() {
        assert_eq!(
            told("scan 0 MATCH x COUNT 5 TYPE set", 3).1,
            "scan 0 MATCH x COUNT 5 TYPE set"
        );
        assert_eq!(told("SCAN 1 COUNT 5", 3), (1, "SCAN 0 COUNT 5".to_owned()));
        assert_eq!(told("SCAN 114690", 3), (2, "SCAN 7".to_owned()));
    }

    #[test]
    fn every_shard_is_scanned_to_its_end() {
        // What each node says to each cursor: the next, and one key.
        let says = |place: usize, cursor: u64| match (place, cursor) {
            (0, 0) => (4, "a"),
            (0, 4) => (1 << 40, "b"),
            (0, _) => (0, "c"),
            (1, 0) => (0, "d"),
            (2, 0) => (2, "e"),
            _ => (0, "f"),
        };
        let (mut cursor, mut seen) = ("0".to_owned(), String::new());
        loop {
            let (place, request) = told(&format!("SCAN {cursor}"), 3);
            let (next, key) = says(place, request.strip_prefix("SCAN ").unwrap().parse().unwrap());
            let reply = answer(place, 3, &node(next, &format!("*1\r\n+{key}\r\n")));
            let (next, keys) = read(&reply).unwrap();
            cursor = next.to_string();
            seen += std::str::from_utf8(keys).unwrap();
            if next == 0 {
                break;
            }
        }
        assert_eq!(seen.replace("*1\r\n+", "").replace("\r\n", ""), "abcdef");
    }

    #[test]
    fn a_shard_that_is_no_more_ends_the_scan() {
        assert_eq!(asked("SCAN 3", 3), Scan::Over(b"*2\r\n$1\r\n0\r\n*0\r\n".to_vec()));
        assert!(matches!(asked("SCAN 18446744073709551615", 3), Scan::Over(_)));
    }

    #[test]
    fn what_is_no_cursor_is_for_redis_to_judge() {
        for line in ["abc", "-1", "+1", "01", "1x", "18446744073709551616", "''", "0x1"] {
            let (place, request) = told(&format!("SCAN {line} COUNT 1"), 3);
            assert_eq!(
                (place, request),
                (0, format!("SCAN {} COUNT 1", line.trim_matches('\'')))
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_said_and_not_cut_off() {
        let largest = (1 << 50) - 1;
        assert!(answer(16383, 16384, &node(largest, "*0\r\n")).starts_with(b"*2\r\n$20\r\n18446744073709551615\r\n"));
        assert!(answer(0, 3, &node(largest + 1, "*0\r\n")).starts_with(b"-ERR nearhit: the server's cursor"));
        assert_eq!(answer(1, 3, b"-ERR syntax error\r\n"), b"-ERR syntax error\r\n");
        for other in [
            &b"*1\r\n$1\r\n0\r\n"[..],
            b"+OK\r\n",
            b"*2\r\n$1\r\nx\r\n*0\r\n",
            b"*2\r\n$1\r\n0\r\n",
            b"",
        ] {
            let reply = answer(0, 3, other);
            assert!(
                reply.starts_with(b"-ERR nearhit: the reply"),
                "{}",
                other.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_where_it_came_from(place in 0..16384usize, node in 0..1u64 << 50) {
            prop_assert_eq!(encode_cursor(place, node).map(decode), Some((place, node)));
        }
    }
}
