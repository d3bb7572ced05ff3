//! Fetches what the projection lacks: needs in, observations out, in a task of its own.
//!
//! Promises: nothing here reads the projection, and no decision waits for the fetcher. A fetched fact is appended to
//! the observation stream first. It becomes an input only when it is read from there. A quantity or a price that comes
//! late is not appended, and fetched again.
//!
//! In reading order: `fetcher` (one tick), `positions`, `prices`, `instruments`, `fills` (one source each), `asked`
//! (requests and answers), `report`.

mod asked;
mod fetcher;
mod fills;
mod instruments;
mod positions;
mod prices;
mod report;

pub use fetcher::{Fetcher, Sink, Tick, observation_stream};
pub use report::{Appended, FetchError, TickReport};
