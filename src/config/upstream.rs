//! The server's URL: `redis://[user[:password]@]host[:port][/db]` or `unix:///path[?db=n]`.
//!
//! Messages quote the scheme, the port and the database, and nothing else: the rest may hold a password.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::error::{Code, Invalid};
use super::listen::MAX_SOCKET_PATH;
use super::{Secret, Upstream};

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or an IP address (IPv6 without brackets), and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Where the server is, which database to use, and who to be there. Displays without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Where the server is.
    pub address: Address,
    /// The database clients start in.
    pub db: u32,
    /// The user in the URL; empty = the default user.
    pub username: String,
    /// The password in the URL; empty = none.
    pub password: Secret,
}

/// What to authenticate with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user; empty = the default user, for whom `AUTH password` is enough. Any bytes, as clients may send them.
    pub username: Box<[u8]>,
    /// The password; may be empty for a user who needs none.
    pub password: Secret,
}

impl Upstream {
    /// What to authenticate with, from the URL or from `username` and `password`; `None` = not at all.
    pub fn credentials(&self) -> Option<Credentials> {
        [
            (&self.url.username, &self.url.password),
            (&self.username, &self.password),
        ]
        .into_iter()
        .find(|(username, password)| !username.is_empty() || !password.is_empty())
        .map(|(username, password)| Credentials {
            username: username.as_bytes().into(),
            password: password.clone(),
        })
    }
}

pub(super) const WANTED: &str = "redis://[user[:password]@]host[:port][/db] or unix:///path[?db=n]";

/// Redis' own port.
const PORT: u16 = 6379;

impl UpstreamUrl {
    /// The server at this host and port: no credentials, database 0.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self {
            address: Address::Tcp {
                host: host.into(),
                port,
            },
            db: 0,
            username: String::new(),
            password: Secret::default(),
        }
    }

    pub(super) fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }
}

impl Default for UpstreamUrl {
    fn default() -> Self {
        Self::tcp("127.0.0.1", PORT)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if matches!(self.address, Address::Unix(_)) {
            "unix"
        } else {
            "redis"
        };
        write!(f, "{scheme}://{}", self.username)?;
        if !self.password.is_empty() {
            write!(f, ":{}", self.password)?;
        }
        if self.has_credentials() {
            f.write_str("@")?;
        }
        match self.address {
            Address::Tcp { .. } => write!(f, "{}/{}", self.address, self.db),
            Address::Unix(_) => write!(f, "{}?db={}", self.address, self.db),
        }
    }
}

impl FromStr for UpstreamUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Invalid::value("this is not a URL", WANTED).help("write \"redis://\" in front of host:port"));
        };
        let (before, query) = rest
            .split_once('?')
            .map_or((rest, None), |(before, query)| (before, Some(query)));
        let (authority, path) = match before.find('/') {
            Some(slash) => before.split_at_checked(slash).unwrap_or((before, "")),
            None => (before, ""),
        };
        // Otherwise a part of the password would be taken for a port or a database, and be quoted.
        if path.contains('@') || query.is_some_and(|query| query.contains('@')) || rest.contains('#') {
            return Err(Invalid::value(
                "'/', '?' and '#' cannot stand in a user or password as they are",
                WANTED,
            )
            .help("write them as %2F, %3F and %23, or use upstream.username and upstream.password_file"));
        }
        let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (address, db) = match scheme.to_ascii_lowercase().as_str() {
            "redis" => tcp(host, path, query)?,
            "unix" => unix(host, path, query)?,
            other => return Err(unsupported(other)),
        };
        Ok(Self {
            address,
            db,
            username: decode(username)?,
            password: Secret::new(decode(password)?),
        })
    }
}

fn tcp(host: &str, path: &str, query: Option<&str>) -> Result<(Address, u32), Invalid> {
    if query.is_some() {
        return Err(
            Invalid::value("a redis:// URL has no parameters here", WANTED).help("remove the '?' and what follows")
        );
    }
    let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
        None if host.matches(':').count() > 1 => {
            return Err(Invalid::value(
                "an IPv6 address stands in brackets",
                "redis://[::1]:6379",
            ));
        }
        None => host
            .split_once(':')
            .map_or((host, Some("")), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(Invalid::value("the host is missing", WANTED));
    }
    if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err(Invalid::value(
            "what stands in brackets is not an IPv6 address",
            "redis://[::1]:6379",
        ));
    }
    let port = match port {
        Some("") => PORT,
        port => {
            let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok()).filter(|port| *port > 0);
            number.ok_or_else(|| Invalid::value("what follows the host is not a port", "a port from 1 to 65535"))?
        }
    };
    let db = path.strip_prefix('/').unwrap_or(path);
    Ok((
        Address::Tcp {
            host: decode(host)?,
            port,
        },
        if db.is_empty() { 0 } else { database(db)? },
    ))
}

fn unix(host: &str, path: &str, query: Option<&str>) -> Result<(Address, u32), Invalid> {
    if !host.is_empty() || path.len() < 2 {
        return Err(Invalid::value("the path of a Unix socket is absolute", WANTED)
            .help("write three slashes: \"unix:///run/redis.sock\""));
    }
    let db = match query.map(|query| query.strip_prefix("db=")) {
        None => 0,
        Some(Some(db)) => database(db)?,
        Some(None) => return Err(Invalid::value("a unix:// URL has one parameter, db", WANTED)),
    };
    let path = decode(path)?;
    if path.len() > MAX_SOCKET_PATH {
        return Err(Invalid::value(
            "the path is too long for a Unix socket",
            format!("at most {MAX_SOCKET_PATH} bytes"),
        ));
    }
    Ok((Address::Unix(PathBuf::from(path)), db))
}

fn database(text: &str) -> Result<u32, Invalid> {
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten();
    // Redis reads the number as a C int.
    number
        .filter(|db| *db <= i32::MAX.unsigned_abs())
        .ok_or_else(|| Invalid::value(format!("'{text}' is not a database"), "a number such as 0"))
}

fn decode(text: &str) -> Result<String, Invalid> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Invalid::value("what is percent-encoded is not UTF-8", WANTED)),
    }
}

fn unsupported(scheme: &str) -> Invalid {
    let what = match scheme {
        "rediss" | "valkeys" => "TLS to the server",
        "redis+sentinel" | "rediss+sentinel" => "Sentinel",
        "redis+cluster" | "rediss+cluster" => "Redis Cluster",
        _ => return Invalid::value(format!("unknown scheme '{scheme}://'"), WANTED),
    };
    Invalid::new(
        Code::Unsupported,
        format!("{scheme}:// ({what}) is not supported by this version yet"),
        WANTED,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> UpstreamUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_says_where_which_database_and_who() {
        assert_eq!(parsed("redis://db"), UpstreamUrl::tcp("db", 6379));
        assert_eq!(parsed("REDIS://db:1/"), UpstreamUrl::tcp("db", 1));
        assert_eq!(parsed("redis://[::1]"), UpstreamUrl::tcp("::1", 6379));
        assert_eq!(
            parsed("redis://[::1]:7/3"),
            UpstreamUrl {
                db: 3,
                ..UpstreamUrl::tcp("::1", 7)
            }
        );
        let url = parsed("redis://us%40er:p%2Fa%3As@db:6379/15");
        assert_eq!(
            (url.username.as_str(), url.password.reveal(), url.db),
            ("us@er", b"p/a:s".as_slice(), 15)
        );
        let url = parsed("redis://:pass@db");
        assert_eq!((url.username.as_str(), url.password.reveal()), ("", b"pass".as_slice()));
        let url = parsed("unix:///run/my%20redis.sock?db=2");
        assert_eq!((url.address, url.db), (Address::Unix("/run/my redis.sock".into()), 2));
    }

    #[test]
    fn a_displayed_url_hides_the_password() {
        assert_eq!(parsed("redis://me:secret@db:1/2").to_string(), "redis://me:***@db:1/2");
        assert_eq!(parsed("redis://[::1]").to_string(), "redis://[::1]:6379/0");
        assert_eq!(
            parsed("unix://:secret@/run/r.sock").to_string(),
            "unix://:***@/run/r.sock?db=0"
        );
        assert!(!format!("{:?}", parsed("redis://me:secret@db")).contains("secret"));
    }

    #[test]
    fn schemes_of_later_versions_are_refused_as_such() {
        for (text, what) in [
            ("rediss://db", "TLS"),
            ("redis+sentinel://a,b/m", "Sentinel"),
            ("redis+cluster://a", "Cluster"),
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert_eq!(error.code, Code::Unsupported, "{text}");
            assert!(
                error.message.contains(what) && error.message.contains("not supported by this version yet"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_message_quotes_a_password() {
        let broken = [
            "user:s3cret@host:6379",
            "redis://user:s3cret@host:port",
            "redis://user:s3/cret@host",
            "redis://user:s3?cret@host",
            "redis://user:s3#cret@host",
            "redis://user:s3cret@",
            "redis://user:s3cret@host/x",
            "redis://user:s3cret@host?x=1",
            "redis://user:s3cret@::1",
            "redis://user:s3cret%ff@host",
            "http://user:s3cret@host",
            "unix://user:s3cret@run/x",
        ];
        for text in broken {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert!(!error.to_string().contains("cret"), "{text}: {error}");
        }
    }

    #[test]
    fn broken_urls_are_refused() {
        for text in [
            "",
            "db:6379",
            "redis://",
            "redis://:6379",
            "redis://db:0",
            "redis://db:70000",
            "redis://db:+1",
            "redis://[::1",
            "redis://[::1]x",
            "redis://[::g]",
            "redis://db/-1",
            "redis://db/0/1",
            "unix://",
            "unix:///",
            "unix:///a?x=1",
            "redis://db/4294967296",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text}");
        }
    }
}
