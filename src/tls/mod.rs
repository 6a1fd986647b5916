//! TLS to the server: whom nearhit believes, what it shows of itself, and what a failure means to people.
//!
//! ```text
//! [upstream.tls] ─ files → ClientTls ─ session(host) → (settings, expected name) → a socket of `upstream` or `load`
//!                            └─ explain(error, host) → a sentence for whoever has to act
//! ```
//! No socket is here. TLS 1.2 or newer, no early data (a request that is replayed would be done twice), no compression;
//! certificates are verified against the name or address that is connected to, unless `server_name` says otherwise.

mod explain;
mod files;
mod unverified;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

pub use files::{Files, Reason, Wrong};

/// What all connections to the server have in common that is about TLS. Clones are the same.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

struct Inner {
    config: Arc<ClientConfig>,
    /// Whom certificates must be for, instead of the host that is connected to.
    server_name: Option<String>,
    /// Authorities come from `ca_file` instead of from the system.
    has_own_authorities: bool,
    /// A certificate of nearhit's own is shown to servers that ask for one.
    has_certificate: bool,
}

impl ClientTls {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    /// Everything that is wrong with them, at least one.
    pub fn load(files: &Files<'_>) -> Result<Self, Vec<Wrong>> {
        files::read(files).map(|inner| Self(Arc::new(inner)))
    }

    /// What a connection to `host` needs: the settings, and whom the certificate must be for.
    ///
    /// # Errors
    /// No certificate can be for such a host.
    pub fn session(&self, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let expected = self.expected(host);
        match ServerName::try_from(expected) {
            Ok(name) => Ok((Arc::clone(&self.0.config), name.to_owned())),
            Err(_) => Err(format!(
                "no certificate can be for '{expected}', which is neither a host name nor an address; set upstream.tls.server_name"
            )),
        }
    }

    /// What a failure on a connection to `host` means; errors that are not about TLS as they are.
    pub fn explain(&self, error: &io::Error, host: &str) -> String {
        explain::told(error, self.expected(host), &self.0)
    }

    /// The same for what ended a handshake.
    pub fn explain_handshake(&self, error: &io::Error, host: &str) -> String {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                explain::left_early()
            }
            _ => self.explain(error, host),
        }
    }

    /// What it means that nothing came of a handshake in time.
    pub fn explain_silence() -> String {
        explain::silent()
    }

    /// Whom the certificate of a node at `host` must be for.
    fn expected<'a>(&'a self, host: &'a str) -> &'a str {
        self.0.server_name.as_deref().unwrap_or(host)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.0.server_name)
            .field("has_certificate", &self.0.has_certificate)
            .finish_non_exhaustive()
    }
}
