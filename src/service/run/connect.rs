//! Connections, and requests that are repeated until they are answered.

use std::time::{Duration, Instant};

use crate::service::retry_delay::RetryDelay;
use crate::shell::redis::{Address, Links, Membership, Server, ServerError};

/// Opens connections to the server. Each part has its own, so that none waits for another.
#[derive(Clone)]
pub struct Connect {
    address: Address,
}

impl Connect {
    pub fn new(address: Address) -> Self {
        Self { address: address.of_service() }
    }

    /// Opens a connection for single commands. Errors if the server cannot be reached or rejects us.
    pub async fn server(&self) -> Result<Server, ServerError> {
        Server::connect(&self.address).await
    }

    /// Opens the connections that read streams. Their calls block the thread that uses them.
    pub fn links(&self, streams: Vec<String>, membership: &Membership) -> Result<Links, ServerError> {
        Links::connect(&self.address, streams, membership)
    }

    pub const fn address(&self) -> &Address {
        &self.address
    }
}

/// Repeats a request until it is answered, with a new connection after each transient failure, up to a time limit.
///
/// Waits for a server that is starting or unreachable, but not for a server that rejects us.
pub async fn patiently<T>(
    connect: &Connect,
    limit: Duration,
    mut ask: impl AsyncFnMut(&mut Server) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut delay = RetryDelay::of_server();
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
