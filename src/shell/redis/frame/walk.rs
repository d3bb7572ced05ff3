//! Walks over the values of a framed reply, without a copy.

use super::FrameError;
use super::head::{Found, Head, Line, head};

/// A value, or the beginning of a container whose elements follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A text of any bytes.
    Text(&'a [u8]),
    /// A status, such as `OK`.
    Status(&'a str),
    /// An error of the server: its code and its message.
    Error(&'a [u8]),
    Number(i64),
    Nil,
    Double(f64),
    Boolean(bool),
    BigNumber(&'a str),
    /// A text with its format before a colon.
    Verbatim(&'a [u8]),
    List(usize),
    Set(usize),
    /// A map with this number of names and values.
    Map(usize),
    /// This number of names and values, which describe the value that follows them.
    Attribute(usize),
    /// A message that was not requested by a command.
    Push(usize),
}

/// The reason why a reply does not have the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError<'a> {
    /// The server sent an error in place of a value.
    #[error("{}", String::from_utf8_lossy(.0))]
    Server(&'a [u8]),
    #[error("{0}")]
    Unexpected(&'static str),
    #[error(transparent)]
    NotFramed(#[from] FrameError),
}

/// A walk over the values of replies, in order.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Walk<'a> {
    /// Begins a walk over framed replies.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::over(bytes, 0, bytes.len())
    }

    pub(super) fn over(bytes: &'a [u8], start: usize, end: usize) -> Self {
        Self { bytes, at: start, end }
    }

    /// Returns the offset at which the next value begins.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// Returns the next token.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, WalkError<'a>> {
        let head = self.head()?;
        Ok(match head {
            Head::Text { kind, length } => {
                let text = self.text(length)?;
                match kind {
                    b'=' => Token::Verbatim(text),
                    b'!' => Token::Error(text),
                    _ => Token::Text(text),
                }
            }
            Head::Container { kind, elements } => match kind {
                b'~' => Token::Set(elements),
                b'>' => Token::Push(elements),
                b'%' => Token::Map(elements / 2),
                b'|' => Token::Attribute(elements / 2),
                _ => Token::List(elements),
            },
            Head::Line { kind, start, end } => {
                let bytes = &self.bytes[start..end];
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                match kind {
                    b'-' => Token::Error(bytes),
                    b',' => Token::Double(text.parse().unwrap_or(f64::NAN)),
                    b'#' => Token::Boolean(text == "t"),
                    b'(' => Token::BigNumber(text),
                    _ => Token::Status(text),
                }
            }
            Head::Number(number) => Token::Number(number),
            Head::Nil => Token::Nil,
        })
    }

    /// Returns the next token that is not an attribute. An error of the server is an error.
    #[inline]
    pub fn value(&mut self) -> Result<Token<'a>, WalkError<'a>> {
        loop {
            match self.token()? {
                Token::Attribute(pairs) => self.skip(2 * pairs)?,
                Token::Error(error) => return Err(WalkError::Server(error)),
                token => return Ok(token),
            }
        }
    }

    /// Skips this number of values with all their elements.
    #[inline]
    pub fn skip(&mut self, values: usize) -> Result<(), WalkError<'a>> {
        let mut left = values;
        while left > 0 {
            left -= 1;
            match self.head()? {
                Head::Text { length, .. } => {
                    self.text(length)?;
                }
                Head::Container { elements, .. } => left += elements,
                Head::Line { .. } | Head::Number(_) | Head::Nil => {}
            }
        }
        Ok(())
    }

    /// Returns the next value, if it is a text. A status is a text as well.
    #[inline]
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], WalkError<'a>> {
        loop {
            match self.head()? {
                Head::Text { kind: b'$', length } => return self.text(length),
                Head::Text { kind: b'!', length } => return Err(WalkError::Server(self.text(length)?)),
                Head::Line { kind: b'+', start, end } => return Ok(&self.bytes[start..end]),
                Head::Line { kind: b'-', start, end } => return Err(WalkError::Server(&self.bytes[start..end])),
                Head::Container { kind: b'|', elements } => self.skip(elements - 1)?,
                Head::Text { .. } | Head::Container { .. } | Head::Line { .. } | Head::Number(_) | Head::Nil => {
                    return Err(WalkError::Unexpected(what));
                }
            }
        }
    }

    /// Returns the next value, if it is a whole number.
    pub fn number(&mut self, what: &'static str) -> Result<u64, WalkError<'a>> {
        let number = match self.value()? {
            Token::Number(number) => u64::try_from(number).ok(),
            Token::Text(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            Token::Status(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or(WalkError::Unexpected(what))
    }

    /// Returns the number of elements of the next value, if it is a list; `None` if there is none.
    #[inline]
    pub fn list(&mut self, what: &'static str) -> Result<Option<usize>, WalkError<'a>> {
        match self.value()? {
            Token::List(elements) | Token::Set(elements) => Ok(Some(elements)),
            Token::Nil => Ok(None),
            _ => Err(WalkError::Unexpected(what)),
        }
    }

    #[inline]
    fn head(&mut self) -> Result<Head, WalkError<'a>> {
        let bytes = &self.bytes[..self.end];
        match head(bytes, Line { start: self.at, searched: self.at })? {
            Found::Head(head, after) => {
                self.at = after;
                Ok(head)
            }
            Found::Part { .. } => Err(WalkError::Unexpected("the reply ends early")),
        }
    }

    #[inline]
    fn text(&mut self, length: usize) -> Result<&'a [u8], WalkError<'a>> {
        let end = self.at + length;
        if end + 2 > self.end {
            return Err(WalkError::Unexpected("the reply ends early"));
        }
        let text = &self.bytes[self.at..end];
        self.at = end + 2;
        Ok(text)
    }
}
