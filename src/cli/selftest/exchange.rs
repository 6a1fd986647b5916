//! Replies one after the other, as bytes or as values: for questions of the checker itself, where speed does not matter.

use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A connection on which questions were asked.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    version: Version,
    read: Vec<u8>,
}

impl Raw {
    pub(super) fn new(stream: TcpStream, version: Version) -> Self {
        Self {
            stream,
            version,
            read: Vec::new(),
        }
    }

    /// The next reply's bytes.
    pub(super) async fn reply(&mut self) -> std::io::Result<Vec<u8>> {
        let invalid = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
        loop {
            if let ReplyScan::Complete { consumed } = ReplyScanner::new(ReplyLimits::default())
                .scan(&self.read)
                .map_err(invalid)?
            {
                let rest = self.read.split_off(consumed);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next reply.
    pub(super) async fn value(&mut self) -> std::io::Result<Value> {
        let reply = self.reply().await?;
        Value::decode(&reply, self.version).map_err(|error| std::io::Error::other(format!("{error:?}")))
    }
}
