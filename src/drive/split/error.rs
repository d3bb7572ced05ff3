//! The reasons why cells cannot be split.

use std::io;
use std::path::PathBuf;
use std::str::Utf8Error;

use crate::codec::scope::Scope;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::keys::KeyError;
use crate::drive::pipeline::PassError;
use crate::shell::history::HistoryError;
use crate::shell::journal::JournalError;

/// A split that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("there are no cells")]
    NoCells,
    #[error(
        "the new cells would go on in {stream}, which an old cell has written: give streams.{} a name of its own, as \
         quantum:{{v2-cell-%cell%}}:…",
        kind.name()
    )]
    OldStream { stream: String, kind: StreamKind },
    #[error("{setting} {} of a new cell is that of an old one: give it a name of its own", dir.display())]
    OldFolder { setting: &'static str, dir: PathBuf },
    #[error("{setting} {} of a new cell exists already: move it aside", dir.display())]
    FolderExists { setting: &'static str, dir: PathBuf },
    #[error(
        "the old cells read {stream} (streams.{}), and the new cell {cell} does not read it in the same way",
        kind.name()
    )]
    NotRead { stream: String, kind: StreamKind, cell: u32 },
    #[error("{stream} is read twice")]
    ReadTwice { stream: String },
    #[error("the journal {} is of no cell", dir.display())]
    OfNoCell { dir: PathBuf },
    #[error("the journal {} is of {scope}, and its configuration reads {wanted}", dir.display())]
    OfOtherCell { dir: PathBuf, scope: Box<Scope>, wanted: Box<Scope> },
    #[error("{}: {what} (harvester journal verify {})", file.display(), dir.display())]
    Damaged { dir: PathBuf, file: PathBuf, what: String },
    #[error("the journal {} is empty", dir.display())]
    Empty { dir: PathBuf },
    #[error(
        "the journal {} begins with entry {first}: what was before is only in snapshots, and a split needs the whole \
         journal. Give the older files back",
        dir.display()
    )]
    NotWhole { dir: PathBuf, first: u64 },
    #[error("removing what an earlier split left in {}", dir.display())]
    Removing { dir: PathBuf, source: io::Error },
    #[error("{stream} has no id left after {last}")]
    NoIdLeft { stream: String, last: EntryId },
    #[error("the decision {id} has no payload")]
    NoPayload { id: EntryId },
    #[error("the payload of a control entry is no JSON object")]
    NoObject,
    #[error(transparent)]
    Fields(#[from] serde_json::Error),
    #[error(transparent)]
    Text(#[from] Utf8Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}
