//! One checksum of the whole store: the commit, the number of rows, and the sum of their checksums.
//!
//! Sled drops whatever it cannot read and continues with the rest, so a damaged log can look like an older state, or
//! like a mixture of two. The checksum of each row finds a changed row; this sum finds a row that is missing, left over
//! or old. It is a wrapping sum of 64-bit hashes: changing a row costs one subtraction and one addition.

use super::row::seal;

const BYTES: usize = 32;

/// The state after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Number of the commit, from 1; 0 before the first.
    pub commit: u64,
    /// Number of the caller's rows.
    pub rows: u64,
    /// Wrapping sum of the rows' checksums.
    pub sum: u64,
}

impl Summary {
    pub(super) fn add(&mut self, row_checksum: u64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(row_checksum);
    }

    pub(super) fn remove(&mut self, row_checksum: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(row_checksum);
    }

    /// Encodes commit, rows, sum and a checksum of the three, each big-endian.
    pub(super) fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.commit.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.rows.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sum.to_be_bytes());
        let sealed = seal(b"summary", &bytes[..24]);
        bytes[24..].copy_from_slice(&sealed.to_be_bytes());
        bytes
    }

    /// Returns `None` for any bytes that [`Summary::encode`] has not written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes.len() != BYTES || number(24)? != seal(b"summary", &bytes[..24]) {
            return None;
        }
        Some(Self { commit: number(0)?, rows: number(8)?, sum: number(16)? })
    }

    pub(super) const fn encoded_len() -> usize {
        BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_written_and_not_with_any_bit_changed() {
        let summary = Summary { commit: 7, rows: 3, sum: u64::MAX - 1 };
        let bytes = summary.encode();
        assert_eq!(Summary::decode(&bytes), Some(summary));
        for bit in 0..BYTES * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Summary::decode(&changed), None, "bit {bit}");
        }
        assert_eq!(Summary::decode(&bytes[..31]), None);
        assert_eq!(Summary::decode(&[0; BYTES]), None);
    }

    #[test]
    fn is_the_same_whatever_the_order_of_changes() {
        let mut one = Summary::default();
        one.add(5);
        one.add(u64::MAX);
        one.remove(5);
        let mut other = Summary::default();
        other.add(u64::MAX);
        assert_eq!(one, other);
    }
}
