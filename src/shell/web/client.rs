//! Fetches pages of a running service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::codec::shown::masked_url;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret as _, SecretString};

/// Time limit for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for an answer. A service that folds a backlog answers between two batches.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum length of a page, far above that of the positions of 20,000 symbols. [bytes]
const PAGE_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url} is not the address of a service: give http://host:port")]
    NoUrl { url: String },
    #[error("no secure connection can be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The message contains the cause. It is not a `source` of this error, because the chain would state it again.
    #[error(
        "the service at {url} cannot be reached: {}. Start it, or give its address: --url, or [run] listen",
        innermost(error)
    )]
    Unreachable { url: String, error: reqwest::Error },
    #[error("the service at {url} answered more than {} MiB: is it harvester?", PAGE_BYTES_MAX >> 20)]
    TooLong { url: String },
    #[error("the service at {url} answered {status}{}", refusal(*status, body))]
    Refused { url: String, status: u16, body: String },
}

impl ClientError {
    /// Returns true if the service could not be reached. Returns false if it answered with a refusal.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::NoUrl { .. } | Self::Tls(_) | Self::TooLong { .. } => false,
        }
    }
}

/// Returns the innermost error: "connection refused" instead of "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Returns the text of a refusal, or the next step if it has no text.
fn refusal(status: u16, body: &str) -> String {
    match body.trim() {
        "" if status == 404 => ": is it harvester? Check the address (--url)".to_owned(),
        "" => String::new(),
        said => format!(": {said}"),
    }
}

/// Returns an address for messages, without parts that may be a password.
fn said(url: &str) -> String {
    if url.contains('@') { masked_url(url) } else { url.to_owned() }
}

/// Encodes a name as one segment of a path.
pub fn path_part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Fetches pages of one service, over connections that it keeps.
pub struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<SecretString>,
    /// True once the service has asked for the token.
    is_token_wanted: AtomicBool,
}

impl Client {
    /// Returns a client. The token is sent only to a service that asks for one.
    pub fn new(base: &str, token: Option<SecretString>) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(base.starts_with("https:"))?)
            // The service is on this machine or in its network, so no proxy is used.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| failed(base, error))?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http, token, is_token_wanted: AtomicBool::new(false) })
    }

    /// Returns the address of the service for messages, without parts that may be a password.
    pub fn address(&self) -> String {
        said(&self.base)
    }

    /// Returns the body of a page if its status is a success.
    pub async fn get(&self, path: &str) -> Result<String, ClientError> {
        let is_wanted = self.is_token_wanted.load(Ordering::Relaxed);
        match (self.ask(path, self.token.as_ref().filter(|_| is_wanted)).await, &self.token) {
            (Err(ClientError::Refused { status: 401, .. }), Some(token)) if !is_wanted => {
                self.is_token_wanted.store(true, Ordering::Relaxed);
                self.ask(path, Some(token)).await
            }
            (answer, _) => answer,
        }
    }

    async fn ask(&self, path: &str, token: Option<&SecretString>) -> Result<String, ClientError> {
        let url = format!("{}{path}", self.base);
        let failed = |error| failed(&self.base, error);
        let mut request = self.http.get(&url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > PAGE_BYTES_MAX {
                return Err(ClientError::TooLong { url: said(&self.base) });
            }
            body.extend_from_slice(&piece);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(body);
        }
        Err(ClientError::Refused { url: said(&url), status: status.as_u16(), body })
    }
}

/// Returns the body of a page if its status is a success.
pub async fn get(base: &str, path: &str) -> Result<String, ClientError> {
    Client::new(base, None)?.get(path).await
}

fn failed(base: &str, error: reqwest::Error) -> ClientError {
    let url = said(base);
    if error.is_builder() {
        ClientError::NoUrl { url }
    } else {
        ClientError::Unreachable { url, error: error.without_url() }
    }
}

/// Returns a configuration that trusts the system's certificates. It loads them only if they are needed.
fn tls(is_needed: bool) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if is_needed {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
