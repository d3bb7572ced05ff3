//! The layout of a row in sled: a key space per kind, a checksum after each value, and long values in pieces.
//!
//! A leaf of sled contains up to 17 rows and is written as a whole. Above 2 MiB it would go to a file of its own, which
//! sled never syncs. Pieces of 64 KiB and keys of 1 KiB keep every leaf and every index node below that.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Maximum length of a key. [bytes]
pub const KEY_BYTES_MAX: usize = 1024;
/// Maximum length of a value. [bytes]
pub const VALUE_BYTES_MAX: usize = 1 << 26;

/// Key of the commit number. Its first letter is not a key space of the caller.
pub(super) const COMMIT_KEY: &[u8] = b"meta/commit";

const ROWS: u8 = b'r';
const PIECES: u8 = b'p';
const PIECE_BYTES: usize = 64 * 1024;
const PIECE_COUNT_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 8;

/// Returns the first 8 bytes of SHA-256 over the length of the name, the name and the bytes. All formats seal a file
/// beside the rows with it.
pub(super) fn seal(name: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update((name.len() as u64).to_be_bytes());
    hasher.update(name);
    hasher.update(bytes);
    let digest = hasher.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than 8 bytes"))
}

/// Returns XXH3 of the value, seeded with that of the key. It finds damage, not forgery.
pub(super) fn checksum(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(key))
}

/// Returns the key under which a caller's row is stored. It is also the prefix of all rows whose key starts with `key`.
pub(super) fn row_key(key: &[u8]) -> Vec<u8> {
    let mut at = Vec::with_capacity(1 + key.len());
    at.push(ROWS);
    at.extend_from_slice(key);
    at
}

/// Returns the caller's key of a row key.
pub(super) fn key_of(row_key: &[u8]) -> &[u8] {
    row_key.get(1..).unwrap_or_default()
}

/// Returns the key of the `index`-th further piece of a value. The index has a fixed length, so no two rows share a
/// key.
pub(super) fn piece_key(key: &[u8], index: u16) -> Vec<u8> {
    let mut at = Vec::with_capacity(3 + key.len());
    at.push(PIECES);
    at.extend_from_slice(key);
    at.extend_from_slice(&index.to_be_bytes());
    at
}

/// The content of a row key: count of further pieces, first piece, checksum of the whole value.
pub(super) struct StoredRow<'a> {
    pub pieces: u16,
    pub first: &'a [u8],
    pub checksum: u64,
}

impl<'a> StoredRow<'a> {
    /// Returns `None` if the bytes are too short to be a row.
    pub(super) fn decode(stored: &'a [u8]) -> Option<Self> {
        let (pieces, rest) = stored.split_first_chunk::<PIECE_COUNT_BYTES>()?;
        let (first, sealed) = rest.split_last_chunk::<CHECKSUM_BYTES>()?;
        Some(Self { pieces: u16::from_be_bytes(*pieces), first, checksum: u64::from_be_bytes(*sealed) })
    }
}

/// A value in its written form: the content of the row key, the contents of the piece keys, and the checksum.
pub(super) struct EncodedRow<'a> {
    pub stored: Vec<u8>,
    pub pieces: Vec<&'a [u8]>,
    pub checksum: u64,
}

impl<'a> EncodedRow<'a> {
    /// Encodes a value of at most [`VALUE_BYTES_MAX`] bytes.
    pub(super) fn new(key: &[u8], value: &'a [u8]) -> Self {
        let (first, rest) = value.split_at(value.len().min(PIECE_BYTES));
        let pieces: Vec<&[u8]> = rest.chunks(PIECE_BYTES).collect();
        let count = u16::try_from(pieces.len()).expect("a value within the limit has few enough pieces");
        let checksum = checksum(key, value);
        let mut stored = Vec::with_capacity(PIECE_COUNT_BYTES + first.len() + CHECKSUM_BYTES);
        stored.extend_from_slice(&count.to_be_bytes());
        stored.extend_from_slice(first);
        stored.extend_from_slice(&checksum.to_be_bytes());
        Self { stored, pieces, checksum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_value_has_a_countable_number_of_pieces() {
        assert!(u16::try_from(VALUE_BYTES_MAX / PIECE_BYTES).is_ok());
    }

    #[test]
    fn a_checksum_tells_where_the_key_ends() {
        assert_ne!(checksum(b"ab", b"c"), checksum(b"a", b"bc"));
    }

    #[test]
    fn a_value_is_cut_where_a_piece_is_full() {
        for (len, further) in [(0, 0), (1, 0), (PIECE_BYTES, 0), (PIECE_BYTES + 1, 1), (3 * PIECE_BYTES, 2)] {
            let value = vec![7; len];
            let row = EncodedRow::new(b"key", &value);
            assert_eq!(row.pieces.len(), further, "{len}");
            let back = StoredRow::decode(&row.stored).expect("long enough");
            assert_eq!(usize::from(back.pieces), further);
            assert_eq!([back.first, &row.pieces.concat()].concat(), value);
            assert_eq!(back.checksum, row.checksum);
        }
        assert!(StoredRow::decode(&[0; 9]).is_none());
    }
}
