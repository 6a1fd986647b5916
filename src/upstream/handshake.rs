//! Bringing a connection up: connect, authenticate, choose protocol and database, say who we are.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::loss::Loss;
use super::socket::Socket;
use crate::config::{Address, Credentials};
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};

/// Replies to handshake commands are small; `COMMAND` of a server with many modules is the largest.
const REPLY_LIMIT: usize = 64 << 20;

/// What a connection is to be.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Where the node is.
    pub address: Address,
    /// Who to be there; `None`: nobody in particular.
    pub credentials: Option<Credentials>,
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
}

/// A connection that is up, and what the server said to HELLO (`None` in RESP2).
#[derive(Debug)]
pub struct Greeted {
    /// The socket; every reply was read, so the next byte belongs to the next reply.
    pub socket: Socket,
    /// The reply to HELLO 3.
    pub hello: Option<Value>,
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
    let mut socket = Socket::connect(address)
        .await
        .map_err(|error| Loss::Connect(format!("connect to {address}: {error}")))?;
    let mut hello = None;
    match handshake.version {
        Version::V3 => {
            let mut args: Vec<&[u8]> = vec![b"HELLO", b"3"];
            if let Some(credentials) = &handshake.credentials {
                args.extend([
                    b"AUTH".as_slice(),
                    user(credentials),
                    credentials.password.reveal().as_bytes(),
                ]);
            }
            hello = Some(demand(&mut socket, &args, Version::V3).await?);
        }
        Version::V2 => {
            if let Some(credentials) = &handshake.credentials {
                let password = credentials.password.reveal().as_bytes();
                // Servers before 6.0 know only AUTH password.
                let args: &[&[u8]] = if credentials.username.is_empty() {
                    &[b"AUTH", password]
                } else {
                    &[b"AUTH", user(credentials), password]
                };
                demand(&mut socket, args, Version::V2).await?;
            }
        }
    }
    if handshake.db != 0 {
        demand(
            &mut socket,
            &[b"SELECT", handshake.db.to_string().as_bytes()],
            handshake.version,
        )
        .await?;
    }
    if !handshake.client_name.is_empty() {
        // A server that does not let us say our name is still a server; neither is one that wants AUTH first.
        let _refused_or_not = exchange(
            &mut socket,
            &[b"CLIENT", b"SETNAME", handshake.client_name.as_bytes()],
            handshake.version,
        )
        .await?;
    }
    Ok(Greeted { socket, hello })
}

fn user(credentials: &Credentials) -> &[u8] {
    if credentials.username.is_empty() {
        b"default"
    } else {
        credentials.username.as_bytes()
    }
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
    let mut out = Vec::new();
    encode::request(&mut out, args.iter().copied());
    let io = |error: std::io::Error| Loss::Io(error.to_string());
    socket.write_all(&out).await.map_err(io)?;
    let (mut reply, mut scanner) = (Vec::new(), ReplyScanner::new(ReplyLimits::default()));
    loop {
        let before = reply.len();
        if socket.read_buf(&mut reply).await.map_err(io)? == 0 {
            return Err(Loss::Closed);
        }
        let scanned = scanner
            .scan(reply.get(before..).unwrap_or_default())
            .map_err(|error| Loss::Protocol(error.to_string()))?;
        match scanned {
            ReplyScan::Complete { consumed } if before + consumed == reply.len() => break,
            ReplyScan::Complete { .. } => return Err(Loss::Protocol("more replies than requests".into())),
            ReplyScan::Incomplete if reply.len() > REPLY_LIMIT => {
                return Err(Loss::Protocol("a reply too large".into()));
            }
            ReplyScan::Incomplete => {}
        }
    }
    Value::decode(&Bytes::from(reply), version).map_err(|error| Loss::Protocol(error.to_string()))
}
