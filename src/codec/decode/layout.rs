//! How the line of a price is laid out: read step by step once, and then only where lines of one producer differ.

use super::tick::{Role, Tick};

/// A line of one stream, cut into its values and the text between them. The next line of a producer has the same text and values of
/// the same kinds: then it reads as the same steps of [`Cursor`] would read it, without taking them.
#[derive(Debug, Default)]
pub(super) struct Layout {
    line: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where a value of the line stands.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    end: usize,
    kind: Kind,
    role: Role,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Runs up to a quote, escaped or not, that the text behind it begins with.
    String,
    /// A number as JSON writes it, or true, false or null.
    Bare,
}

impl Layout {
    /// Reads a line of this layout; `None` for any other.
    #[inline]
    pub fn read<'a>(&self, line: &'a [u8]) -> Option<Tick<'a>> {
        let mut tick = Tick::default();
        let (mut rest, mut end) = (line, 0);
        for slot in &self.slots {
            rest = rest.strip_prefix(&self.line[end..slot.start])?;
            let length = match slot.kind {
                Kind::String => quote_or_backslash(rest)?,
                Kind::Bare => bare(rest)?,
            };
            let (value, behind) = rest.split_at(length);
            tick.put(slot.role, value);
            (rest, end) = (behind, slot.end);
        }
        (rest == &self.line[end..] && !rest.is_empty()).then_some(tick)
    }

    /// Reads a line step by step, and remembers what it looks like.
    pub fn learn<'a>(&mut self, line: &'a [u8]) -> Option<Tick<'a>> {
        self.line.clear();
        self.slots.clear();
        let mut cursor = Cursor { line, at: 0, slots: &mut self.slots, is_regular: true };
        let tick = cursor.line();
        if tick.is_some() && cursor.is_regular {
            self.line.extend_from_slice(line);
        } else {
            self.slots.clear();
        }
        tick
    }
}

/// The way through a plain line, step by step.
struct Cursor<'a, 's> {
    line: &'a [u8],
    at: usize,
    /// The values that were passed.
    slots: &'s mut Vec<Slot>,
    /// No value has escapes of its own, so that the slots say all of it.
    is_regular: bool,
}

impl<'a> Cursor<'a, '_> {
    /// The tick in the `payload` of a line `{"stream":…,"id":…,"fields":{…}}`.
    fn line(&mut self) -> Option<Tick<'a>> {
        self.token(b'{')?;
        (self.plain_string()? == b"stream").then_some(())?;
        self.token(b':')?;
        // The same in all lines of a layout: it is text, no value.
        self.plain_string()?;
        self.token(b',')?;
        (self.plain_string()? == b"id").then_some(())?;
        self.token(b':')?;
        self.value()?;
        self.token(b',')?;
        (self.plain_string()? == b"fields").then_some(())?;
        self.token(b':')?;
        self.token(b'{')?;
        let mut tick = None;
        loop {
            let name = self.plain_string()?;
            self.token(b':')?;
            if name != b"payload" {
                self.value()?;
            } else if tick.replace(self.payload()?).is_some() {
                return None;
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'}')?;
        self.blanks();
        if self.at == self.line.len() { tick } else { None }
    }

    /// A string that holds a flat object of plain strings and numbers whose quotes are escaped.
    fn payload(&mut self) -> Option<Tick<'a>> {
        let mut tick = Tick::default();
        self.token(b'"')?;
        self.token(b'{')?;
        loop {
            let name = self.inner_string()?;
            self.token(b':')?;
            self.blanks();
            let role = Role::of(name);
            let value = if self.rest().first() == Some(&b'\\') {
                let value = self.inner_string()?;
                self.slot(value.len(), 2, Kind::String, role);
                value
            } else {
                let value = self.take(bare(self.rest())?)?;
                self.slot(value.len(), 0, Kind::Bare, role);
                value
            };
            tick.put(role, value);
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'"')?;
        Some(tick)
    }

    fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    /// Notes the value that was taken last; `behind` is what was taken after it.
    fn slot(&mut self, length: usize, behind: usize, kind: Kind, role: Role) {
        let end = self.at - behind;
        self.slots.push(Slot { start: end - length, end, kind, role });
    }

    fn blanks(&mut self) {
        self.at += self.rest().iter().take_while(|b| **b == b' ').count();
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        self.blanks();
        Some(self.take(1)?[0])
    }

    fn token(&mut self, token: u8) -> Option<()> {
        (self.next()? == token).then_some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..length)?;
        self.at += length;
        Some(taken)
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let text = self.take(quote_or_backslash(self.rest())?)?;
        (self.take(1)? == b"\"").then_some(text)
    }

    /// Passes over a string value: of escapes only `\"` may be in it.
    fn value(&mut self) -> Option<()> {
        self.token(b'"')?;
        loop {
            let text = self.take(quote_or_backslash(self.rest())?)?;
            if self.take(1)? == b"\"" {
                self.slot(text.len(), 1, Kind::String, Role::Other);
                return Some(());
            }
            (self.take(1)? == b"\"").then_some(())?;
            self.is_regular = false;
        }
    }

    /// A string whose quotes are escaped: `\"ADAUSDT\"`.
    fn inner_string(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        (self.take(2)? == b"\\\"").then_some(())?;
        let text = self.take(quote_or_backslash(self.rest())?)?;
        (self.take(2)? == b"\\\"").then_some(text)
    }
}

/// Length of the bare value at the start of a text: a number as JSON writes it, or true, false or null. What may not
/// follow it is found by who reads on.
#[inline]
fn bare(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b't' => text.starts_with(b"true").then_some(4),
        b'f' => text.starts_with(b"false").then_some(5),
        b'n' => text.starts_with(b"null").then_some(4),
        _ => json_number(text),
    }
}

/// Length of the JSON number at the start of a text.
#[inline]
fn json_number(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole_at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(whole_at);
    if whole == 0 || (whole > 1 && text[whole_at] == b'0') {
        return None;
    }
    let mut end = whole_at + whole;
    if text.get(end) == Some(&b'.') {
        let places = digits(end + 1);
        end += 1 + places;
        if places == 0 {
            return None;
        }
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let signs = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signs);
        end += 1 + signs + exponent;
        if exponent == 0 {
            return None;
        }
    }
    Some(end)
}

/// Place of the first quote or backslash, eight bytes at a time: most strings are too short to call for more.
#[inline]
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xFF;
    // The highest bit of each byte that is zero; above the first one there may be more.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(8 * i + found.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    Some(8 * words.len() + place)
}
