//! One error type: whose fault it is (`side`), what went wrong (`kind`), and what lies beneath (`source`).

use std::fmt;

/// Whose side an error comes from; it decides who should act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client: malformed requests, closed sockets.
    Downstream,
    /// Redis, or the network on the way to it.
    Upstream,
    /// The operator: settings, ports, files.
    Config,
    /// nearhit itself.
    Internal,
}

/// What went wrong, coarse enough to be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that are not the protocol that was expected.
    Protocol,
    /// An address that could not be resolved or connected to.
    Connect,
    /// Nothing happened for longer than the setting allows.
    Timeout,
    /// The peer closed the connection.
    Closed,
    /// The server refused the handshake (authentication, unknown command).
    Refused,
    /// A listen address that could not be bound.
    Bind,
    /// A setting that is missing, unknown or out of range.
    Invalid,
    /// The operating system refused.
    Io,
}

/// An error of nearhit: lower-case, no full stop, says what was attempted and with what.
///
/// Displayed as `connect to 10.0.0.1:6379: timed out after 250ms`.
#[derive(Debug)]
pub struct Error {
    side: Side,
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Builds an error from what was attempted.
    pub fn new(side: Side, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            side,
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds what lies beneath; it is displayed behind the message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whose fault it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
