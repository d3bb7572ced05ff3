//! `[emit]`: how decisions are sent. No setting that moves money has a default.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::environment::clean;
use super::error::ConfigError;
use super::table::Sheet;
use crate::codec::request::OrderFormat;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::Streams;
use crate::domain::exit::policy::{Mode, Policy};

#[derive(Clone, Debug)]
pub struct Emit {
    pub format: Option<OrderFormat>,
    /// Our name as the source of requests. Executors select by it.
    pub source: Option<String>,
    /// Stream of the requests; `None` = the first plan or intent stream, depending on the format.
    pub stream: Option<String>,
    /// Consumer groups that are known to execute requests.
    pub executors: Vec<String>,
    /// Age above which a decision is not sent. [ms]
    pub max_decision_age_ms: u64,
    /// Key of the kill switch in Redis.
    pub kill_key: String,
    /// Approximate number of entries that our output streams keep; 0 = all. [1]
    pub output_maxlen: u64,
    /// Entries up to this id are trusted without a signature, because they were written before there was a key.
    pub believe_unsigned_until: Option<EntryId>,
    signing_key: Option<SecretString>,
    signing_key_file: Option<PathBuf>,
    /// Files with former keys, each with the last id for which it is valid.
    former_keys: Vec<(PathBuf, EntryId)>,
}

/// The complete settings of a live service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub format: OrderFormat,
    pub source: String,
    pub stream: String,
    pub executors: Vec<String>,
}

impl Emit {
    /// Returns the settings of live requests; `None` in shadow mode.
    pub fn live(&self, policy: &Policy, streams: &Streams) -> Result<Option<Live>, ConfigError> {
        if policy.mode == Mode::Shadow {
            return Ok(None);
        }
        let needs = |key, why| ConfigError::LiveNeeds { key, why };
        let format =
            self.format.ok_or_else(|| needs("emit.format", "apply_plan or trade_intent, as executors read"))?;
        let source = self.source.clone().ok_or_else(|| needs("emit.source", "executors read it"))?;
        if self.executors.is_empty() {
            return Err(needs("emit.executors", "the consumer groups that carry out requests"));
        }
        let read = || streams.iter().map(|(_, stream)| stream).filter(|stream| stream.kind == format.kind());
        let stream = match &self.stream {
            Some(named) => read().find(|stream| stream.name == *named),
            None => read().next(),
        };
        // Requests must come back to us: only by them a result is recognised as ours.
        let why = "a stream that is read as plan (apply_plan) or intent (trade_intent)";
        let stream = stream.ok_or_else(|| needs("emit.stream", why))?.name.clone();
        Ok(Some(Live { format, source, stream, executors: self.executors.clone() }))
    }

    /// Returns the key that signs decisions, from the environment or else from its file; `None` = decisions are not
    /// signed.
    pub fn signing_key(&self) -> Result<Option<SecretString>, ConfigError> {
        if self.signing_key.is_some() {
            return Ok(self.signing_key.clone());
        }
        self.signing_key_file.as_deref().map(|path| key_of_file("emit.signing_key_file", path)).transpose()
    }

    /// Returns the ids up to which entries are trusted without the present key, each with the setting that defines it.
    pub fn trusted_until(&self) -> impl Iterator<Item = (&'static str, EntryId)> + '_ {
        let unsigned = self.believe_unsigned_until.map(|until| ("emit.believe_unsigned_until", until));
        unsigned.into_iter().chain(self.former_keys.iter().map(|(_, until)| ("emit.former_keys", *until)))
    }

    /// Returns the former keys, each with the last id for which it is valid. They are not used to sign.
    pub fn former_keys(&self) -> Result<Vec<(SecretString, EntryId)>, ConfigError> {
        let read = |(path, until): &(PathBuf, EntryId)| Ok((key_of_file("emit.former_keys", path)?, *until));
        self.former_keys.iter().map(read).collect()
    }
}

pub(super) fn key_of_file(name: &'static str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        what: name,
        path: path.to_owned(),
        source,
    })?;
    let key = clean(&text);
    if key.is_empty() {
        let (location, name) = ("configuration".to_owned(), name.to_owned());
        let value = path.display().to_string();
        return Err(ConfigError::Value { location, name, value, want: "want a file that holds a key".to_owned() });
    }
    Ok(key.into())
}

/// Parses `PATH until ID`.
fn former_key(text: &str) -> Option<(PathBuf, EntryId)> {
    let (path, until) = text.rsplit_once(" until ")?;
    Some((path.trim(), until.trim().parse().ok()?)).filter(|(path, _)| !path.is_empty()).map(|(p, id)| (p.into(), id))
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Emit, ConfigError> {
    let mut table = sheet.table("emit")?;
    let former_keys: Option<Vec<_>> = table.texts("former_keys", &[])?.iter().map(|text| former_key(text)).collect();
    let want = "want a list of texts like \"FILE until ID\", ID an entry id (ms-seq, as 1770163200000-0)";
    let former_keys = former_keys.ok_or_else(|| table.refused("former_keys", want))?;
    let formats = [
        ("", None),
        (OrderFormat::ApplyPlan.name(), Some(OrderFormat::ApplyPlan)),
        (OrderFormat::TradeIntent.name(), Some(OrderFormat::TradeIntent)),
    ];
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    table.not_cleaned_away("HARVEST_SIGNING_KEY")?;
    let emit = Emit {
        format: table.word("format", "", &formats)?,
        source: some(table.text("source", None, "")?),
        stream: some(table.text("stream", None, "")?),
        executors: table.texts("executors", &[])?,
        max_decision_age_ms: table.whole("max_decision_age_ms", 30_000, 100..=3_600_000)?,
        kill_key: table.name("kill_key", Some("HARVEST_KILL_SWITCH_KEY"), "quantum:kill")?,
        output_maxlen: table.whole("output_maxlen", 0, 0..=1_000_000_000)?,
        believe_unsigned_until: table.parsed("believe_unsigned_until", "", "want an entry id, or nothing", |text| {
            if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
        })?,
        former_keys,
        signing_key_file: table.some_path("signing_key_file")?,
        signing_key: table.secret("signing_key", "HARVEST_SIGNING_KEY"),
    };
    let length = emit.signing_key.as_ref().map(|key| key.expose_secret().len());
    if let Some(bytes) = length.filter(|bytes| *bytes < 16) {
        table.warn(format!(
            "HARVEST_SIGNING_KEY has {bytes} bytes: nothing starts with less than 16. Make one: openssl rand -hex 32"
        ));
    }
    table.finish()?;
    Ok(emit)
}
