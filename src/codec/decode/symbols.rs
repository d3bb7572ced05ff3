//! Names of symbols and accounts, and their indices.

use std::collections::{BTreeSet, HashMap};

use super::super::line::{FieldValue, Fields};
use super::super::{number, symbol};
use super::account::Accounts;
use super::recent::Recent;
use crate::domain::engine::Engine;
use crate::domain::event::Reason;
use crate::domain::event::ids::SymbolId;
use crate::domain::event::streams::SYMBOLS_MAX;

/// Indices of symbols, in the order in which they were first seen.
///
/// The engine keeps the same table: [`Symbols::take_new`] returns the new names, in order.
#[derive(Debug)]
pub struct Symbols {
    /// Names come from outside, so the seed differs in every process. The map is never iterated.
    by_name: HashMap<Box<str>, SymbolId, foldhash::fast::RandomState>,
    names: Vec<Box<str>>,
    /// By index: an entry other than a price has named the symbol.
    named: Vec<bool>,
    /// Number of symbols that prices alone have named, and its limit. [1]
    priced: usize,
    pub(super) priced_max: usize,
    handed_over: usize,
    /// Plain names that were interned recently.
    recent: Recent,
    pub(super) accounts: Accounts,
}

impl Default for Symbols {
    fn default() -> Self {
        Self {
            by_name: HashMap::default(),
            names: Vec::new(),
            named: Vec::new(),
            priced: 0,
            priced_max: SYMBOLS_MAX,
            handed_over: 0,
            recent: Recent::default(),
            accounts: Accounts::default(),
        }
    }
}

impl Symbols {
    /// Creates a table with the symbols and accounts of an engine.
    pub fn of(engine: &Engine) -> Self {
        let mut symbols = Self::default();
        for symbol in engine.symbols() {
            symbols.add(&symbol.name, symbol.named);
        }
        symbols.handed_over = symbols.names.len();
        symbols.accounts = Accounts::of(engine);
        symbols
    }

    /// Returns the index of a name that an entry other than a price names. A new name is added.
    pub fn intern(&mut self, name: &str) -> SymbolId {
        match self.by_name.get(name) {
            Some(&id) => self.name(id),
            None => self.add(name, true),
        }
    }

    /// Returns the index of a name that a price names. Errors if the name is new and prices have introduced as many as
    /// the limit allows.
    pub(super) fn intern_priced(&mut self, name: &str) -> Result<SymbolId, Reason> {
        match self.by_name.get(name) {
            Some(&id) => Ok(id),
            None if self.priced >= self.priced_max => Err(Reason::TooManySymbols),
            None => Ok(self.add(name, false)),
        }
    }

    fn add(&mut self, name: &str, named: bool) -> SymbolId {
        let id = SymbolId(self.names.len() as u32);
        self.names.push(name.into());
        self.named.push(named);
        self.priced += usize::from(!named);
        self.by_name.insert(name.into(), id);
        id
    }

    /// Notes that an entry other than a price names a symbol.
    fn name(&mut self, id: SymbolId) -> SymbolId {
        if !std::mem::replace(&mut self.named[id.0 as usize], true) {
            self.priced -= 1;
        }
        id
    }

    /// Returns the index of a symbol in the plain form of producers, upper case and digits, or `None` for any other
    /// text.
    pub(super) fn intern_plain(&mut self, name: &[u8]) -> Option<SymbolId> {
        if let Some(id) = self.recent.get(name) {
            return Some(self.name(id));
        }
        let id = self.intern(plain(name)?);
        self.recent.put(name, id);
        Some(id)
    }

    /// Returns the same for a price. Also returns `None` for a symbol over the limit.
    pub(super) fn intern_plain_priced(&mut self, name: &[u8]) -> Option<SymbolId> {
        if let Some(id) = self.recent.get(name) {
            return Some(id);
        }
        let id = self.intern_priced(plain(name)?).ok()?;
        self.recent.put(name, id);
        Some(id)
    }

    /// Returns the known symbols whose names are words of the fields, in the order in which they were first seen.
    pub(super) fn named_in(&self, fields: &Fields<'_>) -> Box<[SymbolId]> {
        let mut named = BTreeSet::new();
        for (name, value) in &fields.pairs {
            let value = match value {
                FieldValue::Text(text) => text.clone(),
                FieldValue::Bytes(bytes) => String::from_utf8_lossy(bytes),
            };
            let known = symbol::words(name).chain(symbol::words(&value)).filter_map(|word| self.by_name.get(&*word));
            named.extend(known.copied());
        }
        named.into_iter().collect()
    }

    /// Returns all names.
    pub fn names(&self) -> NewNames {
        NewNames { symbols: self.names.clone(), accounts: self.accounts.names.clone() }
    }

    /// Returns the names that were added since the last call.
    pub fn take_new(&mut self) -> NewNames {
        let symbols = self.names[self.handed_over..].to_vec();
        self.handed_over = self.names.len();
        NewNames { symbols, accounts: self.accounts.take_new() }
    }
}

/// Names that were added, in the order of their indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNames {
    pub symbols: Vec<Box<str>>,
    pub accounts: Vec<Box<str>>,
}

impl NewNames {
    /// Names them to an engine, before an entry with one of them is folded.
    pub fn tell(&self, engine: &mut Engine) {
        for name in &self.symbols {
            engine.intern(name);
        }
        for name in &self.accounts {
            engine.intern_account(name);
        }
    }
}

/// Returns the name as text, if it is in plain form and not a word for "absent".
fn plain(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name)
        .ok()
        .filter(|text| symbol::is_plain(text) && text.len() <= symbol::NAME_SIZE_MAX && !number::is_absent_word(text))
}
