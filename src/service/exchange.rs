//! The exchange of the configuration.

use crate::config::{Config, PositionRisk};
use crate::shell::exchange::{Credentials, Exchange, Given, PositionRiskVersion, Settings, SetupError};

/// A client, and the reason why it has no credentials, if it has none: the name of the variable, never its value.
pub struct Client {
    pub exchange: Exchange,
    pub no_credentials: Option<String>,
}

/// Returns the client that the configuration describes. Nothing is sent.
pub fn client(config: &Config) -> Result<Client, SetupError> {
    let (credentials, no_credentials) = match credentials(config) {
        Ok(credentials) => (Some(credentials), None),
        Err(reason) => (None, Some(reason)),
    };
    let settings = Settings {
        recv_window_ms: config.exchange.recv_window_ms,
        timeout_ms: config.exchange.timeout_ms,
        position_risk: match config.exchange.position_risk {
            PositionRisk::V2 => PositionRiskVersion::V2,
            PositionRisk::V3 => PositionRiskVersion::V3,
        },
        ca_file: config.exchange.ca_file.clone(),
        credentials,
        // The file is beside the store, so that waits and bans hold for every process of this service, also after a
        // restart.
        state_file: Some(config.run.store.with_extension("exchange")),
        ..Settings::new(&config.exchange.base_url)
    };
    Ok(Client { exchange: Exchange::new(settings)?, no_credentials })
}

const KEY: &str = "BINANCE_TESTNET_API_KEY";

fn credentials(config: &Config) -> Result<Credentials, String> {
    let found = config.exchange.credentials().map_err(|reason| reason.to_string())?;
    let (key_flaw, secret_flaw) = (cleaned(config, KEY), cleaned(config, found.secret_name));
    let key = Given { name: KEY, value: Some(&found.key), cleaned: key_flaw.as_deref() };
    let secret = Given { name: found.secret_name, value: Some(&found.secret), cleaned: secret_flaw.as_deref() };
    Credentials::check(&key, &secret).map_err(|problem| problem.to_string())
}

/// Returns what was cleaned from the value of a variable, as the warnings of the configuration name it.
fn cleaned(config: &Config, name: &str) -> Option<String> {
    let flaws = config.warnings.iter().filter_map(|warning| warning.strip_prefix(name)?.strip_suffix(" was cleaned"));
    flaws.map(|flaw| flaw.trim_start_matches(": ").to_owned()).next()
}
