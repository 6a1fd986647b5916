//! What an upstream sends: split into reads in any way it gives the same replies, and values survive a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version};

// Low enough for short inputs to meet them; one long line is not worth finding.
const LIMITS: ReplyLimits = ReplyLimits {
    max_bulk: 1 << 20,
    max_line: 1 << 20,
    max_depth: 32,
};

fuzz_target!(|data: &[u8]| {
    let Some((seed, bytes)) = data.split_first() else {
        return;
    };
    let (ends, failed) = replies(bytes, bytes.len());
    assert_eq!((ends.clone(), failed), replies(bytes, usize::from(*seed) % 16 + 1));
    let mut start = 0;
    for (end, _) in ends {
        for version in [Version::V2, Version::V3] {
            round_trip(&bytes[start..end], version);
        }
        start = end;
    }
});

/// Where the replies in `bytes`, which arrive `step` bytes at a time, end, of which kind they are, and whether an
/// error follows.
fn replies(bytes: &[u8], step: usize) -> (Vec<(usize, Option<u8>)>, bool) {
    let mut scanner = ReplyScanner::new(LIMITS);
    let (mut found, mut start, mut end) = (Vec::new(), 0, 0);
    while end < bytes.len() {
        end = (end + step).min(bytes.len());
        while start < end {
            match scanner.scan(&bytes[start..end]) {
                Ok(ReplyScan::Incomplete) => start = end,
                Ok(ReplyScan::Complete { consumed }) => {
                    start += consumed;
                    found.push((start, scanner.kind()));
                }
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

/// A value that was read is written such that the same bytes come again when it is read again.
fn round_trip(reply: &[u8], version: Version) {
    let Ok(value) = Value::decode(reply, version) else {
        return;
    };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    value.encode(version, &mut once);
    let again = Value::decode(&once, version).expect("what was written is a reply");
    again.encode(version, &mut twice);
    // Bytes and not values: not-a-number equals nothing.
    assert_eq!(once, twice);
}
