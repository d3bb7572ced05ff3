//! The address of the server: host, user, database and trusted certificates.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::cluster::{Cluster, Node};
use super::server::ServerError;
use super::slot::slot_of;

/// Time limits for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For accepting a connection.
    pub connect: Duration,
    /// For an answer. No command blocks at the server for longer than [`BLOCK_MAX`].
    pub response: Duration,
}

/// The longest time that a read waits at the server for new entries.
pub const BLOCK_MAX: Duration = Duration::from_millis(200);

/// The limits of a command of an operator, if there is one server.
const ALONE: Limits = Limits { connect: Duration::from_secs(5), response: Duration::from_secs(30) };
/// The limits of a service, if there is one server. A connection that is open and silent is given up soon, because only
/// a new one shows that the network works again. A link that takes a second for each answer is not silent.
const OF_SERVICE: Limits = Limits {
    connect: Duration::from_secs(5),
    response: Duration::from_millis(2 * BLOCK_MAX.as_millis() as u64 + 5_000),
};
/// The limits of a node of a cluster: while it does not answer, another node may have become the owner of its slots.
const OF_NODE: Limits = Limits { connect: Duration::from_secs(2), response: Duration::from_secs(5) };

/// A valid address. It contains the password and displays only host and port.
#[derive(Clone)]
pub struct Address {
    /// The client of the server; in a cluster, of the first server that the address names.
    pub(super) client: Client,
    name: String,
    /// The certificates (PEM) of trusted authorities, if they are not the public ones.
    certificates: Option<Arc<[u8]>>,
    pub(super) limits: Limits,
    /// The cluster, if the address names one.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// The slot whose owner gets the commands without a key.
    pub(super) home: u16,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

impl Address {
    /// Parses `redis://user:password@host:port/database`, or `rediss://` for TLS; or
    /// `redis-cluster://user:password@host:port,host:port` and `rediss-cluster://`, which name some nodes of a cluster.
    /// `ca_file` contains the certificates (PEM) of the trusted authorities, which replace the public ones.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, ServerError> {
        if let Some((scheme, rest)) = scheme_of_cluster(url) {
            return Self::of_cluster(scheme, rest, ca_file);
        }
        if names_several(url) {
            return Err(ServerError::ClusterUrl);
        }
        let info = url.into_connection_info().map_err(|_| ServerError::NoUrl)?;
        let certificates = certificates(ca_file, is_tls(info.addr()))?;
        Self::of_one(info, certificates, ALONE)
    }

    fn of_one(info: ConnectionInfo, certificates: Option<Arc<[u8]>>, limits: Limits) -> Result<Self, ServerError> {
        let name = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            other => other.to_string(),
        };
        let client = match certificates.as_deref() {
            None => Client::open(info),
            Some(root_cert) => {
                let root_cert = Some(root_cert.to_vec());
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
            }
        };
        let client = client.map_err(|source| ServerError::Tls { server: name.clone(), source })?;
        Ok(Self { client, name, certificates, limits, cluster: None, home: 0 })
    }

    /// Parses the nodes of a cluster. Each is parsed like the address of a single server.
    fn of_cluster(scheme: &str, rest: &str, ca_file: Option<&Path>) -> Result<Self, ServerError> {
        let (authority, after) = match rest.find(['/', '?']) {
            Some(end) if !rest[..end].contains('@') && rest[end..].contains('@') => return Err(ServerError::NoUrl),
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        // A cluster has one database, so no other one can be chosen.
        if !matches!(after, "" | "/" | "/0") {
            return Err(ServerError::ClusterDatabase);
        }
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let at = if authority.contains('@') { "@" } else { "" };
        let mut seeds = Vec::new();
        let mut first = None;
        for host in hosts.split(',').map(str::trim) {
            let url = format!("{scheme}://{user}{at}{host}");
            let info = url.into_connection_info().map_err(|_| ServerError::NoUrl)?;
            match info.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if !host.is_empty() => {
                    seeds.push(Node { host: host.clone(), port: *port });
                }
                _ => return Err(ServerError::NoUrl),
            }
            first.get_or_insert(info);
        }
        let info = first.ok_or(ServerError::NoUrl)?;
        let certificates = certificates(ca_file, is_tls(info.addr()))?;
        let names: Vec<String> = seeds.iter().map(Node::name).collect();
        let one = Self::of_one(info, certificates, OF_NODE)?;
        Ok(Self { name: names.join(","), cluster: Some(Arc::new(Cluster::new(seeds))), ..one })
    }

    /// Returns the address of a node of the cluster, with the same user and the same authorities.
    pub(super) fn of_node(&self, node: &Node) -> Result<Self, ServerError> {
        let info = self.client.get_connection_info().clone();
        let (host, port) = (node.host.clone(), node.port);
        let addr = match info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Self::of_one(info.set_addr(addr), self.certificates.clone(), OF_NODE)
    }

    /// Gives up a silent connection soon, as a service must. In a cluster every connection is given up soon.
    #[must_use]
    pub fn of_service(self) -> Self {
        if self.is_cluster() { self } else { self.within(OF_SERVICE) }
    }

    pub(super) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sends the commands without a key, such as `TIME`, to the owner of this key. Without a cluster it has no effect.
    #[must_use]
    pub fn at_home(self, key: &str) -> Self {
        Self { home: slot_of(key), ..self }
    }

    /// Returns true if the address names a cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Returns true if one command may name both keys: there is one server, or they share a slot.
    pub fn share_slot(&self, one: &str, other: &str) -> bool {
        self.cluster.is_none() || slot_of(one) == slot_of(other)
    }

    pub(super) fn is_tls(&self) -> bool {
        is_tls(self.client.get_connection_info().addr())
    }

    /// Returns the settings of a secure connection that the client library does not open. It trusts the same
    /// authorities.
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

    /// Returns host and port, or the path of a socket. For a cluster, returns the nodes that the address names,
    /// separated by commas.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_tls(addr: &ConnectionAddr) -> bool {
    matches!(addr, ConnectionAddr::TcpTls { .. })
}

/// Reads the certificates of a secure address.
fn certificates(ca_file: Option<&Path>, is_tls: bool) -> Result<Option<Arc<[u8]>>, ServerError> {
    let Some(path) = ca_file.filter(|_| is_tls) else { return Ok(None) };
    let unreadable = |source| ServerError::CaFile { path: path.to_owned(), source };
    Ok(Some(std::fs::read(path).map_err(unreadable)?.into()))
}

/// Returns the scheme of the nodes of a cluster, and the rest of the address.
fn scheme_of_cluster(url: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "redis-cluster" => Some(("redis", rest)),
        "rediss-cluster" => Some(("rediss", rest)),
        _ => None,
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
            let address = Address::new(url, None).expect("an address");
            assert!(!address.is_cluster(), "{url}");
        }
    }

    #[test]
    fn an_address_of_a_cluster_names_its_nodes_and_keeps_the_user_for_all_of_them() {
        let address = Address::new("redis-cluster://user:pa,s@a:7000,[::1]:7001,c", None).expect("an address");
        assert_eq!((address.name(), address.is_cluster(), address.is_tls()), ("a:7000,::1:7001,c:6379", true, false));
        let node = address.of_node(&Node { host: "d".to_owned(), port: 7003 }).expect("a node");
        let settings = node.client.get_connection_info().redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("user"), Some("pa,s")));
        assert_eq!((node.name(), node.is_cluster()), ("d:7003", false));
        let address = Address::new("rediss-cluster://a", None).expect("an address");
        let node = address.of_node(&Node { host: "d".to_owned(), port: 7003 }).expect("a node");
        assert!(node.is_tls());
        for url in ["redis-cluster://", "redis-cluster://a:7000,", "redis-cluster://a:x"] {
            assert!(matches!(Address::new(url, None), Err(ServerError::NoUrl)), "{url}");
        }
        let database = Address::new("redis-cluster://a:7000/1", None);
        assert!(matches!(database, Err(ServerError::ClusterDatabase)));
    }
}
