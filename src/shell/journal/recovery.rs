//! Recovers the file that a crash left open: keeps and closes the committed part, and cuts off the rest.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh64::Xxh64;

use super::error::JournalError;
use super::file::close_head;
use super::folder::{Closed, Headed, sync_folder};
use super::reader::{Counted, Span};
use crate::codec::journal::{Commit, Foot, HEAD_BYTES};
use crate::codec::plural::plural;

/// The last block of a frame, empty. It ends a frame whose writer was killed.
const LAST_BLOCK: [u8; 3] = [1, 0, 0];

/// Closes an open file after its last commit. Returns `None` if it had no commit and was removed.
pub(super) fn close(headed: Headed, commits: [Commit; 2]) -> Result<Option<Closed>, JournalError> {
    let Headed { path, file, head, len } = headed;
    let commit = last_commit(&path, &file, &head.closed().bytes(), commits, len)?;
    if commit.count == 0 {
        fs::remove_file(&path).map_err(JournalError::io(&path, "removing"))?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        return Ok(None);
    }
    let checksum = content_checksum(&path, commit)?;
    let failed = JournalError::io(&path, "closing");
    let mut end = [LAST_BLOCK.as_slice(), &checksum].concat();
    let mut hashed = Sha256::new().chain_update(head.closed().bytes());
    hash(&file, &mut hashed, HEAD_BYTES as u64..commit.len).map_err(&failed)?;
    let foot = Foot {
        first: head.first,
        count: commit.count,
        last_ms: commit.last_ms,
        digest: hashed.chain_update(&end).finalize().into(),
        previous: head.previous,
    };
    end.extend(foot.bytes());
    if len > commit.len {
        tracing::info!(file = %path.display(), bytes = len - commit.len, "an unfinished write is cut off");
    }
    file.set_len(commit.len).and_then(|()| file.write_all_at(&end, commit.len)).map_err(&failed)?;
    close_head(&file, &path, &head)?;
    Ok(Some(Closed { path, foot, len: commit.len + end.len() as u64 }))
}

/// Returns the last commit that the content of the file confirms.
///
/// After a loss of power, the note of the last commit may exist without its bytes. Then that commit was never
/// acknowledged, and the previous one counts. That one was acknowledged: if the content does not confirm it, the file
/// is damaged.
pub(super) fn last_commit(
    path: &Path,
    file: &fs::File,
    closed_head: &[u8],
    mut commits: [Commit; 2],
    len: u64,
) -> Result<Commit, JournalError> {
    commits.sort_by_key(|commit| commit.len);
    let [before, last] = commits;
    let mut hashed = Sha256::new().chain_update(closed_head);
    let mut at = HEAD_BYTES as u64;
    let mut bears_out = |commit: &Commit| -> Result<bool, JournalError> {
        if commit.len < at || commit.len > len {
            return Ok(false);
        }
        hash(file, &mut hashed, at..commit.len).map_err(JournalError::io(path, "reading"))?;
        at = commit.len;
        Ok(hashed.clone().finalize()[..] == commit.digest)
    };
    let (is_before, is_last) = (bears_out(&before)?, bears_out(&last)?);
    match (is_before, is_last) {
        (_, true) => Ok(last),
        (true, false) => Ok(before),
        (false, false) => {
            let why = format!("the first {} bytes are not what was committed", before.len.min(last.len));
            Err(JournalError::damaged(path, HEAD_BYTES as u64, why))
        }
    }
}

/// Adds a section of a file to a digest.
pub(super) fn hash(file: &fs::File, hashed: &mut Sha256, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut block = vec![0; 128 * 1024];
    let mut at = range.start;
    while at < range.end {
        let wanted = block.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut block[..wanted], at)?;
        hashed.update(&block[..wanted]);
        at += wanted as u64;
    }
    Ok(())
}

/// Returns the checksum that ends a frame with this content: the lower half of its XXH64 (RFC 8878, 3.1.1).
fn content_checksum(path: &Path, commit: Commit) -> Result<[u8; 4], JournalError> {
    let mut text = Counted::new(Span { end: commit.len, is_ended: false }.text(path)?);
    let mut hashed = Xxh64::new(0);
    let mut block = vec![0; 128 * 1024];
    loop {
        match text.read(&mut block) {
            Ok(0) => break,
            Ok(read) => hashed.update(&block[..read]),
            Err(error) => return Err(JournalError::damaged(path, HEAD_BYTES as u64, error)),
        }
    }
    if text.lines != commit.count {
        let why = format!("it holds {}, but committed were {}", plural(text.lines, "line"), commit.count);
        return Err(JournalError::damaged(path, HEAD_BYTES as u64, why));
    }
    Ok((hashed.digest() as u32).to_le_bytes())
}
