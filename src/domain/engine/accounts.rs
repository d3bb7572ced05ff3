//! The state of an account: its mode, its policy, its kill switch, its recent decisions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::globals::Globals;
use crate::domain::event::ids::{AccountId, BookId, SymbolId};
use crate::domain::event::selection::Selection;
use crate::domain::exit::EvalContext;
use crate::domain::exit::policy::Policy;

/// An account, as it is kept in a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Empty for the account without a name.
    pub name: Box<str>,
    /// Its entries name LONG and SHORT (docs/spec/fold.md, "Hedged accounts").
    pub hedged: bool,
    /// It alone is killed. (The switch for all accounts is in the globals.)
    pub killed: bool,
    /// Its own policy; without one the general policy is in force.
    pub policy: Option<Policy>,
    /// Its policy was adopted by an entry, and is not only configured.
    pub policy_adopted: bool,
    /// Times of its decisions of the last minute. Those of the account without a name are in the globals. [ms since
    /// 1970]
    pub decided_ms: VecDeque<u64>,
}

/// A gap of every symbol that an operator accepted in part: of an account, of a symbol, or of a symbol in an account.
/// `None` is all of them.
pub type AcceptedGap = (Option<AccountId>, Option<SymbolId>);

/// All accounts, by index. The account without a name is the first.
#[derive(Clone, Debug)]
pub struct Accounts {
    list: Vec<Account>,
    by_name: BTreeMap<Box<str>, AccountId>,
    /// The policies in force of accounts with a policy of their own: their own keys, and the general keys for prices.
    in_force: Vec<Option<Policy>>,
    /// The LONG and SHORT books of each account.
    hedge_books: Vec<Vec<BookId>>,
    /// The accounts whose entries are read …
    selection: Selection,
    /// … and, by index, whether another cell reads an account.
    elsewhere: Vec<bool>,
    /// The books that are known later and have no gap, while every symbol has one.
    pub gaps_accepted: BTreeSet<AcceptedGap>,
    /// Changed since the last commit.
    touched: BTreeSet<AccountId>,
    /// Entries of accounts that nobody configured are applied in live mode too.
    pub(super) accepts_all: bool,
    /// An entry has named an account or a side, so an entry without them need not be of a one-way book.
    pub(super) is_split: bool,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::read_by(Selection::All)
    }
}

impl Accounts {
    /// Creates the accounts of an engine that reads the entries of some of them.
    pub(super) fn read_by(selection: Selection) -> Self {
        Self {
            list: vec![Account::default()],
            elsewhere: vec![!selection.contains("")],
            selection,
            by_name: BTreeMap::from([("".into(), AccountId::NONE)]),
            in_force: vec![None],
            hedge_books: vec![Vec::new()],
            gaps_accepted: BTreeSet::new(),
            touched: BTreeSet::new(),
            accepts_all: false,
            is_split: false,
        }
    }
}

impl Account {
    /// Returns true if nothing is known of it but its name, which may be from the configuration only.
    pub fn is_blank(&self) -> bool {
        *self == Self { name: self.name.clone(), ..Self::default() }
    }
}

impl Accounts {
    pub fn get(&self, id: AccountId) -> &Account {
        &self.list[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: AccountId) -> &mut Account {
        self.touched.insert(id);
        &mut self.list[id.0 as usize]
    }

    /// Returns the accounts that changed since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<AccountId> {
        std::mem::take(&mut self.touched)
    }

    pub fn find(&self, name: &str) -> Option<AccountId> {
        self.by_name.get(name).copied()
    }

    pub fn ids(&self) -> impl Iterator<Item = AccountId> + use<> {
        (0..self.list.len() as u32).map(AccountId)
    }

    /// Returns the accounts in the order of their indices; the account without a name is the first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Account> {
        self.list.iter()
    }

    /// Returns the index of an account by name. A new name is appended.
    pub(super) fn intern(&mut self, name: &str) -> AccountId {
        if let Some(id) = self.find(name) {
            return id;
        }
        self.push(Account { name: name.into(), ..Account::default() })
    }

    pub(super) fn push(&mut self, account: Account) -> AccountId {
        let id = AccountId(self.list.len() as u32);
        self.by_name.insert(account.name.clone(), id);
        self.list.push(account);
        self.in_force.push(None);
        self.hedge_books.push(Vec::new());
        self.elsewhere.push(!self.selection.contains(&self.list[id.0 as usize].name));
        self.touched.insert(id);
        self.is_split = true;
        id
    }

    /// Returns true if the entries of all accounts are read.
    #[inline]
    pub(super) fn reads_all(&self) -> bool {
        self.selection.is_all()
    }

    /// Returns true if another cell reads the entries of an account.
    pub fn is_elsewhere(&self, account: AccountId) -> bool {
        self.elsewhere[account.0 as usize]
    }

    /// Notes a LONG or SHORT book of an account.
    pub(super) fn add_hedge_book(&mut self, account: AccountId, book: BookId) {
        self.hedge_books[account.0 as usize].push(book);
        self.is_split = true;
    }

    pub(super) fn hedge_books(&self, account: AccountId) -> &[BookId] {
        &self.hedge_books[account.0 as usize]
    }

    /// Returns the policy in force of an account: its own, or else the general one.
    #[inline]
    pub(super) fn policy_of<'a>(&'a self, account: AccountId, globals: &'a Globals) -> &'a Policy {
        self.in_force[account.0 as usize].as_ref().unwrap_or(&globals.policy)
    }

    /// Returns the context of an evaluation for an account.
    #[inline]
    pub(super) fn context_of<'a>(&'a self, account: AccountId, globals: &'a Globals, now_ms: u64) -> EvalContext<'a> {
        if !account.is_named() {
            return EvalContext { now_ms, killed: globals.killed, decided_ms: &globals.decided_ms };
        }
        let of = self.get(account);
        EvalContext { now_ms, killed: globals.killed || of.killed, decided_ms: &of.decided_ms }
    }

    /// Drops the policies of accounts that are only configured: those were the ones before any adoption.
    pub(super) fn drop_configured(&mut self) {
        for account in self.ids() {
            if !self.get(account).policy_adopted && self.get(account).policy.is_some() {
                self.get_mut(account).policy = None;
            }
        }
    }

    /// Combines the policies of accounts with the general one. Settings for prices are always those of the general
    /// policy (docs/spec/fold.md, "Prices are general").
    pub(super) fn combine(&mut self, general: &Policy) {
        for (account, in_force) in self.list.iter().zip(&mut self.in_force) {
            *in_force = account.policy.as_ref().map(|own| Policy {
                price_sources: general.price_sources.clone(),
                max_price_age_ms: general.max_price_age_ms,
                max_price_jump: general.max_price_jump,
                price_confirm_ms: general.price_confirm_ms,
                ..own.clone()
            });
        }
    }

    /// Returns true if the gap of every symbol was accepted for a book.
    pub(super) fn is_gap_accepted(&self, account: AccountId, symbol: SymbolId) -> bool {
        let is_of =
            |(of, named): &AcceptedGap| of.is_none_or(|of| of == account) && named.is_none_or(|named| named == symbol);
        self.gaps_accepted.iter().any(is_of)
    }

    /// Returns true if nothing but one-way books of the account without a name was ever named.
    pub fn is_plain(&self) -> bool {
        !self.is_split
    }
}
