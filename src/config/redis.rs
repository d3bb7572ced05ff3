//! `[redis]`: the address of the server.

use std::path::PathBuf;

use secrecy::SecretString;
use serde_json::Value;

use super::error::ConfigError;
use super::origin::Origin;
use super::table::Sheet;
use crate::codec::shown::{MASK, masked_url};

/// Supported schemes of addresses.
const SCHEMES: [&str; 6] =
    ["redis://", "rediss://", "redis+unix://", "unix://", "redis-cluster://", "rediss-cluster://"];

/// The server and its trusted certificates.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Address of the server, or of nodes of a cluster, which may contain a password.
    pub url: SecretString,
    /// Certificates (PEM) of authorities that are trusted for a server of `rediss://`, instead of the public ones.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Redis, ConfigError> {
    let (environment, flag) = (sheet.environment, sheet.flags.get("redis.url").cloned());
    let by_parts = url_of_parts(sheet)?;
    let mut table = sheet.table("redis")?;
    // Read separately, so that the value is neither displayed nor quoted.
    let of_file = table.hidden("url")?;
    let (url, origin) = if let Some(url) = flag {
        (url, Origin::Flag)
    } else if let Some(url) = environment.get("REDIS_URL") {
        (url.to_owned(), Origin::Environment("REDIS_URL"))
    } else if let Some((url, name)) = by_parts {
        (url, Origin::Environment(name))
    } else if let Some(url) = of_file {
        (url, Origin::File)
    } else {
        ("redis://127.0.0.1:6379".to_owned(), Origin::Default)
    };
    let is_address = SCHEMES.iter().any(|scheme| url.starts_with(scheme));
    let shown = if is_address { masked_url(&url) } else { MASK.to_owned() };
    table.note("url", Value::from(shown), origin);
    if !is_address {
        return Err(table.refused(
            "url",
            "want redis://host:port, rediss://host:port, or nodes of a cluster as redis-cluster://host:port,host:port",
        ));
    }
    if hides_its_host(&url) {
        return Err(
            table.refused("url", "the password has a / ? or # before its @: write %2F, %3F, %23 and %40 for them")
        );
    }
    let ca_file = table.some_path("ca_file")?;
    table.finish()?;
    Ok(Redis { url: url.into(), ca_file })
}

/// Returns true if the part of an address before its host ends too early, because a password is not encoded. Then a
/// part of the password would be taken for the host, and errors would show it.
fn hides_its_host(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    !scheme.ends_with("unix") && rest[end..].contains('@')
}

/// Returns the address built from host and port, and the name of the variable that set it.
fn url_of_parts(sheet: &Sheet<'_>) -> Result<Option<(String, &'static str)>, ConfigError> {
    let (host, port) = (sheet.environment.get("REDIS_HOST"), sheet.environment.get("REDIS_PORT"));
    let wrong = |name: &str, value: &str, want: &str| {
        let (location, name) = ("environment".to_owned(), name.to_owned());
        Err(ConfigError::Value { location, name, value: value.to_owned(), want: want.to_owned() })
    };
    if let Some(host) = host
        && host.contains(['/', '@', ' '])
    {
        return wrong("REDIS_HOST", MASK, "want the name of a host; an address goes into REDIS_URL");
    }
    if let Some(port) = port
        && !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return wrong("REDIS_PORT", MASK, "want a port from 1 to 65535");
    }
    let name = match (host, port) {
        (None, None) => return Ok(None),
        (Some(_), _) => "REDIS_HOST",
        (None, Some(_)) => "REDIS_PORT",
    };
    let host = host.unwrap_or("127.0.0.1");
    // An IPv6 address contains colons.
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    Ok(Some((format!("redis://{host}:{}", port.unwrap_or("6379")), name)))
}
