//! The addresses of the console, and the way from a request to its page.

use std::sync::{Arc, Mutex, PoisonError};

use super::address::Address;
use super::frame::Scene;
use super::pages::{self, Audit, Missing};
use super::pool::{NotAnswered, Pool};
use crate::codec::shown::shown;
use crate::drive::film::Film;
use crate::drive::stop::{Stop, Stopped};
use crate::shell::web::{Asked, Page, Site};

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// A console over one film.
#[derive(Clone)]
pub struct Console {
    film: Arc<Mutex<Arc<Film>>>,
    pool: Pool,
    title: Arc<str>,
    /// The prefix of all addresses, without a slash at its end.
    base: Arc<str>,
    audit: Option<Audit>,
}

/// Makes a page. `Asked` has the open part of its path.
type Make = fn(&Scene<'_>, &Asked, &Stop) -> anyhow::Result<String>;

/// The pages by path.
const PAGES: [(&str, Make); 9] = [
    ("/", pages::now),
    ("/console/positions", pages::positions),
    ("/console/position/{id}", pages::position),
    ("/console/decisions", pages::decisions),
    ("/console/decision/{id}", pages::decision),
    ("/console/streams", pages::streams),
    ("/console/whatif", pages::whatif),
    ("/console/audit", pages::audit),
    ("/console/entry/{id}", pages::entry),
];

impl Console {
    pub fn new(film: Arc<Film>, title: &str, base: &str) -> Self {
        Self {
            film: Arc::new(Mutex::new(film)),
            pool: Pool::start(),
            title: title.into(),
            base: base.trim_end_matches('/').into(),
            audit: None,
        }
    }

    /// Shows another film from the next page on: the same history, read again because it has grown.
    pub fn show(&self, film: Arc<Film>) {
        *self.film.lock().unwrap_or_else(PoisonError::into_inner) = film;
    }

    fn film(&self) -> Arc<Film> {
        Arc::clone(&self.film.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the console with an audit that its page can run.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit: Some(audit), ..self }
    }

    async fn page(self, path: &'static str, make: Make, asked: Asked) -> Page {
        let console = self.clone();
        let page = self.pool.ask(move |stop| console.made(path, make, &asked, stop)).await;
        match page {
            Ok(page) => page,
            Err(NotAnswered) => self.message(
                503,
                "Busy",
                "Too many questions wait for an answer, or this one failed. Load the page again in a moment.",
            ),
        }
    }

    fn made(&self, path: &str, make: Make, asked: &Asked, stop: &Stop) -> Page {
        let film = self.film();
        let at = match asked.value("at").map(|text| film.until(&text)).transpose() {
            Ok(at) => at,
            Err(error) => return self.message(400, "Not a time", &error.to_string()),
        };
        if at.is_some() && !film.has_past() {
            return self.message(
                400,
                "No past",
                "A store has only its present state: start the console with a journal.",
            );
        }
        match self.answer(&film, (path, make), (asked, at), stop) {
            Ok(body) => Page::html(200, body),
            Err(error) => {
                if let Some(missing) = error.downcast_ref::<Missing>() {
                    return self.message(404, "Not here", &missing.to_string());
                }
                if let Some(stopped) = error.downcast_ref::<Stopped>() {
                    return self.message(503, "Too long", &stopped.to_string());
                }
                self.message(500, "This page failed", &format!("{error:#}"))
            }
        }
    }

    fn answer(
        &self,
        film: &Film,
        (path, make): (&str, Make),
        (asked, at): (&Asked, Option<crate::domain::event::ids::EntryId>),
        stop: &Stop,
    ) -> anyhow::Result<String> {
        let engine = film.state(at, stop)?;
        let name = asked.name.as_deref().map(super::address::part).unwrap_or_default();
        let here = Address::new(format!("{}{}", self.base, path.replace("{id}", &name)), asked.values());
        let scene = Scene { film, engine, at, here, base: &self.base, title: &self.title, audit: self.audit.as_ref() };
        make(&scene, asked, stop)
    }

    /// Returns a page with one message. Names are escaped, and passwords of addresses are masked.
    fn message(&self, status: u16, title: &str, says: &str) -> Page {
        match pages::message(title, &shown(says), status, (&self.base, &self.title)) {
            Ok(body) => Page::html(status, body),
            Err(_) => Page::html(500, "<!doctype html><title>harvester</title><p>This page failed.</p>".to_owned()),
        }
    }
}

/// Adds the pages of a console to a site.
pub fn site(console: &Console, site: Site) -> Site {
    let base = console.base.to_string();
    let mut site = site;
    for (path, make) in PAGES {
        let console = console.clone();
        site = site.page(&format!("{base}{path}"), move |asked| console.clone().page(path, make, asked));
    }
    for (name, content_type, body) in [
        ("console.css", "text/css; charset=utf-8", STYLE),
        ("console.js", "text/javascript; charset=utf-8", SCRIPT),
        ("icon.svg", "image/svg+xml", ICON),
    ] {
        let fixed = move |_: Asked| async move { Page { status: 200, content_type, body: body.to_owned() } };
        site = site.page(&format!("{base}/console/assets/{name}"), fixed);
    }
    let version = console.clone();
    site = site.page(&format!("{base}/console/version"), move |_| {
        let film = version.film();
        let page =
            Page::json(200, serde_json::json!({"last": film.last.to_string(), "entries": film.entries}).to_string());
        async move { page }
    });
    let console = console.clone();
    site.otherwise(move |asked| {
        let path = asked.name.unwrap_or_default();
        let page = console.message(404, "Not here", &format!("There is no page {path}."));
        async move { page }
    })
}
