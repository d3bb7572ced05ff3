//! Frames replies of RESP2 and RESP3: finds the end of a reply in bytes that arrive piece by piece, and checks its
//! form.
//!
//! Promises: each byte is examined a bounded number of times, in whatever pieces a reply arrives. Nothing is allocated.
//! No bytes from a server can cause a panic. A walk over a framed reply finds no error of form.
//!
//! In reading order: `head` (the first line of a value), this file (the end of a reply), `walk` (the values of a framed
//! reply), `entries` (the entries of streams in it).
//!
//! The parser of the client library is the oracle of the tests. It accepts more than a server may send. These values
//! are refused here and accepted there:
//!
//! | value | refused here |
//! |---|---|
//! | containers in containers | more than [`DEPTH_MAX`] |
//! | a text, a container, a line, a reply | larger than [`TEXT_BYTES_MAX`], [`ELEMENTS_MAX`], [`LINE_BYTES_MAX`], [`REPLY_BYTES_MAX`] |
//! | a length below zero | any but −1 |
//! | a number | white space around it, more than [`NUMBER_BYTES_MAX`] characters |
//! | null | text after the `_` |
//!
//! One thing is accepted here and refused there: a push message whose kind is not a text. No code reads the kind.

mod entries;
mod head;
mod walk;

pub use entries::{EntryAt, Pairs, Streams};
pub use head::NUMBER_BYTES_MAX;
pub use walk::{Token, Walk, WalkError};

use head::{Found, Head, Line, head};

/// Maximum nesting of containers. [1]
pub const DEPTH_MAX: usize = 16;
/// Maximum size of a text: the default limit of a server. [byte]
pub const TEXT_BYTES_MAX: usize = 512 << 20;
/// Maximum number of elements of a container. [1]
pub const ELEMENTS_MAX: usize = 1 << 24;
/// Maximum length of a line: an error, a status or a number. [byte]
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Maximum size of a reply. [byte]
pub const REPLY_BYTES_MAX: usize = 1 << 30;

/// The reason why bytes are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the reply has a value of the unknown type {0:?}")]
    UnknownType(char),
    #[error("the reply has {0} that cannot be read")]
    Malformed(&'static str),
    #[error("the reply has a length of {0}")]
    BadLength(i64),
    #[error("the reply has a text of {0} bytes, more than {TEXT_BYTES_MAX}")]
    TextTooLarge(i64),
    #[error("the reply has a list of {0} elements, more than {ELEMENTS_MAX}")]
    TooManyElements(i64),
    #[error("the reply has a line of more than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("the reply has lists in lists, more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("the reply has more than {REPLY_BYTES_MAX} bytes")]
    ReplyTooLarge,
}

/// Finds the ends of replies in bytes that arrive piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// The offset at which the reply begins.
    start: usize,
    /// Everything up to this offset is framed. It may be beyond the bytes that have arrived.
    at: usize,
    /// The present line was searched for its end up to this offset.
    searched: usize,
    /// The text that has begun. Its end may be beyond the bytes that have arrived.
    text: Option<Text>,
    /// The number of elements that each open container still needs.
    open: [usize; DEPTH_MAX],
    depth: usize,
}

/// A text whose first line was read.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: usize,
    end: usize,
    is_verbatim: bool,
}

impl Framer {
    /// Returns the end of the first reply if it is complete. The next call looks for the reply after it.
    ///
    /// `bytes` are all bytes since the framer began, with those of earlier calls unchanged. After an error the framer
    /// must not be used any more.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        loop {
            if let Some(text) = self.text {
                if !is_ended(bytes, text)? {
                    return Ok(None);
                }
                (self.text, self.at) = (None, text.end + 2);
            } else if !self.take_head(bytes)? {
                return Ok(None);
            }
            if self.text.is_none() && self.is_complete() {
                (self.start, self.searched) = (self.at, self.at);
                return Ok(Some(self.at));
            }
        }
    }

    /// Restarts with other bytes, at their beginning.
    pub fn restart(&mut self) {
        assert!(self.depth == 0 && self.text.is_none(), "no reply is half framed");
        (self.start, self.at, self.searched) = (0, 0, 0);
    }

    /// Reads the first line of a value. Returns false if it has not arrived completely.
    fn take_head(&mut self, bytes: &[u8]) -> Result<bool, FrameError> {
        if self.at - self.start > REPLY_BYTES_MAX {
            return Err(FrameError::ReplyTooLarge);
        }
        let line = Line { start: self.at, searched: self.searched.max(self.at) };
        let (head, after) = match head(bytes, line)? {
            Found::Head(head, after) => (head, after),
            Found::Part { searched } => {
                self.searched = searched;
                return Ok(false);
            }
        };
        self.at = after;
        match head {
            Head::Text { kind, length } => {
                let text = Text { start: after, end: after + length, is_verbatim: kind == b'=' };
                if text.end - self.start > REPLY_BYTES_MAX {
                    return Err(FrameError::ReplyTooLarge);
                }
                self.text = Some(text);
            }
            Head::Container { elements, .. } => {
                let open = self.open.get_mut(self.depth).ok_or(FrameError::TooDeep)?;
                // The container itself counts as a value, too.
                *open = elements + 1;
                self.depth += 1;
            }
            Head::Line { .. } | Head::Number(_) | Head::Nil => {}
        }
        Ok(true)
    }

    /// Counts a complete value, or a container that has begun. Returns true if the reply is complete.
    fn is_complete(&mut self) -> bool {
        while self.depth > 0 {
            let open = &mut self.open[self.depth - 1];
            *open -= 1;
            if *open > 0 {
                return false;
            }
            self.depth -= 1;
        }
        true
    }
}

/// Returns true if a text and its line end have arrived.
fn is_ended(bytes: &[u8], text: Text) -> Result<bool, FrameError> {
    let Some(line_end) = bytes.get(text.end..text.end + 2) else { return Ok(false) };
    if line_end != b"\r\n" {
        return Err(FrameError::Malformed("a text that does not end where it should"));
    }
    if text.is_verbatim && memchr::memchr(b':', &bytes[text.start..text.end]).is_none() {
        return Err(FrameError::Malformed("a verbatim text without a format"));
    }
    Ok(true)
}
