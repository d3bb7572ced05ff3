//! The delay before the next try: longer each time, with jitter.
//!
//! It is written by hand, as the delays of `run` and of a cluster's redirections are: each is a few lines, and crates
//! (`backon`) also bring the loop, which here is a thread, a task or a chain of redirections, each with its own end.

use std::time::Duration;

use crate::shell::exchange::SocketError;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// The delay after a refusal that does not end within seconds: too many connections, a ban, a region that is not
/// served.
const SHUT_OUT: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the delay before the next try: between half and all of a time that doubles.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half_ms + fastrand::u64(0..=half_ms))
    }

    /// Returns the delay before the next connection, by the error that ended the last one.
    pub(super) fn after(&mut self, error: &SocketError) -> Duration {
        let wait = self.next();
        match error {
            SocketError::Refused { status: 418 | 429 | 451, .. } => wait.max(SHUT_OUT),
            _ => wait,
        }
    }

    /// Resets the delay after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        for whole_ms in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let wait = backoff.next().as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&wait), "{wait} of {whole_ms}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        let refused = |status| SocketError::Refused { host: "127.0.0.1".to_owned(), status };
        assert!(backoff.after(&refused(403)) <= LONGEST);
        for status in [418, 429, 451] {
            assert_eq!(backoff.after(&refused(status)), SHUT_OUT, "{status}");
        }
    }
}
