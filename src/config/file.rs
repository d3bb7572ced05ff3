//! The configuration file: parses the TOML and returns its tables one by one.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use crate::codec::policy::nearest;

/// The known tables of the file.
const TABLES: [&str; 11] =
    ["policy", "redis", "streams", "run", "journal", "console", "emit", "backfill", "exchange", "accounts", "feed"];

/// The content of the file; empty if no file is named.
#[derive(Clone, Default)]
pub(super) struct File {
    path: PathBuf,
    tables: toml::Table,
}

impl File {
    /// Reads the file. A byte order mark is ignored, and lines may end in carriage returns.
    pub(super) fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ConfigError::Unreadable { what: "configuration", path, source }),
        };
        let plain = text.trim_start_matches('\u{feff}');
        if plain.len() < text.len() {
            warnings.push(format!("configuration {}: a byte order mark was cleaned", path.display()));
        }
        let tables: toml::Table = match plain.parse() {
            Ok(tables) => tables,
            Err(error) => return Err(no_toml(path, plain, &error)),
        };
        Ok(Self { path, tables })
    }

    /// Returns an error if the file has an unknown table.
    pub(super) fn refuse_unknown(&self) -> Result<(), ConfigError> {
        match self.tables.keys().find(|key| !TABLES.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let nearest = nearest(key, TABLES.into_iter()).map(str::to_owned);
                Err(ConfigError::UnknownKey { path: self.path.clone(), key: key.clone(), nearest })
            }
        }
    }

    /// Changes each text, and each key of a table. Errors with the key and the text for which `render` is false.
    pub(super) fn render(&mut self, render: &impl Fn(&mut String) -> bool) -> Result<(), (String, String)> {
        let mut tables = toml::Value::Table(std::mem::take(&mut self.tables));
        rendered(&mut tables, "", render)?;
        if let toml::Value::Table(tables) = tables {
            self.tables = tables;
        }
        Ok(())
    }

    /// Returns true if a key of a table has a value.
    pub(super) fn has(&self, table: &str, key: &str) -> bool {
        self.tables.get(table).and_then(|table| table.get(key)).is_some()
    }

    /// Removes a key, such as `run.silent_after_ms.price`, or a table. Returns false if there is none.
    pub(super) fn leave_out(&mut self, key: &str) -> bool {
        if self.tables.remove(key).is_some() {
            return true;
        }
        let Some((table, mut key)) = key.split_once('.') else { return false };
        let Some(toml::Value::Table(found)) = self.tables.get_mut(table) else { return false };
        let mut table = found;
        loop {
            if table.remove(key).is_some() {
                return true;
            }
            let Some((inner, rest)) = key.split_once('.') else { return false };
            let Some(toml::Value::Table(below)) = table.get_mut(inner) else { return false };
            (table, key) = (below, rest);
        }
    }

    /// Returns the content of a table of the file; nothing if the key is not a table.
    pub(super) fn below(&self, table: &str) -> impl Iterator<Item = (&String, &toml::Value)> {
        self.tables.get(table).and_then(toml::Value::as_table).into_iter().flatten()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the location of the file's values, for messages.
    pub(super) fn location(&self) -> String {
        format!("configuration {}", self.path.display())
    }

    /// Takes a table out of the file; empty if the file has none.
    pub(super) fn take(&mut self, name: &str) -> Result<toml::Table, ConfigError> {
        match self.tables.remove(name) {
            None => Ok(toml::Table::new()),
            Some(toml::Value::Table(table)) => Ok(table),
            Some(other) => Err(ConfigError::Value {
                location: self.location(),
                name: name.to_owned(),
                value: other.type_str().to_owned(),
                want: format!("want a table: [{name}]"),
            }),
        }
    }
}

fn rendered(value: &mut toml::Value, at: &str, render: &impl Fn(&mut String) -> bool) -> Result<(), (String, String)> {
    match value {
        toml::Value::String(text) => {
            if render(text) {
                Ok(())
            } else {
                Err((at.to_owned(), text.clone()))
            }
        }
        toml::Value::Array(items) => items.iter_mut().try_for_each(|item| rendered(item, at, render)),
        toml::Value::Table(table) => {
            for (mut key, mut value) in std::mem::take(table) {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                if !render(&mut key) {
                    return Err((at, key));
                }
                rendered(&mut value, &at, render)?;
                table.insert(key, value);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns an error with the line number and the reason only. The parser's own report quotes the line, which may
/// contain a password.
fn no_toml(path: PathBuf, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    ConfigError::NoToml { path, line, message: error.message().to_owned() }
}
