//! The input of a decoder of one kind, and its findings.

use super::super::object::Object;
use super::super::symbol;
use super::symbols::Symbols;
use super::{account, position};
use crate::domain::event::ids::{AccountId, EntryId, StreamId, SymbolId};
use crate::domain::event::{PositionSide, Reason};

/// The input of a decoder of one kind, and its findings.
pub(super) struct Subject<'a> {
    pub(super) object: Object<'a>,
    pub(super) stream: StreamId,
    pub(super) id: EntryId,
    pub(super) symbols: &'a mut Symbols,
    /// The shape, once it is known more exactly than by the envelope.
    pub(super) shape: &'static str,
    pub(super) symbol: Option<SymbolId>,
    /// The account that the configuration gives to the stream.
    pub(super) stream_account: AccountId,
    /// The account that it names, or the one of its stream; the one without a name until a kind reads it.
    pub(super) account: AccountId,
    pub(super) position_side: Option<PositionSide>,
    pub(super) refusal: bool,
    pub(super) kills: bool,
    pub(super) gap: bool,
}

impl Subject<'_> {
    /// Returns the symbol of the object, in its normal spelling.
    pub(super) fn symbol(&mut self) -> Result<SymbolId, Reason> {
        let id = optional_symbol(&self.object, self.symbols)?.ok_or(Reason::NoSymbol)?;
        self.symbol = Some(id);
        Ok(id)
    }

    /// Reads the account. Errors if its name is not the name of an account.
    pub(super) fn account(&mut self) -> Result<AccountId, Reason> {
        Ok(self.take_account(account::name(&self.object)?))
    }

    /// Reads the account of a control entry.
    pub(super) fn signed_account(&mut self) -> Result<AccountId, Reason> {
        Ok(self.take_account(account::signed_name(&self.object)?))
    }

    fn take_account(&mut self, name: Option<Box<str>>) -> AccountId {
        self.account = match name {
            Some(name) => self.symbols.accounts.intern(&name),
            None => self.stream_account,
        };
        self.account
    }

    /// Reads the position side. Errors if it is another word.
    pub(super) fn position_side(&mut self) -> Result<Option<PositionSide>, Reason> {
        self.position_side = position::position_side(&self.object)?;
        Ok(self.position_side)
    }

    /// Returns the symbol of a price. Errors if it is over the limit.
    pub(super) fn priced_symbol(&mut self) -> Result<SymbolId, Reason> {
        let intern = |name: &str| self.symbols.intern_priced(name);
        let id = with_symbol(&self.object, intern)?.ok_or(Reason::NoSymbol)??;
        self.symbol = Some(id);
        Ok(id)
    }
}

pub(super) fn optional_symbol(object: &Object<'_>, symbols: &mut Symbols) -> Result<Option<SymbolId>, Reason> {
    with_symbol(object, |name| symbols.intern(name))
}

pub(super) fn with_symbol<T>(object: &Object<'_>, mut take: impl FnMut(&str) -> T) -> Result<Option<T>, Reason> {
    object.with_text(&["symbol"], |text| symbol::normalized(text).map(|name| take(&name)))?.transpose()
}
