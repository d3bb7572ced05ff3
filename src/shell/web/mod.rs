//! HTTP: pages that the service shows, and pages of a running service.
//!
//! Promises: knows no page by name; what is shown comes in as a handler. Nothing can be changed through it.
//!
//! In reading order: `server` (shows pages), `client` (asks for one).

mod client;
mod server;

pub use client::{ClientError, get, path_part};
pub use server::{Asked, Page, Site, WebError, WebServer};
