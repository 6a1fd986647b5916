//! Bytes on their way to a server: requests that wait to be written, and those that were and are not answered, so that
//! one which may be asked again can be when the connection is lost.

/// A buffer that grew beyond this is given back when it is empty, and no more written bytes than that are kept.
const KEEP: usize = 128 * 1024;
/// Answered bytes in front of others are dropped when there are so many.
const DROP: usize = 16 * 1024;

/// Bytes by their place in everything that was ever queued on the connection.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// The place of the first of `bytes`.
    begin: u64,
    /// The place of the first byte that is not written. Invariant: from `begin` to the end of `bytes`.
    written: u64,
    /// However many bytes are written and not answered, they are kept.
    keeps_all: bool,
}

impl Outbound {
    /// From here on whatever is not answered is kept.
    pub(super) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Queues bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The place behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    /// The place of the first byte that is not written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// What is to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        let from = usize::try_from(self.written - self.begin).unwrap_or(usize::MAX);
        self.bytes.get(from..).unwrap_or_default()
    }

    /// So many of the unwritten bytes were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        if !self.keeps_all && self.written - self.begin > KEEP as u64 {
            self.forget(self.written);
        }
    }

    /// What lies before `place` is answered.
    pub(super) fn answered(&mut self, place: u64) {
        let place = place.min(self.written);
        if place == self.end() || place.saturating_sub(self.begin) > DROP as u64 {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: u64) {
        let Ok(count) = usize::try_from(place.saturating_sub(self.begin)) else {
            return;
        };
        self.begin += count as u64;
        if count < self.bytes.len() {
            self.bytes.drain(..count);
        } else if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }

    /// The bytes between two places, if they are still here.
    pub(super) fn between(&self, from: u64, to: u64) -> Option<&[u8]> {
        let place = |place: u64| usize::try_from(place.checked_sub(self.begin)?).ok();
        self.bytes.get(place(from)?..place(to)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_until_it_is_answered() {
        let mut out = Outbound::default();
        out.push(b"GET a");
        let second = out.end();
        out.push(b"GET bb");
        assert_eq!(out.unwritten(), b"GET aGET bb");
        out.wrote(7);
        assert_eq!((out.unwritten(), out.written()), (b"T bb".as_slice(), 7));
        assert_eq!(out.between(0, second), Some(b"GET a".as_slice()));
        out.wrote(4);
        out.answered(second);
        assert_eq!(out.between(second, out.end()), Some(b"GET bb".as_slice()));
        out.answered(out.end());
        assert_eq!(out.between(second, out.end()), None, "answered");
        out.push(b"x");
        assert_eq!((out.unwritten(), out.end()), (b"x".as_slice(), 12));
    }

    #[test]
    fn all_is_kept_where_a_node_may_send_it_elsewhere() {
        let mut out = Outbound::default();
        out.keep_all();
        out.push(&vec![b'x'; 2 * KEEP]);
        out.wrote(2 * KEEP);
        assert_eq!(out.between(0, out.end()).map(<[u8]>::len), Some(2 * KEEP));
        out.answered(out.end());
        assert_eq!(out.bytes.capacity(), 0);
    }

    #[test]
    fn neither_large_requests_nor_long_pipelines_are_kept() {
        let mut out = Outbound::default();
        out.push(&vec![b'x'; 2 * KEEP]);
        out.wrote(KEEP + 1);
        assert!(out.between(0, 10).is_none());
        assert_eq!(out.unwritten().len(), KEEP - 1);
        out.wrote(KEEP - 1);
        out.answered(out.end());
        assert_eq!(out.bytes.capacity(), 0);
        for _ in 0..10_000 {
            out.push(&[b'y'; 100]);
            out.wrote(100);
            // One is always on its way.
            out.answered(out.end() - 100);
            assert!(out.bytes.len() <= DROP + 200);
        }
    }
}
