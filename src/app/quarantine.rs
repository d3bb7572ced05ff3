//! `harvester quarantine`: what was put aside, and why.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use crate::app::projection;
use crate::codec::state;
use crate::domain::ids::EntryId;
use crate::shell::terminal::{Screen, Tone};

/// Lists all entries that were put aside.
pub fn list(store: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_, rows) = projection::read(store)?;
    let all = state::quarantined(&rows)?;
    if json {
        let all: Vec<_> = all
            .iter()
            .map(|q| json!({"stream": q.stream, "id": q.id.to_string(), "reason": q.reason, "line": q.line}))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    let mut screen = Screen::stdout(out);
    let cells = |q: &state::Quarantined| {
        let start: String = q.line.chars().take(80).collect();
        vec![
            (q.stream.clone(), Tone::Plain),
            (q.id.to_string(), Tone::Plain),
            (q.reason.clone(), Tone::Warning),
            (start, Tone::Dim),
        ]
    };
    screen.table(&["STREAM", "ID", "REASON", "ENTRY"], &[], all.iter().map(cells).collect())?;
    screen.line(&format!("{} entries", all.len()))?;
    Ok(())
}

/// Shows one entry that was put aside, whole.
pub fn show(store: &Path, stream: &str, id: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted: EntryId = id.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let (_, rows) = projection::read(store)?;
    let all = state::quarantined(&rows)?;
    let found = all
        .iter()
        .find(|q| q.id == wanted && (q.stream == stream || q.stream.ends_with(&format!(":{stream}"))))
        .with_context(|| format!("{stream}/{id} is not in quarantine"))?;
    writeln!(out, "{}", found.reason)?;
    writeln!(out, "{}", found.line)?;
    Ok(())
}
