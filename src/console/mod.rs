//! The console: pages in a browser that show the data of `harvester` at any moment of its history.
//!
//! ```text
//!  request ─▶ site ─▶ pool ─▶ feed ─▶ page ─▶ template ─▶ HTML ─▶ parts ─▶ events
//!                      │        │       ├─ documents of `drive`
//!                      │        │       └─ chart ─▶ SVG
//!                      │        └─ a history, or the journal of a service that is followed
//!                      └─ a few threads; one that takes too long, or that nobody reads, ends
//! ```
//!
//! Promises: reads only. An address contains the whole state of its page. Every value is escaped. No page needs a
//! script, and none loads anything from another host. The number of threads, the time and the memory of a question are
//! bounded.
//!
//! In reading order: `site` (the addresses), `pool` (the threads), `feed` (the source of what is shown), `running` (the
//! report of a service), `address`, `frame` (the parts that all pages have), `pages`, `chart`, `format`; `auditor`
//! (audits that a page asks for); `live` and `parts` (changes of a page).

mod address;
mod auditor;
mod chart;
mod error;
mod feed;
mod format;
mod frame;
mod live;
mod pages;
mod parts;
mod pool;
mod running;
mod site;

pub use auditor::{Audit, Audited};
pub use chart::alone;
#[cfg(feature = "png")]
pub use chart::{PngError, png};
pub use error::PageError;
pub use feed::Begin;
pub use pages::{audit_file, equity_of, whatif_file};
pub use running::{Finding, Present, PresentInput, Running};
pub use site::{Console, site};

use std::sync::Arc;

use crate::domain::event::ids::EntryId;
use crate::drive::film::Film;
use crate::drive::stop::Stop;

/// Draws the chart of a position at a moment. `name` is a position id or a symbol. [`alone`] makes it a file.
pub fn chart_of(film: &Film, name: &str, at: Option<EntryId>) -> Result<String, PageError> {
    let stop = Stop::never();
    let engine: Arc<_> = film.state(at, &stop)?;
    let here = address::Address::default();
    let context =
        frame::PageContext { film, engine, at, here, base: "", title: "", auditor: None, present: None, live: None };
    pages::chart_of(&context, name, &stop)
}
