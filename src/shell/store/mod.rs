//! The projection on disk: rows of bytes in sled, one atomic and durable commit at a time.
//!
//! Promises: an acknowledged commit survives a kill and a loss of power; a commit is never present in part; damaged
//! data is reported and never returned; a call that hangs ends the process. The store knows nothing about positions,
//! streams or cursors: keys and values belong to the caller. A lost store can be rebuilt from history.

mod errors;
mod folder;
mod head;
mod open;
mod rebuild;
mod row;
mod summary;
mod table;
mod watchdog;

pub use errors::{OpenError, StoreError};
pub use rebuild::Rebuild;
pub use row::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use table::{Scan, Store};
pub use watchdog::{CALL_LIMIT, EXIT_CODE_HUNG, StoreCall, Watchdog};
