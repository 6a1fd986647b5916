//! Bringing a connection up: connect, authenticate, choose protocol and database, say who we are.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::identity::Identity;
use super::loss::Loss;
use super::resolve::Resolver;
use super::socket::Socket;
use crate::config::Address;
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};

/// Replies to handshake commands are small; `COMMAND` of a server with many modules is the largest.
const REPLY_LIMIT: usize = 64 << 20;

/// What a connection is to be.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Where the node is.
    pub address: Address,
    /// Who to be there.
    pub identity: Identity,
    /// The protocol to speak.
    pub version: Version,
    /// The database to be in.
    pub db: u32,
    /// The name shown in the server's CLIENT LIST; empty: none.
    pub client_name: String,
    /// How long all of it may take.
    pub timeout: Duration,
    /// How deep a reply may nest.
    pub max_reply_depth: usize,
    /// A replica in a cluster is to answer reads itself instead of naming its primary.
    pub reads_replica: bool,
    /// Says where host names lead.
    pub resolver: Resolver,
}

/// A connection that is up, and what the server said to HELLO (`None` in RESP2).
#[derive(Debug)]
pub struct Greeted {
    /// The socket; every reply was read, so the next byte belongs to the next reply.
    pub socket: Socket,
    /// The reply to HELLO 3.
    pub hello: Option<Value>,
    /// Who the connection is to the server; `None` when it does not tell.
    pub peer: Option<Peer>,
}

/// Who a connection is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The number of the client.
    pub id: i64,
    /// Where it comes from, as it is known on this side; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
}

/// Brings a connection up as `handshake` says.
///
/// # Errors
/// [`Loss::Connect`] with what was attempted, [`Loss::Refused`] with the server's own error, or how the connection ended.
pub async fn connect(handshake: &Handshake) -> Result<Greeted, Loss> {
    match tokio::time::timeout(handshake.timeout, greet(handshake)).await {
        Ok(result) => result,
        Err(_) => Err(Loss::Connect(format!(
            "connect to {}: timed out after {:?}",
            handshake.address, handshake.timeout
        ))),
    }
}

async fn greet(handshake: &Handshake) -> Result<Greeted, Loss> {
    let address = &handshake.address;
    let mut socket = Socket::connect(address, &handshake.resolver)
        .await
        .map_err(|error| Loss::Connect(format!("connect to {address}: {error}")))?;
    let hello = log_in(&mut socket, handshake).await?;
    if handshake.db != 0 {
        demand(
            &mut socket,
            &[b"SELECT", handshake.db.to_string().as_bytes()],
            handshake.version,
        )
        .await?;
    }
    let mut id = hello
        .as_ref()
        .and_then(|hello: &Value| hello.get(b"id"))
        .and_then(Value::as_integer);
    // A server that does not let us say our name is still a server, and so is one that wants AUTH first. Both are sent
    // at once: RESP2 has no greeting that tells the id, and connections of sessions of their own are opened often.
    let mut last: Vec<&[&[u8]]> = Vec::new();
    let name: &[&[u8]] = &[b"CLIENT", b"SETNAME", handshake.client_name.as_bytes()];
    if !handshake.client_name.is_empty() {
        last.push(name);
    }
    if id.is_none() {
        last.push(&[b"CLIENT", b"ID"]);
    }
    // If it will not, it says so again whenever it is asked.
    if handshake.reads_replica {
        last.push(&[b"READONLY"]);
    }
    for reply in exchange_all(&mut socket, &last, handshake.version).await? {
        if let Value::Integer(number) = reply {
            id = Some(number);
        }
    }
    let local = socket.local_addr();
    let peer = id.map(|id| Peer { id, local });
    Ok(Greeted { socket, hello, peer })
}

/// Says who the connection is, and in which protocol; gives the reply to HELLO, if that was said.
async fn log_in(socket: &mut Socket, handshake: &Handshake) -> Result<Option<Value>, Loss> {
    let credentials = handshake.identity.credentials();
    if handshake.version == Version::V3 {
        let mut args: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(credentials) = credentials {
            args.extend([
                b"AUTH".as_slice(),
                handshake.identity.user(),
                credentials.password.reveal(),
            ]);
        }
        return demand(socket, &args, Version::V3).await.map(Some);
    }
    if let Some(credentials) = credentials {
        let password = credentials.password.reveal();
        // Servers before 6.0 know only AUTH password.
        let args: &[&[u8]] = if credentials.username.is_empty() {
            &[b"AUTH", password]
        } else {
            &[b"AUTH", &credentials.username, password]
        };
        demand(socket, args, Version::V2).await?;
    }
    Ok(None)
}

/// Sends a command and takes its reply; an error reply is [`Loss::Refused`].
pub(super) async fn demand(socket: &mut Socket, args: &[&[u8]], version: Version) -> Result<Value, Loss> {
    match exchange(socket, args, version).await? {
        Value::Error(text) => Err(Loss::Refused(String::from_utf8_lossy(&text).into_owned())),
        value => Ok(value),
    }
}

/// Sends a command and takes its reply, whatever it is.
pub(super) async fn exchange(socket: &mut Socket, args: &[&[u8]], version: Version) -> Result<Value, Loss> {
    let replies = exchange_all(socket, &[args], version).await?;
    let none = || Loss::Protocol("no reply".into());
    replies.into_iter().next().ok_or_else(none)
}

/// Sends commands in one write and takes their replies, whatever they are.
pub(super) async fn exchange_all(
    socket: &mut Socket,
    requests: &[&[&[u8]]],
    version: Version,
) -> Result<Vec<Value>, Loss> {
    ask(socket, requests, version, |replies| replies.len() == requests.len()).await
}

/// Sends a PING on a connection that is subscribed, and takes everything up to its answer.
pub(super) async fn hear(socket: &mut Socket, version: Version) -> Result<Vec<Value>, Loss> {
    let is_pong = |value: &Value| match value {
        Value::Array(items) => items.first().and_then(Value::as_bytes) == Some(b"pong"),
        single => single.as_bytes() == Some(b"PONG"),
    };
    ask(socket, &[&[b"PING"]], version, |replies| {
        replies.last().is_some_and(is_pong)
    })
    .await
}

/// Sends commands in one write and takes replies until there are `enough`.
async fn ask(
    socket: &mut Socket,
    requests: &[&[&[u8]]],
    version: Version,
    enough: impl Fn(&[Value]) -> bool,
) -> Result<Vec<Value>, Loss> {
    let mut out = Vec::new();
    for args in requests {
        encode::request(&mut out, args.iter().copied());
    }
    let io = |error: std::io::Error| Loss::Io(error.to_string());
    socket.write_all(&out).await.map_err(io)?;
    let (mut input, mut scanner) = (Vec::new(), ReplyScanner::new(ReplyLimits::default()));
    let (mut begin, mut scanned, mut replies) = (0, 0, Vec::new());
    while !enough(&replies) {
        let fresh = input.get(scanned..).unwrap_or_default();
        match scanner.scan(fresh).map_err(|error| Loss::Protocol(error.to_string()))? {
            ReplyScan::Complete { consumed } => {
                scanned += consumed;
                let frame = Bytes::copy_from_slice(input.get(begin..scanned).unwrap_or_default());
                begin = scanned;
                replies.push(Value::decode(&frame, version).map_err(|error| Loss::Protocol(error.to_string()))?);
            }
            ReplyScan::Incomplete if input.len() > REPLY_LIMIT => {
                return Err(Loss::Protocol("a reply too large".into()));
            }
            ReplyScan::Incomplete => {
                scanned = input.len();
                if socket.read_buf(&mut input).await.map_err(io)? == 0 {
                    return Err(Loss::Closed);
                }
            }
        }
    }
    if begin == input.len() {
        Ok(replies)
    } else {
        Err(Loss::Protocol("more replies than requests".into()))
    }
}
