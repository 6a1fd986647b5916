//! Short texts with a grammar: names, paths and log filters.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::error::Invalid;

/// Writes a text type that can only be built by its grammar: `Name, "default", "what is wanted", check`.
macro_rules! name {
    ($(#[doc = $about:literal])+ $name:ident, $default:literal, $wanted:literal, $check:expr) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            pub(super) const WANTED: &str = $wanted;
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default.to_owned())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Invalid::value(format!("'{}' will not do", text.escape_debug()), $wanted))
                }
            }
        }
    };
}

name! {
    /// A connection's name; empty = none. Redis refuses spaces, line ends and control characters in it.
    ClientName, "nearhit", "a name of printable ASCII characters without spaces",
    |text| text.bytes().all(|byte| byte.is_ascii_graphic())
}

name! {
    /// The name of nearhit's own command; empty = there is none.
    AdminCommand, "PROXY", "a command name of letters, digits, '.', '_' or '-', at most 32 of them",
    |text| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

name! {
    /// The path of an HTTP page.
    HttpPath, "/metrics", "a path such as /metrics",
    |text| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#{}*".contains(&byte))
}

name! {
    /// Which log lines are written: a level, or directives such as `nearhit=debug,tokio=warn`.
    LogLevel, "info", "error, warn, info, debug, trace or off, or directives such as nearhit=debug,tokio=warn",
    |text| text.split(',').all(|part| directive(part.trim()))
}

/// `level`, or `module::path=level`.
fn directive(text: &str) -> bool {
    let (target, level) = text
        .rsplit_once('=')
        .map_or((None, text), |(target, level)| (Some(target), level));
    let path = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
    ["off", "error", "warn", "info", "debug", "trace"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(level))
        && target.is_none_or(|target| !target.is_empty() && target.bytes().all(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_level_is_a_word_or_directives() {
        for text in [
            "info",
            "TRACE",
            "off",
            "nearhit=debug,tokio=warn",
            "warn,nearhit::upstream=trace",
        ] {
            assert!(text.parse::<LogLevel>().is_ok(), "{text}");
        }
        for text in ["", "loud", "=info", "nearhit=", "nearhit=debug,", "a b=info"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_redis_or_http_would_refuse_are_refused() {
        assert!("".parse::<ClientName>().is_ok());
        assert!("my app".parse::<ClientName>().is_err());
        assert!("a\nb".parse::<ClientName>().is_err());
        assert!("".parse::<AdminCommand>().is_ok());
        assert!("PRO XY".parse::<AdminCommand>().is_err());
        assert!("metrics".parse::<HttpPath>().is_err());
        assert!("/a b".parse::<HttpPath>().is_err());
        assert!("/{id}".parse::<HttpPath>().is_err());
    }
}
