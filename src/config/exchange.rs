//! `[exchange]`: the REST interface of the exchange, and the credentials, which come from the environment only.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::error::ConfigError;
use super::table::{Sheet, Table};

/// Length of a key and of a secret. [characters]
const CREDENTIAL_LENGTH: usize = 64;

/// Which version of the position call is used: v3 leaves out symbols without a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionRisk {
    V2,
    V3,
}

#[derive(Clone, Debug)]
pub struct Exchange {
    pub base_url: String,
    pub recv_window_ms: u64,
    pub timeout_ms: u64,
    pub position_risk: PositionRisk,
    /// Certificates (PEM) of those who may vouch for the exchange, beside the public ones.
    pub ca_file: Option<PathBuf>,
    key: Credential,
    secret: Credential,
}

/// Key and secret, as they go into a request.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub key: SecretString,
    pub secret: SecretString,
}

/// Why signed calls cannot be made; names the variable, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {reason}")]
pub struct NoCredentials {
    pub name: &'static str,
    /// `is not set`, `is empty`, `has a space or a control character inside`.
    pub reason: &'static str,
}

#[derive(Clone, Debug)]
struct Credential(Result<SecretString, NoCredentials>);

impl Exchange {
    /// What signed calls need; else the named reason why there are none.
    pub fn credentials(&self) -> Result<Credentials, NoCredentials> {
        Ok(Credentials { key: self.key.0.clone()?, secret: self.secret.0.clone()? })
    }
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Exchange, ConfigError> {
    let mut table = sheet.table("exchange")?;
    let exchange = Exchange {
        base_url: table.parsed("base_url", "https://testnet.binancefuture.com", URL_WANTED, |url| {
            let fine = guarded(url, "https://", "http://") && !url.contains('?');
            fine.then(|| url.trim_end_matches('/').to_owned())
        })?,
        recv_window_ms: table.whole("recv_window_ms", 5000, 1..=60_000)?,
        timeout_ms: table.whole("timeout_ms", 5000, 100..=60_000)?,
        position_risk: table.word("position_risk", "v3", &[("v3", PositionRisk::V3), ("v2", PositionRisk::V2)])?,
        ca_file: table.some_path("ca_file")?,
        key: credential(&mut table, "api_key", "BINANCE_TESTNET_API_KEY"),
        secret: credential(&mut table, "api_secret", "BINANCE_TESTNET_API_SECRET"),
    };
    table.finish()?;
    Ok(exchange)
}

const URL_WANTED: &str = "want https://host, without user and query (http:// only on this host)";

/// Is the URL encrypted, or plain and within this host; with a host, and without a user.
pub(super) fn guarded(url: &str, encrypted: &str, plain: &str) -> bool {
    let host_of = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
    let is_own = |host: &str| {
        let own = ["127.0.0.1", "localhost", "[::1]"];
        own.iter().any(|own| host.strip_prefix(own).is_some_and(|port| port.is_empty() || port.starts_with(':')))
    };
    let fine = |host: &str| !host.is_empty() && !host.contains(['@', '?', '#']) && !url.contains(char::is_whitespace);
    match (url.strip_prefix(encrypted), url.strip_prefix(plain)) {
        (Some(rest), _) => fine(&host_of(rest)),
        (None, Some(rest)) => fine(&host_of(rest)) && is_own(&host_of(rest)),
        (None, None) => false,
    }
}

/// A credential, with a warning for what looks wrong and a reason where it cannot be used.
fn credential(table: &mut Table<'_, '_>, key: &'static str, name: &'static str) -> Credential {
    let was_set = table.is_set(name);
    let Some(secret) = table.secret(key, name) else {
        let reason = if was_set { "is empty" } else { "is not set" };
        return Credential(Err(NoCredentials { name, reason }));
    };
    let text = secret.expose_secret();
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        let reason = "has a space or a control character inside";
        table.warn(format!("{name} {reason}"));
        return Credential(Err(NoCredentials { name, reason }));
    }
    if text.len() != CREDENTIAL_LENGTH {
        table.warn(format!("{name} has {} characters, where the exchange gives {CREDENTIAL_LENGTH}", text.len()));
    }
    Credential(Ok(secret))
}
