//! What a journal states about itself: a replay of it reads the streams and accounts that its service read, whatever the
//! configuration says.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::bail;

use crate::codec::scope::Scope;
use crate::config::Config;
use crate::shell::history::Input;
use crate::shell::journal::Journal;

/// Returns the configuration for a history: that of the journals among its inputs, where they state what they are for.
/// Errors if two of them state different things.
pub fn over<'c>(config: &'c Config, inputs: &[Input]) -> anyhow::Result<Cow<'c, Config>> {
    let mut stated: Option<(Scope, PathBuf)> = None;
    for input in inputs {
        let Input::Path(path) = input else { continue };
        // An input that cannot be read is reported where it is opened.
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
