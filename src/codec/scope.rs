//! The scope of a cell, in the form in which a journal and a claim state it: its number, its accounts and its streams.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::decode::is_account_name;
use crate::domain::event::selection::{NO_NAME, Selection, Shard};
use crate::domain::event::streams::{Stream, StreamKind, Streams};

/// The scope that a journal states about its entries: the cell that wrote it, and the accounts whose entries the cell
/// reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Number of the cell, if there are several.
    pub cell: Option<u32>,
    /// The streams that are read, with the accounts whose entries are read.
    pub streams: Streams,
}

impl Scope {
    /// Returns true for a service that is not a cell and reads everything. Its journal states no scope.
    pub fn is_everything(&self) -> bool {
        self.cell.is_none() && self.streams.selection().is_all()
    }

    /// Returns true if a service of another scope may go on with the journal: it reads the same accounts, as the same
    /// cell. Streams may come and go.
    pub fn is_followed_by(&self, next: &Self) -> bool {
        let is_same_cell = match (self.cell, next.cell) {
            (Some(before), Some(now)) => before == now,
            (None, _) | (_, None) => true,
        };
        is_same_cell && self.streams.selection() == next.streams.selection()
    }

    /// Returns the text of a journal's head: one line of JSON.
    pub fn text(&self) -> String {
        let stream = |stream: &Stream| match &stream.account {
            Some(account) => json!({"kind": stream.kind.name(), "name": stream.name, "account": account}),
            None => json!({"kind": stream.kind.name(), "name": stream.name}),
        };
        let mut scope = selection_document(self.streams.selection());
        if let Some(cell) = self.cell {
            scope.insert("cell".to_owned(), cell.into());
        }
        scope.insert("streams".to_owned(), self.streams.iter().map(|(_, of)| stream(of)).collect());
        Value::from(scope).to_string()
    }

    /// Reads the text of a journal's head. Errors with the reason.
    pub fn read(text: &str) -> Result<Self, String> {
        let scope: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let cell = match scope.get("cell") {
            None => None,
            Some(cell) => Some(cell.as_u64().and_then(|n| n.try_into().ok()).ok_or("its cell is not a number")?),
        };
        let stream = |stream: &Value| {
            let text = |key: &str| stream.get(key).and_then(Value::as_str);
            let kind = text("kind")?;
            Some(Stream {
                kind: StreamKind::ALL.into_iter().find(|known| known.name() == kind)?,
                name: text("name")?.to_owned(),
                account: text("account").map(Into::into),
            })
        };
        let list = scope.get("streams").and_then(Value::as_array).ok_or("it names no streams")?;
        let streams: Option<Vec<Stream>> = list.iter().map(stream).collect();
        let streams = Streams::new(streams.ok_or("its streams do not read")?).map_err(|_| "it names a stream twice")?;
        Ok(Self { cell, streams: streams.with_selection(selection_of(&scope)?) })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cell {
            Some(cell) => write!(f, "cell {cell} ({})", self.streams.selection()),
            None => self.streams.selection().fmt(f),
        }
    }
}

/// Returns the text of a selection, for a store.
pub fn selection_text(selection: &Selection) -> String {
    Value::from(selection_document(selection)).to_string()
}

/// Reads the text of a selection. Errors with the reason.
pub fn read_selection(text: &str) -> Result<Selection, String> {
    selection_of(&serde_json::from_str(text).map_err(|error| error.to_string())?)
}

/// Returns the text of a claim: the selection of a cell, and its consumer group.
pub fn claim_text(selection: &Selection, group: &str) -> String {
    let mut claim = selection_document(selection);
    claim.insert("group".to_owned(), group.into());
    Value::from(claim).to_string()
}

/// Returns the consumer group of a claim.
pub fn group_of_claim(text: &str) -> Option<String> {
    let claim: Value = serde_json::from_str(text).ok()?;
    claim.get("group")?.as_str().map(str::to_owned)
}

fn selection_document(selection: &Selection) -> serde_json::Map<String, Value> {
    let name = |name: &str| if name.is_empty() { NO_NAME.to_owned() } else { name.to_owned() };
    let document = match selection {
        Selection::All => json!({}),
        Selection::Listed(names) => json!({"accounts": names.iter().map(|n| name(n)).collect::<Vec<_>>()}),
        Selection::Shard(shard) => json!({"shard": shard.to_string()}),
    };
    match document {
        Value::Object(document) => document,
        _ => serde_json::Map::new(),
    }
}

fn selection_of(document: &Value) -> Result<Selection, String> {
    match (document.get("accounts"), document.get("shard")) {
        (None, None) => Ok(Selection::All),
        (Some(Value::Array(names)), None) => {
            let names: Option<BTreeSet<&str>> = names.iter().map(Value::as_str).collect();
            let names = names.filter(|names| names.iter().all(|name| is_account_name(name) || *name == NO_NAME));
            Ok(Selection::listed(names.ok_or("its accounts are not names")?))
        }
        (None, Some(shard)) => {
            let shard = shard.as_str().and_then(Shard::parse);
            Ok(Selection::Shard(shard.ok_or("its shard is none")?))
        }
        (Some(_), _) => Err("its accounts do not read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_back() {
        let mut streams = Streams::default();
        for selection in [
            Selection::All,
            Selection::listed(["a", "b.c", NO_NAME]),
            Selection::listed([]),
            Selection::Shard(Shard { index: 3, of: 16 }),
        ] {
            streams = streams.with_selection(selection.clone());
            for cell in [None, Some(3)] {
                let scope = Scope { cell, streams: streams.clone() };
                assert_eq!(Scope::read(&scope.text()), Ok(scope.clone()), "{}", scope.text());
            }
            assert_eq!(read_selection(&selection_text(&selection)), Ok(selection));
        }
        for text in ["", "[]", r#"{"streams":[{"kind":"x","name":"a"}]}"#, r#"{"streams":[],"shard":"9/3"}"#] {
            assert!(Scope::read(text).is_err(), "{text}");
        }
        for text in [r#"{"accounts":["a/b"]}"#, r#"{"accounts":["a"],"shard":"1/2"}"#, r#"{"accounts":1}"#] {
            assert!(read_selection(text).is_err(), "{text}");
        }
    }
}
