//! The entries of streams in a framed reply to `XRANGE`, `XREAD` or `XREADGROUP`.

use super::walk::{Token, Walk, WalkError};
use crate::domain::event::ids::EntryId;

/// The location of an entry in the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt {
    pub id: EntryId,
    /// The offset at which its names and values begin …
    start: usize,
    /// … and end; both are equal if it was trimmed while it was pending.
    end: usize,
}

impl EntryAt {
    /// Returns names and values in their order; `None` if the entry was trimmed.
    pub fn pairs(self, reply: &[u8]) -> Option<Pairs<'_>> {
        (self.end > self.start).then(|| Pairs(Walk::over(reply, self.start, self.end)))
    }

    /// Returns the length of its names and values in the reply, with their own lengths. [byte]
    pub fn size(self) -> usize {
        self.end - self.start
    }
}

/// Names and values of an entry, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a>(Walk<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_at_end() {
            return None;
        }
        // They were checked when the entry was found.
        Some((self.0.bytes("a field's name").ok()?, self.0.bytes("a field's value").ok()?))
    }
}

impl<'a> Walk<'a> {
    /// Begins to read the entries of several streams.
    pub fn streams(&mut self) -> Result<Streams, WalkError<'a>> {
        match self.value()? {
            Token::Nil => Ok(Streams { left: 0, is_map: false }),
            Token::Map(left) => Ok(Streams { left, is_map: true }),
            Token::List(left) | Token::Set(left) => Ok(Streams { left, is_map: false }),
            _ => Err(WalkError::Unexpected("streams are not a list")),
        }
    }

    /// Passes each entry of one stream to `entry`.
    pub fn entries(&mut self, mut entry: impl FnMut(EntryAt)) -> Result<(), WalkError<'a>> {
        for _ in 0..self.list("entries are not a list")?.unwrap_or(0) {
            if let Some(found) = self.entry()? {
                entry(found);
            }
        }
        Ok(())
    }

    /// Reads the next entry; `None` for an entry that was trimmed.
    #[inline]
    fn entry(&mut self) -> Result<Option<EntryAt>, WalkError<'a>> {
        match self.list("an entry is not a list")? {
            None => return Ok(None),
            Some(2) => {}
            Some(_) => return Err(WalkError::Unexpected("an entry is not a pair")),
        }
        let id = self.bytes("an entry id is not a text")?;
        let id = EntryId::parse(id).ok_or(WalkError::Unexpected("an entry id is not ms-seq"))?;
        let pairs = match self.value()? {
            Token::Nil => 0,
            Token::Map(pairs) => pairs,
            Token::List(values) | Token::Set(values) if values % 2 == 0 => values / 2,
            _ => return Err(WalkError::Unexpected("fields are not a list of pairs")),
        };
        let start = self.position();
        for _ in 0..pairs {
            self.bytes("a field's name is not a text")?;
            self.bytes("a field's value is not a text")?;
        }
        Ok(Some(EntryAt { id, start, end: self.position() }))
    }
}

/// The streams of a reply that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    left: usize,
    is_map: bool,
}

impl Streams {
    /// Returns the name of the next stream. Its entries follow in the walk.
    pub fn next<'a>(&mut self, walk: &mut Walk<'a>) -> Result<Option<&'a [u8]>, WalkError<'a>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if !self.is_map && walk.list("a stream is not a list")? != Some(2) {
            return Err(WalkError::Unexpected("a stream is not a pair"));
        }
        walk.bytes("a stream's name is not a text").map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(String, Vec<(EntryId, Vec<(String, String)>)>)>;

    fn read(reply: &str) -> Result<Read, WalkError<'_>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut read = Read::new();
        let mut walk = Walk::new(reply.as_bytes());
        let mut streams = walk.streams()?;
        while let Some(name) = streams.next(&mut walk)? {
            let mut entries = Vec::new();
            walk.entries(|entry| {
                let pairs = entry.pairs(reply.as_bytes()).into_iter().flatten();
                entries.push((entry.id, pairs.map(|(name, value)| (text(name), text(value))).collect()));
            })?;
            read.push((text(name), entries));
        }
        assert!(walk.is_at_end());
        Ok(read)
    }

    fn wanted() -> Read {
        let pairs = |of: &[(&str, &str)]| of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let first = (EntryId::new(1, 0), pairs(&[("a", "b"), ("", "12")]));
        vec![("s".to_owned(), vec![first, (EntryId::new(1, 1), Vec::new())]), ("t".to_owned(), Vec::new())]
    }

    #[test]
    fn entries_are_read_as_both_versions_of_the_protocol_list_them() {
        let entries = "*2\r\n*2\r\n$3\r\n1-0\r\n*4\r\n$1\r\na\r\n$1\r\nb\r\n$0\r\n\r\n$2\r\n12\r\n\
                       *2\r\n$3\r\n1-1\r\n*-1\r\n";
        let second = format!("*2\r\n*2\r\n$1\r\ns\r\n{entries}*2\r\n$1\r\nt\r\n*0\r\n");
        assert_eq!(read(&second), Ok(wanted()));
        let map = "%2\r\n$1\r\na\r\n+b\r\n$0\r\n\r\n$2\r\n12\r\n";
        let entries = format!("*3\r\n*2\r\n$3\r\n1-0\r\n{map}*2\r\n$3\r\n1-1\r\n_\r\n_\r\n");
        let third = format!("|1\r\n+ttl\r\n:5\r\n%2\r\n$1\r\ns\r\n{entries}+t\r\n*-1\r\n");
        assert_eq!(read(&third), Ok(wanted()));
        for nothing in ["*-1\r\n", "$-1\r\n", "_\r\n", "*0\r\n", "%0\r\n"] {
            assert_eq!(read(nothing), Ok(Read::new()), "{nothing:?}");
        }
    }

    #[test]
    fn another_shape_is_refused_with_what_is_wrong() {
        let of = |entry: &str| format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n{entry}");
        let cases = [
            (":5\r\n".to_owned(), "streams are not a list"),
            ("*1\r\n:5\r\n".to_owned(), "a stream is not a list"),
            ("*1\r\n*1\r\n+s\r\n".to_owned(), "a stream is not a pair"),
            ("*1\r\n*2\r\n*0\r\n*0\r\n".to_owned(), "a stream's name is not a text"),
            ("*1\r\n*2\r\n+s\r\n:5\r\n".to_owned(), "entries are not a list"),
            (of("$1\r\n5\r\n"), "an entry is not a list"),
            (of("*3\r\n+1-0\r\n*0\r\n*0\r\n"), "an entry is not a pair"),
            (of("*2\r\n+1\r\n*0\r\n"), "an entry id is not ms-seq"),
            (of("*2\r\n_\r\n*0\r\n"), "an entry id is not a text"),
            (of("*2\r\n+1-0\r\n:5\r\n"), "fields are not a list of pairs"),
            (of("*2\r\n+1-0\r\n*1\r\n+a\r\n"), "fields are not a list of pairs"),
            (of("*2\r\n+1-0\r\n*2\r\n*0\r\n+a\r\n"), "a field's name is not a text"),
            (of("*2\r\n+1-0\r\n*2\r\n+a\r\n_\r\n"), "a field's value is not a text"),
            (of("*2\r\n+1-0\r\n*2\r\n+a\r\n"), "the reply ends early"),
        ];
        for (reply, wrong) in cases {
            assert_eq!(read(&reply), Err(WalkError::Unexpected(wrong)), "{reply:?}");
        }
        let refused = "WRONGTYPE Operation against a key holding the wrong kind of value";
        for reply in [format!("-{refused}\r\n"), format!("!{}\r\n{refused}\r\n", refused.len())] {
            assert_eq!(read(&reply), Err(WalkError::Server(refused.as_bytes())));
        }
    }
}
