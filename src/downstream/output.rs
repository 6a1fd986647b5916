//! Bytes ready to be written: in pieces, so that what was written is given back while the rest waits for a slow reader.
//!
//! ```text
//! full: [piece, partly gone][piece][piece]   last: [bytes are appended here]
//! ```

use std::collections::VecDeque;

/// A piece is full from this size on.
const PIECE: usize = 256 * 1024;
/// Bytes that come in a buffer of their own are copied up to this size.
const COPY: usize = 16 * 1024;
/// A last piece that grew beyond this is given back when it is empty.
const KEEP: usize = 16 * 1024;

/// Bytes ready to be written, first in, first out.
#[derive(Debug, Default)]
pub(super) struct Output {
    full: VecDeque<Vec<u8>>,
    /// Bytes in `full`.
    full_bytes: usize,
    last: Vec<u8>,
    /// Bytes of the oldest piece that were written.
    gone: usize,
}

impl Output {
    /// Appends what `write` appends.
    pub(super) fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let written = write(&mut self.last);
        if self.last.len() >= PIECE {
            self.close_last();
        }
        written
    }

    /// Appends all bytes of `bytes`.
    pub(super) fn take(&mut self, bytes: Vec<u8>) {
        if bytes.len() <= COPY {
            return self.append(|last| last.extend_from_slice(&bytes));
        }
        self.close_last();
        self.full_bytes += bytes.len();
        self.full.push_back(bytes);
    }

    /// The next bytes to be written; empty when there are none.
    pub(super) fn unsent(&self) -> &[u8] {
        let piece = self.full.front().unwrap_or(&self.last);
        piece.get(self.gone..).unwrap_or_default()
    }

    /// So many bytes of that were written.
    pub(super) fn sent(&mut self, count: usize) {
        self.gone += count;
        match self.full.front() {
            Some(piece) if self.gone < piece.len() => return,
            Some(piece) => {
                self.full_bytes -= piece.len();
                self.full.pop_front();
                self.gone = 0;
            }
            None => self.last_sent(),
        }
        if self.full.is_empty() && self.full.capacity() > 0 {
            self.full = VecDeque::new();
        }
    }

    fn last_sent(&mut self) {
        if self.gone < self.last.len() {
            // Moved only when more is gone than left, so that a slow reader costs no more than what it reads.
            if self.gone > self.last.len() / 2 {
                self.last.drain(..self.gone);
                self.gone = 0;
            }
            return;
        }
        self.gone = 0;
        if self.last.capacity() > KEEP {
            self.last = Vec::new();
        } else {
            self.last.clear();
        }
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.full_bytes + self.last.len() - self.gone
    }

    fn close_last(&mut self) {
        if self.last.is_empty() {
            return;
        }
        let mut piece = std::mem::take(&mut self.last);
        if self.full.is_empty() && self.gone > 0 {
            piece.drain(..self.gone);
            self.gone = 0;
        }
        // It grew by doubling.
        piece.shrink_to_fit();
        self.full_bytes += piece.len();
        self.full.push_back(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.unsent().is_empty() {
            let bytes = output.unsent();
            let count = bytes.len().min(step);
            all.extend_from_slice(&bytes[..count]);
            let before = output.len();
            output.sent(count);
            assert_eq!(output.len(), before - count);
        }
        assert_eq!(output.len(), 0);
        all
    }

    #[test]
    fn bytes_leave_as_they_came_whatever_the_pieces() {
        for step in [1, 1000, PIECE, usize::MAX] {
            let (mut output, mut expected) = (Output::default(), Vec::new());
            for (at, size) in [3, 5000, 20_000, 300_000, 1, 70_000, 200_000, 100_000, 9]
                .into_iter()
                .enumerate()
            {
                let bytes = vec![u8::try_from(at).unwrap(); size];
                expected.extend_from_slice(&bytes);
                if at % 2 == 0 {
                    output.take(bytes);
                } else {
                    output.append(|last| last.extend_from_slice(&bytes));
                }
                assert!(!output.unsent().is_empty());
                expected.drain(..1);
                output.sent(1);
            }
            assert_eq!(output.len(), expected.len());
            assert!(drain(&mut output, step) == expected, "step {step}");
        }
    }

    #[test]
    fn what_was_written_holds_no_memory() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.append(|last| last.extend_from_slice(&vec![7; PIECE / 2]));
        }
        output.sent(output.unsent().len());
        assert_eq!(output.full.iter().map(Vec::capacity).sum::<usize>(), 49 * PIECE);
        drain(&mut output, usize::MAX);
        assert_eq!((output.full.capacity(), output.last.capacity()), (0, 0));
    }
}
