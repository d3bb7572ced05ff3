//! Notifications to the service manager: ready, progress, stopping.
//!
//! Promises: without `NOTIFY_SOCKET` nothing happens. A message that cannot be sent is not an error: the service works
//! without a manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The services of this process. One notification is sent for all of them.
struct Members {
    /// [1]
    expected: usize,
    ready: BTreeSet<u32>,
    /// When each reported progress.
    alive: BTreeMap<u32, Instant>,
}

static MEMBERS: Mutex<Members> = Mutex::new(Members { expected: 1, ready: BTreeSet::new(), alive: BTreeMap::new() });

fn members() -> MutexGuard<'static, Members> {
    MEMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the number of services of this process. The process is ready once all of them are, and alive while all make
/// progress.
pub fn expect(services: usize) {
    members().expected = services;
}

/// Notes that a service of this process ended and is started again. Until it reports, the others decide for the
/// process.
pub fn lost(member: u32) {
    members().alive.remove(&member);
}

/// The service manager, if it started the process and asked for notifications.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    watchdog: Option<Duration>,
    /// The cell of the reporting service.
    member: u32,
}

impl Manager {
    /// Reads the manager's requests from the environment (`WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self::of_member(0)
    }

    /// Does the same for one of several services of this process.
    pub fn of_member(member: u32) -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), member }
    }

    /// Returns the interval between watchdog notifications, at most half of its time limit; `None` without a watchdog.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Reports that the service is ready. `systemctl status` shows `status`.
    pub fn ready(&self, status: &str) {
        let are_ready = {
            let mut members = members();
            members.ready.insert(self.member);
            members.ready.len() >= members.expected
        };
        if are_ready {
            Self::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }

    /// Sets the text that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        Self::tell(&[NotifyState::Status(status)]);
    }

    /// Reports progress. Call it only while the service makes progress: without it the manager restarts the service.
    pub fn alive(&self) {
        let Some(limit) = self.watchdog else { return };
        let are_alive = {
            let mut members = members();
            members.alive.insert(self.member, Instant::now());
            members.alive.values().all(|at| at.elapsed() < limit)
        };
        if are_alive {
            Self::tell(&[NotifyState::Watchdog]);
        }
    }

    /// Asks for more time to start, counted from now.
    pub fn extend_start(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Self::tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    pub fn stopping(&self) {
        Self::tell(&[NotifyState::Stopping]);
    }

    fn tell(state: &[NotifyState<'_>]) {
        let _ = sd_notify::notify(state);
    }
}
