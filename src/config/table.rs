//! One table of settings. Each key is looked up in the flags, the environment, the file and the defaults, in this
//! order, then checked and recorded with its origin.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use secrecy::SecretString;
use serde_json::Value;

use super::cell::address_of;
use super::environment::{Environment, is_true};
use super::error::ConfigError;
use super::file::File;
use super::origin::{Origin, Setting};
use crate::codec::policy::nearest;
use crate::codec::shown::MASK;

/// Flags of the command line: table and key, and the given text.
pub(super) type Flags = BTreeMap<&'static str, String>;

/// The sources of all settings, and the settings read so far.
pub(super) struct Sheet<'a> {
    pub(super) flags: &'a Flags,
    pub(super) environment: &'a Environment,
    pub(super) file: File,
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Sheet<'a> {
    /// Starts one table. [`Table::finish`] must be called at its end.
    pub(super) fn table<'s>(&'s mut self, name: &'static str) -> Result<Table<'s, 'a>, ConfigError> {
        let of_file = self.file.take(name)?;
        Ok(Table { name: name.to_owned(), of_file, asked: Vec::new(), secrets: Vec::new(), sheet: self })
    }

    /// Records an effective setting.
    pub(super) fn note(&mut self, key: String, value: Value, origin: Origin) {
        self.settings.push(Setting { key, value, origin });
    }
}

/// One table while its keys are read.
pub(super) struct Table<'s, 'a> {
    name: String,
    of_file: toml::Table,
    asked: Vec<&'static str>,
    /// Keys that only the environment may contain, with their names there.
    secrets: Vec<(&'static str, &'static str)>,
    sheet: &'s mut Sheet<'a>,
}

/// A value as it was given, with its origin.
struct Given {
    value: toml::Value,
    origin: Origin,
}

impl<'a> Table<'_, 'a> {
    /// Starts the table `key` inside this table.
    pub(super) fn below(&mut self, key: &'static str) -> Result<Table<'_, 'a>, ConfigError> {
        self.asked.push(key);
        let of_file = match self.of_file.get(key) {
            None => toml::Table::new(),
            Some(toml::Value::Table(table)) => table.clone(),
            Some(other) => {
                let given = Given { value: other.clone(), origin: Origin::File };
                return Err(self.wrong(key, &given, "want a table"));
            }
        };
        Ok(Table {
            name: format!("{}.{key}", self.name),
            of_file,
            asked: Vec::new(),
            secrets: Vec::new(),
            sheet: &mut *self.sheet,
        })
    }

    /// Returns an error if the file has a key that was not read.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        match self.of_file.keys().find(|key| !self.asked.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) if self.secrets.iter().any(|(secret, _)| secret == key) => {
                let name = self.secrets.iter().find(|(secret, _)| secret == key).map_or("", |(_, name)| name);
                let path = self.sheet.file.path().to_owned();
                Err(ConfigError::SecretInFile { path, key: format!("{}.{key}", self.name), name })
            }
            Some(key) => {
                let nearest = nearest(key, self.asked.iter().copied()).map(|near| format!("{}.{near}", self.name));
                let key = format!("{}.{key}", self.name);
                Err(ConfigError::UnknownKey { path: self.sheet.file.path().to_owned(), key, nearest })
            }
        }
    }

    /// Reads an integer within a range.
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let given = self.given(key, None);
        self.whole_of(key, given, default, &range)
    }

    /// Reads a time that the file gives in milliseconds and the environment may give in seconds. [ms]
    pub(super) fn milliseconds(
        &mut self,
        key: &'static str,
        seconds_name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let mut given = self.given(key, Some(seconds_name));
        if let Some(given) = &mut given
            && matches!(given.origin, Origin::Environment(_))
        {
            let ms = given.value.as_str().and_then(milliseconds_of);
            given.value = match ms {
                Some(ms) if range.contains(&ms) => toml::Value::String(ms.to_string()),
                _ => {
                    let (start, end) = (Decimal::from(*range.start()), Decimal::from(*range.end()));
                    let seconds = |ms: Decimal| (ms / Decimal::ONE_THOUSAND).normalize();
                    let want = format!("want seconds from {} to {}", seconds(start), seconds(end));
                    return Err(self.wrong(key, given, want));
                }
            };
        }
        self.whole_of(key, given, default, &range)
    }

    fn whole_of(
        &mut self,
        key: &'static str,
        given: Option<Given>,
        default: u64,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(given) = given else {
            self.note(key, default, Origin::Default);
            return Ok(default);
        };
        let number = match &given.value {
            toml::Value::Integer(number) => u64::try_from(*number).ok(),
            toml::Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => {
                self.note(key, number, given.origin);
                Ok(number)
            }
            None => {
                let want = format!("want a whole number from {} to {}", range.start(), range.end());
                Err(self.wrong(key, &given, want))
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        let Some(given) = self.given(key, None) else {
            self.note(key, default, Origin::Default);
            return Ok(default);
        };
        let value = match &given.value {
            toml::Value::Boolean(value) => Some(*value),
            toml::Value::String(text) if is_true(text) => Some(true),
            toml::Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        };
        let value = value.ok_or_else(|| self.wrong(key, &given, "want true or false"))?;
        self.note(key, value, given.origin);
        Ok(value)
    }

    /// Reads a text that may be empty.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        name: Option<&'static str>,
        default: &str,
    ) -> Result<String, ConfigError> {
        let Some(given) = self.given(key, name) else {
            self.note(key, default, Origin::Default);
            return Ok(default.to_owned());
        };
        let toml::Value::String(text) = &given.value else { return Err(self.wrong(key, &given, "want a text")) };
        let text = text.trim().to_owned();
        self.note(key, &*text, given.origin);
        Ok(text)
    }

    /// Reads a name, which is a text that is not empty.
    pub(super) fn name(
        &mut self,
        key: &'static str,
        name: Option<&'static str>,
        default: &str,
    ) -> Result<String, ConfigError> {
        let text = self.text(key, name, default)?;
        if text.is_empty() { Err(self.refused(key, "want a name that is not empty")) } else { Ok(text) }
    }

    /// Reads a text and parses it with `read`. `want` describes the valid texts.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: &str,
        want: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = self.text(key, None, default)?;
        read(&text).ok_or_else(|| self.refused(key, want))
    }

    /// Reads one of several words, in upper or lower case.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
        let want = format!("want {}", names.join(" or "));
        let find = |text: &str| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        self.parsed(key, default, &want, find)
    }

    /// Reads a list of allowed words in the given order, without repetitions.
    pub(super) fn words<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<Vec<T>, ConfigError> {
        let defaults: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let texts = self.texts(key, &defaults)?;
        let want = format!("want a list of {}, none twice", defaults.join(" and "));
        let find = |text: &String| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let twice = (1..texts.len()).any(|at| texts[..at].iter().any(|text| text.eq_ignore_ascii_case(&texts[at])));
        let found: Option<Vec<T>> = texts.iter().map(|text| find(text).map(|(_, value)| *value)).collect();
        found.filter(|_| !twice).ok_or_else(|| self.refused(key, &want))
    }

    /// Reads a list of names. A single text is split at commas.
    pub(super) fn texts(&mut self, key: &'static str, default: &[&str]) -> Result<Vec<String>, ConfigError> {
        let Some(given) = self.given(key, None) else {
            self.note(key, default.iter().map(|text| Value::from(*text)).collect::<Value>(), Origin::Default);
            return Ok(default.iter().map(|text| (*text).to_owned()).collect());
        };
        let texts: Option<Vec<String>> = match &given.value {
            toml::Value::String(text) if text.trim().is_empty() => Some(Vec::new()),
            toml::Value::String(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().map(|text| text.trim().to_owned())).collect()
            }
            _ => None,
        };
        let texts = texts.filter(|texts| texts.iter().all(|text| !text.is_empty()));
        let texts = texts.ok_or_else(|| self.wrong(key, &given, "want a list of names"))?;
        self.note(key, texts.clone(), given.origin);
        Ok(texts)
    }

    pub(super) fn path(&mut self, key: &'static str, default: &str) -> Result<PathBuf, ConfigError> {
        Ok(self.name(key, None, default)?.into())
    }

    /// Reads a path; `None` if the text is empty.
    pub(super) fn some_path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.text(key, None, "")?;
        Ok((!text.is_empty()).then(|| text.into()))
    }

    /// Reads an address to listen on; `None` if the text is empty. Its port may be a sum (`127.0.0.1:9464+%cell%`).
    pub(super) fn listen(&mut self, key: &'static str, default: &str) -> Result<Option<SocketAddr>, ConfigError> {
        self.parsed(key, default, "want ADDRESS:PORT, like 127.0.0.1:9464, or nothing", |text| {
            if text.is_empty() { Some(None) } else { address_of(text).map(Some) }
        })
    }

    /// Records the number of the cell, which was read before all tables: it is in the names of all others.
    pub(super) fn cell(&mut self, key: &'static str, cell: Option<u32>) {
        let origin = match self.given(key, Some("HARVEST_CELL")) {
            Some(given) => given.origin,
            None if cell.is_some() => Origin::Flag,
            None => Origin::Default,
        };
        self.note(key, cell.map_or_else(|| Value::from(""), Value::from), origin);
    }

    /// Reads a table of lists of names, whose keys are numbers of cells.
    pub(super) fn lists_by_number(&mut self, key: &'static str) -> Result<BTreeMap<u32, Vec<String>>, ConfigError> {
        self.asked.push(key);
        let want = "want a table of lists, by number of the cell: 0 = [\"main\"]";
        let mut lists = BTreeMap::new();
        let of_file = self.of_file.get(key).cloned();
        let table = match &of_file {
            None => return Ok(lists),
            Some(toml::Value::Table(table)) => table,
            Some(other) => return Err(self.error(key, other.to_string(), &Origin::File, want)),
        };
        for (number, names) in table {
            let text = |name: &toml::Value| name.as_str().map(|name| name.trim().to_owned());
            let list: Option<Vec<String>> = names.as_array().and_then(|names| names.iter().map(text).collect());
            match (number.parse::<u32>(), list) {
                (Ok(cell), Some(list)) => {
                    self.note(&format!("{key}.{cell}"), list.clone(), Origin::File);
                    lists.insert(cell, list);
                }
                _ => return Err(self.refused_below(key, number, &names.to_string(), want)),
            }
        }
        Ok(lists)
    }

    /// Returns the error that rejects a key of a table below a key of the file, or that table.
    pub(super) fn refused_below(&self, key: &'static str, below: &str, value: &str, want: &str) -> ConfigError {
        let name = if below.is_empty() { self.key(key) } else { format!("{}.{below}", self.key(key)) };
        let (location, value, want) = (self.sheet.file.location(), value.to_owned(), want.to_owned());
        ConfigError::Value { location, name, value, want }
    }

    /// Reads names or addresses of hosts, without a port.
    pub(super) fn hosts(&mut self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let hosts = self.texts(key, &[])?;
        let is_host = |host: &String| {
            host.parse::<std::net::IpAddr>().is_ok()
                || host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        if hosts.iter().all(is_host) {
            return Ok(hosts);
        }
        Err(self.refused(key, "want names or addresses of hosts, without a port, as [\"harvester\"]"))
    }

    /// Returns an error if a name of the environment has a value of which cleaning leaves nothing: the operator wanted
    /// one.
    pub(super) fn not_cleaned_away(&self, name: &'static str) -> Result<(), ConfigError> {
        let environment = self.sheet.environment;
        match environment.flaw(name) {
            Some(flaw) if environment.get(name).is_none() => Err(ConfigError::Value {
                location: "environment".to_owned(),
                name: name.to_owned(),
                value: MASK.to_owned(),
                want: format!("{flaw}, and nothing else: set the value, or remove the name"),
            }),
            _ => Ok(()),
        }
    }

    /// Reads a secret of the environment, which must not be in a file; `None` if it is unset or empty.
    pub(super) fn secret(&mut self, key: &'static str, name: &'static str) -> Option<SecretString> {
        self.secrets.push((key, name));
        let secret = self.sheet.environment.get(name).map(SecretString::from);
        let (shown, origin) = match secret {
            Some(_) => (MASK, Origin::Environment(name)),
            None => ("", Origin::Default),
        };
        self.note(key, shown, origin);
        secret
    }

    /// Returns true if the name is set in the environment, even if it is empty.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.sheet.environment.set(name).is_some()
    }

    /// Returns the flaw that was cleaned off the value of an environment variable.
    pub(super) fn flaw(&self, name: &str) -> Option<&'static str> {
        self.sheet.environment.flaw(name)
    }

    /// Reads a text of the file without recording or quoting it.
    pub(super) fn hidden(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        self.asked.push(key);
        match self.of_file.get(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(self.error(key, MASK.to_owned(), &Origin::File, "want a text")),
        }
    }

    /// Returns the error that rejects the last recorded value of this key.
    pub(super) fn refused(&self, key: &'static str, want: &str) -> ConfigError {
        let noted = self.sheet.settings.iter().rev().find(|setting| setting.key == self.key(key));
        let value = noted.map_or(Value::Null, |setting| setting.value.clone());
        let origin = noted.map_or(Origin::Default, |setting| setting.origin.clone());
        self.error(key, value.to_string(), &origin, want)
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.sheet.warnings.push(warning);
    }

    /// Returns a text as it was given, neither checked nor recorded, for a setting that depends on it.
    pub(super) fn peek(&mut self, key: &'static str) -> Option<String> {
        self.given(key, None)?.value.as_str().map(str::to_owned)
    }

    fn given(&mut self, key: &'static str, name: Option<&'static str>) -> Option<Given> {
        self.asked.push(key);
        if let Some(text) = self.sheet.flags.get(self.key(key).as_str()) {
            return Some(Given { value: toml::Value::String(text.clone()), origin: Origin::Flag });
        }
        let of_environment = name.and_then(|name| Some((name, self.sheet.environment.get(name)?)));
        if let Some((name, text)) = of_environment {
            return Some(Given { value: toml::Value::String(text.to_owned()), origin: Origin::Environment(name) });
        }
        self.of_file.get(key).map(|value| Given { value: value.clone(), origin: Origin::File })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    pub(super) fn note(&mut self, key: &str, value: impl Into<Value>, origin: Origin) {
        let key = self.key(key);
        self.sheet.note(key, value.into(), origin);
    }

    fn wrong(&self, key: &str, given: &Given, want: impl Into<String>) -> ConfigError {
        self.error(key, given.value.to_string(), &given.origin, want)
    }

    fn error(&self, key: &str, value: String, origin: &Origin, want: impl Into<String>) -> ConfigError {
        let (location, name) = match origin {
            Origin::Environment(name) => ("environment".to_owned(), (*name).to_owned()),
            Origin::File => (self.sheet.file.location(), self.key(key)),
            Origin::Flag => ("flag".to_owned(), self.key(key)),
            Origin::Default => ("default".to_owned(), self.key(key)),
        };
        ConfigError::Value { location, name, value, want: want.into() }
    }
}

/// Converts seconds, with or without decimals, to whole milliseconds.
pub(super) fn milliseconds_of(seconds: &str) -> Option<u64> {
    let ms = seconds.trim().parse::<Decimal>().ok()?.checked_mul(Decimal::ONE_THOUSAND)?;
    ms.fract().is_zero().then(|| ms.to_u64()).flatten()
}
