//! HTTP: pages that the service serves, and pages of a running service.
//!
//! Promises: the module knows no page by name; the caller passes each one as a handler. No request can change anything.
//! The number of connections is bounded, and new ones are answered however many connections clients open and however
//! slowly they send. A connection whose client stops receiving is closed.
//!
//! In reading order: `server` (serves pages), `door` (the open connections), `patience` (clients that stop receiving),
//! `host` (the check of a request's host), `guard` (the token), `client` (fetches a page).

mod client;
mod door;
mod guard;
mod host;
mod patience;
mod server;

pub use client::{Client, ClientError, get, path_part};
pub use door::STREAMS_MAX;
pub use guard::{Guard, NEEDS_TOKEN};
pub use server::{Asked, Events, Page, Site, WebError, WebServer};
