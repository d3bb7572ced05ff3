//! Accounts: their names in entries, and their indices.

use std::collections::HashMap;

use crate::codec::object::{Envelope, Object};
use crate::domain::engine::Engine;
use crate::domain::event::Reason;
use crate::domain::event::ids::AccountId;

/// Names of the account.
pub(in crate::codec) const ACCOUNTS: [&str; 2] = ["account", "account_id"];
/// Maximum length of the name of an account. [bytes]
const NAME_SIZE_MAX: usize = 64;

/// Indices of accounts, in the order in which they were first named. The account without a name is the first.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Names come from outside, so the seed differs in every process. The map is never iterated.
    by_name: HashMap<Box<str>, AccountId, foldhash::fast::RandomState>,
    /// From index 1 on.
    pub names: Vec<Box<str>>,
    handed_over: usize,
}

impl Accounts {
    pub fn of(engine: &Engine) -> Self {
        let mut accounts = Self::default();
        for account in engine.accounts().iter().skip(1) {
            accounts.intern(&account.name);
        }
        accounts.handed_over = accounts.names.len();
        accounts
    }

    /// Returns the index of a name. A new name is added.
    pub fn intern(&mut self, name: &str) -> AccountId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        self.names.push(name.into());
        let id = AccountId(self.names.len() as u32);
        self.by_name.insert(name.into(), id);
        id
    }

    /// Returns the names that were added since the last call.
    pub fn take_new(&mut self) -> Vec<Box<str>> {
        let new = self.names[self.handed_over..].to_vec();
        self.handed_over = self.names.len();
        new
    }
}

/// Returns true for the name of an account: 1 to 64 letters and digits of ASCII, `_`, `-` and `.`.
pub fn is_account_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=NAME_SIZE_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

/// The name of an account, where there is one.
type Name = Option<Box<str>>;

/// Returns the account that an entry names, as written: in its object, or in the flat fields beside it. Errors if it is
/// no name, or if the two differ.
pub(super) fn name(object: &Object<'_>) -> Result<Name, Reason> {
    let (own, beside) = names(object)?;
    match (own, beside) {
        (Some(own), Some(beside)) if own != beside => Err(Reason::UnknownAccount),
        (own, beside) => Ok(own.or(beside)),
    }
}

/// Returns the account that the object of a control entry names. The fields beside it are not signed, so they may only
/// repeat it. Errors as [`name`].
pub(super) fn signed_name(object: &Object<'_>) -> Result<Name, Reason> {
    let (own, beside) = names(object)?;
    if beside.is_some() && beside != own { Err(Reason::UnknownAccount) } else { Ok(own) }
}

/// Returns the account of an object, and the one beside it. A flat object has none beside it.
fn names(object: &Object<'_>) -> Result<(Name, Name), Reason> {
    let beside = match object.envelope {
        Envelope::Flat => None,
        Envelope::Payload | Envelope::Data => read(&object.beside())?,
    };
    Ok((read(object)?, beside))
}

fn read(object: &Object<'_>) -> Result<Name, Reason> {
    let read = object.with_text(&ACCOUNTS, |name| is_account_name(name).then(|| name.into()));
    match read {
        Ok(None) => Ok(None),
        Ok(Some(Some(name))) => Ok(Some(name)),
        Err(Reason::NotUtf8) => Err(Reason::NotUtf8),
        Ok(Some(None)) | Err(_) => Err(Reason::UnknownAccount),
    }
}
