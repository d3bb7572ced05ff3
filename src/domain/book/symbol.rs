//! The state of a symbol that all its books share: its prices, its instrument, its intents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::intents::{INTENT_MEMORY_MS, Intents};
use super::rescale::Rescale;
use crate::domain::event::ids::{AccountId, EntryId};
use crate::domain::event::{Direction, Entry, ExitIntent, Instrument, Intent, PriceSource};
use crate::domain::units::{Price, Qty};

/// A price in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// [quote per base]
    pub price: Price,
    pub source: PriceSource,
    pub entry: EntryId,
}

impl Mark {
    /// Returns true if an entry reported the price. Entries of other streams can have the same id.
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.entry == entry.id && self.source.is_of(entry.stream, entry.kind)
    }
}

/// The state of a symbol that belongs to none of its books alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symbol {
    pub name: Box<str>,
    pub mark: Option<Mark>,
    /// A price that is not near the used one and waits for the next price.
    pub held_price: Option<Mark>,
    pub instrument: Option<Instrument>,
    /// An entry other than a price has named the symbol.
    pub named: bool,
    /// The rescales of the contract that look-ups have shown, oldest first, as long as a value from before them may be
    /// used.
    pub rescales: Vec<Rescale>,
    /// The intents that name no account. They are for the books of all accounts.
    pub intents: Intents,
    /// The intents of accounts, each for the books of its account.
    pub of_accounts: BTreeMap<AccountId, Intents>,
}

impl Symbol {
    pub fn step_size(&self) -> Option<Qty> {
        self.instrument.as_ref().and_then(|i| i.step_size)
    }

    /// Remembers a rescale of the contract, and forgets those from before all that is remembered.
    pub fn add_rescale(&mut self, rescale: Rescale) {
        let all = std::iter::once(&self.intents).chain(self.of_accounts.values());
        let stated = all.flat_map(|of| of.entries.front().into_iter().chain(&of.latest_long).chain(&of.latest_short));
        let oldest_ms = stated.map(|intent| intent.id.ms).min().unwrap_or(u64::MAX);
        // Plans are remembered as long as intents.
        let from_ms = oldest_ms.min(rescale.entry.id.ms.saturating_sub(INTENT_MEMORY_MS));
        self.rescales.retain(|known| known.entry.id.ms >= from_ms);
        self.rescales.push(rescale);
    }

    /// Returns the intents that name an account.
    pub fn intents_mut(&mut self, account: AccountId) -> &mut Intents {
        if account.is_named() { self.of_accounts.entry(account).or_default() } else { &mut self.intents }
    }

    /// Returns the intents that are for the books of an account: those without an account, and its own.
    fn intents_for(&self, account: AccountId) -> impl Iterator<Item = &Intents> {
        std::iter::once(&self.intents).chain(self.of_accounts.get(&account))
    }

    /// Returns the last entry intent with both risk fields, for the books of an account.
    pub fn latest_with_risk(&self, account: AccountId, direction: Direction) -> Option<&Intent> {
        self.intents_for(account).filter_map(|intents| intents.latest_with_risk(direction)).max_by_key(|i| i.id)
    }

    /// Returns the latest entry intent of a direction at or before a time, at most `age_max_ms` old then. At `now_ms` it
    /// must still be remembered. An older one is left until an entry of any account lets the symbol forget it, which
    /// must not change the result for this account.
    pub fn matching_intent(
        &self,
        account: AccountId,
        direction: Direction,
        (at_ms, now_ms): (u64, u64),
        age_max_ms: u64,
    ) -> Option<&Intent> {
        let remembered = self.intents_for(account).filter_map(|intents| intents.latest_at(direction, at_ms));
        let latest = remembered.max_by_key(|intent| intent.id);
        let is_remembered = |intent: &&Intent| intent.id.ms >= now_ms.saturating_sub(INTENT_MEMORY_MS);
        latest.filter(|intent| at_ms - intent.id.ms <= age_max_ms).filter(is_remembered)
    }

    /// Returns the remembered entry intents for the books of an account.
    pub fn entry_intents(&self, account: AccountId) -> impl Iterator<Item = &Intent> {
        self.intents_for(account).flat_map(|intents| &intents.entries)
    }

    /// Returns the remembered exit intents, the latest first: all of them where the account is not named.
    pub fn exit_intents(&self, account: AccountId) -> impl Iterator<Item = &ExitIntent> {
        self.intents_joined(account).flat_map(|intents| intents.exits.iter().rev())
    }

    /// Returns the remembered entry intents that a plan of an account may have been made from, the latest first.
    pub fn joined_intents(&self, account: AccountId) -> impl Iterator<Item = &Intent> {
        self.intents_joined(account).flat_map(|intents| intents.entries.iter().rev())
    }

    /// A plan without an account serves all accounts, so it can be made from an intent of any of them.
    fn intents_joined(&self, account: AccountId) -> impl Iterator<Item = &Intents> {
        let is_for = move |of: &AccountId| !account.is_named() || *of == account;
        let own = self.of_accounts.iter().filter(move |(of, _)| is_for(of)).map(|(_, intents)| intents);
        std::iter::once(&self.intents).chain(own)
    }

    /// Forgets intents that are too old. Returns the accounts (and the account without a name) that had any.
    pub fn forget_intents(&mut self, now_ms: u64) -> Vec<AccountId> {
        let mut changed: Vec<AccountId> = if self.intents.forget(now_ms) { vec![AccountId::NONE] } else { Vec::new() };
        for (account, intents) in &mut self.of_accounts {
            if intents.forget(now_ms) {
                changed.push(*account);
            }
        }
        changed
    }
}
