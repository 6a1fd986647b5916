//! Reading the server's URL: `redis://[user[:password]@]host[:port][,host[:port]...][/db]`,
//! `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/group[/db]`,
//! `redis+cluster://[user[:password]@]host[:port][,host[:port]...]` or `unix:///path[?db=n]`. `rediss` in place of `redis` is
//! TLS; `valkey` and `valkeys` are other names of the two.
//!
//! Messages quote the scheme, the port and the database, and nothing else: the rest may hold a password.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::Secret;
use super::error::Invalid;
use super::listen::MAX_SOCKET_PATH;
use super::upstream::{Address, PORT, UpstreamPlace, UpstreamUrl};

pub(super) const WANTED: &str = "redis://[user[:password]@]host[:port][,host[:port]...][/db], \
    redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/group[/db], \
    redis+cluster://[user[:password]@]host[:port][,host[:port]...], the same with rediss (TLS), or unix:///path[?db=n]";

/// Redis' own port for sentinels.
const SENTINEL_PORT: u16 = 26379;

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
        let scheme = scheme.to_ascii_lowercase();
        let (protocol, kind) = scheme
            .split_once('+')
            .map_or((&*scheme, None), |(protocol, kind)| (protocol, Some(kind)));
        let (place, db) = match (protocol, kind) {
            ("redis" | "rediss" | "valkey" | "valkeys", None) => nodes(host, path, query)?,
            ("redis" | "rediss" | "valkey" | "valkeys", Some("sentinel")) => sentinels(host, path, query)?,
            ("redis" | "rediss" | "valkey" | "valkeys", Some("cluster")) => cluster(host, path, query)?,
            ("unix", None) => unix(host, path, query)?,
            _ => return Err(Invalid::value(format!("unknown scheme '{scheme}://'"), WANTED)),
        };
        Ok(Self {
            place,
            tls: matches!(protocol, "rediss" | "valkeys"),
            db,
            username: decode(username)?,
            password: Secret::new(decode(password)?),
        })
    }
}

fn nodes(hosts: &str, path: &str, query: Option<&str>) -> Result<(UpstreamPlace, u32), Invalid> {
    no_parameters(query)?;
    let db = path.strip_prefix('/').unwrap_or(path);
    Ok((UpstreamPlace::Nodes(addresses(hosts, PORT)?), optional_database(db)?))
}

fn sentinels(hosts: &str, path: &str, query: Option<&str>) -> Result<(UpstreamPlace, u32), Invalid> {
    no_parameters(query)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let (group, db) = path.split_once('/').unwrap_or((path, ""));
    if group.is_empty() {
        return Err(Invalid::value("the name of the group is missing", WANTED)
            .help("write what the sentinels call it behind the hosts: \"redis+sentinel://host:26379/mymaster\""));
    }
    let place = UpstreamPlace::Sentinel {
        sentinels: addresses(hosts, SENTINEL_PORT)?,
        group: decode(group)?,
    };
    Ok((place, optional_database(db)?))
}

fn cluster(hosts: &str, path: &str, query: Option<&str>) -> Result<(UpstreamPlace, u32), Invalid> {
    no_parameters(query)?;
    let seeds = addresses(hosts, PORT)?;
    match optional_database(path.strip_prefix('/').unwrap_or(path))? {
        0 => Ok((UpstreamPlace::Cluster { seeds }, 0)),
        db => Err(Invalid::value(
            format!("a cluster has no database {db}"),
            "database 0, or none",
        )),
    }
}

fn no_parameters(query: Option<&str>) -> Result<(), Invalid> {
    let refusal = || Invalid::value("such a URL has no parameters", WANTED).help("remove the '?' and what follows");
    query.map_or(Ok(()), |_| Err(refusal()))
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, Invalid> {
    let mut addresses = Vec::new();
    for host in hosts.split(',') {
        let address = address(host, default_port)?;
        if addresses.contains(&address) {
            return Err(Invalid::value("a host is listed twice", "each host once"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Reads `host[:port]`.
pub(super) fn node(text: &str) -> Result<Address, Invalid> {
    address(text.trim(), PORT)
}

fn address(host: &str, default_port: u16) -> Result<Address, Invalid> {
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
        Some("") => default_port,
        port => {
            let digits = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok()).filter(|port| *port > 0);
            number.ok_or_else(|| Invalid::value("what follows the host is not a port", "a port from 1 to 65535"))?
        }
    };
    let host = decode(host)?;
    Ok(Address::Tcp { host, port })
}

fn unix(host: &str, path: &str, query: Option<&str>) -> Result<(UpstreamPlace, u32), Invalid> {
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
    Ok((UpstreamPlace::Nodes(vec![Address::Unix(PathBuf::from(path))]), db))
}

fn optional_database(text: &str) -> Result<u32, Invalid> {
    if text.is_empty() { Ok(0) } else { database(text) }
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
        assert_eq!(
            (url.first(), url.db),
            (Some(Address::Unix("/run/my redis.sock".into())), 2)
        );
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn a_url_may_list_several_nodes() {
        let url = parsed("redis://me:a,b@a,b:1,[::1]:2,[::2]/3");
        let nodes = vec![at("a", 6379), at("b", 1), at("::1", 2), at("::2", 6379)];
        assert_eq!((&url.place, url.db), (&UpstreamPlace::Nodes(nodes), 3));
        assert_eq!(
            (url.username.as_str(), url.password.reveal()),
            ("me", b"a,b".as_slice())
        );
        assert_eq!(url.first(), Some(at("a", 6379)));
        assert_eq!(url.name(), "a:6379,b:1,[::1]:2,[::2]:6379");
    }

    #[test]
    fn a_url_may_list_sentinels_and_say_what_they_call_the_primary() {
        let url = parsed("redis+sentinel://me:secret@s1,s2:7/my%20master/3");
        let place = UpstreamPlace::Sentinel {
            sentinels: vec![at("s1", 26379), at("s2", 7)],
            group: "my master".to_owned(),
        };
        assert_eq!((&url.place, url.db), (&place, 3));
        assert_eq!(
            (url.username.as_str(), url.password.reveal()),
            ("me", b"secret".as_slice())
        );
        assert_eq!((url.first(), url.name()), (None, "s1:26379,s2:7/my master".to_owned()));
        let url = parsed("redis+sentinel://s/0");
        assert_eq!((url.name(), url.db), ("s:26379/0".to_owned(), 0));
    }

    #[test]
    fn a_url_may_name_nodes_of_a_cluster() {
        let url = parsed("redis+cluster://me:secret@a,b:7/0");
        let seeds = vec![at("a", 6379), at("b", 7)];
        assert_eq!((&url.place, url.db), (&UpstreamPlace::Cluster { seeds }, 0));
        assert_eq!((url.first(), url.name()), (None, "a:6379,b:7".to_owned()));
        assert_eq!(url.to_string(), "redis+cluster://me:***@a:6379,b:7/0");
    }

    #[test]
    fn a_displayed_url_hides_the_password() {
        assert_eq!(parsed("redis://me:secret@db:1/2").to_string(), "redis://me:***@db:1/2");
        assert_eq!(parsed("redis://[::1]").to_string(), "redis://[::1]:6379/0");
        assert_eq!(
            parsed("unix://:secret@/run/r.sock").to_string(),
            "unix://:***@/run/r.sock?db=0"
        );
        assert_eq!(parsed("redis://:secret@a,b:1").to_string(), "redis://:***@a:6379,b:1/0");
        assert_eq!(
            parsed("redis+sentinel://me:secret@s1,s2/m/2").to_string(),
            "redis+sentinel://me:***@s1:26379,s2:26379/m/2"
        );
        assert!(!format!("{:?}", parsed("redis://me:secret@db")).contains("secret"));
    }

    #[test]
    fn an_s_behind_the_scheme_says_tls_and_changes_nothing_else() {
        for (with, without) in [
            ("rediss://me:secret@db:1/2", "redis://me:secret@db:1/2"),
            ("REDISS://db", "redis://db"),
            ("valkeys://a,b", "redis://a,b"),
            ("rediss+sentinel://a,b/m/3", "redis+sentinel://a,b/m/3"),
            ("valkeys+sentinel://a/m", "redis+sentinel://a/m"),
            ("rediss+cluster://a", "redis+cluster://a"),
            ("valkeys+cluster://a", "redis+cluster://a"),
        ] {
            let (with, without) = (parsed(with), parsed(without));
            assert!(with.tls && !without.tls);
            assert_eq!(UpstreamUrl { tls: false, ..with }, without);
        }
        assert_eq!(parsed("valkey://db"), parsed("redis://db"));
        assert_eq!(parsed("rediss://me:secret@db").to_string(), "rediss://me:***@db:6379/0");
        assert_eq!(parsed("valkeys+cluster://a").to_string(), "rediss+cluster://a:6379/0");
        assert_eq!(
            parsed("rediss+sentinel://a/m").to_string(),
            "rediss+sentinel://a:26379/m/0"
        );
        for text in [
            "unixs:///run/x",
            "unix+cluster:///run/x",
            "rediss+x://a",
            "redis+://a",
            "+redis://a",
            "redisss://a",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text}");
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
            "redis://user:s3cret@a,",
            "redis://user:s3cret@a,b:c",
            "redis+sentinel://user:s3cret@a",
            "redis+sentinel://user:s3/cret@a/m",
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
            "redis://,db",
            "redis://db,",
            "redis://db,db:6379",
            "redis://a,b/1/2",
            "redis+sentinel://",
            "redis+sentinel:///m",
            "redis+sentinel://s",
            "redis+sentinel://s/",
            "redis+sentinel://s//1",
            "redis+sentinel://s/m/x",
            "redis+sentinel://s/m?db=1",
            "redis+cluster://",
            "redis+cluster://a/1",
            "redis+cluster://a/x",
            "redis+cluster://a,a",
            "redis+cluster://a?db=0",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text}");
        }
    }
}
