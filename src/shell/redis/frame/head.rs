//! The first line of a value: its type, and its content or its length.

use super::{ELEMENTS_MAX, FrameError, LINE_BYTES_MAX, TEXT_BYTES_MAX};

/// Maximum number of characters of a number, including its sign. [1]
pub const NUMBER_BYTES_MAX: usize = 20;

/// The first line of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A text with this number of bytes follows: `$`, `=` or `!`.
    Text {
        kind: u8,
        length: usize,
    },
    /// This number of values follows: `*`, `~`, `>`, `%` or `|`. A map has two for each pair, an attribute one more.
    Container {
        kind: u8,
        elements: usize,
    },
    /// The line itself is the value, within this range: `+`, `-`, `,`, `#` or `(`.
    Line {
        kind: u8,
        start: usize,
        end: usize,
    },
    Number(i64),
    Nil,
}

/// A line, possibly not yet complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub start: usize,
    /// No line end was found up to this offset. It is not before the start.
    pub searched: usize,
}

/// The result of looking for a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A head, and the offset after its line.
    Head(Head, usize),
    /// The line has no end up to this offset.
    Part { searched: usize },
}

/// Reads the head of a value.
#[inline]
pub(super) fn head(bytes: &[u8], line: Line) -> Result<Found, FrameError> {
    let Some(&kind) = bytes.get(line.start) else { return Ok(Found::Part { searched: line.start }) };
    match kind {
        b'$' | b'*' | b':' | b'%' | b'~' | b'>' | b'|' | b'=' | b'!' => {
            let Some((number, after)) = number(bytes, line.start + 1)? else {
                return Ok(Found::Part { searched: line.start });
            };
            Ok(Found::Head(of_number(kind, number)?, after))
        }
        b'+' | b'-' | b',' | b'#' | b'(' | b'_' => of_line(bytes, kind, line),
        other => Err(FrameError::UnknownType(char::from(other))),
    }
}

/// Returns the head with this number after its type.
#[inline]
fn of_number(kind: u8, number: i64) -> Result<Head, FrameError> {
    if kind == b':' {
        return Ok(Head::Number(number));
    }
    let Ok(count) = usize::try_from(number) else {
        let may_be_nil = matches!(kind, b'$' | b'*' | b'~');
        return if may_be_nil && number == -1 { Ok(Head::Nil) } else { Err(FrameError::BadLength(number)) };
    };
    match kind {
        b'$' | b'=' | b'!' if count > TEXT_BYTES_MAX => Err(FrameError::TextTooLarge(number)),
        b'$' | b'=' | b'!' => Ok(Head::Text { kind, length: count }),
        _ if count > ELEMENTS_MAX => Err(FrameError::TooManyElements(number)),
        b'%' => Ok(Head::Container { kind, elements: 2 * count }),
        b'|' => Ok(Head::Container { kind, elements: 2 * count + 1 }),
        _ => Ok(Head::Container { kind, elements: count }),
    }
}

/// Reads a number and the end of its line. Returns `None` if a part of them has not arrived.
#[inline]
fn number(bytes: &[u8], start: usize) -> Result<Option<(i64, usize)>, FrameError> {
    const BAD: FrameError = FrameError::Malformed("a number");
    let sign = bytes.get(start).copied();
    let first = start + usize::from(matches!(sign, Some(b'-' | b'+')));
    let mut value: i64 = 0;
    let mut at = first;
    loop {
        let Some(&byte) = bytes.get(at) else { return Ok(None) };
        if byte == b'\r' {
            break;
        }
        if !byte.is_ascii_digit() || at - start >= NUMBER_BYTES_MAX {
            return Err(BAD);
        }
        // Counts below zero, because the least number has no positive counterpart.
        let digit = i64::from(byte - b'0');
        let shifted = value.checked_mul(10).ok_or(BAD)?;
        value = if sign == Some(b'-') { shifted.checked_sub(digit) } else { shifted.checked_add(digit) }.ok_or(BAD)?;
        at += 1;
    }
    if at == first {
        return Err(BAD);
    }
    match bytes.get(at + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((value, at + 2))),
        Some(_) => Err(BAD),
    }
}

/// Reads a value that is one line.
fn of_line(bytes: &[u8], kind: u8, line: Line) -> Result<Found, FrameError> {
    let start = line.start + 1;
    let mut from = line.searched.max(start);
    let end = loop {
        let Some(found) = memchr::memchr(b'\r', bytes.get(from..).unwrap_or_default()) else {
            from = bytes.len().max(start);
            break None;
        };
        from += found;
        match bytes.get(from + 1) {
            // The line end may be split between two pieces.
            None => break None,
            Some(b'\n') => break Some(from),
            Some(_) => from += 1,
        }
    };
    if end.unwrap_or(from) - start > LINE_BYTES_MAX {
        return Err(FrameError::LineTooLong);
    }
    let Some(end) = end else { return Ok(Found::Part { searched: from }) };
    let text = std::str::from_utf8(&bytes[start..end]).map_err(|_| FrameError::Malformed("a line that is not text"))?;
    let head = match kind {
        b'_' if text.is_empty() => Head::Nil,
        b'_' => return Err(FrameError::Malformed("a null")),
        b'#' if !matches!(text, "t" | "f") => return Err(FrameError::Malformed("a boolean")),
        b',' if text.parse::<f64>().is_err() => return Err(FrameError::Malformed("a number with a fraction")),
        _ => Head::Line { kind, start, end },
    };
    Ok(Found::Head(head, end + 2))
}
