//! The exchange of the configuration.

use crate::config::Config;
use crate::shell::exchange::{Exchange, Settings, SetupError};

/// Largest difference between the clocks of the exchange and of the machines here. [ms]
pub(super) const CLOCKS_APART_MS: u64 = 60_000;

/// A client, and the reason why it has no credentials, if it has none: the name of the variable, never its value.
pub struct Client {
    pub exchange: Exchange,
    pub no_credentials: Option<String>,
}

/// Returns the client that the configuration describes. Nothing is sent.
pub fn client(config: &Config) -> Result<Client, SetupError> {
    let (credentials, no_credentials) = match config.exchange.credentials() {
        Ok(credentials) => (Some(credentials), None),
        Err(problem) => (None, Some(problem.to_string())),
    };
    let settings = Settings {
        recv_window_ms: config.exchange.recv_window_ms,
        timeout_ms: config.exchange.timeout_ms,
        position_version: config.exchange.position_version,
        ca_file: config.exchange.ca_file.clone(),
        credentials,
        // The file is beside the store, so that waits and bans hold for every process of this service, also after a
        // restart.
        state_file: Some(config.run.store.with_extension("exchange")),
        ..Settings::new(config.exchange.venue, &config.exchange.base_url)
    };
    Ok(Client { exchange: Exchange::new(settings)?, no_credentials })
}
