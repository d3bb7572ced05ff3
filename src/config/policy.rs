//! `[policy]`: the rules in force until the history contains a `policy.adopted`.

use serde_json::{Map, Value};

use super::environment::is_true;
use super::error::ConfigError;
use super::origin::Origin;
use super::table::{Sheet, milliseconds_of};
use crate::codec::policy;
use crate::domain::exit::policy::Policy;

/// Environment variables that set a key of the policy.
pub(super) const NAMES: [(&str, &str); 5] = [
    ("HARVEST_MODE", "mode"),
    ("HARVEST_MIN_R", "min_r"),
    ("HARVEST_LADDER", "ladder"),
    ("HARVEST_MAX_ACTIONS_PER_MIN", "max_actions_per_min"),
    ("HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC", "max_position_age_ms"),
];
/// If it is set and not true, the mode is shadow, whatever other settings request.
const LIVE_SWITCH: &str = "HARVEST_LIVE_WRITES_ENABLED";
/// Settings of the old service for stops. This service does not move stops.
const STOPS: [&str; 2] = ["HARVEST_SET_BE_AT_R", "HARVEST_TRAIL_ATR_MULT"];

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Policy, ConfigError> {
    let of_file = sheet.file.take("policy")?;
    let mut object: Map<String, Value> = policy::object_of_toml(&of_file);
    let mut by_name: Vec<(&str, &'static str)> = Vec::new();
    for (name, key) in NAMES {
        let Some(value) = sheet.environment.get(name) else { continue };
        let value = match name {
            "HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC" => milliseconds(name, value)?,
            "HARVEST_MODE" => value.to_lowercase().into(),
            _ => value.into(),
        };
        object.insert(key.to_owned(), value);
        by_name.push((key, name));
    }
    refuse_openings(sheet)?;
    let live = object.get("mode").and_then(Value::as_str).is_some_and(|mode| mode.trim().eq_ignore_ascii_case("live"));
    // An empty value is not true.
    if live && sheet.environment.set(LIVE_SWITCH).is_some_and(|value| !is_true(value)) {
        sheet.warnings.push(format!("{LIVE_SWITCH} is not true: shadow"));
        object.insert("mode".to_owned(), "shadow".into());
        by_name.retain(|(key, _)| *key != "mode");
        by_name.push(("mode", LIVE_SWITCH));
    }
    if live {
        for name in STOPS.into_iter().filter(|name| sheet.environment.get(name).is_some()) {
            sheet.warnings.push(format!("{name}: stops are not moved by this service"));
        }
    }
    let policy = policy::from_object(object).map_err(|error| named(error, &by_name))?;
    let effective: Map<String, Value> = serde_json::from_str(&policy::to_json(&policy)).unwrap_or_default();
    for (key, value) in effective {
        let origin = match by_name.iter().find(|(named, _)| *named == key) {
            Some((_, name)) => Origin::Environment(name),
            None if of_file.contains_key(&key) => Origin::File,
            None => Origin::Default,
        };
        sheet.note(format!("policy.{key}"), value, origin);
    }
    Ok(policy)
}

/// Returns an error that names the environment variable instead of the policy key.
fn named(error: policy::ReadError, by_name: &[(&str, &'static str)]) -> ConfigError {
    match &error {
        policy::ReadError::Value { key, value, want, .. } => match by_name.iter().find(|(named, _)| named == key) {
            Some((_, name)) => {
                let (location, name) = ("environment".to_owned(), (*name).to_owned());
                ConfigError::Value { location, name, value: value.clone(), want: format!("want {want}") }
            }
            None => error.into(),
        },
        _ => error.into(),
    }
}

fn refuse_openings(sheet: &Sheet<'_>) -> Result<(), ConfigError> {
    const NAME: &str = "HARVEST_REDUCE_ONLY";
    match sheet.environment.get(NAME) {
        Some(value) if !is_true(value) => {
            Err(in_environment(NAME, value, "orders are always reduce-only; take the name out"))
        }
        _ => Ok(()),
    }
}

fn milliseconds(name: &str, value: &str) -> Result<Value, ConfigError> {
    milliseconds_of(value).map(Value::from).ok_or_else(|| in_environment(name, value, "want a number of seconds"))
}

fn in_environment(name: &str, value: &str, want: &str) -> ConfigError {
    let (location, name) = ("environment".to_owned(), name.to_owned());
    ConfigError::Value { location, name, value: format!("{value:?}"), want: want.to_owned() }
}
