//! The console: pages in a browser that show what `harvester` knows, at any moment of its history.
//!
//! ```text
//!  request ─▶ site ─▶ pool ─▶ page ─▶ template ─▶ HTML
//!                      │        ├─ documents of `drive`
//!                      │        └─ chart ─▶ SVG
//!                      └─ a few threads; one that takes too long, or that nobody reads, ends
//! ```
//!
//! Promises: reads only. An address contains the whole state of its page. Every value is escaped. No page needs a
//! script, and none loads anything from another host. The number of threads, the time and the memory of a question are
//! bounded.
//!
//! In reading order: `site` (the addresses), `pool` (the threads), `address`, `frame` (what all pages have), `pages`,
//! `chart`, `format`.

mod address;
mod chart;
mod format;
mod frame;
mod pages;
mod pool;
mod site;

pub use pages::{Audit, Audited, audit_file, equity_file, whatif_file};
pub use site::{Console, site};

use std::sync::Arc;

use crate::domain::event::ids::EntryId;
use crate::drive::film::Film;
use crate::drive::stop::Stop;

/// Draws the chart of a position at a moment, as an SVG file of its own. `name` is a position id or a symbol.
pub fn chart_file(film: &Film, name: &str, at: Option<EntryId>) -> anyhow::Result<String> {
    let stop = Stop::never();
    let engine: Arc<_> = film.state(at, &stop)?;
    let here = address::Address::default();
    let scene = frame::Scene { film, engine, at, here, base: "", title: "", audit: None };
    pages::chart_file(&scene, name, &stop)
}
