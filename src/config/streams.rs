//! `[streams]`: the streams that are read, by kind, and the additional streams that are written.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::origin::Origin;
use super::table::Sheet;
use crate::codec::decode::is_account_name;
use crate::codec::policy::nearest;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{Stream, StreamKind, Streams};

/// Environment variables that set the stream of a kind.
pub(super) const NAMES: [(&str, StreamKind); 7] = [
    ("STREAM_TRADE_INTENT", StreamKind::Intent),
    ("STREAM_APPLY_RESULT", StreamKind::Result),
    ("STREAM_APPLY_PLAN", StreamKind::Plan),
    ("STREAM_POSITION_SNAPSHOT", StreamKind::Snapshot),
    ("STREAM_HARVEST_CONTROL", StreamKind::Control),
    ("STREAM_HARVEST_OBSERVATION", StreamKind::Observation),
    ("STREAM_HARVEST_DECISION", StreamKind::Decision),
];

/// Streams that are written and not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Stream of the decisions that shadow mode only suggests.
    pub suggestions: String,
    pub quarantine: String,
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<(Streams, Outputs), ConfigError> {
    let mut table = sheet.file.take("streams")?;
    let suggestions = output(
        sheet,
        &mut table,
        "suggestions",
        Some("STREAM_HARVEST_SUGGESTIONS"),
        "quantum:stream:harvest.suggestions",
    )?;
    let quarantine = output(
        sheet,
        &mut table,
        "quarantine",
        Some("STREAM_HARVEST_QUARANTINE"),
        "quantum:stream:harvest.quarantine",
    )?;
    let mut accounts = accounts(sheet, &mut table)?;
    let kinds = StreamKind::ALL.map(StreamKind::name);
    if let Some(key) = table.keys().find(|key| !kinds.contains(&key.as_str())) {
        let names = kinds.into_iter().chain(["suggestions", "quarantine"]);
        let nearest = nearest(key, names).map(|name| format!("streams.{name}"));
        let key = format!("streams.{key}");
        return Err(ConfigError::UnknownKey { path: sheet.file.path().to_owned(), key, nearest });
    }
    let mut streams = Vec::new();
    for kind in StreamKind::ALL {
        let names = names_of(sheet, &table, kind)?;
        for name in names {
            let account = accounts.remove(&name);
            let may_have = !matches!(kind, StreamKind::Control | StreamKind::Price | StreamKind::Decision);
            if account.is_some() && !may_have {
                let why = format!("accounts: {name} carries {}, which are for all accounts", kind.name());
                return Err(ConfigError::Streams(why));
            }
            streams.push(Stream { kind, name, account });
        }
    }
    if let Some(name) = accounts.keys().next() {
        return Err(ConfigError::Streams(format!("accounts: {name} is not a stream that is read")));
    }
    let streams =
        Streams::new(streams).map_err(|twice| ConfigError::Streams(format!("{} is named twice", twice.name)))?;
    // If it were read back, a suggestion would become an intent.
    for name in [&suggestions, &quarantine] {
        if streams.id_of(name).is_some() || suggestions == quarantine {
            return Err(ConfigError::Streams(format!("{name} is written, and named for something else too")));
        }
    }
    Ok((streams, Outputs { suggestions, quarantine }))
}

/// Returns the streams that a service of these accounts reads: without the streams that belong to other accounts.
pub(super) fn of_selection(streams: Streams, selection: Selection) -> Result<Streams, ConfigError> {
    let symbols_max = streams.symbols_max();
    let is_read = |stream: &Stream| stream.account.as_deref().is_none_or(|account| selection.contains(account));
    let read: Vec<Stream> = streams.iter().map(|(_, stream)| stream).filter(|s| is_read(s)).cloned().collect();
    let streams = Streams::new(read).map_err(|twice| ConfigError::Streams(format!("{} is named twice", twice.name)))?;
    Ok(streams.with_symbols_max(symbols_max).with_selection(selection))
}

/// Reads `[streams.accounts]`: the account of a stream whose entries name none.
fn accounts(sheet: &mut Sheet<'_>, table: &mut toml::Table) -> Result<BTreeMap<String, Box<str>>, ConfigError> {
    let named = match table.remove("accounts") {
        None => return Ok(BTreeMap::new()),
        Some(toml::Value::Table(named)) => named,
        Some(other) => return Err(ConfigError::Streams(format!("accounts: {other} is not a table"))),
    };
    let mut accounts = BTreeMap::new();
    for (stream, account) in named {
        let account = match account.as_str() {
            Some(account) if is_account_name(account) => account,
            _ => {
                let want = "want an account: 1 to 64 letters, digits, _, - and .";
                return Err(ConfigError::Streams(format!("accounts.{stream} = {account}: {want}")));
            }
        };
        sheet.note(format!("streams.accounts.{stream}"), account.into(), Origin::File);
        accounts.insert(stream, account.into());
    }
    Ok(accounts)
}

fn output(
    sheet: &mut Sheet<'_>,
    table: &mut toml::Table,
    key: &str,
    name: Option<&'static str>,
    default: &str,
) -> Result<String, ConfigError> {
    let of_file = table.remove(key);
    let of_environment = name.and_then(|name| Some((name, sheet.environment.get(name)?)));
    let (stream, origin) = match (of_environment, of_file) {
        (Some((name, stream)), _) => (stream.to_owned(), Origin::Environment(name)),
        (None, Some(toml::Value::String(stream))) => (stream, Origin::File),
        (None, Some(other)) => return Err(ConfigError::Streams(format!("{key}: {other} is not a name"))),
        (None, None) => (default.to_owned(), Origin::Default),
    };
    if stream.is_empty() {
        return Err(ConfigError::Streams(format!("{key}: want a name that is not empty")));
    }
    sheet.note(format!("streams.{key}"), stream.clone().into(), origin);
    Ok(stream)
}

fn names_of(sheet: &mut Sheet<'_>, table: &toml::Table, kind: StreamKind) -> Result<Vec<String>, ConfigError> {
    let of_environment =
        NAMES.iter().find(|(_, k)| *k == kind).and_then(|(name, _)| Some((*name, sheet.environment.get(name)?)));
    let (names, origin) = match (of_environment, table.get(kind.name())) {
        (Some((name, stream)), _) => (vec![stream.to_owned()], Origin::Environment(name)),
        (None, Some(toml::Value::String(name))) => (vec![name.clone()], Origin::File),
        (None, Some(toml::Value::Array(names))) => {
            let name = |value: &toml::Value| value.as_str().map(str::to_owned);
            let all: Option<Vec<String>> = names.iter().map(name).collect();
            let all = all.ok_or_else(|| ConfigError::Streams(format!("{}: want a list of names", kind.name())))?;
            (all, Origin::File)
        }
        (None, Some(other)) => {
            let message = format!("{}: {other} is neither a name nor a list of names", kind.name());
            return Err(ConfigError::Streams(message));
        }
        (None, None) => (vec![kind.default_stream().to_owned()], Origin::Default),
    };
    if names.iter().any(String::is_empty) {
        return Err(ConfigError::Streams(format!("{}: want names that are not empty", kind.name())));
    }
    sheet.note(format!("streams.{}", kind.name()), names.clone().into(), origin);
    Ok(names)
}
