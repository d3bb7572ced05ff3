//! A WebSocket of the exchange: receives texts, answers pings, and detects silence.

use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::tls;

/// Maximum length of a message. Mark prices of all symbols have about 100 kB. [bytes]
const MESSAGE_MAX: usize = 16 << 20;

/// The error that ends a socket. It names the host, never the path: the path of the account's stream is a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    #[error("the address of the socket is not a URL of one: set feed.mark_url and feed.user_url to wss://host/…")]
    Address,
    #[error("secure sockets cannot be set up: {0}")]
    Tls(String),
    #[error("the socket at {host} cannot be reached: {what}")]
    Unreachable { host: String, what: String },
    #[error("the socket at {host} was refused with status {status}")]
    Refused { host: String, status: u16 },
    #[error("the socket at {host} was closed: {what}")]
    Closed { host: String, what: String },
    #[error("the socket at {host} is silent for {silent_ms} ms")]
    Silent { host: String, silent_ms: u64 },
}

impl SocketError {
    /// Returns the name under which the error is counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Tls(_) => "tls",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Closed { .. } => "closed",
            Self::Silent { .. } => "silent",
        }
    }
}

pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    host: String,
}

impl Socket {
    /// Connects within a time limit.
    pub async fn connect(url: &str, ca_file: Option<&Path>, within: Duration) -> Result<Self, SocketError> {
        let parsed = reqwest::Url::parse(url).map_err(|_| SocketError::Address)?;
        let host = parsed.host_str().ok_or(SocketError::Address)?.to_owned();
        let is_secure = parsed.scheme() == "wss";
        let tls = tls::config(ca_file, is_secure).map_err(|error| SocketError::Tls(error.to_string()))?;
        let connector = if is_secure { tls.map(Connector::Rustls) } else { Some(Connector::Plain) };
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let connecting = connect_async_tls_with_config(url, Some(config), true, connector);
        // Kept on the heap because the handshake is large.
        match timeout(within, Box::pin(connecting)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream, host }),
            Ok(Err(Error::Http(response))) => Err(SocketError::Refused { host, status: response.status().as_u16() }),
            Ok(Err(error)) => Err(SocketError::Unreachable { host, what: words(&error) }),
            Err(_) => Err(SocketError::Unreachable { host, what: "no answer in time".to_owned() }),
        }
    }

    /// Returns the next text. Returns an error if none arrives within the time limit, even if other frames do.
    /// Cancel-safe.
    pub async fn text(&mut self, within: Duration) -> Result<String, SocketError> {
        let next = async {
            loop {
                if let Some(text) = self.frame().await? {
                    return Ok(text);
                }
            }
        };
        match timeout(within, next).await {
            Ok(answered) => answered,
            Err(_) => Err(self.silent(within)),
        }
    }

    /// Returns the next text if one has arrived.
    pub fn text_at_hand(&mut self) -> Option<String> {
        // The runtime would otherwise pause a task that reads much.
        loop {
            match tokio::task::unconstrained(self.frame()).now_or_never() {
                Some(Ok(Some(text))) => return Some(text),
                Some(Ok(None)) => {}
                // The next read returns the error, too.
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Returns the next text, or `None` if another frame arrived instead. Sends a ping if necessary. Returns an error
    /// if no frame arrives at all. Cancel-safe.
    pub async fn text_or_life(&mut self, within: Duration) -> Result<Option<String>, SocketError> {
        if let Ok(answered) = timeout(within, self.frame()).await {
            return answered;
        }
        let ping = self.stream.send(Message::Ping(Bytes::new()));
        if let Ok(Err(error)) = timeout(within, ping).await {
            return Err(self.closed(words(&error)));
        }
        match timeout(within, self.frame()).await {
            Ok(answered) => answered,
            Err(_) => Err(self.silent(within * 2)),
        }
    }

    /// Closes the socket, with a closing handshake if the other side answers.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.stream.close(None)).await;
    }

    /// Returns the text of one frame, or `None` for a frame of another kind.
    async fn frame(&mut self) -> Result<Option<String>, SocketError> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
            Some(Ok(Message::Close(frame))) => {
                let what = frame.map_or_else(|| "by the exchange".to_owned(), |frame| format!("code {}", frame.code));
                Err(self.closed(what))
            }
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(self.closed(words(&error))),
            None => Err(self.closed("by the exchange".to_owned())),
        }
    }

    fn closed(&self, what: String) -> SocketError {
        SocketError::Closed { host: self.host.clone(), what }
    }

    fn silent(&self, within: Duration) -> SocketError {
        let silent_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        SocketError::Silent { host: self.host.clone(), silent_ms }
    }
}

/// Returns the text of an error without the address that some of them quote.
fn words(error: &Error) -> String {
    match error {
        Error::Url(_) => "its address is none".to_owned(),
        other => other.to_string(),
    }
}
