//! Certificates that a test makes for itself, and servers that show them.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use super::support::redis::Builder;
use super::support::{RedisServer, temp_dir};

/// What servers are reached as.
pub const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// An authority, and files of what it issued. They vanish with the value.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Certified {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// One that nobody has heard of.
    pub fn new() -> Self {
        // Relaxed: only the numbers must differ.
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Self::named(&format!("authority {} of a test", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// One with this name, and a key of its own.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, key_pair()).expect("an authority");
        let dir = temp_dir();
        std::fs::write(dir.path().join("ca.crt"), issuer.pem()).expect("write a certificate");
        Self { dir, issuer }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// Its own certificate, as an argument.
    pub fn ca(&self) -> String {
        text(&self.file())
    }

    /// A certificate for these names, valid now.
    pub fn issue(&self, file: &str, names: &[&str]) -> Certified {
        self.issue_until(file, names, 2100)
    }

    /// The same, valid until a year begins.
    pub fn issue_until(&self, file: &str, names: &[&str], year: i32) -> Certified {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "a node of a test");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key_pair();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let certified = Certified {
            certificate: self.dir.path().join(format!("{file}.crt")),
            key: self.dir.path().join(format!("{file}.key")),
        };
        std::fs::write(&certified.certificate, certificate.pem()).expect("write a certificate");
        std::fs::write(&certified.key, key.serialize_pem()).expect("write a key");
        certified
    }

    /// With a certificate that it issued: what a stranger has.
    pub fn issued(self) -> (Self, Certified) {
        let certified = self.issue("stranger", &["stranger"]);
        (self, certified)
    }

    /// Has a server speak TLS too, as [`NAMES`], with anybody.
    pub fn tls(&self, builder: Builder) -> Builder {
        let server = self.issue("server", &NAMES);
        builder
            .tls(&server.certificate, &server.key, &self.file())
            .arg("--tls-auth-clients", "no")
    }

    /// A server that speaks TLS too, as [`NAMES`], with anybody.
    #[track_caller]
    pub fn server(&self) -> RedisServer {
        self.tls(RedisServer::builder()).start()
    }

    /// The same that wants certificates of this authority.
    #[track_caller]
    pub fn strict_server(&self) -> RedisServer {
        self.tls(RedisServer::builder())
            .arg("--tls-auth-clients", "yes")
            .start()
    }

    /// A server that shows this certificate.
    #[track_caller]
    pub fn server_as(&self, certified: &Certified) -> RedisServer {
        RedisServer::builder()
            .tls(&certified.certificate, &certified.key, &self.file())
            .arg("--tls-auth-clients", "no")
            .start()
    }
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// `rediss://localhost:PORT`.
pub fn url(server: &RedisServer) -> String {
    format!("rediss://localhost:{}", server.tls_port())
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path without odd bytes").to_owned()
}
