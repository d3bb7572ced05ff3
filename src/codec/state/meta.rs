//! How a store was made, and from which entry on its state is provisional.

use serde::Serialize;

use super::super::scope;
use super::row::{BadRow, META, PROVISIONAL, Row, Rows, SELECTION, StoredRow, decode, encode};
use crate::domain::engine::RULES_VERSION;
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::exit::policy::Policy;

/// A store's record of how it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Meta {
    pub rules_version: String,
    /// Hash of the configured policy.
    pub policy_hash: String,
    pub streams: Vec<(StreamKind, String)>,
    /// The accounts that the configuration gave to streams, by name of the stream.
    pub accounts: Vec<(String, String)>,
    /// The accounts whose entries are read. It has a row of its own, which a store of all accounts lacks.
    #[serde(skip)]
    pub selection: Selection,
}

impl Meta {
    /// Returns the record of a store that is made now.
    pub fn of(streams: &Streams, configured: &Policy) -> Self {
        Self {
            rules_version: RULES_VERSION.to_owned(),
            policy_hash: configured.hash.to_string(),
            streams: streams.iter().map(|(_, s)| (s.kind, s.name.clone())).collect(),
            accounts: streams
                .iter()
                .filter_map(|(_, s)| Some((s.name.clone(), s.account.as_deref()?.to_owned())))
                .collect(),
            selection: streams.selection().clone(),
        }
    }

    /// Returns the streams with which the store was folded.
    pub fn streams(&self) -> Option<Streams> {
        let account = |name: &str| self.accounts.iter().find(|(of, _)| of == name).map(|(_, a)| a.as_str().into());
        let streams =
            self.streams.iter().map(|(kind, name)| Stream { kind: *kind, name: name.clone(), account: account(name) });
        Some(Streams::new(streams.collect()).ok()?.with_selection(self.selection.clone()))
    }
}

pub fn meta_row(meta: &Meta) -> Row {
    (META.to_vec(), Some(encode(meta)))
}

/// Returns the rows that state how a store is made: those of its accounts only if it does not have all.
pub fn meta_rows(meta: &Meta) -> impl Iterator<Item = StoredRow> + use<> {
    let selection = (!meta.selection.is_all()).then(|| scope::selection_text(&meta.selection));
    let selection = selection.map(|text| (SELECTION.to_vec(), encode(&text)));
    std::iter::once((META.to_vec(), encode(meta))).chain(selection)
}

/// Returns how the store was made, or `None` for an empty one.
pub fn meta<R: Rows>(rows: &R) -> Result<Option<Meta>, R::Error> {
    let Some((key, value)) = rows.scan(META)?.into_iter().next() else { return Ok(None) };
    let mut meta: Meta = decode(&key, &value)?;
    if let Some((key, value)) = rows.scan(SELECTION)?.into_iter().next() {
        let text: String = decode(&key, &value)?;
        let bad = |why| BadRow { key: String::from_utf8_lossy(&key).into_owned(), why };
        meta.selection = scope::read_selection(&text).map_err(bad)?;
    }
    Ok(Some(meta))
}

/// Returns the row that marks state as provisional: from this entry on it was folded without the look-ahead. `None`:
/// the look-ahead was complete.
pub fn provisional_row(from: Option<EntryId>) -> Row {
    (PROVISIONAL.to_vec(), from.map(|from| encode(&from)))
}

/// Returns from which entry on the state is provisional: see [`provisional_row`].
pub fn provisional_from<R: Rows>(rows: &R) -> Result<Option<EntryId>, R::Error> {
    match rows.scan(PROVISIONAL)?.first() {
        Some((key, value)) => Ok(Some(decode(key, value)?)),
        None => Ok(None),
    }
}
