//! The state of the reader, for other parts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shell::redis::ServerError;

/// A shorter wait for an answer is usual: a read waits at the server for new entries, and links may be slow.
const USUAL_WAIT: Duration = Duration::from_secs(2);

/// How long it is named that another reader of the group took entries.
const SHARED_FOR: Duration = Duration::from_secs(60);

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
    /// When another reader of the group last took entries.
    taken: Mutex<Option<Instant>>,
    last_error: Mutex<Option<String>>,
    wait: Mutex<Wait>,
}

/// The wait of the reader for the server.
#[derive(Debug, Default)]
struct Wait {
    /// `None` between two requests.
    since: Option<Instant>,
    /// True after a request without an answer. Then only a round that was read ends the wait: a server that answers
    /// everything except reads must not look well between two attempts.
    until_read: bool,
}

impl ReaderStatus {
    /// Notes that another reader of the group took entries. Returns true unless one did a moment ago.
    pub fn entries_are_taken(&self) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.replace(Instant::now()).is_none_or(|at| at.elapsed() > SHARED_FOR)
    }

    /// Returns true if another reader of the group took entries a moment ago.
    pub fn is_group_shared(&self) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.is_some_and(|at| at.elapsed() <= SHARED_FOR)
    }

    /// Returns the last read error.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how long the server has not answered; zero while it answers in a usual time.
    pub fn silent(&self) -> Duration {
        let waited = self.wait().since.map_or(Duration::ZERO, |since| since.elapsed());
        if waited > USUAL_WAIT { waited } else { Duration::ZERO }
    }

    /// Returns the server's clock, for ages. While the server does not answer, the clock goes on. [ms since 1970]
    pub fn clock_ms(&self) -> u64 {
        match self.server_ms.load(Ordering::Relaxed) {
            // The clock is unknown before the first round.
            0 => 0,
            ms => ms.saturating_add(self.silent().as_millis() as u64),
        }
    }

    /// Notes that the reader waits for the server. If it waited already, the wait goes on.
    pub(super) fn waits(&self) {
        self.wait().since.get_or_insert_with(Instant::now);
    }

    /// Notes that the server has not answered, and that the connection is given up.
    pub(super) fn unanswered(&self) {
        self.wait().until_read = true;
    }

    /// Notes that the server has answered.
    pub(super) fn answered(&self) {
        let mut wait = self.wait();
        if !wait.until_read {
            wait.since = None;
        }
    }

    /// Notes that a round was read.
    pub(super) fn has_read(&self) {
        *self.wait() = Wait::default();
    }

    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: &ServerError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.is_connected.store(false, Ordering::Relaxed);
        self.is_drained.store(false, Ordering::Relaxed);
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}
