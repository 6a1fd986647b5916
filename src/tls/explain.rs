//! What a failure of TLS means, in a sentence that says what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;

use super::Inner;

/// Not TLS at all: what to look at.
const NOT_TLS: &str = "does that port speak TLS? (redis:// is for those that do not)";

/// What `error` means on a connection whose certificate must be for `expected`.
pub(super) fn told(error: &io::Error, expected: &str, inner: &Inner) -> String {
    let beneath = error.get_ref().and_then(|beneath| beneath.downcast_ref::<Error>());
    match beneath {
        Some(Error::InvalidCertificate(why)) => certificate(why, expected, inner),
        Some(Error::AlertReceived(alert)) => refusal(*alert, inner),
        Some(Error::InvalidMessage(_)) => format!("what answers there is not TLS; {NOT_TLS}"),
        Some(Error::PeerIncompatible(_)) => {
            format!(
                "the server cannot do what TLS 1.2 or 1.3 needs of it: {}",
                in_words(error)
            )
        }
        Some(_) => format!("TLS failed: {}", in_words(error)),
        None => error.to_string(),
    }
}

/// What it means that a peer went away before the handshake was done.
pub(super) fn left_early() -> String {
    format!("the server closed the connection instead of doing a TLS handshake; {NOT_TLS}")
}

/// What it means that nothing came of a handshake in time.
pub(super) fn silent() -> String {
    format!("waiting for the TLS handshake; {NOT_TLS}")
}

fn certificate(why: &CertificateError, expected: &str, inner: &Inner) -> String {
    match why {
        CertificateError::BadSignature if inner.has_own_authorities => {
            "its certificate was not issued by an authority of upstream.tls.ca_file, but by one of the same name with another key".to_owned()
        }
        CertificateError::UnknownIssuer if inner.has_own_authorities => {
            "its certificate was not issued by an authority of upstream.tls.ca_file".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate was not issued by an authority that this system knows; upstream.tls.ca_file names another one".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => format!(
            "its certificate has no subject alternative names, so it is not for '{expected}' (a common name does not count)"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "its certificate is not for '{expected}' but for {}; upstream.tls.server_name says which name to expect",
            presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
        ),
        CertificateError::NotValidForName => format!("its certificate is not for '{expected}'"),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("its certificate expired {} ago", span(*not_after, *time))
        }
        CertificateError::Expired => "its certificate expired".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate becomes valid in {}; is the clock of this machine right?",
            span(*time, *not_before)
        ),
        CertificateError::NotValidYet => "its certificate is not valid yet; is the clock of this machine right?".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one of a server (its extended key usage)".to_owned()
        }
        other => format!("its certificate cannot be used: {other}"),
    }
}

/// The server broke off. In TLS 1.3 it says so only after the client has taken the handshake for done.
fn refusal(alert: AlertDescription, inner: &Inner) -> String {
    use AlertDescription as Alert;
    let code = u8::from(alert);
    match alert {
        Alert::CertificateRequired => {
            "the server wants a certificate from its clients: set upstream.tls.cert_file and upstream.tls.key_file"
                .to_owned()
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
            if inner.has_certificate =>
        {
            format!("the server refuses the certificate of upstream.tls.cert_file: {alert:?} (TLS alert {code})")
        }
        Alert::HandshakeFailure if !inner.has_certificate => format!(
            "the server refuses the TLS handshake (TLS alert {code}); if it wants a certificate from its clients, set upstream.tls.cert_file and upstream.tls.key_file"
        ),
        Alert::ProtocolVersion => format!("the server speaks neither TLS 1.2 nor 1.3 (TLS alert {code})"),
        _ => format!("the server broke off TLS: {alert:?} (TLS alert {code})"),
    }
}

/// A name as people write it; what is beneath shows `DnsName("db.example")` and `IpAddress(10.0.0.1)`.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

fn in_words(error: &io::Error) -> String {
    error.to_string()
}

/// How long it is from one time to another, in the largest unit that fits.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (count, unit) = match seconds {
        ..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_people_write_them() {
        assert_eq!(bare("DnsName(\"*.db.example\")"), "*.db.example");
        assert_eq!(bare("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(bare("odd"), "odd");
    }

    #[test]
    fn a_span_is_told_in_the_largest_unit_that_fits() {
        let span = |seconds| {
            let start = std::time::Duration::from_secs(1_000_000);
            let end = start + std::time::Duration::from_secs(seconds);
            super::span(UnixTime::since_unix_epoch(start), UnixTime::since_unix_epoch(end))
        };
        assert_eq!(span(0), "0 seconds");
        assert_eq!(span(1), "1 second");
        assert_eq!(span(3599), "59 minutes");
        assert_eq!(span(2 * 86400), "2 days");
    }
}
