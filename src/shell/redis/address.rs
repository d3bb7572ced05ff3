//! The address of the server: host, user, database and trusted certificates.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisError, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::server::ServerError;

/// A valid address. It contains the password and displays only host and port.
#[derive(Clone)]
pub struct Address {
    pub(super) client: Client,
    name: String,
    /// The certificates (PEM) of trusted authorities, if they are not the public ones.
    certificates: Option<Arc<[u8]>>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

impl Address {
    /// Parses `redis://user:password@host:port/database`, or `rediss://` for TLS. `ca_file` contains the certificates
    /// (PEM) of the trusted authorities, which replace the public ones.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, ServerError> {
        if names_several(url) {
            return Err(ServerError::ClusterUrl);
        }
        let info = url.into_connection_info().map_err(|_| ServerError::NoUrl)?;
        let (name, is_tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (format!("{host}:{port}"), false),
            ConnectionAddr::TcpTls { host, port, .. } => (format!("{host}:{port}"), true),
            other => (other.to_string(), false),
        };
        let certificates = match ca_file.filter(|_| is_tls) {
            None => None,
            Some(path) => {
                let unreadable = |source| ServerError::CaFile { path: path.to_owned(), source };
                Some(std::fs::read(path).map_err(unreadable)?)
            }
        };
        let client = match certificates.clone() {
            None => Client::open(info),
            root_cert => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }),
        };
        let client = client.map_err(|source| ServerError::Tls { server: name.clone(), source })?;
        Ok(Self { client, name, certificates: certificates.map(Arc::from) })
    }

    /// Returns the settings of a secure connection that is not the client library's. It trusts the same authorities.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, RedisError> {
        let mut roots = RootCertStore::empty();
        match &self.certificates {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(certificates) => {
                for certificate in CertificateDer::pem_slice_iter(certificates) {
                    roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// Returns host and port, or the path of a socket.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Returns true if an address names more than one server: `redis+cluster://…`, or hosts separated by commas.
fn names_several(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let scheme = scheme.to_ascii_lowercase();
    scheme.contains("cluster") || scheme.contains("sentinel") || hosts.contains(',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_several_servers_says_what_to_give_instead() {
        for url in
            ["redis://a:7000,b:7001", "redis+cluster://a:7000", "redis-sentinel://a:26379/mymaster", "rediss://u:p@a,b"]
        {
            assert!(matches!(Address::new(url, None), Err(ServerError::ClusterUrl)), "{url}");
        }
        for url in ["redis://a:7000", "redis://user:pass,word@a:7000/1", "rediss://a"] {
            assert!(!matches!(Address::new(url, None), Err(ServerError::ClusterUrl)), "{url}");
        }
    }
}
