//! The state of the reader, for other parts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::shell::redis::ServerError;

/// How far the reader has read, and whether it works. The reader writes this; the event loop and the report read it.
#[derive(Debug, Default)]
pub struct ReaderStatus {
    /// Entries that wait for their turn. [1]
    pub waiting: AtomicU64,
    /// True if all streams were read to their ends and no entry waits.
    pub is_drained: AtomicBool,
    pub is_connected: AtomicBool,
    /// The server's clock at the last round. [ms since 1970]
    pub server_ms: AtomicU64,
    /// The difference of the servers' clocks at the last round. It includes the delay between their answers. [ms]
    pub clocks_apart_ms: AtomicU64,
    pub reconnects: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl ReaderStatus {
    /// Returns the last read error.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, error: &ServerError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.is_connected.store(false, Ordering::Relaxed);
        self.is_drained.store(false, Ordering::Relaxed);
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}
