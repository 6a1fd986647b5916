//! Where clients connect: a TCP address or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::Invalid;

/// A listener's address. Reads and displays as `127.0.0.1:6380`, `[::1]:6380` or `unix:///path?mode=0660`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// TCP; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path, absolute.
        path: PathBuf,
        /// Its permissions; `None` = what the umask leaves.
        mode: Option<u32>,
    },
}

pub(super) const WANTED: &str = "ip:port, [ipv6]:port or unix:///path?mode=0660";

/// Longest path of a Unix socket: `sun_path` is 108 bytes with the closing zero (unix(7)).
pub(super) const MAX_SOCKET_PATH: usize = 107;

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { path, mode: None } => write!(f, "unix://{}", path.display()),
            Self::Unix { path, mode: Some(mode) } => write!(f, "unix://{}?mode={mode:04o}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("unix:") {
            Some(rest) => unix(rest),
            None => text.parse().map(Self::Tcp).map_err(|_| not_an_address(text)),
        }
    }
}

fn unix(rest: &str) -> Result<Listen, Invalid> {
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let Some(path) = path
        .strip_prefix("//")
        .filter(|path| path.len() > 1 && path.starts_with('/'))
    else {
        return Err(Invalid::value("the path of a Unix socket is absolute", WANTED)
            .help("write three slashes: \"unix:///run/nearhit.sock\""));
    };
    if path.len() > MAX_SOCKET_PATH {
        return Err(Invalid::value(
            "the path is too long for a Unix socket",
            format!("at most {MAX_SOCKET_PATH} bytes"),
        ));
    }
    Ok(Listen::Unix {
        path: PathBuf::from(path),
        mode: query.map(mode).transpose()?,
    })
}

fn mode(query: &str) -> Result<u32, Invalid> {
    query
        .strip_prefix("mode=")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| {
            Invalid::value(
                format!("'?{query}' is not a mode"),
                "?mode= and octal permissions such as 0660",
            )
        })
}

fn not_an_address(text: &str) -> Invalid {
    let invalid = Invalid::value(format!("'{text}' is not an address to listen on"), WANTED);
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.parse::<u16>().is_err() {
        return invalid;
    }
    match host {
        "localhost" => invalid.help(format!("write \"127.0.0.1:{port}\"")),
        "" | "*" => invalid.help(format!(
            "write \"0.0.0.0:{port}\" for every address, \"127.0.0.1:{port}\" for this machine only"
        )),
        _ if host.contains(':') => invalid.help(format!("write \"[{host}]:{port}\"")),
        _ => invalid.help("names are not resolved here: write the address itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_listener_reads_back_as_it_is_displayed() {
        for text in [
            "127.0.0.1:6380",
            "[::1]:0",
            "unix:///run/a.sock",
            "unix:///run/a.sock?mode=0660",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_refused_address_says_how_to_write_it() {
        let help = |text: &str| text.parse::<Listen>().unwrap_err().help.unwrap_or_default();
        assert_eq!(help("localhost:6380"), "write \"127.0.0.1:6380\"");
        assert!(help("6380").contains("\"0.0.0.0:6380\""));
        assert!(help("*:6380").contains("\"0.0.0.0:6380\""));
        assert_eq!(help("::1:6380"), "write \"[::1]:6380\"");
        assert!(help("redis.local:6380").contains("not resolved"));
        assert!(help("unix://run/a.sock").contains("three slashes"));
        for text in [
            "",
            "127.0.0.1",
            "127.0.0.1:70000",
            "unix:///",
            "unix:///a?mode=8",
            "unix:///a?mode=+7",
            "unix:///a?x=1",
            "unix:///a?mode=",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
