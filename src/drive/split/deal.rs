//! How an entry of an old cell's own streams gets into the journal of a new cell.
//!
//! | entry | becomes |
//! |---|---|
//! | decision of an account of the new cell | the same payload, sealed again: a number and a hash of the new chain |
//! | decision that no cell believes | as it was, under the new name: it is not believed there, either |
//! | observation of an account, control entry of an account | the same, in the cell of that account |
//! | other observation, other control entry | the same, in all new cells |
//! | gap that was accepted for a whole cell | one entry for each account that the two cells share |
//!
//! Ids do not change. Only if two old streams have the same id, the second entry gets the next one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{NewCell, SplitError};
use crate::codec::line::{self, FieldValue, Fields};
use crate::codec::seal::chained;
use crate::codec::signing::{SigningKey, control_text};
use crate::config::Config;
use crate::domain::book::plans::sha256_hex;
use crate::domain::book::state::account_of_position;
use crate::domain::engine::{ChainHead, Engine};
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::event::{Control, Entry, Event};
use crate::shell::journal::Journal;

/// Digits of the nonce of an entry that replaces one for all accounts. [1]
const NONCE_DIGITS: usize = 32;

/// An old cell.
pub struct Owner {
    streams: Streams,
    /// Its accounts that have a name.
    accounts: BTreeSet<Box<str>>,
}

impl Owner {
    pub fn of(config: &Config, engine: &Engine) -> Self {
        let selection = config.streams.selection();
        let names = engine.accounts().iter().map(|account| &account.name);
        let accounts = names.filter(|name| !name.is_empty() && selection.contains(name)).cloned().collect();
        Self { streams: config.streams.clone(), accounts }
    }

    fn reads(&self, account: &str) -> bool {
        self.streams.selection().contains(account)
    }
}

/// A new cell whose journal is being written.
pub struct Target<'c> {
    config: &'c Config,
    pub journal: Journal,
    /// The last id and the number of entries, by own stream.
    own: BTreeMap<String, (EntryId, u64)>,
    /// Entries that got another id, by old stream and id.
    moved: BTreeMap<(String, EntryId), EntryId>,
    chain: ChainHead,
    /// Its decisions. A decision that was written again is carried once.
    decisions: BTreeSet<Box<str>>,
    entries: u64,
}

impl<'c> Target<'c> {
    pub fn new(config: &'c Config, journal: Journal) -> Self {
        let (own, moved, chain, decisions) = Default::default();
        Self { config, journal, own, moved, chain, decisions, entries: 0 }
    }

    fn selection(&self) -> &'c Selection {
        self.config.streams.selection()
    }

    /// Returns true if the cell reads a stream under this name.
    pub fn reads(&self, stream: &str) -> bool {
        self.config.streams.id_of(stream).is_some()
    }

    /// Returns the stream of a kind that belongs to the cell.
    fn stream_of(&self, kind: StreamKind) -> &'c str {
        let first = self.config.streams.iter().find(|(_, stream)| stream.kind == kind);
        first.map_or(kind.default_stream(), |(_, stream)| &stream.name)
    }

    /// Appends a line of a stream that the cell reads.
    pub fn append(&mut self, line: &str, stream: &str, id: EntryId) {
        if self.config.streams.id_of(stream).is_some_and(|of| super::is_own(self.config.streams.kind(of))) {
            self.note(stream, id);
        }
        self.journal.append(line, id.ms);
        self.entries += 1;
    }

    fn note(&mut self, stream: &str, id: EntryId) {
        let (last, count) = self.own.entry(stream.to_owned()).or_default();
        *last = id;
        *count += 1;
    }

    /// Appends an entry of an old stream to the new cell's stream of the same kind. The ids of a stream only grow.
    fn carry(&mut self, from: &Stream, id: EntryId, fields: &Fields<'_>) -> Result<(), SplitError> {
        let to = self.stream_of(from.kind);
        let last = self.own.get(to).map_or(EntryId::default(), |(last, _)| *last);
        let free = if id > last { Some(id) } else { last.next() };
        let Some(free) = free else { return Err(SplitError::NoIdLeft { stream: to.to_owned(), last }) };
        if free != id {
            self.moved.insert((from.name.clone(), id), free);
        }
        self.note(to, free);
        self.journal.append(&line::write(to, &free.to_string(), fields), free.ms);
        self.entries += 1;
        Ok(())
    }

    /// Closes the journal.
    pub fn finish(self) -> Result<NewCell, SplitError> {
        self.journal.close()?;
        let own = self.own.into_iter().map(|(stream, (last, count))| (stream, last, count)).collect();
        Ok(NewCell { accounts: 0, open: 0, entries: self.entries, decisions: self.chain.seq, own })
    }
}

/// Deals the entries of old cells.
pub struct Dealer {
    owners: Vec<Owner>,
    key: Option<SigningKey>,
    /// The account of each decision.
    decided: BTreeMap<Box<str>, Box<str>>,
}

impl Dealer {
    pub fn new(owners: Vec<Owner>, key: Option<SigningKey>) -> Self {
        Self { owners, key, decided: BTreeMap::new() }
    }

    /// Writes the new form of an entry into the journal of a new cell. `account` is the name of the entry's account.
    pub fn deal(
        &mut self,
        stream: &Stream,
        entry: &Entry,
        account: &str,
        fields: &Fields<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), SplitError> {
        match &entry.content {
            Ok(Event::Decision(fact)) if fact.is_sealed && !fact.is_early => {
                self.decided.insert(fact.decision_id.clone(), account.into());
                if self.is_of_both(stream, account, to) && to.decisions.insert(fact.decision_id.clone()) {
                    let sealed = self.sealed(fields, entry.id, to)?;
                    to.carry(stream, entry.id, &sealed)?;
                }
                Ok(())
            }
            Ok(Event::Control(fact)) => self.control(stream, entry, (&fact.control, account), fields, to),
            Ok(Event::Position(_) | Event::Legacy(_)) if !self.is_of_both(stream, account, to) => Ok(()),
            Ok(Event::Trade(_)) if !account.is_empty() && !self.is_of_both(stream, account, to) => Ok(()),
            Ok(_) => to.carry(stream, entry.id, fields),
            Err(_) => to.carry(stream, entry.id, fields),
        }
    }

    /// Returns true if an account belongs both to the cell that wrote a stream and to the new cell.
    fn is_of_both(&self, stream: &Stream, account: &str, to: &Target<'_>) -> bool {
        let is_owner = |owner: &&Owner| owner.streams.id_of(&stream.name).is_some();
        self.owners.iter().filter(is_owner).any(|owner| owner.reads(account)) && to.selection().contains(account)
    }

    /// Returns a decision as the next one of the new chain, with its payload unchanged.
    fn sealed<'f>(&self, fields: &Fields<'f>, id: EntryId, to: &mut Target<'_>) -> Result<Fields<'f>, SplitError> {
        let Some(FieldValue::Text(payload)) = fields.get("payload") else { return Err(SplitError::NoPayload { id }) };
        let hash = chained(&to.chain.hash, payload);
        let mut sealed = fields.clone();
        sealed.pairs.retain(|(name, _)| !["signature", "again"].contains(&&**name));
        set(&mut sealed, "seq", (to.chain.seq + 1).to_string());
        set(&mut sealed, "prev", to.chain.hash.to_string());
        set(&mut sealed, "hash", hash.clone());
        if let Some(key) = &self.key {
            set(&mut sealed, "signature", key.sign(&hash));
        }
        to.chain = ChainHead { seq: to.chain.seq + 1, hash: hash.into() };
        Ok(sealed)
    }

    fn control(
        &self,
        stream: &Stream,
        entry: &Entry,
        (control, account): (&Control, &str),
        fields: &Fields<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), SplitError> {
        let of_account = |account: &str, to: &Target<'_>| account.is_empty() || self.is_of_both(stream, account, to);
        let (renamed, is_for_it) = match control {
            Control::PolicyAdopted(_) | Control::KillChanged { .. } => (None, of_account(account, to)),
            Control::GapAccepted if account.is_empty() => return self.accept_for_each(stream, entry.id, fields, to),
            Control::GapAccepted => (None, of_account(account, to)),
            Control::RiskAccepted { position_id } | Control::RungRearmed { position_id, .. } => {
                (None, self.is_of_both(stream, account_of_position(position_id), to))
            }
            Control::DecisionExpired { decision_id } => {
                let account = self.decided.get(decision_id);
                (None, account.is_none_or(|account| self.is_of_both(stream, account, to)))
            }
            Control::HistoryGap { stream: named, .. } => (self.renamed(named, None, to), true),
            Control::EntrySkipped { stream: named, id } => (self.renamed(named, Some(*id), to), true),
        };
        if !is_for_it {
            return Ok(());
        }
        let mut carried = fields.clone();
        for (name, value) in renamed.into_iter().flatten() {
            set_in_payload(&mut carried, name, value)?;
        }
        self.sign(stream, entry.id, fields, &mut carried, to);
        to.carry(stream, entry.id, &carried)
    }

    /// Returns the fields that name a stream of an old cell, with its new name.
    fn renamed(&self, named: &str, id: Option<EntryId>, to: &Target<'_>) -> Option<Vec<(&'static str, String)>> {
        let known = self.owners.iter().find_map(|owner| Some(owner.streams.get(owner.streams.id_of(named)?)));
        let kind = known.filter(|_| !to.reads(named)).map(|stream| stream.kind).filter(|kind| super::is_own(*kind))?;
        let moved = id.and_then(|id| to.moved.get(&(named.to_owned(), id)));
        let id = moved.map(|id| ("id", id.to_string()));
        Some([("stream", to.stream_of(kind).to_owned())].into_iter().chain(id).collect())
    }

    /// Accepts a gap for each account that the old and the new cell share. A gap cannot be accepted for the account
    /// without a name alone, so its gaps stay.
    fn accept_for_each(
        &self,
        stream: &Stream,
        id: EntryId,
        fields: &Fields<'_>,
        to: &mut Target<'_>,
    ) -> Result<(), SplitError> {
        let owners = self.owners.iter().filter(|owner| owner.streams.id_of(&stream.name).is_some());
        let accounts: BTreeSet<&Box<str>> = owners.flat_map(|owner| &owner.accounts).collect();
        let selection = to.selection();
        for account in accounts.into_iter().filter(|account| selection.contains(account)) {
            let mut of_account = fields.clone();
            set_in_payload(&mut of_account, "account", account.to_string())?;
            if let Some(nonce) = in_payload(fields, "nonce") {
                let nonce = sha256_hex(format!("{nonce}\n{account}").as_bytes());
                set_in_payload(&mut of_account, "nonce", nonce[..NONCE_DIGITS].to_owned())?;
            }
            self.sign(stream, id, fields, &mut of_account, to);
            to.carry(stream, id, &of_account)?;
        }
        Ok(())
    }

    /// Signs the entry again if it was signed, because a signature covers the name of the stream.
    fn sign(&self, stream: &Stream, id: EntryId, before: &Fields<'_>, after: &mut Fields<'_>, to: &Target<'_>) {
        let (Some(key), true) = (&self.key, before.has("signature")) else { return };
        let text = |fields: &Fields<'_>, stream: &str| {
            control_text(stream, text_of(fields, "event_type"), text_of(fields, "payload"))
        };
        if key.vouches(id, &text(before, &stream.name), Some(text_of(before, "signature"))) {
            let signature = key.sign(&text(after, to.stream_of(stream.kind)));
            set(after, "signature", signature);
        }
    }
}

fn text_of<'f>(fields: &'f Fields<'_>, name: &str) -> &'f str {
    match fields.get(name) {
        Some(FieldValue::Text(text)) => text,
        Some(FieldValue::Bytes(_)) | None => "",
    }
}

fn set(fields: &mut Fields<'_>, name: &'static str, value: String) {
    let value = FieldValue::Text(Cow::Owned(value));
    match fields.pairs.iter_mut().rev().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => fields.pairs.push((name.into(), value)),
    }
}

fn payload_of(fields: &Fields<'_>) -> Option<Map<String, Value>> {
    serde_json::from_str(text_of(fields, "payload")).ok()
}

fn in_payload(fields: &Fields<'_>, name: &str) -> Option<String> {
    payload_of(fields)?.get(name)?.as_str().map(str::to_owned)
}

/// Sets a value where the entry has its values: in the payload, or as a field if it has none.
fn set_in_payload(fields: &mut Fields<'_>, name: &'static str, value: String) -> Result<(), SplitError> {
    match payload_of(fields) {
        Some(mut payload) => {
            payload.insert(name.to_owned(), value.into());
            set(fields, "payload", Value::Object(payload).to_string());
        }
        None if !fields.has("payload") => set(fields, name, value),
        None => return Err(SplitError::NoObject),
    }
    Ok(())
}
