//! `[exchange]`: the environment of the exchange, its REST interface, and the credentials, which come from the
//! environment of the process or from a separate file.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::environment::clean;
use super::error::ConfigError;
use super::market::Environment;
use super::table::{Sheet, Table};

/// Length of a key and of an HMAC secret. [characters]
const CREDENTIAL_LENGTH: usize = 64;
/// Maximum length of a file with a private key. [bytes]
const KEY_FILE_MAX: u64 = 65_536;

/// The version of the position call. Version 3 omits symbols without a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionRisk {
    V2,
    V3,
}

#[derive(Clone, Debug)]
pub struct Exchange {
    /// Environment of the exchange, which presets all addresses.
    pub environment: Environment,
    pub base_url: String,
    pub recv_window_ms: u64,
    pub timeout_ms: u64,
    pub position_risk: PositionRisk,
    /// Certificates (PEM) of authorities that are trusted for the exchange, in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    key: Credential,
    secret: Credential,
    /// File that contains the secret if the environment does not.
    secret_file: Option<PathBuf>,
}

/// Key and secret in the form in which requests use them.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub key: SecretString,
    pub secret: SecretString,
    /// The variable or setting that contained the secret.
    pub secret_name: &'static str,
}

/// The reason why signed calls cannot be made. It names the variable, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {reason}")]
pub struct NoCredentials {
    pub name: &'static str,
    /// `is not set`, `is empty`, `has a space or a control character inside`.
    pub reason: &'static str,
}

#[derive(Clone, Debug)]
struct Credential(Result<SecretString, NoCredentials>);

const SECRET: &str = "BINANCE_TESTNET_API_SECRET";
const SECRET_FILE: &str = "exchange.api_secret_file";

impl Exchange {
    /// Returns the credentials for signed calls, or the reason why there are none.
    pub fn credentials(&self) -> Result<Credentials, NoCredentials> {
        let key = self.key.0.clone()?;
        let (secret, secret_name) = match (&self.secret.0, &self.secret_file) {
            (Err(_), Some(path)) => (secret_of_file(path)?, SECRET_FILE),
            (secret, _) => (secret.clone()?, SECRET),
        };
        Ok(Credentials { key, secret, secret_name })
    }
}

fn secret_of_file(path: &PathBuf) -> Result<SecretString, NoCredentials> {
    let because = |reason| NoCredentials { name: SECRET_FILE, reason };
    let length = std::fs::metadata(path).map_err(|_| because("names a file that cannot be read"))?.len();
    if length > KEY_FILE_MAX {
        return Err(because("names a file that is too long for a key"));
    }
    let text = std::fs::read_to_string(path).map_err(|_| because("names a file that cannot be read as text"))?;
    let text = SecretString::from(text);
    let cleaned = SecretString::from(clean(text.expose_secret()));
    if cleaned.expose_secret().is_empty() {
        return Err(because("names a file that is empty"));
    }
    Ok(cleaned)
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Exchange, ConfigError> {
    let mut table = sheet.table("exchange")?;
    // The address of an environment selects that environment for all addresses.
    let implied = table.peek("base_url").and_then(|url| Environment::of(&url)).unwrap_or(Environment::Testnet);
    let names = Environment::ALL.map(|environment| (environment.name(), environment));
    let environment = table.word("environment", implied.name(), &names)?;
    let base_url = table.parsed("base_url", environment.rest_url(), URL_WANTED, |url| {
        let fine = guarded(url, "https://", "http://") && !url.contains('?');
        fine.then(|| url.trim_end_matches('/').to_owned())
    })?;
    if Environment::of(&base_url).is_some_and(|of_url| of_url != environment) {
        // The key of one market must not be sent to another.
        let want = format!("want an address of the {} environment, as exchange.environment says", environment.name());
        return Err(table.refused("base_url", &want));
    }
    let exchange = Exchange {
        environment,
        base_url,
        recv_window_ms: table.whole("recv_window_ms", 5000, 1..=60_000)?,
        timeout_ms: table.whole("timeout_ms", 5000, 100..=60_000)?,
        position_risk: table.word("position_risk", "v3", &[("v3", PositionRisk::V3), ("v2", PositionRisk::V2)])?,
        ca_file: table.some_path("ca_file")?,
        key: credential(&mut table, "api_key", "BINANCE_TESTNET_API_KEY"),
        secret_file: table.some_path("api_secret_file")?,
        secret: credential(&mut table, "api_secret", SECRET),
    };
    if exchange.secret_file.is_some() && exchange.secret.0.is_ok() {
        table.warn(format!("{SECRET} overrides exchange.api_secret_file, which is not read"));
    }
    table.finish()?;
    Ok(exchange)
}

const URL_WANTED: &str = "want https://host, without user and query (http:// only on this host)";

/// Returns true if the URL has a host and no user, and is either encrypted or points to this host.
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

/// Reads a credential. Adds a warning if it looks wrong, and returns a reason if it cannot be used.
fn credential(table: &mut Table<'_, '_>, key: &'static str, name: &'static str) -> Credential {
    let was_set = table.is_set(name);
    let Some(secret) = table.secret(key, name) else {
        let reason = if was_set { "is empty" } else { "is not set" };
        return Credential(Err(NoCredentials { name, reason }));
    };
    let text = secret.expose_secret();
    // A private key in PEM has several lines. The client validates its content.
    if text.contains("-----BEGIN ") {
        return Credential(Ok(secret));
    }
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        let reason = "has a space or a control character inside";
        table.warn(format!("{name} {reason}"));
        return Credential(Err(NoCredentials { name, reason }));
    }
    // The base64 of a private key begins with these letters and is longer than an HMAC secret.
    let is_encoded = text.starts_with("MI") && text.len() > CREDENTIAL_LENGTH;
    if text.len() != CREDENTIAL_LENGTH && !is_encoded {
        table.warn(format!("{name} has {} characters, where the exchange gives {CREDENTIAL_LENGTH}", text.len()));
    }
    Credential(Ok(secret))
}
