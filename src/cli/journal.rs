//! `harvester journal`: verifies that a journal is as it was written.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use super::exit_code::Found;
use crate::codec::plural::plural;
use crate::shell::journal::{FileReport, Finding, Journal, Report};
use crate::shell::terminal::{Screen, Tone};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compare every byte of a journal with its checksums, and every file with the one before
    #[command(after_help = "Example: harvester journal verify journal/
Exit code 1: something is not as it was written, or missing between two files.")]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Folder of the journal; it may be in use
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command, out: &mut dyn Write) -> anyhow::Result<()> {
    let Command::Verify(args) = command;
    let report = Journal::verify(&args.dir)?;
    if report.files.is_empty() && report.findings.is_empty() {
        bail!("{} has no journal files: name the folder that `harvester run` has as run.journal", args.dir.display());
    }
    if args.json {
        super::json::write(out, &Document::of(&report))?;
    } else {
        show(&report, &mut Screen::stdout(out))?;
    }
    match report.findings.len() {
        0 => Ok(()),
        n => Err(Found(format!("{} in the journal {}", plural(n, "finding"), args.dir.display())).into()),
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    verdict: &'static str,
    first: Option<u64>,
    entries: u64,
    files: Vec<FileDocument>,
    findings: Vec<FindingDocument<'a>>,
}

#[derive(Serialize)]
struct FileDocument {
    file: String,
    first: u64,
    entries: u64,
    bytes: u64,
    closed: bool,
    unfinished_bytes: u64,
}

#[derive(Serialize)]
struct FindingDocument<'a> {
    file: String,
    what: &'a str,
}

impl<'a> Document<'a> {
    fn of(report: &'a Report) -> Self {
        let file = |report: &FileReport| FileDocument {
            file: report.file.display().to_string(),
            first: report.first,
            entries: report.count,
            bytes: report.bytes,
            closed: report.is_closed,
            unfinished_bytes: report.unfinished_bytes,
        };
        let finding =
            |finding: &'a Finding| FindingDocument { file: finding.file.display().to_string(), what: &finding.what };
        Self {
            verdict: if report.findings.is_empty() { "clean" } else { "findings" },
            first: report.first(),
            entries: report.count(),
            files: report.files.iter().map(file).collect(),
            findings: report.findings.iter().map(finding).collect(),
        }
    }
}

fn show(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let row = |file: &FileReport| {
        let is_bad = report.findings.iter().any(|finding| finding.file == file.file);
        let state = match (is_bad, file.is_closed) {
            (true, _) => ("not as written", Tone::Bad),
            (false, true) => ("closed", Tone::Good),
            (false, false) => ("open", Tone::Plain),
        };
        vec![
            (file.file.file_name().unwrap_or_default().to_string_lossy().into_owned(), Tone::Plain),
            (file.count.to_string(), Tone::Plain),
            (file.bytes.to_string(), Tone::Plain),
            (state.0.to_owned(), state.1),
        ]
    };
    screen.table(&["FILE", "ENTRIES", "BYTES", ""], &[1, 2], report.files.iter().map(row).collect())?;
    for file in report.files.iter().filter(|file| file.unfinished_bytes > 0) {
        screen.line(&format!(
            "{}: {} bytes behind the last commit were never answered for",
            file.file.display(),
            file.unfinished_bytes
        ))?;
    }
    for finding in &report.findings {
        screen.line(&format!("{}: {}", finding.file.display(), finding.what))?;
    }
    let first = report.first().unwrap_or(0);
    screen.line(&format!(
        "entries {first} to {}: {}",
        first + report.count(),
        match report.findings.len() {
            0 => "every byte is as it was written".to_owned(),
            n => plural(n, "finding"),
        }
    ))?;
    Ok(())
}
