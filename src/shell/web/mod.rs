//! HTTP: pages that the service shows, and pages of a running service.
//!
//! Promises: knows no page by name; what is shown comes in as a handler. Nothing can be changed through it. However many
//! connections others open, and however slowly they speak, it holds few of them and answers new ones.
//!
//! In reading order: `server` (shows pages), `door` (which connections are held), `host` (who is asked), `client` (asks for
//! a page).

mod client;
mod door;
mod host;
mod server;

pub use client::{ClientError, get, path_part};
pub use server::{Asked, Page, Site, WebError, WebServer};
