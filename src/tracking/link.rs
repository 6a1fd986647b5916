//! One socket with what is to be written to it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upstream::{Loss, Socket};

/// A socket, its unwritten bytes and its read buffer.
pub(super) struct Link {
    socket: Socket,
    pub(super) out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

/// What a link did.
pub(super) enum Did {
    Read,
    Wrote,
}

impl Link {
    pub(super) fn new(socket: Socket) -> Self {
        Self {
            socket,
            out: Vec::new(),
            written: 0,
            input: Vec::with_capacity(64 * 1024),
        }
    }

    /// Reads or writes once, whichever is possible first. Safe to cancel: both happen at once or not at all.
    pub(super) async fn step(&mut self) -> Result<Did, Loss> {
        let io = |error: std::io::Error| Loss::Io(error.to_string());
        let rest = self.out.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return self.read().await;
        }
        self.input.clear();
        let (mut reader, mut writer) = tokio::io::split(&mut self.socket);
        // Biased: bytes that are ready to be read may be invalidations; nothing is more urgent.
        let (did, count) = tokio::select! {
            biased;
            count = reader.read_buf(&mut self.input) => (Did::Read, count.map_err(io)?),
            count = writer.write(rest) => (Did::Wrote, count.map_err(io)?),
        };
        if count == 0 {
            return Err(Loss::Closed);
        }
        if matches!(did, Did::Wrote) {
            self.written += count;
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
        Ok(did)
    }

    async fn read(&mut self) -> Result<Did, Loss> {
        self.input.clear();
        match self.socket.read_buf(&mut self.input).await {
            Ok(0) => Err(Loss::Closed),
            Ok(_) => Ok(Did::Read),
            Err(error) => Err(Loss::Io(error.to_string())),
        }
    }

    /// What the last read brought.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }
}
