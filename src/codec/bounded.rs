//! Bounded reading of bytes from a disk. Neither a length that is written in them, nor a small frame that expands far,
//! makes the program allocate memory without limit.

use std::io::{self, BufRead, Read};

use bincode::config::standard;
use bincode::error::DecodeError;
use serde::de::DeserializeOwned;

/// Window that a decoder of compressed text may keep: 128 MiB, as `zstd --long=27` writes. [log2 of bytes]
pub const WINDOW_LOG_MAX: u32 = 27;
/// How much larger than its bytes a value may be in memory: a number takes up to eight bytes for one stored byte. [1]
const VALUE_GROWTH: usize = 16;

/// Reads a value of bincode. Returns it with the number of bytes it took. A length in it cannot allocate much more
/// memory than the present bytes justify.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    fn within<const LIMIT: usize, T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
        bincode::serde::decode_from_slice(bytes, standard().with_limit::<LIMIT>())
    }
    // The limit is a constant of its type, so the smallest sufficient one is chosen.
    match bytes.len().saturating_mul(VALUE_GROWTH) {
        0..=0xf_ffff => within::<0x10_0000, T>(bytes),
        0x10_0000..=0x3ff_ffff => within::<0x400_0000, T>(bytes),
        0x400_0000..=0xffff_ffff => within::<0x1_0000_0000, T>(bytes),
        _ => within::<0x100_0000_0000, T>(bytes),
    }
}

/// Decompresses zstd with a bounded window.
pub fn decompress<R: BufRead>(bytes: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// Reads a whole text. Errors if it is longer than `bytes_max`.
pub fn read_whole(text: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    text.take(bytes_max.saturating_add(1)).read_to_end(&mut whole)?;
    if whole.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {bytes_max} bytes")));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_there_asks_for_nothing() {
        // Lengths up to 2^64 − 1 before three bytes, as text, as bytes and as a list.
        for length in [4_u64, 70_000, 1 << 20, 1 << 33, 1 << 62, u64::MAX] {
            let mut bytes = vec![253];
            bytes.extend(length.to_le_bytes());
            bytes.extend([1, 2, 3]);
            assert!(decode::<String>(&bytes).is_err(), "{length}");
            assert!(decode::<Box<str>>(&bytes).is_err(), "{length}");
            assert!(decode::<Vec<u64>>(&bytes).is_err(), "{length}");
            assert!(decode::<std::collections::BTreeMap<u32, String>>(&bytes).is_err(), "{length}");
        }
    }

    #[test]
    fn what_was_written_reads_whatever_its_size() {
        for length in [0, 1, 300, 5_000, 70_000, 1 << 20, 20 << 20] {
            let numbers: Vec<u64> = vec![1; length];
            let text = "a".repeat(length);
            let value = (numbers, text, Some(7_u8));
            let bytes = bincode::serde::encode_to_vec(&value, standard()).unwrap();
            let (read, taken): ((Vec<u64>, String, Option<u8>), usize) = decode(&bytes).unwrap();
            assert_eq!((read == value, taken), (true, bytes.len()), "{length}");
        }
    }

    #[test]
    fn a_bomb_is_refused_at_its_limit() {
        let bomb = zstd::encode_all(io::repeat(0).take(64 << 20), 3).unwrap();
        assert!(bomb.len() < 10_000, "{} bytes", bomb.len());
        let error = read_whole(decompress(bomb.as_slice()).unwrap(), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1048576 bytes");
        assert_eq!(read_whole(decompress(bomb.as_slice()).unwrap(), 64 << 20).unwrap().len(), 64 << 20);
        // A frame with a window of 2 GiB needs that much memory before its first byte.
        let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        wide.include_contentsize(false).unwrap();
        wide.window_log(28).unwrap();
        io::Write::write_all(&mut wide, b"text").unwrap();
        let wide = wide.finish().unwrap();
        assert!(read_whole(decompress(wide.as_slice()).unwrap(), 10).is_err());
    }
}
