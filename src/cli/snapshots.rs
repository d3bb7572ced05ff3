//! `harvester snapshots`: lists or verifies the snapshots beside a store.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Value, json};

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
        let all: Vec<Value> = looked.iter().map(Looked::as_json).collect();
        super::json::write(out, &all)?;
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

/// A snapshot that was examined.
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

    fn as_json(&self) -> Value {
        let mut object = json!({"file": self.path.display().to_string(), "fault": self.fault});
        if let Some(head) = &self.head {
            object["last"] = head.last.as_str().into();
            object["journal"] = head.journal.into();
            object["state"] = head.state.as_str().into();
            object["rules"] = head.rules.as_str().into();
            object["policy"] = head.policy.as_str().into();
            object["cursors"] = json!(head.cursors);
        }
        object
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
