//! The delay before the next connection to the exchange.

use std::time::Duration;

use crate::service::retry_delay::RetryDelay;
use crate::shell::exchange::SocketError;

/// The delay after a refusal that does not end within seconds: too many connections, a ban, a region that is not
/// served.
const SHUT_OUT: Duration = Duration::from_secs(300);

/// Returns the delay before the next connection, by the error that ended the last one.
pub(super) fn delay_after(error: &SocketError, delay: &mut RetryDelay) -> Duration {
    let wait = delay.next();
    match error {
        SocketError::Refused { status: 418 | 429 | 451, .. } => wait.max(SHUT_OUT),
        _ => wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_lasts_is_waited_for() {
        let refused = |status| SocketError::Refused { host: "127.0.0.1".to_owned(), status };
        assert!(delay_after(&refused(403), &mut RetryDelay::of_feed()) < SHUT_OUT);
        for status in [418, 429, 451] {
            assert_eq!(delay_after(&refused(status), &mut RetryDelay::of_feed()), SHUT_OUT, "{status}");
        }
    }
}
