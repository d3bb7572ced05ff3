//! A state snapshot: the whole state at one place of the history, as a file that describes itself.
//!
//! The file is a line of JSON (the head), the rows of the state (compressed), and a SHA-256 of both. The head names the
//! place: the cursor of each stream, and the number of journal entries that the state contains.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::bounded;
use super::checksum::state_checksum_hex;
use super::state::{self, BadRow, FORMAT_VERSION, Meta, Rows, StoredRow};
use crate::domain::engine::{Engine, RULES_VERSION};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::Streams;
use crate::domain::exit::policy::Policy;

/// Version of the file format.
const SCHEMA: u32 = 1;
const ZSTD_LEVEL: i32 = 3;
/// Largest head. A usual head has some hundred bytes. [byte]
const HEAD_BYTES_MAX: usize = 1 << 20;
const DIGEST_BYTES: usize = 32;
/// How much larger than their compressed bytes the rows may be, beyond the free allowance. [1]
const TEXT_GROWTH_MAX: u64 = 256;
/// Allowance for every snapshot. [bytes]
const TEXT_BYTES_FREE: u64 = 16 << 20;

const NAME_PREFIX: &str = "snapshot-";
const NAME_SUFFIX: &str = ".state";

/// The description at the start of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    schema: u32,
    /// Format of the rows.
    pub format: u32,
    pub rules: String,
    /// Hash of the policy in force.
    pub policy: String,
    /// The latest entry that was applied, `ms-seq`.
    pub last: String,
    /// The last entry of each stream.
    pub cursors: BTreeMap<String, String>,
    /// Entries of the journal that the state contains, if there is a journal. [1]
    pub journal: Option<u64>,
    /// Checksum of the state, computed by `codec/checksum.rs`.
    pub state: String,
    /// [1]
    pub rows: u64,
}

/// Why a snapshot is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    #[error("its bytes are not those that were written: the digest differs")]
    Digest,
    #[error("its head does not read: {0}")]
    Head(String),
    #[error("its rows do not read: {0}")]
    Rows(String),
    #[error(
        "it was made by rules {rules} in format {format}, these are rules {RULES_VERSION} in format {FORMAT_VERSION}"
    )]
    OtherVersion { rules: String, format: u32 },
    #[error("its state has the checksum {found}, its head says {said}")]
    State { found: String, said: String },
}

impl From<BadRow> for BadSnapshot {
    fn from(error: BadRow) -> Self {
        Self::Rows(error.to_string())
    }
}

/// Returns head and bytes of a snapshot of an engine. `configured` is the policy in force until one is adopted.
pub fn write(engine: &Engine, configured: &Policy, journal: Option<u64>) -> (Head, Vec<u8>) {
    let mut rows = state::all_rows(engine);
    rows.extend(state::meta_rows(&Meta::of(engine.streams(), configured)));
    let cursors = engine.streams().iter().filter_map(|(id, stream)| Some((stream.name.clone(), engine.cursor(id)?)));
    let head = Head {
        schema: SCHEMA,
        format: FORMAT_VERSION,
        rules: RULES_VERSION.to_owned(),
        policy: engine.policy().hash.to_string(),
        last: engine.globals().last.to_string(),
        cursors: cursors.map(|(name, id)| (name, id.to_string())).collect(),
        journal,
        state: state_checksum_hex(engine),
        rows: rows.len() as u64,
    };
    let mut text = Vec::new();
    for (key, value) in &rows {
        for piece in [key, value] {
            text.extend((piece.len() as u64).to_le_bytes());
            text.extend(piece);
        }
    }
    let mut bytes = serde_json::to_vec(&head).expect("a head is plain data");
    bytes.push(b'\n');
    bytes.extend(zstd::encode_all(text.as_slice(), ZSTD_LEVEL).expect("compressing memory does not fail"));
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    (head, bytes)
}

/// A snapshot whose bytes are verified.
#[derive(Debug)]
pub struct Snapshot {
    pub head: Head,
    rows: Sorted,
}

/// Reads the bytes of a snapshot. Of another version only the head is usable.
pub fn read(bytes: &[u8]) -> Result<Snapshot, BadSnapshot> {
    let Some((content, digest)) = bytes.len().checked_sub(DIGEST_BYTES).map(|at| bytes.split_at(at)) else {
        return Err(BadSnapshot::Digest);
    };
    if Sha256::digest(content)[..] != *digest {
        return Err(BadSnapshot::Digest);
    }
    let bad_head = |why: &dyn ToString| BadSnapshot::Head(why.to_string());
    let end =
        content.iter().take(HEAD_BYTES_MAX).position(|&byte| byte == b'\n').ok_or_else(|| bad_head(&"no line"))?;
    let head: Head = serde_json::from_slice(&content[..end]).map_err(|error| bad_head(&error))?;
    if (head.schema, head.format, head.rules.as_str()) != (SCHEMA, FORMAT_VERSION, RULES_VERSION) {
        return Err(BadSnapshot::OtherVersion { rules: head.rules, format: head.format });
    }
    let rows = rows(&content[end + 1..])?;
    if rows.0.len() as u64 != head.rows {
        return Err(BadSnapshot::Rows(format!("{} rows, its head says {}", rows.0.len(), head.rows)));
    }
    Ok(Snapshot { head, rows })
}

fn rows(compressed: &[u8]) -> Result<Sorted, BadSnapshot> {
    let bad = |why: &dyn ToString| BadSnapshot::Rows(why.to_string());
    let text_max = TEXT_BYTES_FREE.saturating_add(TEXT_GROWTH_MAX.saturating_mul(compressed.len() as u64));
    let text = bounded::decompress(compressed).and_then(|text| bounded::read_whole(text, text_max));
    let text = text.map_err(|error| bad(&error))?;
    let mut rest = text.as_slice();
    let mut piece = || -> Result<Option<Vec<u8>>, BadSnapshot> {
        if rest.is_empty() {
            return Ok(None);
        }
        let (len, behind) = rest.split_first_chunk().ok_or_else(|| bad(&"cut off"))?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|error| bad(&error))?;
        let (piece, behind) = behind.split_at_checked(len).ok_or_else(|| bad(&"cut off"))?;
        rest = behind;
        Ok(Some(piece.to_vec()))
    };
    let mut rows = BTreeMap::new();
    while let Some(key) = piece()? {
        rows.insert(key, piece()?.ok_or_else(|| bad(&"a key without a value"))?);
    }
    Ok(Sorted(rows))
}

impl Snapshot {
    /// Restores the state into an engine for these streams, and verifies its checksum.
    pub fn engine(&self, streams: &Streams, configured: &Policy) -> Result<Engine, BadSnapshot> {
        let made_with = self.made_with()?;
        let restored = self.restored(&made_with, &made_with, configured)?;
        let found = state_checksum_hex(&restored);
        if found != self.head.state {
            return Err(BadSnapshot::State { found, said: self.head.state.clone() });
        }
        if made_with == *streams { Ok(restored) } else { self.restored(&made_with, streams, configured) }
    }

    /// Returns the streams with which the state was folded.
    pub fn made_with(&self) -> Result<Streams, BadSnapshot> {
        let meta = state::meta(&self.rows)?.ok_or_else(|| BadSnapshot::Rows("no meta row".to_owned()))?;
        meta.streams().ok_or_else(|| BadSnapshot::Rows("the streams do not read".to_owned()))
    }

    pub fn rows(&self) -> &impl Rows<Error = BadRow> {
        &self.rows
    }

    fn restored(&self, made_with: &Streams, streams: &Streams, configured: &Policy) -> Result<Engine, BadSnapshot> {
        let mut engine = Engine::new(streams.clone(), configured.clone());
        state::load(&self.rows, made_with, &mut engine)?;
        Ok(engine)
    }
}

/// Rows in the order of their keys.
#[derive(Debug)]
struct Sorted(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Sorted {
    type Error = BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
        let from = self.0.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Returns the file name of a snapshot with this latest entry. The order of names is the order of time.
pub fn file_name(last: EntryId) -> String {
    format!("{NAME_PREFIX}{:020}-{:020}{NAME_SUFFIX}", last.ms, last.seq)
}

/// Returns the latest entry of a file with this name, or `None` if it is not the name of a snapshot.
pub fn last_of_name(name: &str) -> Option<EntryId> {
    let id: EntryId = name.strip_prefix(NAME_PREFIX)?.strip_suffix(NAME_SUFFIX)?.parse().ok()?;
    (file_name(id) == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a snapshot with these bytes as rows and a correct digest.
    fn sealed(compressed: &[u8]) -> Vec<u8> {
        let policy = Policy::default();
        let (head, _) = write(&Engine::new(Streams::default(), policy.clone()), &policy, None);
        let mut bytes = serde_json::to_vec(&head).unwrap();
        bytes.push(b'\n');
        bytes.extend(compressed);
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    #[test]
    fn rows_that_are_no_rows_are_refused_without_their_size() {
        let zeros = std::io::Read::take(std::io::repeat(0), 1 << 30);
        let bomb = zstd::encode_all(zeros, ZSTD_LEVEL).unwrap();
        let error = read(&sealed(&bomb)).unwrap_err().to_string();
        assert!(error.contains("it is longer than"), "{error}");
        // Lengths of rows that do not exist.
        for length in [9_u64, 1 << 40, u64::MAX] {
            let text = [length.to_le_bytes().as_slice(), b"row"].concat();
            let rows = zstd::encode_all(text.as_slice(), ZSTD_LEVEL).unwrap();
            let error = read(&sealed(&rows)).unwrap_err().to_string();
            assert!(error.contains("cut off"), "{length}: {error}");
        }
    }
}
