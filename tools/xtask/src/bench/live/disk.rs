//! The disk alone: the least time that a decision waits for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Number of measured syncs. [1]
const SYNCS: u64 = 1000;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(5);
/// Size of an append: a compressed line or two. [byte]
const APPEND_BYTES: u64 = 200;
/// The place where the appends begin. The head before it is written with each of them.
const HEAD_BYTES: u64 = 4096;

/// Measures the writes of the journal for a decision, without the journal: an append, a note in the head, and one
/// `fdatasync`. Returns the time of each, in order. [ms]
pub fn syncs() -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let file = File::create(folder.path().join("file"))?;
    let append = [b'a'; APPEND_BYTES as usize];
    file.write_all_at(&[0; HEAD_BYTES as usize], 0)?;
    file.sync_all()?;
    let mut took_ms = Vec::new();
    for n in 0..SYNCS {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        file.write_all_at(&append, HEAD_BYTES + n * APPEND_BYTES)?;
        file.write_all_at(&append[..64], n % 2 * 64)?;
        file.sync_data()?;
        took_ms.push(1000.0 * began.elapsed().as_secs_f64());
    }
    took_ms.sort_by(f64::total_cmp);
    Ok(took_ms)
}
