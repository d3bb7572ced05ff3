//! Notifications to the service manager: ready, progress, stopping.
//!
//! Promises: without `NOTIFY_SOCKET` nothing happens. A message that cannot be sent is not an error: the service works
//! without a manager.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, if it started the process and asked for notifications.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    watchdog: Option<Duration>,
}

impl Manager {
    /// Reads the manager's requests from the environment (`WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// Returns the interval between watchdog notifications, at most half of its time limit; `None` without a watchdog.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Reports that the service is ready. `systemctl status` shows `status`.
    pub fn ready(&self, status: &str) {
        Self::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Sets the text that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        Self::tell(&[NotifyState::Status(status)]);
    }

    /// Reports progress. Call it only while the service makes progress: without it the manager restarts the service.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
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
