//! Errors of the configuration.

use std::path::PathBuf;

use crate::codec::policy;

/// An invalid configuration. Each error names the setting, and none contains a value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{what} {} cannot be read: {source}", path.display())]
    Unreadable { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("configuration {}: line {line}: {message}", path.display())]
    NoToml { path: PathBuf, line: usize, message: String },
    #[error("configuration {}: key `{key}` is unknown{}", path.display(), suggested(nearest))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<String> },
    #[error("configuration {}: key `{key}` is read from {name} only: take it out of the file", path.display())]
    SecretInFile { path: PathBuf, key: String, name: &'static str },
    #[error("environment: {name} is unknown{}", suggested(nearest))]
    UnknownName { name: String, nearest: Option<String> },
    /// `location` is the origin of the value: the file, the environment or a flag.
    #[error("{location}: {name} = {value}: {want}")]
    Value { location: String, name: String, value: String, want: String },
    #[error("streams: {0}")]
    Streams(String),
    #[error("configuration: {0}")]
    Policy(#[from] policy::ReadError),
    #[error("mode = live needs `{key}` to be set: {why}")]
    LiveNeeds { key: &'static str, why: &'static str },
}

fn suggested(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}
