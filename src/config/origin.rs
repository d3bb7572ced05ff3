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

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// A URL without its password. What is not plainly a URL is not shown at all.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let (user, host) = match rest.rsplit_once('@') {
        // The last one: a password that was not encoded may hold more of them.
        Some((user, host)) if !scheme.ends_with("unix") => (Some(user), host),
        _ => (None, rest),
    };
    // Parameters may hold a password too: redis+unix:///socket?pass=…
    let host = match host.split_once('?') {
        Some((host, _)) => format!("{host}?{MASK}"),
        None => host.to_owned(),
    };
    match user.map(|user| user.split_once(':')) {
        None => format!("{scheme}://{host}"),
        Some(Some((name, _))) => format!("{scheme}://{name}:{MASK}@{host}"),
        Some(None) => format!("{scheme}://{MASK}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_they_hide() {
        for (url, want) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("rediss://:word@host:6380/2", "rediss://:***@host:6380/2"),
            ("redis://me:word@host", "redis://me:***@host"),
            ("redis://me:w@rd/x@host/1", "redis://me:***@host/1"),
            ("redis://word@host", "redis://***@host"),
            ("redis+unix:///run/redis.sock?user=me&pass=word", "redis+unix:///run/redis.sock?***"),
            ("redis://me:w?rd@host?protocol=resp3", "redis://me:***@host?***"),
            ("redis+unix:///run/redis.sock?pass=w@rd", "redis+unix:///run/redis.sock?***"),
            ("word", "***"),
        ] {
            assert_eq!(masked_url(url), want, "{url}");
        }
    }
}
