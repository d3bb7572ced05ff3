//! A web server for pages that its callers define.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::Stream;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower_http::compression::CompressionLayer;

use super::door::{CONNECTION_LIMIT, ConnectionSlot, Door, HEAD_BYTES_MAX, HEAD_LIMIT, HEADERS_MAX};
use super::guard::Guard;
use super::host;
use super::patience::{Patient, TAKE_LIMIT};

/// Time limit for unfinished answers when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// A page loads its script, style and pictures only from this server. Inline scripts and styles are not allowed.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Maximum size of the part of an answer that the system buffers until the client receives it. [bytes]
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Connections that wait to be accepted. [1]
const BACKLOG: u32 = 1024;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("cannot listen on {address}: {source} (another address: --listen)")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// The request of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The part of the path that the page's pattern leaves open, decoded.
    pub name: Option<String>,
    query: String,
}

impl Asked {
    pub fn new(name: Option<&str>, query: &str) -> Self {
        Self { name: name.map(str::to_owned), query: query.to_owned() }
    }

    /// Returns the value of a parameter of the query, decoded: `?at=02%3A07`. An empty one counts as absent.
    pub fn value(&self, name: &str) -> Option<String> {
        self.values().into_iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// Returns all parameters of the query, decoded, in their order.
    pub fn values(&self) -> Vec<(String, String)> {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decoded(n), decoded(v))).collect()
    }

    /// Returns the length of the query. [bytes]
    pub fn query_bytes(&self) -> usize {
        self.query.len()
    }

    /// Returns true if a switch of the query is on: `?all=1`.
    pub fn is_on(&self, switch: &str) -> bool {
        self.query
            .split('&')
            .any(|pair| pair.split_once('=').is_some_and(|(n, v)| n == switch && matches!(v, "1" | "true")))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// The time after which a browser loads the page again. [s]
    pub refresh_s: Option<u32>,
}

impl Page {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body, refresh_s: None }
    }

    pub fn html(status: u16, body: String) -> Self {
        Self { status, content_type: "text/html; charset=utf-8", body, refresh_s: None }
    }

    /// Creates a page of one JSON document, with the keys of each object in alphabetical order.
    pub fn document(status: u16, document: &impl Serialize) -> Self {
        match serde_json::to_value(document) {
            Ok(document) => Self::json(status, document.to_string()),
            Err(error) => Self::refusal(500, "cannot_write", &error.to_string()),
        }
    }

    /// Creates the page of a request that is not answered: a name for programs, and the reason for people.
    pub fn refusal(status: u16, error: &str, says: &str) -> Self {
        #[derive(Serialize)]
        struct Refusal<'a> {
            error: &'a str,
            says: &'a str,
        }
        let body = serde_json::to_string(&Refusal { error, says }).expect("two texts are JSON");
        Self::json(status, body)
    }

    pub fn text(status: u16, body: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body, refresh_s: None }
    }
}

/// A continuing answer: events as `text/event-stream`, one text each. The next event is requested after the client has
/// received the one before.
pub struct Events(pub Pin<Box<dyn Stream<Item = String> + Send>>);

/// Marks the answer that turns its connection into a stream.
#[derive(Clone, Copy, Debug)]
struct IsStream;

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let events = futures_util::StreamExt::map(self.0, Ok::<_, std::convert::Infallible>);
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            // A proxy must pass on each event without waiting for more.
            (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        let mut response = (headers, Body::from_stream(events)).into_response();
        response.extensions_mut().insert(IsStream);
        response
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        let mut response = (status, headers, self.body).into_response();
        if let Some(seconds) = self.refresh_s {
            response.headers_mut().insert(header::REFRESH, seconds.into());
        }
        response
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Handler = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;

/// The pages of a server by path. `/positions/{name}` has an open part.
#[derive(Clone, Default)]
pub struct Site {
    router: Router,
    /// Host names of the server in addition to its own.
    hosts: Vec<String>,
    guard: Guard,
    /// The page of a request without the token of the guard.
    asks: Option<Arc<str>>,
}

impl Site {
    /// Guards the pages that are added from here on.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// Sets the page of a request without the token of the guard. Everybody can read it.
    #[must_use]
    pub fn asking(self, html: &str) -> Self {
        Self { asks: Some(html.into()), ..self }
    }

    /// Adds a page, or a stream of events: the result of `make` becomes the answer.
    #[must_use]
    pub fn page<F, A, R>(self, path: &str, make: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        let (handler, guard) = (handler(make), (self.guard.clone(), self.asks.clone()));
        let answer = async move |name: Result<Option<Path<String>>, PathRejection>, uri: Uri, headers: HeaderMap| {
            // A name that is not UTF-8 is the name of nothing: the page answers, as for any other unknown name.
            let name = name.map_or_else(|_| Some("\u{fffd}".to_owned()), |name| name.map(|Path(name)| name));
            answer_of(&handler, &guard, &headers, name, &uri).await
        };
        Self { router: self.router.route(path, get(answer)), ..self }
    }

    /// Sets the page for paths without a page of their own. It gets the path as its name.
    #[must_use]
    pub fn otherwise<F, A, R>(self, make: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        let (handler, guard) = (handler(make), (self.guard.clone(), self.asks.clone()));
        let answer = async move |uri: Uri, headers: HeaderMap| {
            answer_of(&handler, &guard, &headers, Some(uri.path().to_owned()), &uri).await
        };
        Self { router: self.router.fallback(answer), ..self }
    }

    /// Adds host names that a request may use in addition to the address that the server listens on.
    #[must_use]
    pub fn known_as(self, hosts: &[String]) -> Self {
        Self { hosts: hosts.to_vec(), ..self }
    }
}

fn handler<F, A, R>(make: F) -> Handler
where
    F: Fn(Asked) -> A + Send + Sync + 'static,
    A: Future<Output = R> + Send + 'static,
    R: IntoResponse,
{
    let make = Arc::new(make);
    Arc::new(move |asked| {
        let answer = make(asked);
        Box::pin(async move { answer.await.into_response() })
    })
}

async fn answer_of(
    handler: &Handler,
    (guard, asks): &(Guard, Option<Arc<str>>),
    headers: &HeaderMap,
    name: Option<String>,
    uri: &Uri,
) -> Response {
    match guard.refusal(headers, asks.as_deref()) {
        Some(refused) => refused,
        None => handler(Asked { name, query: uri.query().unwrap_or_default().to_owned() }).await,
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl WebServer {
    /// Listens on an address (port 0 selects a free one) and serves in the background.
    #[expect(clippy::unused_async, reason = "it needs a runtime, which only a caller that waits has")]
    pub async fn start(address: SocketAddr, site: Site) -> Result<Self, WebError> {
        let failed = |source| WebError::Listen { address, source };
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let names = host::names(&site.hosts, address).into();
        // Streams of events stay as they are.
        let router = site.router.layer(CompressionLayer::new());
        Ok(Self { address, stop, serving: tokio::spawn(serve(listener, router, names, stopped)) })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns true if it can be reached from other machines.
    pub fn is_exposed(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Stops accepting connections, and closes the existing ones after their answers are sent.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(STOP_LIMIT, self.serving).await.is_err() {
            abort.abort();
        }
    }
}

/// Listens, with small send buffers.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the server is stopped or its handle is dropped.
async fn serve(listener: TcpListener, router: Router, names: Arc<[String]>, mut stopped: oneshot::Receiver<()>) {
    let door = Door::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (router, names) = (router.clone(), Arc::clone(&names));
                    door.admit(|slot| connections.spawn(answer(stream, router, names, slot)));
                }
                // No file descriptor is free, or the client has gone already. Neither ends the server.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    door.close_waiting();
    while connections.join_next().await.is_some() {}
}

/// Answers the one request of a connection. An error of a connection affects only its client.
async fn answer(stream: TcpStream, router: Router, names: Arc<[String]>, slot: Arc<ConnectionSlot>) {
    let Ok(local) = stream.local_addr() else { return };
    let pages = TowerToHyperService::new(router);
    let of_service = Arc::clone(&slot);
    let service = service_fn(move |request: Request<Incoming>| {
        of_service.answers();
        let refused = refusal(&request, local.ip(), &names);
        let (pages, slot) = (pages.clone(), Arc::clone(&of_service));
        async move {
            if let Some(page) = refused {
                return Ok(page.into_response());
            }
            let response = pages.call(request.map(Body::new)).await?;
            if response.extensions().get::<IsStream>().is_some() && !slot.streams() {
                let says =
                    "too many browsers follow pages: close some, or load the page again to see the present state";
                return Ok(Page::refusal(503, "busy", says).into_response());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Patient::new(stream, TAKE_LIMIT)), service);
    tokio::pin!(connection);
    if tokio::time::timeout(CONNECTION_LIMIT, &mut connection).await.is_err() && slot.is_stream() {
        let _ = connection.await;
    }
}

/// Returns the refusal of a request that is addressed to another host.
fn refusal(request: &Request<Incoming>, local: IpAddr, names: &[String]) -> Option<Page> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        // This header did not exist before HTTP/1.1, and every browser sends it.
        (None, _) if request.version() == Version::HTTP_10 => return None,
        (Some(host), None) => host.to_str().unwrap_or_default(),
        (None, _) | (Some(_), Some(_)) => "",
    };
    let is_ours = |host: &str| host::is_ours(host, local, names);
    let of_uri = request.uri().authority().map(Authority::as_str);
    if is_ours(host) && of_uri.is_none_or(is_ours) {
        return None;
    }
    let says = "the request is addressed to another host: ask by the address that is listened on, or name the host in \
                `hosts` of the configuration";
    Some(Page::refusal(421, "unknown_host", says))
}
