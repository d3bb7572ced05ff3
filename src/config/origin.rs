//! Where each setting comes from.

use std::fmt;

use serde_json::Value;

/// Who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    /// The name in the environment.
    Environment(&'static str),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One effective setting, as it may be shown: a secret is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Table and key, `run.group`.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}
