//! The Redis server of the configuration.

use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::shell::redis::{Address, ServerError};

/// Where it is, with what is needed to trust it.
pub fn address(config: &Config) -> Result<Address, ServerError> {
    Address::new(config.redis.url.expose_secret(), config.redis.ca_file.as_deref())
}
