//! A server of pages that others make.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long answers that are under way may take when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// What was asked of a page.
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

    /// Is a switch of the query on: `?all=1`.
    pub fn is_on(&self, switch: &str) -> bool {
        self.query
            .split('&')
            .any(|pair| pair.split_once('=').is_some_and(|(n, v)| n == switch && matches!(v, "1" | "true")))
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Page {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, self.body).into_response()
    }
}

type Answer = Pin<Box<dyn Future<Output = Page> + Send>>;
type Handler = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;

/// The pages of a server, by their paths. `/positions/{name}` leaves a part open.
#[derive(Clone, Default)]
pub struct Site {
    router: Router,
}

impl Site {
    /// Adds a page.
    #[must_use]
    pub fn page<F, A>(self, path: &str, make: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Page> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |asked| Box::pin(make(asked)));
        let answer = async move |name: Option<Path<String>>, uri: Uri| {
            handler(Asked { name: name.map(|Path(name)| name), query: uri.query().unwrap_or_default().to_owned() })
                .await
        };
        Self { router: self.router.route(path, get(answer)) }
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl WebServer {
    /// Listens on an address (port 0 takes a free one) and serves in the background.
    pub async fn start(address: SocketAddr, site: Site) -> Result<Self, WebError> {
        let failed = |source| WebError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let asked_to_stop = async move {
            // A server whose handle is gone stops as well.
            let _ = stopped.await;
        };
        let serving = axum::serve(listener, site.router).with_graceful_shutdown(asked_to_stop);
        Ok(Self { address, stop, serving: tokio::spawn(serving.into_future()) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Can it be reached from other machines.
    pub fn is_exposed(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Takes no more connections, and ends those that there are once their answers are out.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let abort = self.serving.abort_handle();
        if tokio::time::timeout(STOP_LIMIT, self.serving).await.is_err() {
            abort.abort();
        }
    }
}
