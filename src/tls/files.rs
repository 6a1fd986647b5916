//! From files to what TLS needs: authorities, nearhit's own certificate, its key.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};

use super::Inner;
use super::unverified::AnyCertificate;

/// What `[upstream.tls]` says.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// Certificates of the authorities that are believed; `None` = the system's.
    pub ca_file: Option<&'a Path>,
    /// The certificate that is shown to servers that ask for one.
    pub cert_file: Option<&'a Path>,
    /// Its key.
    pub key_file: Option<&'a Path>,
    /// Whom certificates must be for; empty = the host that is connected to.
    pub server_name: &'a str,
    /// Believe any certificate.
    pub skip_verify: bool,
}

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The file cannot be read.
    Unreadable,
    /// What stands there is not what is wanted.
    Unusable,
    /// Something is missing.
    Missing,
}

/// Something wrong with one of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The name of the field of [`Files`].
    pub setting: &'static str,
    /// What kind of wrong.
    pub reason: Reason,
    /// What is wrong.
    pub message: String,
    /// What was expected instead.
    pub expected: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Wrong {
    fn new(setting: &'static str, reason: Reason, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            setting,
            reason,
            message: message.into(),
            expected: expected.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The certificate that is shown, with those that lead to its authority, and its key.
type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

const CERTIFICATES: &str = "a PEM file of certificates (-----BEGIN CERTIFICATE-----)";
const KEY: &str = "a PEM file with a private key (-----BEGIN PRIVATE KEY-----)";

/// Reads everything.
///
/// # Errors
/// Everything that is wrong, at least one.
pub(super) fn read(files: &Files<'_>) -> Result<Inner, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let roots = noted(authorities(files), &mut wrong);
    let certified = noted(certified(files), &mut wrong);
    let server_name = noted(server_name(files.server_name), &mut wrong);
    let (Some(roots), Some(certified), Some(server_name)) = (roots, certified, server_name) else {
        return Err(wrong);
    };
    let has_certificate = certified.is_some();
    let config = config(roots, certified, files.skip_verify).map_err(|wrong| vec![wrong])?;
    Ok(Inner {
        config: Arc::new(config),
        server_name,
        has_own_authorities: files.ca_file.is_some(),
        has_certificate,
    })
}

fn noted<T>(result: Result<T, Vec<Wrong>>, all: &mut Vec<Wrong>) -> Option<T> {
    result.map_err(|mut wrong| all.append(&mut wrong)).ok()
}

fn config(roots: RootCertStore, certified: Option<Certified>, skip_verify: bool) -> Result<ClientConfig, Wrong> {
    let provider = Arc::new(ring::default_provider());
    // TLS 1.2 and 1.3, the two that the provider has.
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("ca_file", &error))?;
    let builder = match skip_verify {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(any_certificate(provider)),
        false => builder.with_root_certificates(roots),
    };
    match certified {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(_) => Wrong::new(
                "key_file",
                Reason::Unusable,
                "this key is not that of the certificate in cert_file",
                "the key that belongs to the first certificate of cert_file",
            ),
            Error::InvalidCertificate(_) => unusable("cert_file", &error),
            _ => unusable("key_file", &error),
        }),
    }
}

fn any_certificate(provider: Arc<CryptoProvider>) -> Arc<AnyCertificate> {
    Arc::new(AnyCertificate(provider))
}

fn unusable(setting: &'static str, error: &Error) -> Wrong {
    let (what, expected) = match setting {
        "key_file" => (
            "the key",
            "an RSA (2048 to 8192 bits), ECDSA (P-256, P-384) or Ed25519 key",
        ),
        _ => ("the certificate", CERTIFICATES),
    };
    Wrong::new(
        setting,
        Reason::Unusable,
        format!("{what} cannot be used: {error}"),
        expected,
    )
}

/// Whose signature on a certificate is believed.
fn authorities(files: &Files<'_>) -> Result<RootCertStore, Vec<Wrong>> {
    let mut roots = RootCertStore::empty();
    match files.ca_file {
        Some(path) => {
            let mut wrong = Vec::new();
            for (index, certificate) in certificates("ca_file", path)?.into_iter().enumerate() {
                if let Err(error) = roots.add(certificate) {
                    let message = format!(
                        "certificate {} of {} cannot be used: {error}",
                        index + 1,
                        path.display()
                    );
                    wrong.push(Wrong::new("ca_file", Reason::Unusable, message, CERTIFICATES));
                }
            }
            if wrong.is_empty() { Ok(roots) } else { Err(wrong) }
        }
        None if files.skip_verify => Ok(roots),
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (usable, _) = roots.add_parsable_certificates(found.certs);
            match (usable, found.errors.first()) {
                (1.., _) => Ok(roots),
                (0, why) => {
                    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                    let message = format!("this system has no certificates of authorities{why}");
                    let wrong = Wrong::new("ca_file", Reason::Missing, message, CERTIFICATES);
                    Err(vec![wrong.help(
                        "install the package ca-certificates, or name the file of your own authority",
                    )])
                }
            }
        }
    }
}

/// What nearhit shows of itself; `None`: nothing.
fn certified(files: &Files<'_>) -> Result<Option<Certified>, Vec<Wrong>> {
    let missing = |setting, other| {
        let message = format!("{other} is given, and it is of no use without {setting}");
        Err(vec![Wrong::new(
            other,
            Reason::Missing,
            message,
            "both of them, or none",
        )])
    };
    match (files.cert_file, files.key_file) {
        (None, None) => Ok(None),
        (Some(_), None) => missing("key_file", "cert_file"),
        (None, Some(_)) => missing("cert_file", "key_file"),
        (Some(cert_file), Some(key_file)) => {
            let mut wrong = Vec::new();
            let chain = noted(certificates("cert_file", cert_file), &mut wrong);
            let key = noted(key(key_file), &mut wrong);
            chain.zip(key).map(Some).ok_or(wrong)
        }
    }
}

fn server_name(text: &str) -> Result<Option<String>, Vec<Wrong>> {
    if text.is_empty() {
        return Ok(None);
    }
    match ServerName::try_from(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(_) => Err(vec![Wrong::new(
            "server_name",
            Reason::Unusable,
            format!("'{text}' is neither a host name nor an address"),
            "what stands in the servers' certificates, without a port, such as redis.example.com",
        )]),
    }
}

/// All certificates of a file, at least one.
fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Vec<Wrong>> {
    let pem = content(setting, path, CERTIFICATES)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            let message = format!("there is no certificate in {}", path.display());
            Err(vec![Wrong::new(setting, Reason::Unusable, message, CERTIFICATES)])
        }
        Ok(found) => Ok(found),
        Err(error) => Err(vec![broken_pem(setting, path, &error, CERTIFICATES)]),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Vec<Wrong>> {
    let pem = content("key_file", path, KEY)?;
    let is_encrypted = [b"ENCRYPTED PRIVATE KEY-----".as_slice(), b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(&pem, mark).is_some());
    if is_encrypted {
        let message = format!(
            "the key in {} is encrypted, and nobody is there to be asked for its passphrase",
            path.display()
        );
        let wrong = Wrong::new("key_file", Reason::Unusable, message, "a key without a passphrase");
        return Err(vec![wrong.help(
            "openssl pkey -in ENCRYPTED -out PLAIN decrypts it; then let only nearhit's user read it",
        )]);
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        vec![match error {
            pem::Error::NoItemsFound => {
                let message = format!("there is no private key in {}", path.display());
                Wrong::new("key_file", Reason::Unusable, message, KEY)
            }
            error => broken_pem("key_file", path, &error, KEY),
        }]
    })
}

fn broken_pem(setting: &'static str, path: &Path, error: &pem::Error, expected: &str) -> Wrong {
    let message = format!("{} is not PEM: {error}", path.display());
    Wrong::new(setting, Reason::Unusable, message, expected)
}

fn content(setting: &'static str, path: &Path, expected: &str) -> Result<Vec<u8>, Vec<Wrong>> {
    std::fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "this is a directory".to_owned(),
            _ => error.to_string(),
        };
        let message = format!("{}: {why}", path.display());
        vec![Wrong::new(setting, Reason::Unreadable, message, expected)]
    })
}
