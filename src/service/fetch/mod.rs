//! Fetches what the projection lacks: needs in, observations out, in a task of its own.
//!
//! Promises: nothing here reads the projection, and no decision waits for it. A fetched fact is appended to the
//! observation stream first, and is an input only when it comes back from there.
//!
//! In reading order: `fetcher` (one tick), `positions`, `prices`, `instruments`, `fills` (a source each), `asked`
//! (what was asked and answered), `report`.

mod asked;
mod fetcher;
mod fills;
mod instruments;
mod positions;
mod prices;
mod report;

pub use fetcher::{Fetcher, Sink, Tick, observation_stream};
pub use report::{Appended, FetchError, TickReport};
