//! The elements of an array, each as its own bytes.

use super::reply_scan::{ReplyLimits, ReplyScan, ReplyScanner};

/// The header of an array and its elements, each as its own bytes; `None` when it is no array, or not a whole one.
pub fn parts(frame: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    if frame.first() != Some(&b'*') || frame.get(1) == Some(&b'-') {
        return None;
    }
    split(frame)
}

/// What an array or a set consists of, or keys and values of a map in turn, each as its own bytes; `None` when it is
/// nothing of these, or not a whole one.
pub fn members(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let aggregate = matches!(frame.first(), Some(b'*' | b'~' | b'%')) && frame.get(1) != Some(&b'-');
    aggregate.then(|| split(frame)).flatten().map(|(_, members)| members)
}

fn split(frame: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let (header, mut rest) = frame.split_at_checked(memchr::memchr(b'\n', frame)? + 1)?;
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let Ok(ReplyScan::Complete { consumed }) = scanner.scan(rest) else {
            return None;
        };
        let (part, left) = rest.split_at_checked(consumed)?;
        parts.push(part);
        rest = left;
    }
    Some((header, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_falls_into_its_elements() {
        let (header, elements) = parts(b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n$-1\r\n").unwrap();
        assert_eq!(header, b"*3\r\n");
        assert_eq!(elements, [&b":1\r\n"[..], b"*1\r\n$1\r\na\r\n", b"$-1\r\n"]);
        for other in [&b"*-1\r\n"[..], b"+OK\r\n", b"*1\r\n$5\r\nab", b""] {
            assert!(parts(other).is_none(), "{}", other.escape_ascii());
        }
    }
}
