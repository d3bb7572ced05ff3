//! The Redis server of the configuration.

use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::shell::redis::{Address, ServerError};

/// Returns the address of the server, with the certificates to trust it.
pub fn address(config: &Config) -> Result<Address, ServerError> {
    Address::new(config.redis.url.expose_secret(), config.redis.ca_file.as_deref())
}
