//! Verifies a journal: each byte by its digest, each line by count, each file by its chain to the previous one.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::JournalError;
use super::folder::{self, ChainEnd, Closed, Headed};
use super::reader::{Counted, Span};
use super::recovery::hash;
use crate::codec::journal::{Commit, FOOT_BYTES, HEAD_BYTES};
use crate::codec::plural::plural;

/// What can be done about a file that is not as it was written.
const NEXT: &str = "put back a copy of it, or move it and all older files aside (what they hold is then missing when a store \
                    is folded anew)";

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub files: Vec<FileReport>,
    /// The differences from the written state.
    pub findings: Vec<Finding>,
}

/// One file that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub file: PathBuf,
    /// Position of its first entry.
    pub first: u64,
    /// Lines committed to it. [1]
    pub count: u64,
    /// Size of the file. [byte]
    pub bytes: u64,
    /// True if the file is closed. The last one may be open.
    pub is_closed: bool,
    /// Bytes after the last commit of an open file. They were never acknowledged and are cut off when it is opened.
    /// [byte]
    pub unfinished_bytes: u64,
}

/// A difference from the written state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: PathBuf,
    pub what: String,
}

impl Report {
    /// Returns the position of the first kept entry; `None` without files.
    pub fn first(&self) -> Option<u64> {
        self.files.first().map(|file| file.first)
    }

    /// Returns the number of lines in all files. [1]
    pub fn count(&self) -> u64 {
        self.files.iter().map(|file| file.count).sum()
    }
}

/// Verifies a journal. See [`super::Journal::verify`].
pub(super) fn verify(dir: &Path) -> Result<Report, JournalError> {
    let mut report = Report::default();
    let mut chain = Some(ChainEnd::default());
    let files = folder::files(dir)?;
    for (index, (name_first, path)) in files.iter().enumerate() {
        let mut findings = Vec::new();
        let end = match Headed::open(path, false) {
            Ok(headed) => {
                if let Some(why) = chain.and_then(|chain| chain.fault(*name_first, &headed.head)) {
                    findings.push(JournalError::unchained(path, why).to_string());
                }
                match headed.head.commits {
                    None => closed(&headed, &mut report, &mut findings)?,
                    Some(commits) => {
                        if index + 1 < files.len() {
                            findings.push(format!("it is not the last file and was never closed: {NEXT}"));
                        }
                        open(&headed, commits, &mut report, &mut findings)?;
                        None
                    }
                }
            }
            Err(error @ (JournalError::Io { .. } | JournalError::InUse { .. })) => return Err(error),
            Err(error) => {
                findings.push(error.to_string());
                None
            }
        };
        // After a file that cannot be read, the required start of the next one is unknown.
        chain = end;
        report.findings.extend(findings.into_iter().map(|what| Finding { file: path.clone(), what }));
    }
    Ok(report)
}

/// Amount of closed files that is read again after a crash, which takes about a second. [bytes]
const AFTER_CRASH_BYTES: u64 = 1 << 30;

/// Compares the newest closed files with their digests, up to a limit that takes about a second. Logs its findings, and
/// the files that it left out. Returns the number of damaged files. A damaged file does not stop the service, because the
/// store contains the result of its fold. [1]
pub(super) fn newest_after_crash(files: &[Closed]) -> u64 {
    let (mut bytes, mut checked, mut damaged) = (0, 0, 0);
    for file in files.iter().rev() {
        bytes += file.len;
        if bytes > AFTER_CRASH_BYTES && checked > 0 {
            break;
        }
        checked += 1;
        let is_whole = Headed::open(&file.path, false).and_then(|headed| is_as_closed(&headed, file));
        let why = match is_whole {
            Ok(true) => continue,
            Ok(false) => "its bytes are not those that were closed".to_owned(),
            Err(error) => error.to_string(),
        };
        damaged += 1;
        let next = "put back a copy of it; harvester journal verify says what else is damaged";
        tracing::error!(file = %file.path.display(), why, next, "JOURNAL_DAMAGED");
    }
    let unchecked = files.len() - checked;
    tracing::info!(
        checked,
        unchecked,
        "closed journal files were compared with their digests after a crash; the older ones: harvester journal verify"
    );
    damaged
}

fn is_as_closed(headed: &Headed, file: &Closed) -> Result<bool, JournalError> {
    let mut head = [0; HEAD_BYTES];
    headed.file.read_exact_at(&mut head, 0).map_err(JournalError::io(&file.path, "reading"))?;
    Ok(digest(headed, &head, file.len - FOOT_BYTES as u64)? == file.foot.digest)
}

fn closed(headed: &Headed, report: &mut Report, findings: &mut Vec<String>) -> Result<Option<ChainEnd>, JournalError> {
    let file: Closed = match headed.closed() {
        Ok(file) => file,
        Err(error @ JournalError::Io { .. }) => return Err(error),
        Err(error) => {
            findings.push(error.to_string());
            return Ok(None);
        }
    };
    if !is_as_closed(headed, &file)? {
        findings.push(format!("its bytes are not those that were closed: the digest differs: {NEXT}"));
    }
    count(headed, Span { end: file.len, is_ended: true }, file.foot.count, findings)?;
    report.files.push(FileReport {
        file: file.path.clone(),
        first: file.foot.first,
        count: file.foot.count,
        bytes: file.len,
        is_closed: true,
        unfinished_bytes: 0,
    });
    Ok(Some(ChainEnd::behind(&file)))
}

fn open(
    headed: &Headed,
    commits: [Commit; 2],
    report: &mut Report,
    findings: &mut Vec<String>,
) -> Result<(), JournalError> {
    let [a, b] = commits;
    let last = if a.len > b.len { a } else { b };
    if last.len > headed.len {
        findings.push(format!("{} bytes were committed, {} are there: {NEXT}", last.len, headed.len));
    } else {
        if digest(headed, &headed.head.closed().bytes(), last.len)? != last.digest {
            findings.push(format!("its bytes are not those that were committed: the digest differs: {NEXT}"));
        }
        if last.count > 0 {
            count(headed, Span { end: last.len, is_ended: false }, last.count, findings)?;
        }
    }
    report.files.push(FileReport {
        file: headed.path.clone(),
        first: headed.head.first,
        count: last.count,
        bytes: headed.len,
        is_closed: false,
        unfinished_bytes: headed.len.saturating_sub(last.len),
    });
    Ok(())
}

fn digest(headed: &Headed, head: &[u8], end: u64) -> Result<[u8; 32], JournalError> {
    let mut hashed = Sha256::new().chain_update(head);
    hash(&headed.file, &mut hashed, HEAD_BYTES as u64..end).map_err(JournalError::io(&headed.path, "reading"))?;
    Ok(hashed.finalize().into())
}

/// Counts the lines by decompressing all of them. zstd verifies its own checksum meanwhile.
fn count(headed: &Headed, span: Span, wanted: u64, findings: &mut Vec<String>) -> Result<(), JournalError> {
    let mut text = Counted::new(span.text(&headed.path)?);
    let mut block = vec![0; 128 * 1024];
    loop {
        match text.read(&mut block) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.raw_os_error().is_some() => {
                return Err(JournalError::io(&headed.path, "reading")(error));
            }
            Err(error) => {
                findings.push(format!(
                    "it does not decompress behind {}: {}: {NEXT}",
                    plural(text.lines, "line"),
                    said(&error)
                ));
                return Ok(());
            }
        }
    }
    if text.lines != wanted {
        findings.push(format!("it holds {}, but committed were {wanted}: {NEXT}", plural(text.lines, "line")));
    }
    Ok(())
}

fn said(error: &io::Error) -> String {
    error.to_string()
}
