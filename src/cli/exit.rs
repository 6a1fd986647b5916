//! Exit codes, and what is said on stderr before one. Codes above 63 are those of sysexits.h.

use std::error::Error as _;
use std::io;

use nearhit::error::{Error, Kind, Side};

/// Something failed while running.
pub(super) const FAILURE: u8 = 1;
/// The command line could not be understood; clap's own code.
pub(super) const USAGE: u8 = 2;
/// There is no such mutant (`EX_USAGE`).
#[cfg(feature = "mutants")]
pub(super) const MUTANT: u8 = 64;
/// An address could not be bound (`EX_CANTCREAT`).
pub(super) const CANNOT_BIND: u8 = 73;
/// A setting is wrong (`EX_CONFIG`); service managers need not try again.
pub(super) const CONFIG: u8 = 78;
/// Killed by a second SIGINT, as shells report it.
pub(super) const INTERRUPTED: u8 = 130;
/// Killed by a second SIGTERM, as shells report it.
pub(super) const TERMINATED: u8 = 143;

/// The exit code for an error.
pub(super) fn code(error: &Error) -> u8 {
    match (error.side(), error.kind()) {
        (Side::Config, Kind::Bind) => CANNOT_BIND,
        (Side::Config, _) => CONFIG,
        _ => FAILURE,
    }
}

/// The one line said about an error. When an address could not be bound it also says what to do.
pub(super) fn describe(error: &Error) -> String {
    let text = error.to_string();
    let reason = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let (Kind::Bind, Some(reason)) = (error.kind(), reason) else {
        return text;
    };
    let (what, advice) = match reason.kind() {
        io::ErrorKind::AddrInUse => (
            "address already in use",
            "stop the process that listens there, or choose another address with --listen or --metrics.listen",
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied",
            "ports below 1024 need CAP_NET_BIND_SERVICE, sockets a directory nearhit may write to",
        ),
        io::ErrorKind::AddrNotAvailable => (
            "this machine has no such address",
            "use one of its own, or 0.0.0.0 for all of them",
        ),
        io::ErrorKind::NotFound => ("no such directory", "create the directory the socket stands in"),
        _ => return text,
    };
    let attempt = text.strip_suffix(&format!(": {reason}")).unwrap_or(&text);
    format!("{attempt}: {what} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_error(reason: io::ErrorKind) -> Error {
        Error::new(Side::Config, Kind::Bind, "listen on 127.0.0.1:6380").with_source(io::Error::from(reason))
    }

    #[test]
    fn an_address_in_use_says_what_to_do_in_one_line() {
        let error = bind_error(io::ErrorKind::AddrInUse);
        assert_eq!(code(&error), 73);
        assert_eq!(
            describe(&error),
            "listen on 127.0.0.1:6380: address already in use (stop the process that listens there, or choose another \
             address with --listen or --metrics.listen)"
        );
    }

    #[test]
    fn a_reason_without_advice_is_told_as_it_is() {
        let error = bind_error(io::ErrorKind::OutOfMemory);
        assert_eq!(describe(&error), error.to_string());
    }

    #[test]
    fn whose_fault_it_is_decides_the_exit_code() {
        assert_eq!(code(&Error::new(Side::Config, Kind::Invalid, "x")), 78);
        assert_eq!(code(&Error::new(Side::Upstream, Kind::Connect, "x")), 1);
        assert_eq!(code(&Error::new(Side::Internal, Kind::Bind, "x")), 1);
    }
}
