//! Histories and streams through the driver: decoder, engine and chain in one piece; look-ahead, pipeline, projection,
//! the state at a past time, and documents about it.
//!
//! In reading order: [`driver`], [`look_ahead`], [`pipeline`], [`projection`], [`state_at`], [`film`] (states of a
//! whole history), [`reel`] (continues with a journal that grows), and the documents: [`sheet`], [`explain`],
//! [`story`], [`life`].

pub mod commits;
pub mod driver;
pub mod explain;
pub mod film;
pub mod keys;
pub mod life;
pub mod look_ahead;
pub mod pipeline;
pub mod projection;
pub mod quarantine;
pub mod reel;
pub mod scope;
pub mod sheet;
pub mod snapshots;
pub mod split;
pub mod state_at;
pub mod stop;
pub mod story;
pub mod whatif;
