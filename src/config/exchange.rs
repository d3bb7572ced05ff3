//! `[exchange]`: the environment of the exchange, its REST interface, and the credentials, which come from the
//! environment of the process or from a separate file.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::environment::clean;
use super::error::ConfigError;
use super::table::{Sheet, Table};
use crate::codec::exchange::{
    CredentialProblem, Credentials, Environment, Given, VENUES, Venue, VenueEnvironment, VenueTerms, environment_of,
    environments,
};

/// Maximum length of a file with a private key. [bytes]
const KEY_FILE_MAX: u64 = 65_536;

#[derive(Clone, Debug)]
pub struct Exchange {
    /// The venue of the environment.
    pub venue: &'static dyn Venue,
    /// Environment of the exchange, which presets all addresses.
    pub environment: &'static Environment,
    pub base_url: String,
    pub recv_window_ms: u64,
    pub timeout_ms: u64,
    /// The version of the call for positions, one of those that the venue names.
    pub position_version: &'static str,
    /// Certificates (PEM) of authorities that are trusted for the exchange, in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    key: Result<Given, CredentialProblem>,
    secret: Result<Given, CredentialProblem>,
    /// File that contains the secret if the environment does not.
    secret_file: Option<PathBuf>,
}

const SECRET_FILE: &str = "exchange.api_secret_file";

impl Exchange {
    /// Returns key and secret as they were given, or the reason why signed calls cannot be made without looking at
    /// them.
    pub fn given(&self) -> Result<(Given, Given), CredentialProblem> {
        let key = self.key.clone()?;
        let secret = match (&self.secret, &self.secret_file) {
            (Err(_), Some(path)) => of_file(path, SECRET_FILE.into())?,
            (secret, _) => secret.clone()?,
        };
        Ok((key, secret))
    }

    /// Returns the credentials for signed calls, or the reason why there are none.
    pub fn credentials(&self) -> Result<Credentials, CredentialProblem> {
        let (key, secret) = self.given()?;
        Credentials::check(&key, &secret, self.venue.terms().credential_length)
    }
}

/// Reads a key or a secret from a file, which is that of a setting of this name.
pub(super) fn of_file(path: &Path, name: Cow<'static, str>) -> Result<Given, CredentialProblem> {
    let because = |reason| CredentialProblem::NotGiven { name: name.clone(), reason };
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
    Ok(Given { name, value: cleaned, cleaned: None })
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Exchange, ConfigError> {
    let mut table = sheet.table("exchange")?;
    // The address of an environment selects that environment for all addresses.
    let implied = table.peek("base_url").and_then(|url| environment_of(&url));
    let implied = implied.map_or(VENUES[0].terms().preset, |(_, environment)| environment.name);
    let names: Vec<(&str, VenueEnvironment)> = environments().map(|place| (place.1.name, place)).collect();
    let (venue, environment) = table.word("environment", implied, &names)?;
    let terms = venue.terms();
    let base_url = table.parsed("base_url", environment.rest_url, URL_WANTED, |url| {
        let fine = guarded(url, "https://", "http://") && !url.contains('?');
        fine.then(|| url.trim_end_matches('/').to_owned())
    })?;
    if environment_of(&base_url).is_some_and(|(_, of_url)| of_url != environment) {
        // The key of one market must not be sent to another.
        let want = format!("want an address of the {} environment, as exchange.environment says", environment.name);
        return Err(table.refused("base_url", &want));
    }
    let versions: Vec<(&str, &'static str)> = terms.position_versions.iter().map(|name| (*name, *name)).collect();
    let exchange = Exchange {
        venue,
        environment,
        base_url,
        recv_window_ms: table.whole("recv_window_ms", 5000, 1..=60_000)?,
        timeout_ms: table.whole("timeout_ms", 5000, 100..=60_000)?,
        position_version: table.word("position_risk", terms.position_versions[0], &versions)?,
        ca_file: table.some_path("ca_file")?,
        key: credential(&mut table, "api_key", terms.key_name, terms),
        secret_file: table.some_path("api_secret_file")?,
        secret: credential(&mut table, "api_secret", terms.secret_name, terms),
    };
    if exchange.secret_file.is_some() && exchange.secret.is_ok() {
        table.warn(format!("{} overrides {SECRET_FILE}, which is not read", terms.secret_name));
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
fn credential(
    table: &mut Table<'_, '_>,
    key: &'static str,
    name: &'static str,
    terms: &VenueTerms,
) -> Result<Given, CredentialProblem> {
    let because = |reason| CredentialProblem::NotGiven { name: name.into(), reason };
    let was_set = table.is_set(name);
    let Some(value) = table.secret(key, name) else {
        return Err(because(if was_set { "is empty" } else { "is not set" }));
    };
    let text = value.expose_secret();
    let is_pem = is_pem(text);
    if !is_one_word(text) {
        let problem = because("has a space or a control character inside");
        table.warn(problem.to_string());
        return Err(problem);
    }
    // The base64 of a private key begins with these letters and is longer than an HMAC secret.
    let length = terms.credential_length;
    let is_encoded = text.starts_with("MI") && text.len() > length;
    if !is_pem && !is_encoded && text.len() != length {
        table.warn(format!("{name} has {} characters, where the exchange gives {length}", text.len()));
    }
    Ok(Given { name: name.into(), cleaned: table.flaw(name), value })
}

/// Returns true if a text could be a credential. A private key in PEM has several lines; the client validates its
/// content.
pub(super) fn is_one_word(text: &str) -> bool {
    is_pem(text) || text.chars().all(|c| c.is_ascii_graphic())
}

fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN ")
}
