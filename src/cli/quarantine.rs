//! `harvester quarantine`: the quarantined entries, their reasons, and how the present decoder reads them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::codec::plural::plural;
use crate::codec::shown;
use crate::codec::state::Quarantined;
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::drive::projection;
use crate::drive::quarantine::{self, Now};
use crate::shell::terminal::{Screen, Tone};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// List all quarantined entries
    #[command(after_help = "Example: harvester quarantine list --store state")]
    List {
        /// Folder of the store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show one entry in full
    #[command(after_help = "Example: harvester quarantine show --store state apply.result 1770163200000-0")]
    Show {
        /// Stream of the entry, as `quarantine list` shows it
        stream: String,
        /// Id of the entry, ms-seq
        id: String,
        /// Folder of the store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    /// Decode all of them, or one, with this version; nothing is changed
    #[command(after_help = "Example: harvester quarantine try --store state apply.result 1770163200000-0")]
    Try {
        /// Stream of one entry, as `quarantine list` shows it; without one, all of them
        #[arg(requires = "id")]
        stream: Option<String>,
        /// Id of that entry, ms-seq
        id: Option<String>,
        /// Folder of the store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: &Command, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::List { store, json } => list(store, *json, out),
        Command::Show { stream, id, store } => show(store, stream, id, out),
        Command::Try { stream, id, store, json } => {
            let one = stream.as_deref().zip(id.as_deref());
            try_again(store, one, config, *json, out)
        }
    }
}

/// One entry in the document of `list`.
#[derive(Serialize)]
struct Listed<'a> {
    stream: &'a str,
    id: String,
    reason: &'a str,
    line: &'a str,
}

impl<'a> Listed<'a> {
    fn of(entry: &'a Quarantined) -> Self {
        Self { stream: &entry.stream, id: entry.id.to_string(), reason: &entry.reason, line: &entry.line }
    }
}

/// One entry in the document of `try`.
#[derive(Serialize)]
struct Tried<'a> {
    stream: &'a str,
    id: String,
    was: &'a str,
    /// The shape as which it reads now.
    shape: Option<&'static str>,
    /// Why it still cannot be read.
    reason: Option<&'a str>,
}

impl<'a> Tried<'a> {
    fn of((entry, now): &'a (Quarantined, Now)) -> Self {
        let (shape, reason) = match now {
            Now::Reads(shape) => (Some(*shape), None),
            Now::Still(reason) => (None, Some(&**reason)),
        };
        Self { stream: &entry.stream, id: entry.id.to_string(), was: &entry.reason, shape, reason }
    }
}

/// Lists all quarantined entries.
fn list(store: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_, all) = projection::quarantined(store)?;
    if json {
        return super::json::write(out, &all.iter().map(Listed::of).collect::<Vec<_>>());
    }
    let mut screen = Screen::stdout(out);
    let cells = |q: &Quarantined| {
        let start: String = q.line.chars().take(80).collect();
        vec![
            (q.stream.clone(), Tone::Plain),
            (q.id.to_string(), Tone::Plain),
            (q.reason.clone(), Tone::Warning),
            (start, Tone::Dim),
        ]
    };
    screen.table(&["STREAM", "ID", "REASON", "ENTRY"], &[], all.iter().map(cells).collect())?;
    screen.line(&plural(all.len(), "entry"))?;
    Ok(())
}

/// Shows one quarantined entry completely.
fn show(store: &Path, stream: &str, id: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_, all) = projection::quarantined(store)?;
    let found = find(all, stream, id)?;
    writeln!(out, "{}", shown::shown(&found.reason))?;
    writeln!(out, "{}", shown::json(&found.line))?;
    Ok(())
}

/// Decodes quarantined entries again, all or one.
fn try_again(
    store: &Path,
    one: Option<(&str, &str)>,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (streams, mut all) = projection::quarantined(store)?;
    if let Some((stream, id)) = one {
        all = vec![find(all, stream, id)?];
    }
    let tried = quarantine::tried(streams, all, config)?;
    if json {
        return super::json::write(out, &tried.iter().map(Tried::of).collect::<Vec<_>>());
    }
    show_tried(&tried, &mut Screen::stdout(out))
}

fn show_tried(tried: &[(Quarantined, Now)], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let cells = |(aside, now): &(Quarantined, Now)| {
        let now = match now {
            Now::Reads(shape) => (format!("reads now as {shape}"), Tone::Good),
            Now::Still(reason) => (format!("still {reason}"), Tone::Warning),
        };
        let plain = |text: String| (text, Tone::Plain);
        vec![plain(aside.stream.clone()), plain(aside.id.to_string()), plain(aside.reason.clone()), now]
    };
    screen.table(&["STREAM", "ID", "WAS", "NOW"], &[], tried.iter().map(cells).collect())?;
    let reads = tried.iter().filter(|(_, now)| matches!(now, Now::Reads(_))).count();
    screen.line(&format!("{reads} of {} can be read", tried.len()))?;
    if reads > 0 {
        screen.line(
            "Nothing was changed. To apply an old entry is a rebuild: replay the history, with it in its place,",
        )?;
        screen.line("into a new store. One that reads may be put aside again for what it meets there (no_side, too_late, out_of_range).")?;
    }
    Ok(())
}

/// Finds the entry of a stream, which may be named by the part after its last colon.
fn find(all: Vec<Quarantined>, stream: &str, id: &str) -> anyhow::Result<Quarantined> {
    let wanted: EntryId = id.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    all.into_iter()
        .find(|aside| aside.id == wanted && (aside.stream == stream || aside.stream.ends_with(&format!(":{stream}"))))
        .with_context(|| format!("{stream}/{id} is not in quarantine: `harvester quarantine list` lists the entries"))
}
