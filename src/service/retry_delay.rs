//! The delay before the next try: it doubles with each failure, with jitter, so that two processes do not retry in step.

use std::time::Duration;

/// The delay before the next try.
#[derive(Debug)]
pub struct RetryDelay {
    first: Duration,
    longest: Duration,
    /// Failures since the last success. [1]
    failures: u32,
}

impl RetryDelay {
    /// Returns the delay before the server of the service is asked again.
    pub const fn of_server() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(3), failures: 0 }
    }

    /// Returns the delay before a feed connects or writes again. Exchanges count connections.
    pub const fn of_feed() -> Self {
        Self { first: Duration::from_millis(250), longest: Duration::from_secs(30), failures: 0 }
    }

    /// Returns the delay after a further failure: between half and all of a time that doubles up to a limit.
    pub fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(10)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Resets the delay after a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_begin_anew() {
        for (mut delay, wholes_ms) in [
            (RetryDelay::of_server(), [50, 100, 200, 400, 800, 1_600, 3_000, 3_000, 3_000]),
            (RetryDelay::of_feed(), [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]),
        ] {
            for whole_ms in wholes_ms {
                let whole = Duration::from_millis(whole_ms);
                let next = delay.next();
                assert!((whole / 2..=whole).contains(&next), "{next:?} of {whole_ms} ms");
            }
            delay.reset();
            assert!(delay.next() <= Duration::from_millis(wholes_ms[0]));
        }
    }
}
