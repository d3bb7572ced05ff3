//! The sockets of the fake exchange: mark prices of all symbols, and the events of the account.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::Shared;
use super::world::{World, mark_message};

/// A message for the open sockets.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    Marks(String),
    /// An event, and the key of its account; `None` means all accounts.
    User(String, Option<String>),
    Text(String),
    Close,
    HangUp,
    Freeze,
}

pub(super) async fn serve(shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(tick(Arc::clone(&shared)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => talk(stream, shared).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            talk(stream, shared).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Sends the mark prices of all symbols as often as the scenario wants.
async fn tick(shared: Arc<Shared>) {
    loop {
        let (message, pause) = {
            let world = shared.world();
            let rows: Vec<(&str, &str)> = world.prices.iter().map(|(s, p)| (s.as_str(), p.as_str())).collect();
            (world.ticks.map(|_| mark_message(&rows, world.now_ms())), world.ticks)
        };
        if let Some(message) = message {
            let _ = shared.pushes.send(Push::Marks(message));
        }
        tokio::time::sleep(pause.unwrap_or(Duration::from_millis(20))).await;
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let mut address = String::new();
    #[allow(clippy::result_large_err, reason = "the signature is the library's")]
    let accept = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        address = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let is_known = {
            let world = shared.world();
            !world.refuses_sockets && Content::of(&address, &world).is_some()
        };
        if is_known {
            return Ok(response);
        }
        let mut refused = ErrorResponse::new(None);
        *refused.status_mut() = StatusCode::FORBIDDEN;
        Err(refused)
    };
    // Subscribes before the client knows that it is connected, so that no message is lost.
    let pushes = shared.pushes.subscribe();
    let Ok(socket) = accept_hdr_async(stream, accept).await else { return };
    let (number, content) = {
        let mut world = shared.world();
        world.sockets_opened += 1;
        let (number, content) = (world.sockets_opened, Content::of(&address, &world).unwrap_or(Content::Nothing));
        world.sockets.insert(number, address);
        (number, content)
    };
    exchange_messages(socket, pushes, &content, &shared).await;
    shared.world().sockets.remove(&number);
}

async fn exchange_messages<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: tokio_tungstenite::WebSocketStream<S>,
    mut pushes: Receiver<Push>,
    content: &Content,
    shared: &Shared,
) {
    loop {
        tokio::select! {
            // Pings are answered while messages are read.
            message = socket.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Ping(_))) => shared.world().pings += 1,
                Some(Ok(_)) => {}
            },
            push = pushes.recv() => {
                let text = match push {
                    Ok(Push::Marks(text)) if *content == Content::Marks => text,
                    Ok(Push::User(text, key)) if content.includes(&text, key.as_deref()) => text,
                    Ok(Push::Text(text)) => text,
                    Ok(Push::Marks(_) | Push::User(..)) | Err(RecvError::Lagged(_)) => continue,
                    Ok(Push::Close) => {
                        let _ = socket.close(None).await;
                        return;
                    }
                    Ok(Push::Freeze) => std::future::pending().await,
                    Ok(Push::HangUp) | Err(RecvError::Closed) => return,
                };
                if socket.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What a socket sends, by its address.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    Marks,
    /// Events of these names (`None` is all) of the account with this key.
    Events(Option<Vec<String>>, String),
    /// The socket is open and sends nothing.
    Nothing,
}

impl Content {
    /// Parses the address as the exchange does since April 2026: the listen key is a parameter, with the events by
    /// name. A key in the path opens a socket that sends nothing, except at the old testnet. Returns `None` if the
    /// address is refused.
    fn of(address: &str, world: &World) -> Option<Self> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        if is_marks(path) {
            return Some(Self::Marks);
        }
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let of_others = world.accounts.iter().map(|account| (&account.key, &account.listen_keys));
        let all: Vec<(&String, &Vec<String>)> = of_others.chain([(&world.key, &world.listen_keys)]).collect();
        let of_key =
            |key: &str| all.iter().find(|(_, keys)| keys.iter().any(|valid| valid == key)).map(|(of, _)| (*of).clone());
        if path == "/private/ws" {
            let account = of_key(parameter("listenKey")?)?;
            let events = parameter("events")?.split('/').map(str::to_owned).collect();
            return Some(Self::Events(Some(events), account));
        }
        let account = of_key(path.rsplit('/').next().unwrap_or_default())?;
        Some(match world.takes_key_in_path {
            true => Self::Events(None, account),
            false => Self::Nothing,
        })
    }

    fn includes(&self, event: &str, key: Option<&str>) -> bool {
        let Self::Events(names, account) = self else { return false };
        if key.is_some_and(|key| key != account) {
            return false;
        }
        let event: serde_json::Value = serde_json::from_str(event).unwrap_or_default();
        names.as_ref().is_none_or(|names| names.iter().any(|name| event["e"] == **name))
    }
}

fn is_marks(path: &str) -> bool {
    path.ends_with("!markPrice@arr@1s") || path.ends_with("!markPrice@arr")
}
