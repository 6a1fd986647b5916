//! Why a connection was lost, and what that means to a request that was on it.

use std::fmt;
use std::time::Duration;

/// Why a connection did not come up, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It could not be connected.
    Connect(String),
    /// It was not connected: too many others were being opened.
    Crowded(String),
    /// The server refused the handshake; its own error line, without `-` and CRLF.
    Refused(String),
    /// The server closed it.
    Closed,
    /// The server, or whoever is on the way, cut it off.
    Reset,
    /// The operating system gave an error.
    Io(String),
    /// Bytes came that are not RESP, or a reply nobody asked for.
    Protocol(String),
    /// The oldest request went unanswered for too long.
    Timeout(Duration),
    /// nearhit closed it: its session left, or the process stops.
    Shutdown,
    /// nearhit closed it: the node is not what it was to us any more. Says why.
    Left(String),
}

impl Loss {
    /// The reason as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Crowded(_) => "crowded",
            Self::Refused(_) => "refused",
            Self::Closed => "eof",
            Self::Io(_) | Self::Reset => "io",
            Self::Protocol(_) => "protocol",
            Self::Timeout(_) => "timeout",
            Self::Shutdown | Self::Left(_) => "shutdown",
        }
    }

    /// Whether the connection never was one: nothing on it can have been executed.
    pub fn never_connected(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Crowded(_) | Self::Refused(_))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) | Self::Crowded(why) | Self::Refused(why) | Self::Io(why) | Self::Left(why) => {
                f.write_str(why)
            }
            Self::Closed => f.write_str("connection closed by the server"),
            Self::Reset => f.write_str("connection reset by the server"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::Shutdown => f.write_str("closed by nearhit"),
        }
    }
}
