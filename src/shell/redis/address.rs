//! Where the server is: host, user, database, and whom to trust.

use std::fmt;
use std::path::Path;

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, TlsCertificates};

use super::server::ServerError;

/// An address that is valid. Holds the password; shows host and port only.
#[derive(Clone)]
pub struct Address {
    pub(super) client: Client,
    name: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

impl Address {
    /// Reads `redis://user:password@host:port/database`, or `rediss://` for TLS; `ca_file` holds the certificates (PEM)
    /// of those who may vouch for the server, instead of the public ones.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, ServerError> {
        let info = url.into_connection_info().map_err(|_| ServerError::NoUrl)?;
        let (name, is_tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (format!("{host}:{port}"), false),
            ConnectionAddr::TcpTls { host, port, .. } => (format!("{host}:{port}"), true),
            other => (other.to_string(), false),
        };
        let client = match ca_file.filter(|_| is_tls) {
            None => Client::open(info),
            Some(path) => {
                let unreadable = |source| ServerError::CaFile { path: path.to_owned(), source };
                let certificates = std::fs::read(path).map_err(unreadable)?;
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(certificates) })
            }
        };
        let client = client.map_err(|source| ServerError::Tls { server: name.clone(), source })?;
        Ok(Self { client, name })
    }

    /// Host and port, or the path of a socket.
    pub fn name(&self) -> &str {
        &self.name
    }
}
