//! What the service manager is told: ready, still getting ahead, stopping.
//!
//! Promises: without `NOTIFY_SOCKET` nothing happens. A message that cannot be sent is an error of nobody: the service
//! works without a manager.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, if it started us and wants to know.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    watchdog: Option<Duration>,
}

impl Manager {
    /// Reads what the manager asks for from its environment (`WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// How often the watchdog wants to hear of us, at least twice in its time; none: it does not want to.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The service can be used; `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        Self::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// What `systemctl status` shows from now on.
    pub fn status(&self, status: &str) {
        Self::tell(&[NotifyState::Status(status)]);
    }

    /// The service gets ahead. To be called only while it is alive: silence is what makes the manager restart it.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            Self::tell(&[NotifyState::Watchdog]);
        }
    }

    /// The start takes longer: asks for more time, from now on.
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
