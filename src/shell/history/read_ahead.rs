//! Reads ahead on a thread of its own: one core decompresses while the other processes the result.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Bytes that one thread passes to the other at a time. [byte]
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that may wait for the reader. [1]
const PIECES_WAITING: usize = 2;

/// Returns the same bytes, and the same error after them, as the underlying reader.
pub(super) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Returns pieces that were read, to be filled again.
    emptied: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Ahead {
    pub fn start(from: Box<dyn Read + Send>) -> io::Result<Self> {
        let (to_reader, pieces) = sync_channel(PIECES_WAITING);
        let (emptied, to_fill) = sync_channel(PIECES_WAITING + 1);
        thread::Builder::new().name("ahead".to_owned()).spawn(move || fill(from, &to_reader, &to_fill))?;
        Ok(Self { pieces, emptied, piece: Vec::new(), at: 0 })
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // The thread ends after the last piece, or after its error.
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let read = std::mem::replace(&mut self.piece, next?);
            self.at = 0;
            let _ = self.emptied.try_send(read);
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Sends piece after piece until the input ends or the receiver is gone.
fn fill(mut from: Box<dyn Read + Send>, to_reader: &SyncSender<io::Result<Vec<u8>>>, to_fill: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = to_fill.try_recv().unwrap_or_default();
        piece.clear();
        let read = from.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        // Bytes that came before an error are sent before it.
        let is_end = piece.is_empty();
        if !is_end && to_reader.send(Ok(piece)).is_err() {
            return;
        }
        match read {
            Ok(_) if is_end => return,
            Ok(_) => {}
            Err(error) => {
                let _ = to_reader.send(Err(error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns some bytes at a time, then fails or ends.
    struct Source {
        left: usize,
        fails: bool,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "torn"));
            }
            let count = buffer.len().min(self.left).min(1000);
            for byte in &mut buffer[..count] {
                *byte = self.left as u8;
                self.left -= 1;
            }
            Ok(count)
        }
    }

    #[test]
    fn gives_the_same_bytes_and_then_the_same_error() {
        for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 7 * PIECE_BYTES + 5] {
            for fails in [false, true] {
                let source = || Box::new(Source { left: bytes, fails });
                let (mut direct, mut ahead) = (Vec::new(), Vec::new());
                let wanted = source().read_to_end(&mut direct).map_err(|error| error.to_string());
                let found = Ahead::start(source()).unwrap().read_to_end(&mut ahead).map_err(|error| error.to_string());
                assert_eq!((ahead, found), (direct, wanted), "{bytes} {fails}");
            }
        }
    }

    #[test]
    fn who_stops_reading_waits_for_nobody() {
        let mut ahead = Ahead::start(Box::new(Source { left: 100 * PIECE_BYTES, fails: false })).unwrap();
        assert_eq!(ahead.read(&mut [0; 10]).unwrap(), 10);
    }
}
