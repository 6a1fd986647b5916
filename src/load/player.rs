//! A load over one stream of any kind, such as one inside this process.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::keys::Picker;
use super::replies::Replies;
use super::script::Script;
use crate::error::{Error, Kind, Result, Side};
use crate::time::Instant;

/// Bytes taken by one read: a batch of small replies, or a good part of a large one.
const READ_BYTES: usize = 64 * 1024;

/// One stream, over which batches of requests are played: each is written at once, and each reply compared.
///
/// Buffers are kept from batch to batch.
#[derive(Debug)]
pub struct Player<S> {
    stream: S,
    script: Script,
    picker: Picker,
    pipeline: usize,
    replies: Replies,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Player<S> {
    /// Plays `pipeline` requests at a time, at least one.
    pub fn new(stream: S, script: Script, picker: Picker, pipeline: usize) -> Self {
        Self {
            stream,
            script,
            picker,
            pipeline: pipeline.max(1),
            replies: Replies::default(),
            out: Vec::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Goes on with other choices.
    pub fn pick_from(&mut self, picker: Picker) {
        self.picker = picker;
    }

    /// Sends the next requests and waits for their replies; gives how many there were.
    ///
    /// # Errors
    /// The stream broke or was closed, or a reply was wrong.
    pub async fn batch(&mut self) -> Result<u64> {
        let failed = |what| move |error| Error::new(Side::Downstream, Kind::Io, what).with_source(error);
        self.out.clear();
        for _ in 0..self.pipeline {
            let exchange = self.picker.pick();
            self.script.append_request(exchange, &mut self.out);
            // Nobody asks how long it takes.
            self.replies.expect(exchange, Instant::ZERO);
        }
        let written = self.stream.write_all(&self.out).await;
        written.map_err(failed("write requests to a stream"))?;
        while self.replies.waiting() > 0 {
            let read = self.stream.read(&mut self.buffer).await;
            let count = read.map_err(failed("read replies from a stream"))?;
            if count == 0 {
                let end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(failed("read replies from a stream")(end));
            }
            let bytes = self.buffer.get(..count).unwrap_or_default();
            self.replies.take(&self.script, bytes, |_| ())?;
        }
        Ok(self.pipeline as u64)
    }

    /// So many requests, rounded up to whole batches.
    ///
    /// # Errors
    /// Those of [`Player::batch`].
    pub async fn play(&mut self, requests: u64) -> Result<()> {
        let mut played = 0;
        while played < requests {
            played += self.batch().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Order;

    fn player(stream: tokio::io::DuplexStream) -> Player<tokio::io::DuplexStream> {
        let picker = Picker::new(&Order::InTurn, 2, 0, 1);
        Player::new(stream, Script::new("k:", 2, 8), picker, 2)
    }

    #[tokio::test]
    async fn a_batch_is_whole_when_all_its_replies_came() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"$8\r\n00000000\r\n$8\r\n00000001\r\n").await.unwrap();
        assert_eq!(player(near).batch().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_batch_is_an_error() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"$8\r\n00000000\r\n").await.unwrap();
        far.shutdown().await.unwrap();
        let error = player(near).batch().await.unwrap_err().to_string();
        assert!(error.contains("read replies"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_reply_is_an_error() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"$8\r\n00000001\r\n").await.unwrap();
        let error = player(near).batch().await.unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
    }
}
