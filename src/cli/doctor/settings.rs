//! The configuration: the origin of each value, its faults, and lines that a service manager drops.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::Check;
use super::traps;
use crate::codec::causes::with_causes;
use crate::codec::policy::ReadError;
use crate::config::{Config, ConfigError, Origin};
use crate::domain::exit::policy::{Mode, Policy, PolicyError};
use crate::drive::keys;

const AREA: &str = "configuration";

/// Returns the checks of invalid settings. They come first, because no service starts with them.
pub fn refused(config: &Config, refused: &[ConfigError]) -> Vec<Check> {
    let next = "correct it: nothing starts with it; what is looked at below takes it as not set";
    let found = |error: &ConfigError| Check::problem(AREA, "refused", error.to_string(), next);
    let mut checks: Vec<Check> = refused.iter().map(found).collect();
    let wants_live = refused.iter().any(|error| {
        matches!(
            error,
            ConfigError::Policy(ReadError::Policy(PolicyError::LiveNeeds(_))) | ConfigError::LiveNeeds { .. }
        )
    });
    if wants_live {
        // The settings that live mode would lack are found as if the policy were complete.
        let live = Policy { mode: Mode::Live, ..config.policy.clone() };
        let lacking = config.emit.live(&live, &config.streams).err();
        checks.extend(lacking.iter().map(found));
    }
    checks
}

/// Returns true if one of these settings, given by their keys or tables in the file or their names in the environment,
/// is invalid, or may be invalid because the file cannot be read. The default in its place is then another server than
/// the configured one.
pub fn are_unknown(refused: &[ConfigError], keys: &[&str], names: &[&str]) -> bool {
    let is_below =
        |key: &String| keys.iter().any(|known| key.starts_with(known) || known.starts_with(&format!("{key}.")));
    refused.iter().any(|error| match error {
        ConfigError::Unreadable { .. } | ConfigError::NoToml { .. } => true,
        ConfigError::UnknownKey { key, nearest, .. } => is_below(key) || nearest.as_ref().is_some_and(is_below),
        ConfigError::SecretInFile { key, .. } => is_below(key),
        ConfigError::Value { name, .. } => is_below(name) || names.contains(&name.as_str()),
        ConfigError::UnknownName { nearest, .. } => nearest.as_deref().is_some_and(|name| names.contains(&name)),
        ConfigError::Streams(_) | ConfigError::Policy(_) | ConfigError::LiveNeeds { .. } => false,
    })
}

pub fn checks(config: &Config, env_files: &[std::path::PathBuf]) -> Vec<Check> {
    let mut checks = Vec::new();
    for warning in &config.warnings {
        let next = "correct the value where it is set; what was cleaned here is not clean for other services";
        checks.push(Check::warning(AREA, "values", warning, next));
    }
    if let Err(error) = config.live() {
        checks.push(Check::problem(AREA, "live mode", error.to_string(), "set it, or go back to mode = \"shadow\""));
    }
    if let Err(error) = config.check_cell() {
        checks.push(Check::problem(AREA, "cells", error.to_string(), "give each cell its own"));
    }
    if let Err(error) = keys::configured(config) {
        let next = "no service starts with it: make the file readable, or make a key: openssl rand -hex 32";
        checks.push(Check::problem(AREA, "signing key", with_causes(&error), next));
    }
    checks.extend(console(config));
    checks.extend(traps::checks(config));
    for path in env_files {
        checks.extend(env_file(path));
    }
    let mut origins: BTreeMap<&str, u64> = BTreeMap::new();
    for setting in &config.settings {
        let origin = match setting.origin {
            Origin::Default => "defaults",
            Origin::File => "the file",
            Origin::Environment(_) => "the environment",
            Origin::Flag => "flags",
        };
        *origins.entry(origin).or_default() += 1;
    }
    let origins: Vec<String> = origins.iter().map(|(origin, n)| format!("{n} from {origin}")).collect();
    let mode = config.policy.mode.name();
    checks.push(Check::ok(AREA, "settings", format!("mode {mode}; {}; all: harvester config", origins.join(", "))));
    checks
}

/// Checks who can read the pages of the console.
fn console(config: &Config) -> Option<Check> {
    let address = config.run.listen.filter(|_| config.console.enabled)?;
    let is_exposed = !address.ip().is_loopback();
    match config.console.token() {
        Err(error) => {
            let next =
                "the console is closed until then: make the file readable, or make a token: openssl rand -hex 32";
            Some(Check::problem(AREA, "console", error.to_string(), next))
        }
        Ok(None) if is_exposed && config.console.open => {
            let found = format!("everybody who reaches {address} reads positions and decisions: console.open is true");
            Some(Check::warning(AREA, "console", found, "set HARVEST_CONSOLE_TOKEN or console.token_file instead"))
        }
        Ok(None) if is_exposed => {
            let found = format!("it is closed: other machines reach {address}, and there is no token");
            Some(Check::warning(
                AREA,
                "console",
                found,
                "set HARVEST_CONSOLE_TOKEN (openssl rand -hex 32), or console.enabled = false",
            ))
        }
        Ok(Some(_)) if is_exposed => Some(Check::ok(
            AREA,
            "console",
            format!("{address} asks for a token, and encrypts nothing: let a reverse proxy with TLS answer for it"),
        )),
        Ok(_) => None,
    }
}

/// Finds lines of an `EnvironmentFile` that a service manager would drop or read in an unexpected way.
fn env_file(path: &Path) -> Vec<Check> {
    let subject = |number: usize| format!("{}:{number}", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let next = "a service whose EnvironmentFile is not there does not start, or starts without its settings";
            return vec![Check::problem(AREA, path.display().to_string(), error.to_string(), next)];
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut checks = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in text.split('\n').enumerate().map(|(i, line)| (i + 1, line)) {
        for (found, next) in flaws(line, number) {
            checks.push(Check::problem(AREA, subject(number), found, next));
        }
        let Some((name, _)) = line.trim_start_matches('\u{feff}').trim().split_once('=') else { continue };
        if name.starts_with(['#', ';']) {
            continue;
        }
        if let Some(before) = seen.insert(name.trim(), number) {
            let found = format!("{} is set in line {before} already; this one counts", name.trim());
            checks.push(Check::warning(AREA, subject(number), found, "keep one of them"));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(AREA, path.display().to_string(), "every line is read as it looks"));
    }
    checks
}

fn flaws(line: &str, number: usize) -> Vec<(String, &'static str)> {
    let mut flaws = Vec::new();
    let name_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let plain = line.trim_start_matches('\u{feff}').trim();
    if plain.is_empty() || plain.starts_with(['#', ';']) {
        return flaws;
    }
    if number == 1 && line.starts_with('\u{feff}') {
        let found = format!("a byte order mark before {}: the name is not what it seems", name_of(plain));
        flaws.push((found, "save the file without one"));
    }
    if line.ends_with('\r') {
        let found = format!("{} ends in a carriage return, which belongs to its value", name_of(plain));
        flaws.push((found, "save the file with Unix line ends: sed -i 's/\\r$//' FILE"));
    }
    let Some((name, value)) = plain.split_once('=') else {
        flaws.push((format!("{:?} is not NAME=value: systemd drops it", shortened(plain)), "write NAME=value"));
        return flaws;
    };
    if let Some(rest) = name.strip_prefix("export ") {
        flaws.push((format!("`export` before {}: systemd drops the line", rest.trim()), "take the word `export` out"));
    } else if name.trim() != name || !is_name(name.trim()) {
        let found = format!("{:?} is not the name of a variable: systemd drops the line", shortened(name));
        flaws.push((found, "write NAME=value without blanks around the ="));
    }
    let value = value.trim();
    let opens = value.starts_with(['"', '\'']);
    if opens && (value.len() < 2 || !value.ends_with(value.chars().next().unwrap_or_default())) {
        let found = format!("the quotes of {} do not close: the lines after it belong to the value", name.trim());
        flaws.push((found, "close them"));
    }
    flaws
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns only the first letters of a text, because it may be a secret.
fn shortened(text: &str) -> String {
    text.chars().take(12).collect()
}
