//! The origin of each setting.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// The place where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    /// The name of the environment variable.
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

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// One effective setting in a form that may be displayed: a secret is masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Table and key, such as `run.group`.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

impl Setting {
    /// Returns the value as a person reads it: `-` if there is none.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        }
    }
}
