//! A connection for asking the server about itself: one command, one reply, in turn.

use std::net::SocketAddr;

use super::handshake::{self, Greeted, Handshake, demand, exchange, exchange_all};
use super::loss::Loss;
use super::socket::Socket;
use crate::command::LearnedCommand;
use crate::resp::{Value, Version};

/// What the server said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `redis_version`, or `valkey_version` of servers that have one.
    pub version: String,
    /// What it answered to INFO.
    pub info: String,
    /// Every command it reports.
    pub commands: Vec<LearnedCommand>,
}

/// A connection of one's own on which commands are answered one by one.
pub struct Control {
    socket: Socket,
    version: Version,
    hello: Option<Value>,
}

impl Control {
    /// Connects as `handshake` says.
    ///
    /// # Errors
    /// See [`handshake::connect`].
    pub async fn connect(handshake: &Handshake) -> Result<Self, Loss> {
        let Greeted { socket, hello, .. } = handshake::connect(handshake).await?;
        Ok(Self {
            socket,
            version: handshake.version,
            hello,
        })
    }

    /// Sends a command and takes its reply, whatever it is.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn exchange(&mut self, args: &[&[u8]]) -> Result<Value, Loss> {
        exchange(&mut self.socket, args, self.version).await
    }

    /// Sends commands in one write and takes their replies, whatever they are.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn exchange_all(&mut self, requests: &[&[&[u8]]]) -> Result<Vec<Value>, Loss> {
        exchange_all(&mut self.socket, requests, self.version).await
    }

    /// Sends a command and takes its reply.
    ///
    /// # Errors
    /// [`Loss::Refused`] with the server's error, or how the connection ended.
    pub async fn demand(&mut self, args: &[&[u8]]) -> Result<Value, Loss> {
        demand(&mut self.socket, args, self.version).await
    }

    /// What a subscribed connection was told until now: everything in front of the answer to a PING.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn hear(&mut self) -> Result<Vec<Value>, Loss> {
        handshake::hear(&mut self.socket, self.version).await
    }

    /// Where the connection comes from, as it is known on this side.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr()
    }

    /// Where the connection leads, once the name was resolved.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr()
    }

    /// The connection's id at the server.
    ///
    /// # Errors
    /// See [`Control::demand`].
    pub async fn client_id(&mut self) -> Result<i64, Loss> {
        match self.demand(&[b"CLIENT", b"ID"]).await? {
            Value::Integer(id) => Ok(id),
            _ => Err(Loss::Protocol("CLIENT ID did not answer with a number".into())),
        }
    }

    /// Refuses servers whose tracking has known holes: before Redis 6.2.8 and 7.0.5 pushes could stand inside a reply,
    /// and flushes by the tracking connection itself could overtake it (redis issues 8935, 11038).
    ///
    /// # Errors
    /// [`Loss::Refused`], saying what is needed.
    pub fn must_track_reliably(&self) -> Result<(), Loss> {
        let field = |name: &[u8]| {
            self.hello
                .as_ref()
                .and_then(|hello| hello.get(name))
                .and_then(Value::as_bytes)
        };
        let version = String::from_utf8_lossy(field(b"version").unwrap_or_default()).into_owned();
        if field(b"server") != Some(b"redis") || tracks_reliably(&version) {
            return Ok(());
        }
        Err(Loss::Refused(format!(
            "redis {version} tracks unreliably; caching needs 6.2.8, 7.0.5 or newer"
        )))
    }

    /// Asks which version the server has and which commands it knows.
    ///
    /// # Errors
    /// See [`Control::demand`].
    pub async fn facts(&mut self) -> Result<ServerFacts, Loss> {
        let info = self.demand(&[b"INFO"]).await?;
        let text = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
        let version = info_field(&text, "valkey_version").or_else(|| info_field(&text, "redis_version"));
        let version = version.unwrap_or_default().to_owned();
        let Value::Array(rows) = self.demand(&[b"COMMAND"]).await? else {
            return Err(Loss::Protocol("COMMAND did not answer with an array".into()));
        };
        Ok(ServerFacts {
            version,
            info: text,
            commands: rows.iter().filter_map(learned).collect(),
        })
    }

    /// The socket, when nothing is on its way.
    pub fn into_socket(self) -> Socket {
        self.socket
    }
}

/// One field of a reply to INFO.
pub fn info_field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn tracks_reliably(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
    );
    version >= (7, 0, 5) || ((6, 2, 8)..(7, 0, 0)).contains(&version)
}

/// One row of `COMMAND`: name, arity, flags, first key, last key, step, categories, tips, key specs, subcommands.
fn learned(row: &Value) -> Option<LearnedCommand> {
    let Value::Array(fields) = row else { return None };
    let text = |value: &Value| Some(String::from_utf8_lossy(value.as_bytes()?).into_owned());
    let number = |at: usize| match fields.get(at) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let flags = match fields.get(2)? {
        Value::Array(flags) | Value::Set(flags) => flags.iter().filter_map(text).collect(),
        _ => return None,
    };
    let subcommands = match fields.get(9) {
        Some(Value::Array(rows) | Value::Set(rows)) => rows.iter().filter_map(learned).collect(),
        _ => Vec::new(),
    };
    Some(LearnedCommand {
        name: text(fields.first()?)?,
        arity: number(1)?,
        flags,
        first: number(3)?,
        last: number(4)?,
        step: number(5)?,
        subcommands,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_holes_in_tracking_are_not_cached_from() {
        for good in ["6.2.8", "6.2.14", "7.0.5", "7.0.15", "7.2.0", "8.0.2", "255.255.255"] {
            assert!(tracks_reliably(good), "{good}");
        }
        for bad in ["6.0.20", "6.2.7", "7.0.0", "7.0.4", ""] {
            assert!(!tracks_reliably(bad), "{bad}");
        }
    }
}
