//! A raw, blocking RESP client for tests. It finds the end of a frame by its own scanner and decodes by itself, on
//! purpose: what the crate does is checked against it.

use super::reply::Reply;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub struct Resp {
    stream: TcpStream,
    /// Bytes read and not yet given out.
    buffer: Vec<u8>,
    /// Pushes that arrived while a reply was awaited, oldest first.
    pushes: VecDeque<Reply>,
}

impl Resp {
    /// Connects; panics when nobody listens.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// Connects, or says why not.
    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            pushes: VecDeque::new(),
        })
    }

    /// Changes how long a reply may take.
    pub fn patience(&mut self, limit: Duration) -> &mut Self {
        self.stream.set_read_timeout(Some(limit)).expect("set a read timeout");
        self
    }

    /// Switches to RESP3 and gives back the server's greeting.
    #[track_caller]
    pub fn hello3(&mut self) -> Reply {
        let greeting = self.cmd(&["HELLO", "3"]);
        assert!(matches!(greeting, Reply::Map(_)), "HELLO 3 answered {greeting:?}");
        greeting
    }

    /// Sends one command and reads its reply. Pushes that come first are kept for [`Resp::push`].
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.send(args);
        self.reply()
    }

    /// Sends a command given as one line, split at spaces: `client.line("SET k v")`.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> Reply {
        self.cmd(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// Sends commands given as lines, one after the other; panics when one of them is an error.
    #[track_caller]
    pub fn lines_ok(&mut self, lines: &[&str]) {
        for line in lines {
            let reply = self.line(line);
            assert!(!reply.is_error(), "{line}: {reply:?}");
        }
    }

    /// Sends all commands in one write and reads all replies.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Reply> {
        self.send_raw(commands.iter().flat_map(|args| encode(args)).collect::<Vec<_>>());
        commands.iter().map(|_| self.reply()).collect()
    }

    /// Sends one command and does not wait.
    #[track_caller]
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.send_raw(encode(args));
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send to the server");
    }

    /// Sends bytes as they are; the peer may have closed or stopped reading, which the result says.
    pub fn try_send_raw(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next reply. Pushes that come first are kept for [`Resp::push`].
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        decode(&self.read_reply_bytes())
    }

    /// The next reply, or `None` when the server closes or stays silent instead.
    pub fn try_reply(&mut self) -> Option<Reply> {
        loop {
            let frame = decode(&self.try_read_frame_bytes().ok()?);
            if !matches!(frame, Reply::Push(_)) {
                return Some(frame);
            }
            self.pushes.push_back(frame);
        }
    }

    /// The next push: a kept one, or the next frame, which must be one.
    #[track_caller]
    pub fn push(&mut self) -> Reply {
        if let Some(push) = self.pushes.pop_front() {
            return push;
        }
        let frame = decode(&self.read_frame_bytes());
        assert!(matches!(frame, Reply::Push(_)), "expected a push, got {frame:?}");
        frame
    }

    /// The pushes that were kept so far.
    pub fn kept_pushes(&mut self) -> Vec<Reply> {
        self.pushes.drain(..).collect()
    }

    /// The exact bytes of the next reply. Pushes that come first are kept for [`Resp::push`].
    #[track_caller]
    pub fn read_reply_bytes(&mut self) -> Vec<u8> {
        loop {
            let frame = self.read_frame_bytes();
            if frame.first() != Some(&b'>') {
                return frame;
            }
            self.pushes.push_back(decode(&frame));
        }
    }

    /// The exact bytes of the next frame, reply or push.
    #[track_caller]
    pub fn read_frame_bytes(&mut self) -> Vec<u8> {
        match self.try_read_frame_bytes() {
            Ok(frame) => frame,
            Err(error) => panic!("no reply: {error}; so far {:?}", self.buffer.escape_ascii().to_string()),
        }
    }

    /// The exact bytes of the next frame, or `None` when the server closes or stays silent instead.
    pub fn try_read_frame(&mut self) -> Option<Vec<u8>> {
        self.try_read_frame_bytes().ok()
    }

    /// Everything until the server closes.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(0) => return std::mem::take(&mut self.buffer),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return std::mem::take(&mut self.buffer),
                Err(error) => panic!("the server did not close: {error}"),
            }
        }
    }

    /// The server closes without another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.read_to_close();
        assert!(
            rest.is_empty(),
            "expected only a close, got {:?}",
            rest.escape_ascii().to_string()
        );
    }

    /// Nothing arrives for `quiet`. (It takes that long: use it only for what must never come.)
    #[track_caller]
    pub fn expect_silence(&mut self, quiet: Duration) {
        assert!(self.pushes.is_empty(), "kept pushes: {:?}", self.pushes);
        assert!(
            self.buffer.is_empty(),
            "unread: {:?}",
            self.buffer.escape_ascii().to_string()
        );
        self.stream.set_read_timeout(Some(quiet)).expect("set a read timeout");
        let read = self.read_more();
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("set a read timeout");
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("expected silence, got {error}"),
            Ok(_) => panic!("expected silence, got {:?}", self.buffer.escape_ascii().to_string()),
        }
    }

    /// Says that nothing more will be sent; replies can still be read.
    pub fn close_write(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down the sending side");
    }

    /// The socket, for tests of its options.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The address this connection comes from.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a local address")
    }

    fn try_read_frame_bytes(&mut self) -> std::io::Result<Vec<u8>> {
        let mut scan = Scan::default();
        while !scan.advance(&self.buffer) {
            if self.read_more()? == 0 {
                return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed by the server"));
            }
        }
        let rest = self.buffer.split_off(scan.at);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn read_more(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// A command as a client library writes it.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Looks for the end of one frame and remembers where it stopped.
#[derive(Debug)]
struct Scan {
    /// Everything before it belongs to the frame.
    at: usize,
    /// How many values are still missing.
    missing: i64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { at: 0, missing: 1 }
    }
}

impl Scan {
    /// True when `bytes[..self.at]` is one frame.
    fn advance(&mut self, bytes: &[u8]) -> bool {
        while self.missing > 0 {
            let Some((kind, line, body)) = line_at(bytes, self.at) else {
                return false;
            };
            let mut end = body;
            match kind {
                b'$' | b'!' | b'=' => {
                    let length = number(line);
                    if length >= 0 {
                        end += usize::try_from(length).expect("a length") + 2;
                    }
                    self.missing -= 1;
                }
                b'*' | b'~' | b'>' => self.missing += number(line).max(0) - 1,
                b'%' => self.missing += 2 * number(line) - 1,
                // An attribute stands before the value it belongs to, so it does not count as one.
                b'|' => self.missing += 2 * number(line),
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.missing -= 1,
                other => panic!(
                    "not RESP: {:?} in {:?}",
                    other as char,
                    bytes.escape_ascii().to_string()
                ),
            }
            if end > bytes.len() {
                // Undone: this value is looked at again when more bytes are there.
                self.missing += 1;
                return false;
            }
            self.at = end;
        }
        true
    }
}

/// The type byte, the rest of the line, and where the next line starts.
fn line_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, line) = rest[..length].split_first().expect("a line with a type");
    Some((*kind, line, at + length + 2))
}

fn number(line: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(line);
    text.parse().unwrap_or_else(|_| panic!("not a length: {text:?}"))
}

/// How long the first frame is, if it is whole.
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    let mut scan = Scan::default();
    scan.advance(bytes).then_some(scan.at)
}

/// The whole frames, and what is left behind the last one.
pub fn split_frames(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut frames = Vec::new();
    while let Some(length) = frame_length(bytes) {
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes)
}

/// Decodes one whole frame.
pub fn decode(frame: &[u8]) -> Reply {
    let mut at = 0;
    let reply = value(frame, &mut at);
    assert_eq!(
        at,
        frame.len(),
        "bytes behind the frame: {:?}",
        frame.escape_ascii().to_string()
    );
    reply
}

fn value(bytes: &[u8], at: &mut usize) -> Reply {
    let (kind, line, body) = line_at(bytes, *at).expect("a whole frame");
    *at = body;
    let text = || String::from_utf8_lossy(line).into_owned();
    match kind {
        b'+' => Reply::Status(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Int(number(line)),
        b',' => Reply::Double(text()),
        b'(' => Reply::BigNumber(text()),
        b'#' => Reply::Bool(line == b"t"),
        b'_' => Reply::Null,
        b'$' if line.first() == Some(&b'-') => Reply::Nil,
        b'*' if line.first() == Some(&b'-') => Reply::NilArray,
        b'$' => Reply::Bulk(blob(bytes, at, number(line))),
        b'!' => Reply::Error(String::from_utf8_lossy(&blob(bytes, at, number(line))).into_owned()),
        b'=' => {
            let blob = blob(bytes, at, number(line));
            Reply::Verbatim {
                format: String::from_utf8_lossy(&blob[..3]).into_owned(),
                text: blob[4..].to_vec(),
            }
        }
        b'*' => Reply::Array(values(bytes, at, number(line))),
        b'~' => Reply::Set(values(bytes, at, number(line))),
        b'>' => Reply::Push(values(bytes, at, number(line))),
        b'%' => Reply::Map(pairs(bytes, at, number(line))),
        b'|' => {
            let attributes = pairs(bytes, at, number(line));
            Reply::Attributed(attributes, Box::new(value(bytes, at)))
        }
        other => panic!("not RESP: {:?}", other as char),
    }
}

fn values(bytes: &[u8], at: &mut usize, count: i64) -> Vec<Reply> {
    (0..count).map(|_| value(bytes, at)).collect()
}

fn pairs(bytes: &[u8], at: &mut usize, count: i64) -> Vec<(Reply, Reply)> {
    (0..count).map(|_| (value(bytes, at), value(bytes, at))).collect()
}

fn blob(bytes: &[u8], at: &mut usize, length: i64) -> Vec<u8> {
    let end = *at + usize::try_from(length).expect("a length");
    assert_eq!(&bytes[end..end + 2], b"\r\n", "a blob ends with a line end");
    let blob = bytes[*at..end].to_vec();
    *at = end + 2;
    blob
}
