//! HTTP: pages that the service serves, and pages of a running service.
//!
//! Promises: the module knows no page by name; the caller passes each one as a handler. No request can change anything.
//! The number of connections is bounded and new ones are answered, however many connections clients open and however
//! slowly they send.
//!
//! In reading order: `server` (serves pages), `door` (the open connections), `host` (the check of a request's host),
//! `client` (fetches a page).

mod client;
mod door;
mod host;
mod server;

pub use client::{ClientError, get, path_part};
pub use server::{Asked, Page, Site, WebError, WebServer};
