//! Bringing a connection up: connect, authenticate, choose protocol and database, say who we are.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::identity::Identity;
use super::loss::Loss;
use super::resolve::Resolver;
use super::socket::Socket;
use crate::config::Address;
use crate::resp::{ReplyError, ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};
use crate::tls::ClientTls;

/// Replies to handshake commands are small; `COMMAND` of a server with many modules is the largest.
const REPLY_LIMIT: usize = 64 << 20;
/// How a server begins that does TLS and does not understand what is said in the clear.
const TLS_ALERT: &[u8] = &[0x15, 3];

/// What a connection is to be.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Where the node is.
    pub address: Address,
    /// How to speak TLS to it; `None`: in the clear.
    pub tls: Option<ClientTls>,
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
    // What is waited for, where that helps to understand why nothing comes.
    let mut waits_for_tls = false;
    let greeting = async {
        let mut socket = dial(handshake, &mut waits_for_tls).await?;
        let greeted = greet(&mut socket, handshake).await;
        let (hello, peer) = greeted.map_err(|loss| unsaid(loss, &socket, &handshake.address))?;
        Ok(Greeted { socket, hello, peer })
    };
    match tokio::time::timeout(handshake.timeout, greeting).await {
        Ok(result) => result,
        Err(_) => {
            let (address, limit) = (&handshake.address, handshake.timeout);
            let waited_for = match waits_for_tls {
                true => format!(", {}", ClientTls::explain_silence()),
                false => String::new(),
            };
            Err(Loss::Connect(format!(
                "connect to {address}: timed out after {limit:?}{waited_for}"
            )))
        }
    }
}

/// The socket, with its TLS handshake done where there is to be one: every connection to a node begins here.
async fn dial(handshake: &Handshake, waits_for_tls: &mut bool) -> Result<Socket, Loss> {
    let address = &handshake.address;
    let socket = Socket::connect(address, &handshake.resolver)
        .await
        .map_err(|error| Loss::Connect(format!("connect to {address}: {error}")))?;
    let Some(tls) = &handshake.tls else {
        return Ok(socket);
    };
    *waits_for_tls = true;
    let secured = socket.secured(tls, address).await;
    *waits_for_tls = false;
    secured.map_err(|why| Loss::Connect(format!("connect to {address}: {why}")))
}

/// A server that takes no certificate, or wants one, lets a TLS 1.3 client believe that the handshake is done and then
/// breaks off: then there never was a connection.
fn unsaid(loss: Loss, socket: &Socket, address: &Address) -> Loss {
    match (loss, socket) {
        (Loss::Io(why), Socket::Tls(_)) => Loss::Connect(format!("connect to {address}: {why}")),
        // What redis-server does where it is spoken to in the clear and does TLS.
        (Loss::Reset, Socket::Tcp(_)) => Loss::Connect(format!(
            "connect to {address}: {}, at the first command; if that port speaks TLS, the URL begins with rediss://",
            Loss::Reset
        )),
        (loss, _) => loss,
    }
}

/// Says who we are and where we want to be; gives what the server said to HELLO, and who we are to it.
async fn greet(socket: &mut Socket, handshake: &Handshake) -> Result<(Option<Value>, Option<Peer>), Loss> {
    let hello = log_in(socket, handshake).await?;
    if handshake.db != 0 {
        let db = handshake.db.to_string();
        demand(socket, &[b"SELECT", db.as_bytes()], handshake.version).await?;
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
    for reply in exchange_all(socket, &last, handshake.version).await? {
        if let Value::Integer(number) = reply {
            id = Some(number);
        }
    }
    let local = socket.local_addr();
    Ok((hello, id.map(|id| Peer { id, local })))
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

/// Bytes that are no RESP.
fn odd(input: &[u8], error: &ReplyError) -> Loss {
    match input.starts_with(TLS_ALERT) {
        true => Loss::Protocol("what answers there speaks TLS; the URL then begins with rediss://".to_owned()),
        false => Loss::Protocol(error.to_string()),
    }
}

/// Writes all of it, as far as to the kernel.
pub(super) async fn send(socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes).await?;
    socket.flush().await
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
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionReset => Loss::Reset,
        _ => Loss::Io(error.to_string()),
    };
    // A server that went away may have said why before it did.
    let unsent = send(socket, &out).await.err().map(io);
    let (mut input, mut scanner) = (Vec::new(), ReplyScanner::new(ReplyLimits::default()));
    let (mut begin, mut scanned, mut replies) = (0, 0, Vec::new());
    while !enough(&replies) {
        let fresh = input.get(scanned..).unwrap_or_default();
        match scanner.scan(fresh).map_err(|error| odd(&input, &error))? {
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
                    return Err(unsent.unwrap_or(Loss::Closed));
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
