//! Cuts a tracked connection's byte stream into frames, and skips a frame that is larger than anything it may keep.

use crate::resp::{ReplyError, ReplyLimits, ReplyScan, ReplyScanner};

/// One frame of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Whole(&'a [u8]),
    /// It was larger than the limit; its bytes are gone.
    Oversize,
}

/// The frames of one connection.
pub(super) struct Frames {
    scanner: ReplyScanner,
    /// The frame begun in an earlier read. Invariant: at most `limit` bytes.
    partial: Vec<u8>,
    /// The bytes of the frame begun are being dropped.
    skipping: bool,
    /// `partial` was given out and is to be emptied.
    given: bool,
    limit: usize,
}

impl Frames {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            scanner: ReplyScanner::new(ReplyLimits::default()),
            partial: Vec::new(),
            skipping: false,
            given: false,
            limit,
        }
    }

    /// The next frame that ends within `bytes`, its type byte, and how many of `bytes` it took. `None`: all of `bytes`
    /// belongs to a frame that goes on.
    pub(super) fn next<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<(u8, Frame<'a>, usize)>, ReplyError> {
        if std::mem::take(&mut self.given) {
            self.partial.clear();
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let ReplyScan::Complete { consumed } = self.scanner.scan(bytes)? else {
            self.keep(bytes);
            return Ok(None);
        };
        let kind = self.scanner.kind().unwrap_or_default();
        let last = bytes.get(..consumed).unwrap_or_default();
        if self.partial.is_empty() && !self.skipping {
            let frame = if last.len() > self.limit {
                Frame::Oversize
            } else {
                Frame::Whole(last)
            };
            return Ok(Some((kind, frame, consumed)));
        }
        self.keep(last);
        self.given = true;
        let frame = if std::mem::take(&mut self.skipping) {
            Frame::Oversize
        } else {
            Frame::Whole(&self.partial)
        };
        Ok(Some((kind, frame, consumed)))
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping || self.partial.len() + bytes.len() > self.limit {
            self.skipping = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, reads: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
        let mut frames = Frames::new(limit);
        let mut found = Vec::new();
        for read in reads {
            let mut rest = *read;
            while let Some((_, frame, taken)) = frames.next(rest).unwrap() {
                found.push(match frame {
                    Frame::Whole(bytes) => Some(bytes.to_vec()),
                    Frame::Oversize => None,
                });
                rest = &rest[taken..];
            }
        }
        found
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_cut() {
        let stream = b"+OK\r\n$5\r\nhello\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:7\r\n";
        let whole = cut(1000, &[stream]);
        assert_eq!(whole.len(), 4);
        for at in 0..stream.len() {
            let (left, right) = stream.split_at(at);
            assert_eq!(cut(1000, &[left, right]), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(cut(1000, &bytes), whole);
    }

    #[test]
    fn a_frame_over_the_limit_is_dropped_and_the_next_one_is_not() {
        let stream: &[&[u8]] = &[b"$20\r\n01234567", b"89012345", b"6789\r\n+OK\r\n"];
        assert_eq!(cut(8, stream), [None, Some(b"+OK\r\n".to_vec())]);
        assert_eq!(
            cut(8, &[b"$9\r\n012345678\r\n+OK\r\n"]),
            [None, Some(b"+OK\r\n".to_vec())]
        );
    }
}
