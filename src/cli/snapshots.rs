//! `harvester snapshots`: lists or verifies the snapshots beside a store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use super::exit_code::Found;
use crate::codec::causes::with_causes;
use crate::codec::plural::plural;
use crate::codec::snapshot::{self, BadSnapshot, Head};
use crate::codec::time;
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::drive::snapshots::{folder_of, restored};
use crate::shell::snapshots;
use crate::shell::terminal::{Screen, Tone};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the snapshots of a store
    #[command(after_help = "Example: harvester snapshots list --store state")]
    List(Args),
    /// Load each snapshot and compare its state with its checksum
    #[command(after_help = "Example: harvester snapshots verify --store state
Exit code 1: one of them is not what was written.")]
    Verify(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the store; the snapshots are beside it, in DIR.snapshots
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let (Command::List(args) | Command::Verify(args)) = command;
    let dir = folder_of(&args.store);
    let files = snapshots::list(&dir, snapshot::last_of_name)?;
    let is_verify = matches!(command, Command::Verify(_));
    if files.is_empty() && is_verify {
        bail!(
            "there are no snapshots in {}: `harvester run` and `harvester replay --snapshot-every N` take them",
            dir.display()
        );
    }
    let looked: Vec<Looked> = files.into_iter().map(|(_, path)| Looked::at(path, is_verify, config)).collect();
    if args.json {
        super::json::write(out, &looked.iter().map(Looked::document).collect::<Vec<_>>())?;
    } else {
        show(&looked, is_verify, &mut Screen::stdout(out))?;
    }
    match looked.iter().filter(|looked| looked.fault.is_some()).count() {
        bad if bad > 0 && is_verify => {
            Err(Found(format!("{bad} snapshots in {} are not as they were written", dir.display())).into())
        }
        _ => Ok(()),
    }
}

/// The result of examining a snapshot.
struct Looked {
    path: PathBuf,
    head: Option<Head>,
    fault: Option<String>,
}

impl Looked {
    fn at(path: PathBuf, whole: bool, config: &Config) -> Self {
        let read = snapshots::read(&path).map_err(|error| error.to_string());
        let read = read.and_then(|bytes| snapshot::read(&bytes).map_err(|error: BadSnapshot| error.to_string()));
        let (head, mut fault) = match read {
            Ok(snapshot) => (Some(snapshot.head), None),
            Err(error) => (None, Some(error)),
        };
        if fault.is_none() && whole {
            fault = restored(&path, config).err().map(|error| with_causes(&error));
        }
        Self { path, head, fault }
    }

    fn document(&self) -> Document<'_> {
        let (file, fault) = (self.path.display().to_string(), self.fault.as_deref());
        Document { file, fault, head: self.head.as_ref().map(HeadDocument::of) }
    }
}

/// One snapshot in the document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    file: String,
    fault: Option<&'a str>,
    /// `None` if the file could not be read.
    #[serde(flatten)]
    head: Option<HeadDocument<'a>>,
}

#[derive(Serialize)]
struct HeadDocument<'a> {
    last: &'a str,
    journal: Option<u64>,
    state: &'a str,
    rules: &'a str,
    policy: &'a str,
    cursors: &'a BTreeMap<String, String>,
}

impl<'a> HeadDocument<'a> {
    fn of(head: &'a Head) -> Self {
        Self {
            last: &head.last,
            journal: head.journal,
            state: &head.state,
            rules: &head.rules,
            policy: &head.policy,
            cursors: &head.cursors,
        }
    }
}

fn show(looked: &[Looked], is_verify: bool, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let row = |looked: &Looked| {
        let of_head = |get: fn(&Head) -> String| looked.head.as_ref().map(get).unwrap_or_default();
        let verdict = match &looked.fault {
            Some(fault) => (fault.clone(), Tone::Bad),
            None if is_verify => ("good".to_owned(), Tone::Good),
            None => (String::new(), Tone::Plain),
        };
        vec![
            (
                of_head(|head| head.last.parse::<EntryId>().map_or_else(|_| String::new(), |id| time::iso(id.ms))),
                Tone::Plain,
            ),
            (of_head(|head| head.last.clone()), Tone::Plain),
            (of_head(|head| head.journal.map_or_else(|| "-".to_owned(), |position| position.to_string())), Tone::Plain),
            (of_head(|head| head.state[..16].to_owned()), Tone::Dim),
            verdict,
        ]
    };
    screen.table(&["TIME", "LAST ENTRY", "JOURNAL", "STATE", ""], &[2], looked.iter().map(row).collect())?;
    screen.line(&plural(looked.len(), "snapshot"))?;
    Ok(())
}
