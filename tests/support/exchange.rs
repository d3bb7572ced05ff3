//! A fake exchange: a real HTTP(S) server and a real WebSocket server on loopback that speak the formats of Binance
//! USDⓈ-M futures, with the failures that the test asks for.
//!
//! It checks key, signature (byte for byte, `signature` last) and timestamp, counts weights, sends waits and bans, and
//! keeps a log of all calls.

mod rest;
mod sockets;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

#[allow(unused_imports, reason = "each binary uses its part")]
pub use world::{Fault, KEY, LoggedCall, SECRET, World, account_event, trade_event};

/// Longest time that a test waits for an effect.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

pub struct ExchangeServer {
    shared: Arc<Shared>,
    rest: SocketAddr,
    socket: SocketAddr,
    is_secure: bool,
    ca_pem: String,
    // The servers end when this is dropped.
    _runtime: Runtime,
}

pub(crate) struct Shared {
    world: Mutex<World>,
    pushes: tokio::sync::broadcast::Sender<sockets::Push>,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl ExchangeServer {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts with a certificate of its own authority, for `127.0.0.1`.
    pub fn start_secure() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_secure: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the exchange");
        let (ca_pem, acceptor) = certificate();
        let acceptor = is_secure.then_some(acceptor);
        let (pushes, _) = tokio::sync::broadcast::channel(1_024);
        let shared = Arc::new(Shared { world: Mutex::new(World::new()), pushes });
        let (rest, socket) = runtime.block_on(async {
            let rest = rest::serve(Arc::clone(&shared), acceptor.clone()).await;
            (rest, sockets::serve(Arc::clone(&shared), acceptor).await)
        });
        Self { shared, rest, socket, is_secure, ca_pem, _runtime: runtime }
    }

    /// Returns the base URL of the REST interface.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.rest)
    }

    /// Returns the base URL of the sockets; the real ones have `/market` and `/private` after the host.
    pub fn socket_url(&self) -> String {
        format!("{}://{}", if self.is_secure { "wss" } else { "ws" }, self.socket)
    }

    /// Writes the certificate that a client has to trust.
    pub fn write_ca(&self, path: &Path) {
        std::fs::write(path, &self.ca_pem).expect("the certificate is written");
    }

    /// Returns the scenario. A change takes effect with the next call.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Makes the next calls of a path fail, one for each fault.
    pub fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.world().faults.extend(faults.into_iter().map(|fault| (path.to_owned(), fault)));
    }

    /// Returns all calls of a path so far.
    pub fn calls(&self, path: &str) -> Vec<LoggedCall> {
        self.world().log.iter().filter(|call| call.path == path).cloned().collect()
    }

    pub fn all_calls(&self) -> Vec<LoggedCall> {
        self.world().log.clone()
    }

    /// Returns the paths of the sockets that are open now.
    pub fn open_sockets(&self) -> Vec<String> {
        self.world().sockets.values().cloned().collect()
    }

    /// Sends mark prices to every socket that listens to them: rows of symbol and price.
    pub fn push_marks(&self, rows: &[(&str, &str)]) {
        let now_ms = self.world().now_ms();
        self.push(sockets::Push::Marks(world::mark_message(rows, now_ms)));
    }

    /// Sends an event to every socket that listens to an account.
    pub fn push_user(&self, event: &serde_json::Value) {
        self.push(sockets::Push::User(event.to_string(), None));
    }

    /// Sends an event to the sockets that listen to the account with this key.
    pub fn push_user_of(&self, key: &str, event: &serde_json::Value) {
        self.push(sockets::Push::User(event.to_string(), Some(key.to_owned())));
    }

    /// Sends a text to every socket.
    pub fn push_text(&self, text: &str) {
        self.push(sockets::Push::Text(text.to_owned()));
    }

    /// Closes every socket, with a close frame or by hanging up.
    pub fn close_sockets(&self, politely: bool) {
        self.push(if politely { sockets::Push::Close } else { sockets::Push::HangUp });
    }

    /// Freezes every socket: it stays open, and sends neither texts nor answers to pings.
    pub fn freeze_sockets(&self) {
        self.push(sockets::Push::Freeze);
    }

    fn push(&self, push: sockets::Push) {
        // It is no error if no socket listens.
        let _ = self.shared.pushes.send(push);
    }

    /// Waits until a condition is true. Fails the test if that does not happen.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(
                began.elapsed() < WAIT_LIMIT,
                "{what}: not so after {WAIT_LIMIT:?}; calls: {:#?}",
                self.all_calls()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns the PEM of a new authority, and an acceptor with a certificate of it for loopback.
fn certificate() -> (String, TlsAcceptor) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).expect("an authority");
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let parameters = rcgen::CertificateParams::new(names).expect("parameters");
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("the certificate fits its key");
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}
