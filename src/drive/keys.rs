//! The one rule of trust: which key verifies the entries of a history, and from which ids on.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use crate::codec::signing::{SigningKey, WeakKey};
use crate::config::{Config, ConfigError};

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weak(#[from] WeakKey),
    #[error("cannot read the key {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the key {}", path.display())]
    WeakFile { path: PathBuf, source: WeakKey },
}

/// Returns the key that verifies signatures, if one is configured. It includes the former keys of the configuration,
/// and the ids up to which entries without a signature of this key are trusted.
pub fn configured(config: &Config) -> Result<Option<SigningKey>, KeyError> {
    let Some(key) = config.emit.signing_key()? else { return Ok(None) };
    Ok(Some(with_former(SigningKey::new(key.expose_secret().as_bytes())?, config)?))
}

/// Returns the key of a file, in place of the configured one.
pub fn of_file(path: &Path, config: &Config) -> Result<SigningKey, KeyError> {
    let bytes = std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    let key = SigningKey::new(&bytes).map_err(|source| KeyError::WeakFile { path: path.to_owned(), source })?;
    with_former(key, config)
}

fn with_former(key: SigningKey, config: &Config) -> Result<SigningKey, KeyError> {
    let mut key = key.with_unsigned_until(config.emit.believe_unsigned_until);
    for (former, until) in config.emit.former_keys()? {
        key = key.with_former(SigningKey::new(former.expose_secret().as_bytes())?, until);
    }
    Ok(key)
}
