//! The page of the settings: keys and defaults from the program, meanings from `harvester.example.toml` and the schema
//! of the policy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use harvester::config::{Config, Origin, environment_names};
use serde_json::Value;

use super::pages::{code, escaped, head};
use crate::command::root;

const EXAMPLE: &str = "harvester.example.toml";

/// A value for each environment variable, which shows the setting that it sets.
const VALUES: [(&str, &str); 26] = [
    ("BINANCE_TESTNET_API_KEY", "k"),
    ("BINANCE_TESTNET_API_SECRET", "s"),
    ("HARVEST_CELL", "3"),
    ("HARVEST_CONSOLE_TOKEN", "0123456789abcdef"),
    ("HARVEST_KILL_SWITCH_KEY", "stop"),
    ("HARVEST_LADDER", "0.5:0.25"),
    ("HARVEST_LIVE_WRITES_ENABLED", "false"),
    ("HARVEST_MAX_ACTIONS_PER_MIN", "7"),
    ("HARVEST_MIN_R", "0.75"),
    ("HARVEST_MODE", "shadow"),
    ("HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC", "30"),
    ("HARVEST_SCAN_INTERVAL_SEC", "7"),
    ("HARVEST_SIGNING_KEY", "0123456789abcdef"),
    ("LOG_LEVEL", "warn"),
    ("REDIS_HOST", "localhost"),
    ("REDIS_PORT", "1"),
    ("REDIS_URL", "redis://localhost"),
    ("STREAM_APPLY_PLAN", "s"),
    ("STREAM_APPLY_RESULT", "s"),
    ("STREAM_HARVEST_CONTROL", "s"),
    ("STREAM_HARVEST_DECISION", "s"),
    ("STREAM_HARVEST_OBSERVATION", "s"),
    ("STREAM_HARVEST_QUARANTINE", "s"),
    ("STREAM_HARVEST_SUGGESTIONS", "s"),
    ("STREAM_POSITION_SNAPSHOT", "s"),
    ("STREAM_TRADE_INTENT", "s"),
];

/// Names of the old service that are only checked or warned about.
const CHECKED: [&str; 3] = ["HARVEST_REDUCE_ONLY", "HARVEST_SET_BE_AT_R", "HARVEST_TRAIL_ATR_MULT"];

/// Settings that only the environment can set, so that the example has no line for them.
const OF_THE_ENVIRONMENT: [(&str, &str); 5] = [
    ("console.token", "Token that readers of the console need; a secret, never in the file"),
    ("emit.signing_key", "Key that signs decisions and control entries; a secret, never in the file"),
    ("exchange.api_key", "Key of the account at the exchange; a secret, never in the file"),
    ("exchange.api_secret", "HMAC secret, or private key (PEM) of an Ed25519 or RSA pair; never in the file"),
    ("log_level", "Level of messages on standard error: off, error, warn, info, debug or trace"),
];

/// Returns the page. Returns an error for a setting without a meaning, and for a variable without a value in `VALUES`.
pub fn page() -> anyhow::Result<String> {
    let defaults = Config::from_parts(None, BTreeMap::new())?;
    let names = names_by_key()?;
    let example = std::fs::read_to_string(root().join(EXAMPLE)).with_context(|| format!("cannot read {EXAMPLE}"))?;
    let comments = comments(&example);
    let policy = meanings_of_policy()?;
    let mut page = head("Configuration", "src/config/ and harvester.example.toml");
    page.push_str(
        "Flags of the command line count above the environment, the environment above the file that `--config` names, the \
         file\nabove the defaults. `harvester config` shows what counts, and who set it. Unknown keys, and unknown names that \
         begin with\n`HARVEST_`, are errors. `harvester.example.toml` is a file with every setting at its default. Times end \
         in `_ms` and are\nmilliseconds.\n",
    );
    let _ = write!(
        page,
        "\nThe program checks these names of the old service, and they set nothing: `{}`.\n",
        CHECKED.join("`, `")
    );
    let mut table = "";
    for setting in &defaults.settings {
        let (of, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if of.is_empty() {
            let _ = write!(page, "\n## Without a table\n\n{HEADER}");
        } else if of != table {
            let _ = write!(page, "\n## `[{of}]`\n\n{HEADER}");
        }
        table = of;
        let names = names.get(&setting.key).map(Vec::as_slice).unwrap_or_default();
        let mut meaning: Vec<String> = policy.get(&setting.key).cloned().into_iter().collect();
        let comment = comments.get(&setting.key).and_then(|comment| without_names(comment, names));
        // If the schema has a meaning, only the words and forms that the comment adds are used.
        let adds = |part: &&str| meaning.is_empty() || part.contains('"') || part.contains("HARVEST_");
        let added: Vec<String> = comment.iter().flat_map(|c| c.split("; ")).filter(adds).map(str::to_owned).collect();
        meaning.extend(added);
        let only = OF_THE_ENVIRONMENT.iter().find(|(only, _)| *only == setting.key);
        meaning.extend(only.map(|(_, meaning)| (*meaning).to_owned()));
        ensure!(!meaning.is_empty(), "`{}` has no meaning: write one after it in {EXAMPLE}", setting.key);
        let default = match &setting.value {
            _ if setting.key == "run.consumer" => "the name of this host".to_owned(),
            Value::Null => "none".to_owned(),
            Value::String(text) if text.is_empty() => "none".to_owned(),
            value => code(&value.to_string()),
        };
        let names: Vec<String> = names.iter().map(|name| code(name)).collect();
        let _ = writeln!(page, "| `{key}` | {} | {default} | {} |", names.join(", "), escaped(&meaning.join("; ")));
    }
    Ok(page)
}

const HEADER: &str = "| key | environment | default | meaning |\n|---|---|---|---|\n";

/// Returns the environment variables of each setting: those that become its origin when they are set.
fn names_by_key() -> anyhow::Result<BTreeMap<String, Vec<&'static str>>> {
    let mut by_key: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for name in environment_names().filter(|name| !CHECKED.contains(name)) {
        let value = VALUES.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        let value = value.with_context(|| format!("{name} has no value: add one to VALUES in {}", file!()))?;
        let mut environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        if name == "HARVEST_LIVE_WRITES_ENABLED" {
            // It only turns live off.
            let live = [("HARVEST_MODE", "live"), ("HARVEST_LADDER", "0.5:0.25")];
            environment.extend(live.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let config = Config::from_parts(None, environment)?;
        let set = config.settings.iter().find(|setting| setting.origin == Origin::Environment(name));
        let set = set.with_context(|| format!("{name} sets nothing: add it to CHECKED in {}", file!()))?;
        by_key.entry(set.key.clone()).or_default().push(name);
    }
    Ok(by_key)
}

/// Returns the descriptions of the schema of the policy, by key.
fn meanings_of_policy() -> anyhow::Result<BTreeMap<String, String>> {
    let schema = harvester::codec::schemas::find("harvest.policy.v1").context("the policy has a schema")?;
    let schema: Value = serde_json::from_str(schema.text)?;
    let properties = schema["properties"].as_object().context("the policy has properties")?;
    let described = properties.iter().filter_map(|(key, property)| Some((key, property["description"].as_str()?)));
    Ok(described.map(|(key, text)| (format!("policy.{key}"), text.trim_end_matches('.').to_owned())).collect())
}

/// Returns the comment after each key of the example, with the lines that continue it. Keys that are commented out
/// count as well.
fn comments(example: &str) -> BTreeMap<String, String> {
    let mut comments: BTreeMap<String, String> = BTreeMap::new();
    let (mut table, mut key) = (String::new(), String::new());
    for line in example.lines() {
        let given = line.strip_prefix("# ").filter(|rest| assigned(rest).is_some()).unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            name.clone_into(&mut table);
            key.clear();
        } else if let Some(name) = assigned(given) {
            key = format!("{table}.{name}");
            if let Some(comment) = comment_of(given) {
                comments.insert(key.clone(), comment.to_owned());
            }
        } else if let Some(more) = line.trim_start().strip_prefix("# ").filter(|_| line.starts_with(' ')) {
            let comment = comments.entry(key.clone()).or_default();
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(more);
        }
    }
    comments
}

/// Returns the key that a line of the example assigns.
fn assigned(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

/// Returns the comment after a value, which may contain `#` in its quotes.
fn comment_of(line: &str) -> Option<&str> {
    let mut is_quoted = false;
    let at = line.bytes().position(|b| {
        is_quoted ^= b == b'"';
        b == b'#' && !is_quoted
    })?;
    Some(line[at + 1..].trim())
}

/// Removes the variables that the page shows in another column. Returns `None` if nothing is left.
fn without_names(comment: &str, names: &[&str]) -> Option<String> {
    let parts = comment.split("; ").map(|part| {
        // A unit may come before the name.
        let rest = names.iter().find_map(|name| part.strip_suffix(name)).map(str::trim_end);
        rest.filter(|rest| rest.is_empty() || rest.ends_with(']')).unwrap_or(part).trim_end_matches(',')
    });
    let left: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    (!left.is_empty()).then(|| left.join("; "))
}
