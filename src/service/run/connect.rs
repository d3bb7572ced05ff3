//! Connections, and the delay before the next try.

use std::time::{Duration, Instant};

use crate::shell::redis::{Address, Links, Membership, Server, ServerError};

/// The first delay between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest delay between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Opens connections to the server. Each part has its own, so that none waits for another.
#[derive(Clone)]
pub struct Connect {
    address: Address,
}

impl Connect {
    pub fn new(address: Address) -> Self {
        Self { address }
    }

    /// Opens a connection for single commands. Errors if the server cannot be reached or rejects us.
    pub async fn server(&self) -> Result<Server, ServerError> {
        Server::connect(&self.address).await
    }

    /// Opens the connections that read streams. They wait on the thread that uses them.
    pub fn links(&self, streams: Vec<String>, membership: &Membership) -> Result<Links, ServerError> {
        Links::connect(&self.address, streams, membership)
    }

    pub const fn address(&self) -> &Address {
        &self.address
    }
}

/// Repeats a request until it is answered, with a new connection after each transient failure, up to a time limit.
///
/// A server that is starting or unreachable is waited for. A server that rejects us is not.
pub async fn patiently<T>(
    connect: &Connect,
    limit: Duration,
    mut ask: impl AsyncFnMut(&mut Server) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut delay = RetryDelay::default();
    loop {
        let asked = match connect.server().await {
            Ok(mut server) => ask(&mut server).await,
            Err(error) => Err(error.into()),
        };
        match asked {
            Err(error) if began.elapsed() < limit && may_pass(&error) => {
                let pause = delay.next();
                tracing::warn!(pause_ms = pause.as_millis() as u64, "starting failed, trying again: {error:#}");
                tokio::time::sleep(pause).await;
            }
            done => return done,
        }
    }
}

fn may_pass(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(ServerError::may_pass))
}

/// Delays that double, with jitter, so that two processes do not retry in step. It is written by hand for the reason at
/// the head of `feed/backoff.rs`.
#[derive(Debug, Default)]
pub struct RetryDelay {
    failures: u32,
}

impl RetryDelay {
    /// Returns the delay after a further failure: twice the one before, at most 3 s, less up to half of it.
    pub fn next(&mut self) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_growing() {
        let mut delay = RetryDelay::default();
        let pauses: Vec<Duration> = (0..40).map(|_| delay.next()).collect();
        assert!(pauses[0] <= PAUSE_MIN && pauses[0] >= PAUSE_MIN / 2);
        assert!(pauses[39] <= PAUSE_MAX && pauses[39] >= PAUSE_MAX / 2);
        delay.reset();
        assert!(delay.next() <= PAUSE_MIN);
    }
}
