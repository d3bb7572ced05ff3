//! The one rule of trust: which key verifies the entries of a history, and from which ids on.

use std::path::Path;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::codec::signing::SigningKey;
use crate::config::Config;

/// Returns the key that verifies signatures, if one is configured. It includes the former keys of the configuration,
/// and the ids up to which entries without a signature of this key are trusted.
pub fn configured(config: &Config) -> anyhow::Result<Option<SigningKey>> {
    let Some(key) = config.emit.signing_key()? else { return Ok(None) };
    Ok(Some(with_former(SigningKey::new(key.expose_secret().as_bytes())?, config)?))
}

/// Returns the key of a file, in place of the configured one.
pub fn of_file(path: &Path, config: &Config) -> anyhow::Result<SigningKey> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    let key = SigningKey::new(&bytes).with_context(|| format!("the key {}", path.display()))?;
    with_former(key, config)
}

fn with_former(key: SigningKey, config: &Config) -> anyhow::Result<SigningKey> {
    let mut key = key.with_unsigned_until(config.emit.believe_unsigned_until);
    for (former, until) in config.emit.former_keys()? {
        key = key.with_former(SigningKey::new(former.expose_secret().as_bytes())?, until);
    }
    Ok(key)
}
