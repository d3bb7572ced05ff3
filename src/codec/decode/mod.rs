//! Stream entries to events: every shape that the field writes (SPEC §3).

mod control;
mod decision;
mod intent;
mod layout;
mod market;
mod observation;
mod plan;
mod position;
mod recent;
mod result;
mod snapshot;
mod tick;

use std::collections::HashMap;

use recent::Recent;

use super::line::{self, FieldValue, Fields};
use super::number;
use super::object::Object;
use crate::domain::event::{Entry, Event, Reason, Unreadable};
use crate::domain::ids::{EntryId, StreamId, SymbolId};
use crate::domain::streams::{StreamKind, Streams};

/// A larger entry is quarantined. [bytes]
pub const ENTRY_SIZE_MAX: usize = 1 << 20;

/// Indices of symbols, in the order in which they were first seen.
///
/// The engine keeps the same table: [`Symbols::take_new`] hands over what was added, in order.
#[derive(Debug, Default)]
pub struct Symbols {
    by_name: HashMap<Box<str>, SymbolId, foldhash::fast::FixedState>,
    names: Vec<Box<str>>,
    handed_over: usize,
    /// Plain names that were interned lately.
    recent: Recent,
}

impl Symbols {
    /// A table that starts with known names.
    pub fn new<'a>(known: impl Iterator<Item = &'a str>) -> Self {
        let mut symbols = Self::default();
        for name in known {
            symbols.intern(name);
        }
        symbols.handed_over = symbols.names.len();
        symbols
    }

    pub fn intern(&mut self, name: &str) -> SymbolId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = SymbolId(self.names.len() as u32);
        self.names.push(name.into());
        self.by_name.insert(name.into(), id);
        id
    }

    /// A symbol as producers write it, in upper case and digits; `None` for any other text.
    fn intern_plain(&mut self, name: &[u8]) -> Option<SymbolId> {
        if let Some(id) = self.recent.get(name) {
            return Some(id);
        }
        let text = std::str::from_utf8(name).ok().filter(|text| is_plain(text) && !number::is_absent_word(text))?;
        let id = self.intern(text);
        self.recent.put(name, id);
        Some(id)
    }

    /// Names added since the last call.
    pub fn take_new(&mut self) -> Vec<Box<str>> {
        let new = self.names[self.handed_over..].to_vec();
        self.handed_over = self.names.len();
        new
    }
}

/// What a decoder of one kind has to look at, and what it finds out on the way.
struct Subject<'a> {
    object: Object<'a>,
    stream: StreamId,
    id: EntryId,
    symbols: &'a mut Symbols,
    /// Shape, once it is known better than by the envelope.
    shape: &'static str,
    symbol: Option<SymbolId>,
    refusal: bool,
    kills: bool,
    gap: bool,
}

impl Subject<'_> {
    /// The symbol of the object, trimmed and in upper case.
    fn symbol(&mut self) -> Result<SymbolId, Reason> {
        let id = optional_symbol(&self.object, self.symbols)?.ok_or(Reason::NoSymbol)?;
        self.symbol = Some(id);
        Ok(id)
    }
}

fn optional_symbol(object: &Object<'_>, symbols: &mut Symbols) -> Result<Option<SymbolId>, Reason> {
    object.with_text(&["symbol"], |text| {
        let text = text.trim();
        // Symbols come in upper case nearly always: no copy then.
        if is_plain(text) { symbols.intern(text) } else { symbols.intern(&text.to_uppercase()) }
    })
}

fn is_plain(symbol: &str) -> bool {
    symbol.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Decodes entries of the configured streams.
#[derive(Debug)]
pub struct Decoder {
    streams: Streams,
    pub symbols: Symbols,
    /// What the last line of each stream looked like.
    layouts: Vec<layout::Layout>,
}

impl Decoder {
    pub fn new(streams: Streams, symbols: Symbols) -> Self {
        let layouts = streams.iter().map(|_| layout::Layout::default()).collect();
        Self { streams, symbols, layouts }
    }

    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Decodes one history line. Errors if its fields do not read; what they say comes back as in [`Self::decode`].
    pub fn decode_line(&mut self, stream: StreamId, id: EntryId, text: &[u8]) -> Result<Entry, serde_json::Error> {
        let short = match self.streams.kind(stream) {
            StreamKind::Price => tick::decode,
            StreamKind::Snapshot => snapshot::decode,
            _ => return Ok(self.decode(stream, id, &line::fields(text)?)),
        };
        if let Some(entry) = short(stream, id, text, &mut self.symbols, &mut self.layouts[usize::from(stream.0)]) {
            return Ok(entry);
        }
        Ok(self.decode(stream, id, &line::fields(text)?))
    }

    /// Decodes one entry. What cannot be read comes back as the content's error; this never fails.
    pub fn decode(&mut self, stream: StreamId, id: EntryId, fields: &Fields<'_>) -> Entry {
        let kind = self.streams.kind(stream);
        let mut shape = envelope_shape(kind, fields);
        let symbol;
        let content = match Object::of(fields) {
            Err(reason) => {
                // What lies flat beside it still tells whom it concerned, and how careful to be.
                let flat = Object::flat(fields);
                symbol = optional_symbol(&flat, &mut self.symbols).ok().flatten();
                let refusal = flat.boolean(&["executed"]) == Ok(Some(false));
                let (kills, gap) =
                    if kind == StreamKind::Control { control::precaution(fields) } else { (false, false) };
                Err(Unreadable { reason, refusal, kills, gap })
            }
            Ok(object) => {
                let mut subject = Subject {
                    object,
                    stream,
                    id,
                    symbols: &mut self.symbols,
                    shape,
                    symbol: None,
                    refusal: false,
                    kills: false,
                    gap: false,
                };
                let decoded = decode_kind(kind, &mut subject);
                (shape, symbol) = (subject.shape, subject.symbol);
                let Subject { refusal, kills, gap, .. } = subject;
                decoded.map_err(|reason| Unreadable { reason, refusal, kills, gap })
            }
        };
        let content = if fields.size() > ENTRY_SIZE_MAX { too_large(content) } else { content };
        Entry { stream, kind, id, shape, symbol, content }
    }
}

fn decode_kind(kind: StreamKind, subject: &mut Subject<'_>) -> Result<Event, Reason> {
    match kind {
        StreamKind::Control => control::decode(subject),
        StreamKind::Observation => observation::decode(subject),
        StreamKind::Intent => intent::decode(subject),
        StreamKind::Plan => plan::decode(subject),
        StreamKind::Result => result::decode(subject),
        StreamKind::Snapshot => position::decode(subject, false),
        StreamKind::Price => market::decode(subject),
        StreamKind::Decision => decision::decode(subject),
    }
}

/// An entry over the limit is not used, whatever it says; what it would have done decides how careful to be.
fn too_large(content: Result<Event, Unreadable>) -> Result<Event, Unreadable> {
    let mut unreadable = Unreadable::new(Reason::TooLarge);
    match content {
        Ok(Event::Control(control)) => {
            (unreadable.kills, unreadable.gap) = (control::is_safety(&control), control::is_gap(&control));
        }
        Ok(Event::Result(fact)) => unreadable.refusal = result::is_refusal(&fact),
        Ok(_) => {}
        Err(other) => unreadable = Unreadable { reason: Reason::TooLarge, ..other },
    }
    Err(unreadable)
}

/// The shape, as far as the names of the fields tell it.
fn envelope_shape(kind: StreamKind, fields: &Fields<'_>) -> &'static str {
    let filled = |name: &str| match fields.get(name) {
        Some(FieldValue::Text(text)) => !number::is_absent_word(text),
        Some(FieldValue::Bytes(_)) => true,
        None => false,
    };
    let any = |names: &[&str]| names.iter().any(|name| fields.has(name));
    let payload = filled("payload");
    match kind {
        StreamKind::Intent if payload && any(&["trace_id", "correlation_id"]) => "T-a",
        StreamKind::Intent if payload && any(&["event_type", "source", "timestamp"]) => "T-b",
        StreamKind::Intent if payload => "T-c",
        StreamKind::Intent if filled("data") => "T-e",
        StreamKind::Intent => "T-d",
        StreamKind::Result if fields.has("steps_results") => "R-A",
        StreamKind::Result if fields.has("details") => "R-C",
        StreamKind::Result if any(&["avgPrice", "executedQty"]) => "R-D",
        StreamKind::Result if any(&["plan_id", "executed", "filled_qty", "action"]) => "R-B",
        StreamKind::Result => "E1",
        _ if payload => "payload",
        _ if filled("data") => "data",
        _ => "flat",
    }
}
