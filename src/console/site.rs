//! The addresses of the console, and the way from a request to its page.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::address::Address;
use super::auditor::{Audit, Auditor};
use super::error::PageError;
use super::feed::{Begin, Feed, NotYet};
use super::frame::PageContext;
use super::live::{Drawn, Live};
use super::pages::{self, Made};
use super::parts;
use super::pool::{NotAnswered, Pool};
use super::running::{Present, Running};
use crate::codec::causes::with_causes;
use crate::codec::shown::shown;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::drive::film::Film;
use crate::drive::reel::Reel;
use crate::drive::stop::Stop;
use crate::shell::web::{Asked, Guard, NEEDS_TOKEN, Page, Site};

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Maximum length of the query of a page. [bytes]
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// Interval after which a page of a service is made again even if no entry came, because ages grow.
const AGES_GROW: Duration = Duration::from_secs(1);

/// A console over a history or a journal.
#[derive(Clone)]
pub struct Console {
    feed: Arc<Feed>,
    /// The threads. They start with the first question.
    pool: Arc<OnceLock<Pool>>,
    live: Live,
    title: Arc<str>,
    /// The prefix of all addresses, without a slash at its end.
    base: Arc<str>,
    auditor: Option<Arc<Auditor>>,
    running: Option<Running>,
}

/// Makes a page. `Asked` has the open part of its path.
type Make = fn(&PageContext<'_>, &Asked, &Stop) -> Result<Made, PageError>;

/// A page that has an address of its own.
#[derive(Clone, Copy)]
struct Route {
    path: &'static str,
    make: Make,
    /// True if it can follow a journal.
    is_live: bool,
}

const fn route(path: &'static str, make: Make, is_live: bool) -> Route {
    Route { path, make, is_live }
}

/// The pages by path.
const PAGES: [Route; 9] = [
    route("/", pages::now, true),
    route("/console/positions", pages::positions, true),
    route("/console/position/{id}", pages::position, true),
    route("/console/decisions", pages::decisions, true),
    route("/console/decision/{id}", pages::decision, true),
    route("/console/streams", pages::streams, true),
    route("/console/whatif", pages::whatif, false),
    route("/console/audit", pages::audit, false),
    route("/console/entry/{id}", pages::entry, false),
];

/// The address of the events of a live page.
const LIVE: &str = "/console/live";
/// Its parameters: path and open part of the page, and the token of the page that the reader has.
const OF_LIVE: [&str; 3] = ["live-page", "live-name", "live-known"];

impl Route {
    /// Returns the page of a path without its prefix, and the open part.
    fn of(path: &str) -> Option<(Self, Option<&str>)> {
        PAGES.into_iter().find_map(|route| match route.path.strip_suffix("{id}") {
            None => (route.path == path).then_some((route, None)),
            Some(start) => path.strip_prefix(start).filter(|name| !name.is_empty()).map(|name| (route, Some(name))),
        })
    }
}

/// The end of the history that the pages show, and the browsers that follow one.
#[derive(Serialize)]
struct FilmVersion {
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    readers: usize,
}

impl Console {
    /// Returns a console over a history.
    pub fn new(film: Arc<Film>, title: &str, base: &str) -> Self {
        Self::over(Feed::still(film), title, base)
    }

    /// Returns a console that follows a journal: from the first question on, or from the end of `read`.
    pub fn following(begin: Begin, read: Option<Reel>, title: &str, base: &str) -> Self {
        let feed = Feed::following(begin);
        Self::over(
            match read {
                Some(reel) => feed.begun(reel),
                None => feed,
            },
            title,
            base,
        )
    }

    fn over(feed: Feed, title: &str, base: &str) -> Self {
        Self {
            feed: Arc::new(feed),
            pool: Arc::default(),
            live: Live::default(),
            title: title.into(),
            base: base.trim_end_matches('/').into(),
            auditor: None,
            running: None,
        }
    }

    /// Returns the console of a running service, which reports about itself.
    #[must_use]
    pub fn of_service(self, running: Running) -> Self {
        Self { running: Some(running), ..self }
    }

    /// Shows another film from the next page on: the same history, read again after it has grown.
    pub fn show(&self, film: Arc<Film>) {
        self.feed.show(film);
    }

    /// Drops the content of a journal if no page has asked for long.
    pub fn rest(&self) {
        self.feed.rest();
    }

    fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::start(self.running.is_some()))
    }

    /// Returns the console with an audit that its page can run.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { auditor: Some(Arc::new(Auditor::new(audit))), ..self }
    }

    async fn page(self, route: Route, asked: Asked) -> Page {
        let console = self.clone();
        let page = self.pool().ask(move |stop| console.made(route, &asked, stop)).await;
        match page {
            Ok(page) => page,
            Err(NotAnswered) => self.message(
                503,
                "Busy",
                "Too many requests wait for an answer, or this one failed. Load the page again in a moment.",
            ),
        }
    }

    fn made(&self, route: Route, asked: &Asked, stop: &Stop) -> Page {
        let bytes = asked.query_bytes();
        if bytes > QUERY_BYTES_MAX {
            let says = format!(
                "The address has {bytes} bytes after its question mark, and at most {QUERY_BYTES_MAX} are read. Type only what \
                 differs from the configured policy, or compare in a terminal: harvester whatif --policy FILE."
            );
            return self.message(431, "Too large", &says);
        }
        let film = match self.feed.film() {
            Ok(film) => film,
            Err(NotYet::Reading) => {
                return self.wait("Reading", "The console reads the journal. This page reloads itself.");
            }
            Err(NotYet::Failed(why)) => {
                let says = format!("The journal cannot be shown: {why}. The console tries again.");
                return self.wait("Not yet", &says);
            }
        };
        self.made_of(&film, route, asked, stop)
    }

    fn made_of(&self, film: &Film, route: Route, asked: &Asked, stop: &Stop) -> Page {
        let at = match asked.value("at").map(|text| film.until(&text)).transpose() {
            Ok(at) => at,
            Err(error) => return self.refused(film, route, asked, None, (400, "Not a time", &error.to_string()), stop),
        };
        if at.is_some() && !film.has_past() {
            return self.message(
                400,
                "No past",
                "A store has only its present state: start the console with a journal.",
            );
        }
        match self.answer(film, route, (asked, at), stop) {
            Ok(made) => Page { refresh_s: made.refresh_s, ..Page::html(200, made.body) },
            Err(PageError::NotFound(why)) => self.refused(film, route, asked, at, (404, "Not here", &why), stop),
            Err(PageError::TooEarly(early)) => {
                self.refused(film, route, asked, None, (404, "Not here", &early.to_string()), stop)
            }
            Err(PageError::Stopped(stopped)) => self.message(503, "Too long", &stopped.to_string()),
            Err(PageError::Failed(error)) => self.message(500, "This page failed", &with_causes(&*error)),
        }
    }

    /// Returns a page with one message that keeps the field for the moment. `at` is a moment that can be shown.
    fn refused(
        &self,
        film: &Film,
        route: Route,
        asked: &Asked,
        at: Option<EntryId>,
        (status, title, says): (u16, &str, &str),
        stop: &Stop,
    ) -> Page {
        let Ok(engine) = film.state(at, stop) else { return self.message(status, title, says) };
        let typed = asked.value("at").unwrap_or_default();
        let here = self.address_of(route, asked);
        let here = if at.is_none() { here.with("at", "") } else { here };
        let context = self.context(film, engine, at, here);
        match pages::refused(&context, title, &shown(says), status, &typed) {
            Ok(body) => Page::html(status, body),
            Err(_) => self.message(status, title, says),
        }
    }

    /// Returns the context of a page about a history, which neither follows nor asks a service.
    fn context<'a>(
        &'a self,
        film: &'a Film,
        engine: Arc<Engine>,
        at: Option<EntryId>,
        here: Address,
    ) -> PageContext<'a> {
        let (base, title) = (&*self.base, &*self.title);
        PageContext { film, engine, at, here, base, title, auditor: None, present: None, live: None }
    }

    /// Returns the address of a page that was asked for.
    fn address_of(&self, route: Route, asked: &Asked) -> Address {
        let name = asked.name.as_deref().map(super::address::part).unwrap_or_default();
        let path = route.path.replace("{id}", &name);
        let query = asked.values().into_iter().filter(|(name, _)| !OF_LIVE.contains(&&**name)).collect();
        Address::new(format!("{}{path}", self.base), query)
    }

    fn answer(
        &self,
        film: &Film,
        route: Route,
        (asked, at): (&Asked, Option<EntryId>),
        stop: &Stop,
    ) -> Result<Made, PageError> {
        let engine = film.state(at, stop)?;
        let here = self.address_of(route, asked);
        let path = here.path().strip_prefix(&*self.base).unwrap_or_default().to_owned();
        // Only a page that shows the end can follow. The report of the service is about now.
        let follows = self.feed.follows() && route.is_live && at.is_none();
        let present = self.running.as_ref().filter(|_| at.is_none()).map(|running| running());
        let token = token(film, present.as_ref());
        let live =
            follows.then(|| {
                let of_page = [path, asked.name.clone().unwrap_or_default(), token];
                OF_LIVE.into_iter().zip(of_page).fold(
                    Address::new(format!("{}{LIVE}", self.base), here.query().to_vec()),
                    |address, (name, value)| address.with(name, &value),
                )
            });
        let auditor = self.auditor.as_deref();
        let context = PageContext { auditor, present: present.as_ref(), live, ..self.context(film, engine, at, here) };
        (route.make)(&context, asked, stop)
    }

    /// Answers the request for the events of a page.
    fn events(&self, asked: &Asked) -> Response {
        let of = |name: &str| asked.value(name).unwrap_or_default();
        let page = of(OF_LIVE[0]);
        let Some((route, name)) = Route::of(&page).filter(|(route, _)| route.is_live && self.feed.follows()) else {
            return self.message(404, "Not here", "There is no such live page.").into_response();
        };
        let name = name.map(|_| of(OF_LIVE[1]));
        let query: Vec<(String, String)> =
            asked.values().into_iter().filter(|(name, _)| !OF_LIVE.contains(&&**name) && name != "at").collect();
        let address = Address::new(page, query);
        let asked = Asked::new(name.as_deref(), address.to_string().split_once('?').map_or("", |(_, query)| query));
        let console = self.clone();
        let draw = move |known: String| {
            let (console, asked) = (console.clone(), asked.clone());
            async move {
                let of_console = console.clone();
                let drawn = console.pool().ask(move |stop| of_console.drawn(route, &asked, &known, stop)).await;
                drawn.ok().flatten()
            }
        };
        match self.live.follow(&address.to_string(), of(OF_LIVE[2]), draw) {
            Some(events) => events.into_response(),
            None => {
                let says = "Too many different pages are followed. Load the page again to see the present state.";
                self.message(503, "Busy", says).into_response()
            }
        }
    }

    /// Makes a page for its readers, unless they have this version already.
    fn drawn(&self, route: Route, asked: &Asked, known: &str, stop: &Stop) -> Option<Drawn> {
        let begun = Instant::now();
        let film = self.feed.film().ok()?;
        let token = token(&film, self.running.as_ref().map(|running| running()).as_ref());
        if token == known {
            return None;
        }
        let page = self.made_of(&film, route, asked, stop);
        (page.status == 200).then(|| Drawn { token, pieces: parts::pieces(&page.body), took: begun.elapsed() })
    }

    /// Returns a page that reloads itself.
    fn wait(&self, title: &str, says: &str) -> Page {
        Page { refresh_s: Some(1), ..self.message(503, title, says) }
    }

    /// Returns the end of the history that the pages show, and the number of browsers that follow one.
    async fn version(&self) -> Page {
        let feed = Arc::clone(&self.feed);
        let film = self.pool().ask(move |_| feed.film()).await;
        let readers = self.live.readers();
        match film {
            Ok(Ok(film)) => {
                let (entries, last) = (Some(film.entries), Some(film.last.to_string()));
                Page::document(200, &FilmVersion { entries, last, readers })
            }
            Ok(Err(_)) | Err(NotAnswered) => Page::document(503, &FilmVersion { entries: None, last: None, readers }),
        }
    }

    /// Returns a page with one message. Names are escaped, and passwords of addresses are masked.
    fn message(&self, status: u16, title: &str, says: &str) -> Page {
        match pages::message(title, &shown(says), status, (&self.base, &self.title)) {
            Ok(body) => Page::html(status, body),
            Err(_) => Page::html(500, "<!doctype html><title>harvester</title><p>This page failed.</p>".to_owned()),
        }
    }
}

/// Returns the version of a page: the end of its history and, for a service, the second of its clock.
fn token(film: &Film, present: Option<&Present>) -> String {
    let second = present.map_or(0, |present| present.uptime_ms / AGES_GROW.as_millis() as u64);
    format!("{}/{}/{second}", film.last, film.entries)
}

/// Adds the pages of a console to a site. `guard` guards them.
pub fn site(console: &Console, site: Site, guard: Guard) -> Site {
    let base = console.base.to_string();
    // Its title may name the instance, which is for readers with the token.
    let asks = pages::message("Token", NEEDS_TOKEN, 401, (&console.base, "")).unwrap_or_default();
    let mut site = site.guarded(guard).asking(&asks);
    for route in PAGES {
        let console = console.clone();
        site = site.page(&format!("{base}{}", route.path), move |asked| console.clone().page(route, asked));
    }
    for (name, content_type, body) in [
        ("console.css", "text/css; charset=utf-8", STYLE),
        ("console.js", "text/javascript; charset=utf-8", SCRIPT),
        ("icon.svg", "image/svg+xml", ICON),
    ] {
        let fixed = move |_: Asked| async move { Page { content_type, ..Page::text(200, body.to_owned()) } };
        site = site.page(&format!("{base}/console/assets/{name}"), fixed);
    }
    let live = console.clone();
    site = site.page(&format!("{base}{LIVE}"), move |asked| {
        let answer = live.events(&asked);
        async move { answer }
    });
    let version = console.clone();
    site = site.page(&format!("{base}/console/version"), move |_| {
        let console = version.clone();
        async move { console.version().await }
    });
    let console = console.clone();
    site.otherwise(move |asked| {
        let path = asked.name.unwrap_or_default();
        let page = console.message(404, "Not here", &format!("There is no page {path}."));
        async move { page }
    })
}
