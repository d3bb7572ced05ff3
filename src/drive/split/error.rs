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
    #[error("{}", .0.says())]
    NotRead(NotRead),
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

/// Streams that the old cells read, and a new cell does not.
#[derive(Debug)]
pub struct NotRead {
    pub cell: u32,
    pub kind: StreamKind,
    /// The streams, each with its account if it has one.
    pub streams: Vec<(String, Option<String>)>,
}

impl NotRead {
    fn says(&self) -> String {
        let Self { cell, kind, streams } = self;
        let names: Vec<String> = streams.iter().map(|(name, _)| format!("{name:?}")).collect();
        let accounts: Vec<String> =
            streams.iter().filter_map(|(name, account)| Some(format!("{name:?} = {:?}", account.as_ref()?))).collect();
        let accounts = match accounts.len() {
            0 => String::new(),
            _ => format!(", and to [streams.accounts]: {}", accounts.join(", ")),
        };
        let names = names.join(", ");
        let kind = kind.name();
        format!(
            "the old cells read streams that the new cell {cell} does not read in the same way, so it would not know their \
             entries. Add to streams.{kind} of the new cells, beside their own: {names}{accounts}"
        )
    }
}
