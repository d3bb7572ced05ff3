//! `[policy]`: the rules in force until the history contains a `policy.adopted`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::environment::is_true;
use super::error::ConfigError;
use super::origin::Origin;
use super::table::{Sheet, milliseconds_of};
use crate::codec::decode::is_account_name;
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

/// Reads the general policy and those of accounts: `[policy.accounts.NAME]` has the keys that differ for an account.
pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<(Policy, BTreeMap<Box<str>, Policy>), ConfigError> {
    let mut of_file = sheet.file.take("policy")?;
    let of_accounts = accounts(&mut of_file)?;
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
    let mut of_account = BTreeMap::new();
    for (account, own) in of_accounts {
        let mut all = object.clone();
        all.extend(policy::object_of_toml(&own));
        all.remove("known_accounts");
        let is_live =
            all.get("mode").and_then(Value::as_str).is_some_and(|mode| mode.trim().eq_ignore_ascii_case("live"));
        if is_live && sheet.environment.set(LIVE_SWITCH).is_some_and(|value| !is_true(value)) {
            sheet.warnings.push(format!("{LIVE_SWITCH} is not true: shadow for the account {account}, too"));
            all.insert("mode".to_owned(), "shadow".into());
        }
        let key = |error: policy::ReadError| ConfigError::Streams(format!("policy.accounts.{account}: {error}"));
        of_account.insert(account.as_str().into(), policy::from_object(all).map_err(key)?);
        for (name, value) in policy::object_of_toml(&own) {
            sheet.note(format!("policy.accounts.{account}.{name}"), value, Origin::File);
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
    Ok((policy, of_account))
}

/// Keys that are those of the general policy for every account.
const OF_ALL: [&str; 5] = ["price_sources", "max_price_age_ms", "max_price_jump", "price_confirm_ms", "known_accounts"];

/// Takes the tables of accounts out of the policy.
fn accounts(of_file: &mut toml::Table) -> Result<Vec<(String, toml::Table)>, ConfigError> {
    let wrong = |name: &str, want: &str| ConfigError::Streams(format!("policy.accounts.{name}: {want}"));
    let named = match of_file.remove("accounts") {
        None => return Ok(Vec::new()),
        Some(toml::Value::Table(named)) => named,
        Some(other) => return Err(wrong("…", &format!("{other} is not a table of accounts"))),
    };
    let mut accounts = Vec::new();
    for (name, own) in named {
        let toml::Value::Table(own) = own else { return Err(wrong(&name, "want a table of policy keys")) };
        if !is_account_name(&name) {
            return Err(wrong(&name, "want a name of 1 to 64 letters, digits, _, - and ."));
        }
        if let Some(key) = OF_ALL.iter().find(|key| own.contains_key(**key)) {
            return Err(wrong(&name, &format!("{key} is of the general policy: it is for all accounts")));
        }
        accounts.push((name, own));
    }
    Ok(accounts)
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
