//! The format of journal files: names, head and foot. The part between them is plain zstd.
//!
//! A file has three parts, which every zstd reader takes as one stream of history lines:
//!
//! 1. a skippable frame, the *head*: first position, seal of the file before, and two slots for the last commits; in
//!    version 2 a second skippable frame follows, the *scope*, which states what the service reads;
//! 2. one frame of lines, flushed at each commit;
//! 3. once the file is closed, a skippable frame, the *foot*: first position, count, SHA-256 of all bytes before it,
//!    and the seal of the file before. Its last 32 bytes are the file's own seal, which the next file repeats.
//!
//! While a file is open, its head contains the length and the digest of the last commits. They are written in turn into
//! two slots, so that one of them is complete after a loss of power. In a closed file both are zero.
//!
//! A service that reads everything writes version 1, in which nothing is stated. The digests cover the scope as they
//! cover the lines.

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256.
pub type Digest = [u8; 32];

/// Head of a file. [byte]
pub const HEAD_BYTES: usize = 8 + HEAD_TAG.len() + 8 + 32 + 2 * COMMIT_BYTES;
/// Maximum number of reads of a head while its writer may be changing it. [1]
pub const HEAD_TRIES: u32 = 100;
/// Foot of a closed file. [byte]
pub const FOOT_BYTES: usize = 8 + FOOT_TAG.len() + 3 * 8 + 3 * 32;

/// Part of the foot that its last bytes seal. [byte]
const FOOT_SEALED_BYTES: usize = FOOT_BYTES - 32;
/// Size of a commit slot: three numbers, a digest, and a check of both. [byte]
const COMMIT_BYTES: usize = 3 * 8 + 2 * 32;
/// Offset of the commit slots. [byte]
const COMMITS_AT: usize = HEAD_BYTES - 2 * COMMIT_BYTES;

/// Two of the sixteen magic numbers of skippable zstd frames.
const HEAD_MAGIC: u32 = 0x184D_2A5A;
const FOOT_MAGIC: u32 = 0x184D_2A5B;
const SCOPE_MAGIC: u32 = 0x184D_2A5C;
const HEAD_TAG: &[u8; 16] = b"harvest journal1";
/// The tag of a head that a scope follows. An older program refuses the file, instead of reading everything in it.
const SCOPED_TAG: &[u8; 16] = b"harvest journal2";
const FOOT_TAG: &[u8; 16] = b"harvest closing1";

/// Length and check of a scope, around its text. [byte]
const SCOPE_FRAME_BYTES: usize = 8 + 32;
/// Largest scope: a text of many accounts and streams. [byte]
pub const SCOPE_BYTES_MAX: usize = 16 << 20;

const NAME_PREFIX: &str = "journal-";
const NAME_SUFFIX: &str = ".jsonl.zst";
/// Digits of a position in a name. Any number of 64 bits fits, so the order of names is the order of positions.
const NAME_DIGITS: usize = 20;

/// Returns the name of the file whose first entry has this position.
pub fn file_name(first: u64) -> String {
    format!("{NAME_PREFIX}{first:020}{NAME_SUFFIX}")
}

/// Returns the position of the first entry of a file with this name, or `None` if it is not the name of a journal file.
pub fn first_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?.strip_suffix(NAME_SUFFIX)?;
    if digits.len() != NAME_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Why bytes are not a head or a foot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("this is not the head of a journal file")]
    NoHead,
    #[error("the head of the file is damaged")]
    Head,
    #[error("the part of the head that states which accounts are read is damaged")]
    Scope,
    #[error("the file is not closed by a foot")]
    NoFoot,
    #[error("the foot of the file is damaged")]
    Foot,
}

/// The extent of a file at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Length of the file. [byte]
    pub len: u64,
    /// Lines in it. [1]
    pub count: u64,
    /// Latest time of the ids of its entries. [ms since 1970]
    pub last_ms: u64,
    /// SHA-256 of the file up to there, with its commit slots zero.
    pub digest: Digest,
}

/// The start of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the first entry.
    pub first: u64,
    /// Seal of the file before. Zeros in the first file of a journal.
    pub previous: Digest,
    /// The last two commits while the file is open, in any order.
    pub commits: Option<[Commit; 2]>,
    /// A scope follows the head.
    pub is_scoped: bool,
}

impl Head {
    pub fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend(HEAD_MAGIC.to_le_bytes());
        bytes.extend((HEAD_BYTES as u32 - 8).to_le_bytes());
        bytes.extend(if self.is_scoped { SCOPED_TAG } else { HEAD_TAG });
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.previous);
        match &self.commits {
            Some(commits) => commits.iter().for_each(|commit| bytes.extend(self.commit_bytes(commit))),
            None => bytes.resize(HEAD_BYTES, 0),
        }
        array(&bytes, 0)
    }

    /// Reads a head. Errors if its own check shows damage.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Result<Self, Fault> {
        let is_scoped = bytes[8..8 + SCOPED_TAG.len()] == *SCOPED_TAG;
        let mut head = Self { first: number(bytes, 24), previous: array(bytes, 32), commits: None, is_scoped };
        let is_head = bytes[..8 + HEAD_TAG.len()] == head.bytes()[..8 + HEAD_TAG.len()];
        if !is_head {
            return Err(Fault::NoHead);
        }
        if bytes[COMMITS_AT..].iter().any(|&byte| byte != 0) {
            let places = [COMMITS_AT, COMMITS_AT + COMMIT_BYTES];
            head.commits = Some(places.map(|at| Commit {
                len: number(bytes, at),
                count: number(bytes, at + 8),
                last_ms: number(bytes, at + 16),
                digest: array(bytes, at + 24),
            }));
            if head.bytes() != *bytes {
                return Err(Fault::Head);
            }
        }
        Ok(head)
    }

    /// Returns the offset and the bytes of a commit for the first or the second slot.
    pub fn place(&self, second: bool, commit: &Commit) -> (u64, [u8; COMMIT_BYTES]) {
        let at = COMMITS_AT + usize::from(second) * COMMIT_BYTES;
        (at as u64, self.commit_bytes(commit))
    }

    /// Returns the head of the closed file.
    pub fn closed(&self) -> Self {
        Self { commits: None, ..*self }
    }

    fn commit_bytes(&self, commit: &Commit) -> [u8; COMMIT_BYTES] {
        let mut bytes = Vec::with_capacity(COMMIT_BYTES);
        for number in [commit.len, commit.count, commit.last_ms] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(commit.digest);
        let check = Sha256::new().chain_update(self.first.to_le_bytes()).chain_update(self.previous);
        let check: Digest = check.chain_update(&bytes).finalize().into();
        bytes.extend(check);
        array(&bytes, 0)
    }
}

/// Returns the frame that states what a service reads. It follows the head.
pub fn scope_frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SCOPE_FRAME_BYTES + text.len());
    bytes.extend(SCOPE_MAGIC.to_le_bytes());
    bytes.extend(((text.len() + 32) as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(Sha256::digest(text.as_bytes()));
    bytes
}

/// Returns the length of the frame whose first bytes these are. [byte]
pub fn scope_frame_bytes(start: &[u8; 8]) -> Result<usize, Fault> {
    let word = |at: usize| u32::from_le_bytes(array(start, at));
    let len = word(4) as usize;
    let is_scope = word(0) == SCOPE_MAGIC && (32..=SCOPE_BYTES_MAX).contains(&len);
    if is_scope { Ok(8 + len) } else { Err(Fault::Scope) }
}

/// Reads a whole frame of [`scope_frame`]. Errors if its own check shows damage.
pub fn read_scope(frame: &[u8]) -> Result<String, Fault> {
    let text = frame.get(8..frame.len().saturating_sub(32)).ok_or(Fault::Scope)?;
    let text = std::str::from_utf8(text).map_err(|_| Fault::Scope)?;
    if scope_frame(text) == frame { Ok(text.to_owned()) } else { Err(Fault::Scope) }
}

/// The end of a closed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foot {
    /// Position of the first entry.
    pub first: u64,
    /// Lines in the file. [1]
    pub count: u64,
    /// Latest time of the ids of its entries. [ms since 1970]
    pub last_ms: u64,
    /// SHA-256 of all bytes before the foot.
    pub digest: Digest,
    /// Seal of the file before.
    pub previous: Digest,
}

impl Foot {
    pub fn bytes(&self) -> [u8; FOOT_BYTES] {
        let mut bytes = self.sealed_bytes();
        bytes.extend(self.seal());
        array(&bytes, 0)
    }

    /// Reads a foot. Errors if its bytes do not match its seal.
    pub fn read(bytes: &[u8; FOOT_BYTES]) -> Result<Self, Fault> {
        let foot = Self {
            first: number(bytes, 24),
            count: number(bytes, 32),
            last_ms: number(bytes, 40),
            digest: array(bytes, 48),
            previous: array(bytes, 80),
        };
        let written = foot.bytes();
        match written == *bytes {
            true => Ok(foot),
            false if written[..24] == bytes[..24] => Err(Fault::Foot),
            false => Err(Fault::NoFoot),
        }
    }

    /// Returns the seal that the next file repeats. It covers every byte of this file and of all files before.
    pub fn seal(&self) -> Digest {
        Sha256::digest(self.sealed_bytes()).into()
    }

    fn sealed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FOOT_BYTES);
        bytes.extend(FOOT_MAGIC.to_le_bytes());
        bytes.extend((FOOT_BYTES as u32 - 8).to_le_bytes());
        bytes.extend(FOOT_TAG);
        for number in [self.first, self.count, self.last_ms] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.digest);
        bytes.extend(self.previous);
        debug_assert_eq!(bytes.len(), FOOT_SEALED_BYTES);
        bytes
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("heads and feet have fixed lengths")
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(len: u64) -> Commit {
        Commit { len, count: 3, last_ms: 1_770_163_200_000, digest: [7; 32] }
    }

    #[test]
    fn names_sort_as_positions_do() {
        let firsts = [0, 9, 10, 99_999, 100_000, u64::MAX];
        let names = firsts.map(file_name);
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.each_ref().map(|name| first_of_name(name)), firsts.map(Some));
        for other in [
            "journal-1.jsonl.zst",
            "journal-+0000000000000000001.jsonl.zst",
            "journal-99999999999999999999.jsonl.zst",
            "journal-00000000000000000001.jsonl",
            "a-journal-00000000000000000001.jsonl.zst",
        ] {
            assert_eq!(first_of_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_flipped_bit_of_an_open_head_is_seen() {
        let head = Head { first: 12, previous: [5; 32], commits: Some([commit(300), commit(400)]), is_scoped: false };
        let bytes = head.bytes();
        assert_eq!(Head::read(&bytes), Ok(head));
        for at in 0..HEAD_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert!(Head::read(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_closed_head_has_no_commits_and_the_same_length() {
        let head = Head { first: 12, previous: [5; 32], commits: None, is_scoped: false };
        assert_eq!(Head::read(&head.bytes()), Ok(head));
        let mut changed = head.bytes();
        changed[HEAD_BYTES - 1] = 1;
        assert_eq!(Head::read(&changed), Err(Fault::Head));
    }

    #[test]
    fn a_flipped_bit_of_a_scope_is_seen() {
        let head = Head { first: 12, previous: [5; 32], commits: Some([commit(300), commit(400)]), is_scoped: true };
        assert_eq!(Head::read(&head.bytes()), Ok(head));
        let frame = scope_frame("{\"shard\":\"3/16\"}");
        assert_eq!(read_scope(&frame).as_deref(), Ok("{\"shard\":\"3/16\"}"));
        assert_eq!(scope_frame_bytes(frame[..8].try_into().unwrap()), Ok(frame.len()));
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert!(read_scope(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_commit_is_written_in_its_place() {
        let head = Head { first: 12, previous: [5; 32], commits: Some([commit(300), commit(400)]), is_scoped: false };
        let mut bytes = head.bytes();
        let (at, place) = head.place(true, &commit(500));
        bytes[at as usize..][..place.len()].copy_from_slice(&place);
        assert_eq!(Head::read(&bytes), Ok(Head { commits: Some([commit(300), commit(500)]), ..head }));
    }

    #[test]
    fn a_flipped_bit_of_a_foot_is_seen() {
        let foot = Foot { first: 12, count: 3, last_ms: 4, digest: [1; 32], previous: [2; 32] };
        let bytes = foot.bytes();
        assert_eq!(Foot::read(&bytes), Ok(foot));
        assert_eq!(bytes[FOOT_BYTES - 32..], foot.seal());
        for at in 0..FOOT_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert!(Foot::read(&changed).is_err(), "byte {at}");
        }
    }
}
