//! File and environment → one validated configuration. Nobody else reads either.
//!
//! Precedence: environment over file over defaults; flags of a command are above both and belong to the command.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::codec::policy::{self, nearest};
use crate::domain::policy::Policy;
use crate::domain::streams::{Stream, StreamKind, Streams};

/// Environment names that set a key of the policy.
const POLICY_NAMES: [(&str, &str); 5] = [
    ("HARVEST_MODE", "mode"),
    ("HARVEST_MIN_R", "min_r"),
    ("HARVEST_LADDER", "ladder"),
    ("HARVEST_MAX_ACTIONS_PER_MIN", "max_actions_per_min"),
    ("HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC", "max_position_age_ms"),
];

/// Environment names that set the stream of a kind.
const STREAM_NAMES: [(&str, StreamKind); 4] = [
    ("STREAM_TRADE_INTENT", StreamKind::Intent),
    ("STREAM_APPLY_RESULT", StreamKind::Result),
    ("STREAM_APPLY_PLAN", StreamKind::Plan),
    ("STREAM_POSITION_SNAPSHOT", StreamKind::Snapshot),
];

/// Names of the env file that have a meaning of their own elsewhere in the service, or are checked here.
const OTHER_NAMES: [&str; 6] = [
    "HARVEST_KILL_SWITCH_KEY",
    "HARVEST_SCAN_INTERVAL_SEC",
    "HARVEST_LIVE_WRITES_ENABLED",
    "HARVEST_REDUCE_ONLY",
    "HARVEST_SET_BE_AT_R",
    "HARVEST_TRAIL_ATR_MULT",
];

/// Names that the old service read and that do nothing here.
const RETIRED_NAMES: [&str; 8] = [
    "HARVEST_CONFIG_REFRESH_SEC",
    "HARVEST_CONSUMER_GROUP",
    "HARVEST_CONSUMER_NAME",
    "HARVEST_DEDUP_TTL_SEC",
    "HARVEST_DRY_RUN",
    "HARVEST_LOG_LEVEL",
    "HARVEST_METRICS_PORT",
    "HARVEST_SYMBOLS",
];

/// Tables of the file.
const FILE_KEYS: [&str; 3] = ["policy", "redis", "streams"];

/// Environment names of the Redis server; the URL counts above host and port.
const REDIS_NAMES: [&str; 3] = ["REDIS_URL", "REDIS_HOST", "REDIS_PORT"];

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("configuration {}: {message}", path.display())]
    NoToml { path: PathBuf, message: String },
    #[error("configuration {}: key `{key}` is unknown{}", path.display(), suggested(nearest))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<String> },
    #[error("environment: {name} is unknown{}", suggested(nearest))]
    UnknownName { name: String, nearest: Option<String> },
    #[error("environment: {name} = {value:?}: {want}")]
    Value { name: String, value: String, want: &'static str },
    #[error("streams: {0}")]
    Streams(String),
    #[error("redis: {0}")]
    Redis(String),
    #[error("policy: {0}")]
    Policy(#[from] policy::ReadError),
}

fn suggested(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

/// Settings that every command shares.
#[derive(Clone)]
pub struct Config {
    pub streams: Streams,
    /// The policy in force until a `policy.adopted` is folded.
    pub policy: Policy,
    /// Address of the Redis server; may hold a password, and is never shown.
    pub redis_url: String,
    /// What was cleaned, overridden or does nothing; to be shown once.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown.field("streams", &self.streams).field("policy", &self.policy).field("warnings", &self.warnings);
        shown.finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment of the process.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        Self::from_parts(file, environment.collect())
    }

    /// Reads the file, if one is named, and the given environment.
    pub fn from_parts(file: Option<&Path>, environment: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let environment = Environment::cleaned(environment, &mut warnings)?;
        let mut file = file.map(read_file).transpose()?.unwrap_or_default();
        let policy = policy_of(file.remove("policy"), &environment, &mut warnings)?;
        let streams = streams_of(file.remove("streams"), &environment)?;
        let redis_url = redis_url_of(file.remove("redis"), &environment)?;
        Ok(Self { streams, policy, redis_url, warnings })
    }
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    let table: toml::Table = match text.trim_start_matches('\u{feff}').parse() {
        Ok(table) => table,
        Err(error) => return Err(ConfigError::NoToml { path, message: toml::de::Error::to_string(&error) }),
    };
    match table.keys().find(|key| !FILE_KEYS.contains(&key.as_str())) {
        None => Ok(table),
        Some(key) => {
            let nearest = nearest(key, FILE_KEYS.into_iter()).map(str::to_owned);
            Err(ConfigError::UnknownKey { path, key: key.clone(), nearest })
        }
    }
}

/// The names of the environment that concern us, cleaned.
struct Environment(BTreeMap<String, String>);

impl Environment {
    fn cleaned(all: BTreeMap<String, String>, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        let mut ours = BTreeMap::new();
        for (name, value) in all {
            let known = POLICY_NAMES.iter().any(|(n, _)| *n == name)
                || STREAM_NAMES.iter().any(|(n, _)| *n == name)
                || REDIS_NAMES.contains(&name.as_str())
                || OTHER_NAMES.contains(&name.as_str());
            if RETIRED_NAMES.contains(&name.as_str()) {
                warnings.push(format!("{name} does nothing any more"));
            } else if known {
                let cleaned = clean(&value);
                if cleaned != value {
                    warnings.push(format!("{name}: {} was cleaned", what_is_wrong(&value)));
                }
                ours.insert(name, cleaned);
            } else if name.starts_with("HARVEST_") {
                let names = POLICY_NAMES.iter().map(|(n, _)| *n).chain(OTHER_NAMES).chain(RETIRED_NAMES);
                let nearest = nearest(&name, names).map(str::to_owned);
                return Err(ConfigError::UnknownName { name, nearest });
            }
        }
        Ok(Self(ours))
    }

    /// A value that is set and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The value without byte order mark, carriage returns, quotes and blanks around it.
pub fn clean(value: &str) -> String {
    let value = value.trim_start_matches('\u{feff}').trim();
    for quote in ['"', '\''] {
        if value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote) {
            return value[1..value.len() - 1].trim().to_owned();
        }
    }
    value.to_owned()
}

fn what_is_wrong(value: &str) -> &'static str {
    if value.ends_with('\r') {
        "a carriage return at the end"
    } else if value.starts_with('\u{feff}') {
        "a byte order mark"
    } else if value.trim() != value {
        "white space around the value"
    } else {
        "quotes around the value"
    }
}

fn policy_of(
    file: Option<toml::Value>,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Policy, ConfigError> {
    let of_file = match file {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table,
        Some(other) => return Err(policy::ReadError::NoObject(other.to_string()).into()),
    };
    let mut object: Map<String, Value> = policy::object_of_toml(&of_file);
    for (name, key) in POLICY_NAMES {
        let Some(value) = environment.get(name) else { continue };
        let value = match name {
            "HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC" => milliseconds(name, value)?,
            "HARVEST_MODE" => value.to_lowercase().into(),
            _ => value.into(),
        };
        object.insert(key.to_owned(), value);
    }
    if let Some(value) = environment.get("HARVEST_REDUCE_ONLY")
        && !is_true(value)
    {
        let want = "orders are always reduce-only; take the name out";
        return Err(ConfigError::Value { name: "HARVEST_REDUCE_ONLY".to_owned(), value: value.to_owned(), want });
    }
    let live = object.get("mode").and_then(Value::as_str).is_some_and(|mode| mode.trim().eq_ignore_ascii_case("live"));
    // Set and not true means shadow; set and empty is not true.
    if environment.0.get("HARVEST_LIVE_WRITES_ENABLED").is_some_and(|value| !is_true(value)) && live {
        warnings.push("HARVEST_LIVE_WRITES_ENABLED is not true: shadow".to_owned());
        object.insert("mode".to_owned(), "shadow".into());
    }
    if live {
        for name in ["HARVEST_SET_BE_AT_R", "HARVEST_TRAIL_ATR_MULT"] {
            if environment.get(name).is_some() {
                warnings.push(format!("{name}: stops are not moved by this service"));
            }
        }
    }
    Ok(policy::from_object(object)?)
}

fn is_true(value: &str) -> bool {
    ["true", "1", "yes"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

fn milliseconds(name: &str, value: &str) -> Result<Value, ConfigError> {
    match value.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000)) {
        Some(ms) => Ok(ms.into()),
        None => Err(ConfigError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            want: "want a whole number of seconds",
        }),
    }
}

fn streams_of(file: Option<toml::Value>, environment: &Environment) -> Result<Streams, ConfigError> {
    let table = match file {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table,
        Some(other) => return Err(ConfigError::Streams(format!("{other} is no table"))),
    };
    if let Some(key) = table.keys().find(|key| StreamKind::ALL.iter().all(|kind| kind.name() != key.as_str())) {
        let near = nearest(key, StreamKind::ALL.iter().map(|kind| kind.name())).map(str::to_owned);
        return Err(ConfigError::Streams(format!("kind `{key}` is unknown{}", suggested(&near))));
    }
    let mut streams = Vec::new();
    for kind in StreamKind::ALL {
        let of_environment = STREAM_NAMES.iter().find(|(_, k)| *k == kind).and_then(|(name, _)| environment.get(name));
        let names = match (of_environment, table.get(kind.name())) {
            (Some(name), _) => vec![name.to_owned()],
            (None, Some(toml::Value::String(name))) => vec![name.clone()],
            (None, Some(toml::Value::Array(names))) => {
                let name = |value: &toml::Value| value.as_str().map(str::to_owned);
                let all: Option<Vec<String>> = names.iter().map(name).collect();
                all.ok_or_else(|| ConfigError::Streams(format!("{}: want a list of names", kind.name())))?
            }
            (None, Some(other)) => {
                let message = format!("{}: {other} is neither a name nor a list of names", kind.name());
                return Err(ConfigError::Streams(message));
            }
            (None, None) => vec![kind.default_stream().to_owned()],
        };
        streams.extend(names.into_iter().map(|name| Stream { kind, name }));
    }
    Streams::new(streams).map_err(|twice| ConfigError::Streams(format!("{} is named twice", twice.name)))
}

fn redis_url_of(file: Option<toml::Value>, environment: &Environment) -> Result<String, ConfigError> {
    let table = match file {
        None => toml::Table::new(),
        Some(toml::Value::Table(table)) => table,
        Some(_) => return Err(ConfigError::Redis("want a table with `url`".to_owned())),
    };
    if let Some(key) = table.keys().find(|key| *key != "url") {
        return Err(ConfigError::Redis(format!("key `{key}` is unknown (did you mean `url`?)")));
    }
    let of_file = match table.get("url") {
        None => None,
        Some(toml::Value::String(url)) => Some(url.clone()),
        Some(_) => return Err(ConfigError::Redis("`url` is no text".to_owned())),
    };
    if let Some(url) = environment.get("REDIS_URL") {
        return Ok(url.to_owned());
    }
    let (host, port) = (environment.get("REDIS_HOST"), environment.get("REDIS_PORT"));
    if host.is_some() || port.is_some() {
        return Ok(format!("redis://{}:{}", host.unwrap_or("127.0.0.1"), port.unwrap_or("6379")));
    }
    Ok(of_file.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Mode;

    fn load(names: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_parts(None, names.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn i44_cleans_carriage_returns_and_says_so() {
        let config = load(&[("HARVEST_MIN_R", "0.75\r"), ("STREAM_APPLY_RESULT", "\"results\"")]).unwrap();
        assert_eq!(config.policy.min_r.to_string(), "0.75");
        assert!(config.streams.id_of("results").is_some());
        assert_eq!(
            config.warnings,
            [
                "HARVEST_MIN_R: a carriage return at the end was cleaned",
                "STREAM_APPLY_RESULT: quotes around the value was cleaned",
            ]
        );
    }

    #[test]
    fn i34_refuses_names_that_it_does_not_know() {
        let error = load(&[("HARVEST_MOD", "live")]).unwrap_err().to_string();
        assert_eq!(error, "environment: HARVEST_MOD is unknown (did you mean `HARVEST_MODE`?)");
        assert!(load(&[("HOME", "/")]).is_ok(), "names of others do not matter");
    }

    #[test]
    fn i19_safety_names_keep_their_sense() {
        assert!(load(&[("HARVEST_REDUCE_ONLY", "false")]).is_err());
        let live = [("HARVEST_MODE", "live"), ("HARVEST_LIVE_WRITES_ENABLED", "no"), ("HARVEST_LADDER", "0.5:0.25")];
        assert_eq!(load(&live).unwrap().policy.mode, Mode::Shadow);
        assert!(load(&live[..1]).is_err(), "live takes no defaults");
        assert_eq!(load(&[("HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC", "30")]).unwrap().policy.max_position_age_ms, 30_000);
    }
}
