//! Layouts of lines: a line is read step by step once, and again only where lines of one producer differ.
//! Without it a replay takes 129 % more instructions (docs/decisions/0010).

use super::ENTRY_SIZE_MAX;
use super::account::ACCOUNTS;
use super::market::NAMES;
use super::position::{AMOUNTS, POSITION_SIDES};
use crate::codec::number::Plain;

/// A line of one stream, cut into the values that vary and the text between them. If the next line has the same text
/// and values of the same kinds, it is read by the layout. The result is the same as from the steps of [`Cursor`].
///
/// A value that no rule uses is part of the text until a line has another value in its place.
#[derive(Debug, Default)]
pub(super) struct Layout {
    line: Vec<u8>,
    values: Vec<Slot>,
    /// The values that vary.
    slots: Vec<Slot>,
}

/// The place of a value in the line.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: usize,
    end: usize,
    kind: Kind,
    role: Role,
    varies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A string. The only escape in it is `\"`.
    String,
    /// A string whose quotes are escaped, without escapes in it.
    Inner,
    /// A number in JSON notation, or true, false or null.
    Bare,
}

/// The use of a value in a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    Symbol,
    Timestamp,
    /// The price at this index of [`NAMES`].
    Price(usize),
    Side,
    Quantity,
    /// A signed quantity, beside the one without a sign.
    Amount,
    EntryPrice,
    /// A position side or an account.
    Book,
    /// No rule uses it.
    Other,
}

impl Role {
    fn of(name: &[u8]) -> Self {
        match name {
            b"symbol" => Self::Symbol,
            b"timestamp" => Self::Timestamp,
            b"side" => Self::Side,
            b"position_qty" => Self::Quantity,
            b"entry_price" => Self::EntryPrice,
            _ if AMOUNTS.iter().any(|known| known.as_bytes() == name) => Self::Amount,
            _ if POSITION_SIDES.iter().chain(&ACCOUNTS).any(|known| known.as_bytes() == name) => Self::Book,
            _ => NAMES.iter().position(|(known, _)| known.as_bytes() == name).map_or(Self::Other, Self::Price),
        }
    }
}

/// A value of a line.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// As written.
    Text(&'a [u8]),
    Number(Plain),
}

impl<'a> Value<'a> {
    /// Returns the text; empty for a number.
    pub fn text(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text,
            Self::Number(_) => b"",
        }
    }
}

/// The part of a line that contains the values of the rules.
#[derive(Clone, Copy)]
pub(super) enum Within {
    /// The object in its `payload`.
    Payload,
    /// Its flat fields, with no object beside them.
    Fields,
}

impl Layout {
    /// Returns the result of `read` by this layout, or by the line's own layout, which is learnt. Returns `None` if the
    /// general decoder has to read the line.
    #[inline]
    pub fn read_or_learn<T>(&mut self, line: &[u8], within: Within, read: impl Fn(&Self) -> Option<T>) -> Option<T> {
        if line.len() > ENTRY_SIZE_MAX {
            return None;
        }
        if let Some(value) = read(self) {
            return Some(value);
        }
        self.learn(line, within)?;
        read(self)
    }

    /// Passes on the values of a line in order, each with its use. Returns `None` if the line has another layout.
    #[inline]
    pub fn read<'a>(&self, line: &'a [u8], mut put: impl FnMut(Role, Value<'a>)) -> Option<()> {
        let (mut rest, mut end) = (line, 0);
        for slot in &self.slots {
            rest = rest.strip_prefix(&self.line[end..slot.start])?;
            let (length, value) = match slot.kind {
                Kind::Bare => bare(rest)?,
                Kind::String | Kind::Inner => {
                    let mut length = plain_length(rest);
                    if slot.kind == Kind::String && rest.get(length) == Some(&b'\\') {
                        length = string(rest);
                    }
                    text(rest, length)
                }
            };
            put(slot.role, value);
            (rest, end) = (&rest[length..], slot.end);
        }
        (rest == &self.line[end..] && !rest.is_empty()).then_some(())
    }

    /// Reads a line step by step and remembers its layout. Returns `None` if the line is not as expected.
    pub fn learn(&mut self, line: &[u8], within: Within) -> Option<()> {
        let mut cursor = Cursor { line, at: 0, values: Vec::with_capacity(self.values.len()) };
        let whole = cursor.line(within);
        let mut values = cursor.values;
        let has_kinds_of = |others: &[Slot]| {
            values.len() == others.len() && values.iter().zip(others).all(|(a, b)| (a.kind, a.role) == (b.kind, b.role))
        };
        if has_kinds_of(&self.values) {
            for (value, before) in values.iter_mut().zip(&self.values) {
                value.varies |= before.varies || line[value.start..value.end] != self.line[before.start..before.end];
            }
        }
        self.line.clear();
        self.slots.clear();
        self.values.clear();
        whole?;
        self.line.extend_from_slice(line);
        self.slots.extend(values.iter().filter(|value| value.varies));
        self.values = values;
        Some(())
    }
}

/// Reads a line step by step.
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    /// The values that were read.
    values: Vec<Slot>,
}

impl<'a> Cursor<'a> {
    /// Reads a line `{"stream":…,"id":…,"fields":{…}}`.
    fn line(&mut self, within: Within) -> Option<()> {
        self.token(b'{')?;
        (self.string()? == b"stream").then_some(())?;
        self.token(b':')?;
        // All lines of a layout share it, so it is text and not a value.
        self.string()?;
        self.token(b',')?;
        (self.string()? == b"id").then_some(())?;
        self.token(b':')?;
        self.value(Role::Other)?;
        self.token(b',')?;
        (self.string()? == b"fields").then_some(())?;
        self.token(b':')?;
        self.token(b'{')?;
        let mut has_payload = false;
        loop {
            let name = self.string()?;
            self.token(b':')?;
            match (within, name) {
                (Within::Payload, b"payload") if has_payload => return None,
                (Within::Payload, b"payload") => {
                    self.payload()?;
                    has_payload = true;
                }
                (Within::Payload, _) => self.value(Role::Other)?,
                (Within::Fields, b"payload" | b"data") => return None,
                (Within::Fields, _) => self.value(Role::of(name))?,
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'}')?;
        self.blanks();
        let is_complete = match within {
            Within::Payload => has_payload,
            Within::Fields => true,
        };
        (is_complete && self.rest().is_empty()).then_some(())
    }

    /// Reads a string that contains a flat object of plain strings and numbers, with its quotes escaped.
    fn payload(&mut self) -> Option<()> {
        self.token(b'"')?;
        self.token(b'{')?;
        loop {
            let name = self.inner_string()?;
            self.token(b':')?;
            self.blanks();
            let role = Role::of(name);
            if self.rest().first() == Some(&b'\\') {
                let text = self.inner_string()?;
                self.slot(text.len(), 2, Kind::Inner, role);
            } else {
                let text = self.take(bare(self.rest())?.0)?;
                self.slot(text.len(), 0, Kind::Bare, role);
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'"')
    }

    fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    /// Notes the value that was read last. `behind` is the length of the text that was read after it.
    fn slot(&mut self, length: usize, behind: usize, kind: Kind, role: Role) {
        let end = self.at - behind;
        self.values.push(Slot { start: end - length, end, kind, role, varies: role != Role::Other });
    }

    fn blanks(&mut self) {
        self.at += self.rest().iter().take_while(|b| **b == b' ').count();
    }

    /// Returns the next byte that is not blank.
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

    /// Reads a string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let text = self.take(plain_length(self.rest()))?;
        (self.take(1)? == b"\"").then_some(text)
    }

    /// Reads past a string value.
    fn value(&mut self, role: Role) -> Option<()> {
        self.token(b'"')?;
        let text = self.take(string(self.rest()))?;
        (self.take(1)? == b"\"").then_some(())?;
        self.slot(text.len(), 1, Kind::String, role);
        Some(())
    }

    /// Reads a string whose quotes are escaped: `\"ADAUSDT\"`.
    fn inner_string(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        (self.take(2)? == b"\\\"").then_some(())?;
        let text = self.take(plain_length(self.rest()))?;
        (self.take(2)? == b"\\\"").then_some(text)
    }
}

#[inline]
fn text(rest: &[u8], length: usize) -> (usize, Value<'_>) {
    (length, Value::Text(&rest[..length]))
}

/// Returns the bare value at the start of a text (a JSON number, or true, false or null) and its length. The caller
/// checks the text that follows it.
#[inline(always)]
fn bare(rest: &[u8]) -> Option<(usize, Value<'_>)> {
    if let Some((plain, length)) = Plain::at_start(rest) {
        return Some((length, Value::Number(plain)));
    }
    let word = [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word));
    Some(text(rest, word.map(<[u8]>::len).or_else(|| json_number(rest))?))
}

/// Returns the length of the JSON number at the start of a text.
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

/// Returns the length of the string at the start of a text, up to the first byte that is neither plain nor `\"`.
fn string(text: &[u8]) -> usize {
    let mut end = plain_length(text);
    while text[end..].starts_with(b"\\\"") {
        end += 2 + plain_length(&text[end + 2..]);
    }
    end
}

/// Returns the length of the printable ASCII at the start of a text, without quote or backslash, eight bytes at a time.
/// Most strings are too short for a faster method.
#[inline]
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xFF;
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte is exact up to the first byte that has it. Above it a difference may have
        // borrowed.
        let is = |b: u8| (word ^ (ONES * u64::from(b))).wrapping_sub(ONES);
        let found = is(b'"') | is(b'\\') | word.wrapping_sub(ONES * u64::from(b' ')) | word;
        let found = found & (ONES << 7);
        if found != 0 {
            return 8 * i + found.trailing_zeros() as usize / 8;
        }
    }
    let is_plain = |b: &u8| matches!(b, b' '..0x80) && !matches!(b, b'"' | b'\\');
    8 * words.len() + rest.iter().take_while(|b| is_plain(b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_plain_text_ends_whatever_stands_behind() {
        for b in 0..=u8::MAX {
            let is_plain = (b' '..0x80).contains(&b) && b != b'"' && b != b'\\';
            for at in 0..20 {
                for behind in [b' ', b'"', 0, 0xFF, b'!', b'#', b'[', b']', 0x7F] {
                    let mut text = vec![b'x'; 20];
                    text.push(b'"');
                    text[at] = b;
                    text[at + 1..20].fill(behind);
                    let slow = text.iter().position(|&b| !(b' '..0x80).contains(&b) || b == b'"' || b == b'\\');
                    assert_eq!(plain_length(&text), slow.unwrap(), "{text:?}");
                    assert_eq!(plain_length(&text) > at, is_plain);
                }
            }
        }
    }

    #[test]
    fn reads_the_same_numbers_as_json() {
        for number in
            ["0", "-0", "10", "01", "0.50", "1.", ".5", "-1.5", "1e3", "1E+3", "1e", "12345678901234567.25", "+1"]
        {
            let length = serde_json::from_str::<serde_json::Number>(number).ok().map(|_| number.len());
            let end_of = |text: &str| bare(text.as_bytes()).map(|(length, _)| length);
            assert_eq!(end_of(&format!("{number},")).filter(|&n| n == number.len()), length, "{number}");
        }
    }
}
