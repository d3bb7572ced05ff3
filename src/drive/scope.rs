//! The scope that a journal states. A replay of the journal reads the streams and accounts that its service read,
//! whatever the configuration states.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::codec::scope::Scope;
use crate::config::Config;
use crate::shell::history::Input;
use crate::shell::journal::Journal;

/// Two journals of one history state different things.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journals {} ({}) and {} ({}) are of different cells: give those of one cell",
    one.0.display(), one.1, other.0.display(), other.1
)]
pub struct ScopesDiffer {
    /// A journal, and what it states.
    one: Box<(PathBuf, Scope)>,
    other: Box<(PathBuf, Scope)>,
}

/// Returns the configuration for a history: that of the journals among its inputs, where they state what they are for.
/// Errors if two of them state different things.
pub fn over<'c>(config: &'c Config, inputs: &[Input]) -> Result<Cow<'c, Config>, ScopesDiffer> {
    let mut stated: Option<(Scope, PathBuf)> = None;
    for input in inputs {
        let Input::Path(path) = input else { continue };
        // An input that cannot be read is reported when it is opened.
        let Some(scope) = Journal::scope_of(path).ok().flatten() else { continue };
        match stated {
            Some((one_is, one)) if one_is != scope => {
                return Err(ScopesDiffer { one: Box::new((one, one_is)), other: Box::new((path.clone(), scope)) });
            }
            Some(_) | None => stated = Some((scope, path.clone())),
        }
    }
    Ok(match stated {
        None => Cow::Borrowed(config),
        Some((scope, _)) => Cow::Owned(config.with_scope(&scope)),
    })
}
