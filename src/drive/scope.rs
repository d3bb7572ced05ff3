//! The scope that a journal states. A replay of the journal reads the streams and accounts that its service read,
//! whatever the configuration states.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::bail;

use crate::codec::scope::Scope;
use crate::config::Config;
use crate::shell::history::Input;
use crate::shell::journal::Journal;

/// Returns the configuration for a history, with the scope that the journals among its inputs state. Errors if two of
/// them state different scopes.
pub fn over<'c>(config: &'c Config, inputs: &[Input]) -> anyhow::Result<Cow<'c, Config>> {
    let mut stated: Option<(Scope, PathBuf)> = None;
    for input in inputs {
        let Input::Path(path) = input else { continue };
        // An input that cannot be read is reported when it is opened.
        let Some(scope) = Journal::scope_of(path).ok().flatten() else { continue };
        if let Some((other, of)) = &stated
            && *other != scope
        {
            bail!(
                "the journals {} ({other}) and {} ({scope}) are of different cells: give those of one cell",
                of.display(),
                path.display()
            );
        }
        stated = Some((scope, path.clone()));
    }
    Ok(match stated {
        None => Cow::Borrowed(config),
        Some((scope, _)) => Cow::Owned(config.with_scope(&scope)),
    })
}
