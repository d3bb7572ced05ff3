//! Decodes stream entries into events: every known shape (docs/spec/streams.md).
//!
//! In reading order:
//!
//! - this file; `subject`, `symbols` and `account`, which all kinds share;
//! - one file for each kind: `control`, `observation`, `intent`, `plan`, `result`, `position` (snapshots and look-ups),
//!   `market` (prices), `decision`;
//! - the fast path of frequent lines: `layout`, `tick` (prices), `snapshot`, `recent`.

mod account;
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
mod subject;
mod symbols;
mod tick;

pub(super) use account::ACCOUNTS;
pub use account::is_account_name;
pub use control::kills_when_read;
use subject::{Subject, optional_symbol, with_symbol};
pub use symbols::{NewNames, Symbols};

use super::line::{self, FieldValue, Fields};
use super::number;
use super::object::Object;
use super::signing::SigningKey;
use crate::domain::event::ids::{AccountId, EntryId, StreamId, SymbolId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::event::{Entry, Event, PositionSide, Reason, Unreadable};

/// A larger entry is quarantined. [bytes]
pub const ENTRY_SIZE_MAX: usize = 1 << 20;

/// Decodes entries of the configured streams.
#[derive(Debug)]
pub struct Decoder {
    streams: Streams,
    pub symbols: Symbols,
    /// The layout of the last line of each stream.
    layouts: Vec<layout::Layout>,
    /// The account that the configuration gives to each stream.
    accounts: Vec<AccountId>,
    /// Verifies control entries and decisions.
    key: Option<SigningKey>,
}

/// An entry that was decoded, before the checks that concern all kinds.
struct Decoded {
    shape: &'static str,
    symbol: Option<SymbolId>,
    account: AccountId,
    position_side: Option<PositionSide>,
    content: Result<Event, Unreadable>,
}

impl Decoder {
    pub fn new(streams: Streams, mut symbols: Symbols) -> Self {
        symbols.priced_max = streams.symbols_max();
        let layouts = streams.iter().map(|_| layout::Layout::default()).collect();
        let mut account =
            |name: &Option<Box<str>>| name.as_ref().map_or(AccountId::NONE, |n| symbols.accounts.intern(n));
        let accounts = streams.iter().map(|(_, stream)| account(&stream.account)).collect();
        Self { streams, symbols, layouts, accounts, key: None }
    }

    /// Sets the key that verifies signatures. With a key, an entry that loosens without a valid signature goes to
    /// quarantine.
    #[must_use]
    pub fn with_key(self, key: Option<SigningKey>) -> Self {
        Self { key, ..self }
    }

    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Returns true if a key verifies signatures.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Decodes one history line. Errors if its fields cannot be read. Their content is returned as in [`Self::decode`].
    pub fn decode_line(&mut self, stream: StreamId, id: EntryId, text: &[u8]) -> Result<Entry, serde_json::Error> {
        let index = usize::from(stream.0);
        let (symbols, layout) = (&mut self.symbols, &mut self.layouts[index]);
        let short = match self.streams.kind(stream) {
            StreamKind::Price => tick::decode(stream, id, text, symbols, layout),
            StreamKind::Snapshot => snapshot::decode(stream, id, text, symbols, layout)
                .map(|entry| Entry { account: self.accounts[index], ..entry }),
            _ => None,
        };
        if let Some(entry) = short {
            return Ok(entry);
        }
        Ok(self.decode(stream, id, &line::fields(text)?))
    }

    /// Decodes one entry. It never fails: an unreadable entry is returned with the error as its content.
    pub fn decode(&mut self, stream: StreamId, id: EntryId, fields: &Fields<'_>) -> Entry {
        let kind = self.streams.kind(stream);
        let decoded = match Object::of(fields) {
            Err(reason) => self.decode_flat(stream, fields, reason),
            Ok(object) => self.decode_object(stream, id, envelope_shape(kind, fields), object),
        };
        let Decoded { shape, symbol, account, position_side, content } = decoded;
        let mut content = if fields.size() > ENTRY_SIZE_MAX { too_large(content) } else { content };
        let may_concern = matches!(kind, StreamKind::Result | StreamKind::Snapshot | StreamKind::Decision);
        if let (Err(unreadable), None) = (&mut content, symbol)
            && (may_concern || unreadable.moves)
        {
            unreadable.named = self.symbols.named_in(fields);
        }
        let content = self.verified(stream, id, fields, content);
        Entry { stream, kind, id, shape, symbol, account, position_side, content }
    }

    /// Decodes an entry whose payload cannot be read. The flat fields beside it still name the symbol, the account and the
    /// precautions.
    fn decode_flat(&mut self, stream: StreamId, fields: &Fields<'_>, reason: Reason) -> Decoded {
        let kind = self.streams.kind(stream);
        let stream_account = self.accounts[usize::from(stream.0)];
        let flat = Object::flat(fields);
        let symbol = match kind {
            StreamKind::Price => {
                with_symbol(&flat, |name| self.symbols.intern_priced(name).ok()).ok().flatten().flatten()
            }
            _ => optional_symbol(&flat, &mut self.symbols).ok().flatten(),
        };
        let (kills, gap) = if kind == StreamKind::Control { control::precaution(fields) } else { (false, false) };
        // Its account may be in the part that cannot be read.
        let name = account::name(&flat).ok().flatten();
        let any_account = name.is_none() && !stream_account.is_named();
        let account = name.map_or(stream_account, |name| self.symbols.accounts.intern(&name));
        let moves = kind == StreamKind::Observation && observation::may_move(&flat);
        // The part that cannot be read may contain a fill, so the entry does not count as a refusal.
        let content = Err(Unreadable { moves, kills, gap, any_account, ..Unreadable::new(reason) });
        Decoded { shape: envelope_shape(kind, fields), symbol, account, position_side: None, content }
    }

    /// Decodes the object of an entry. `shape` is that of its envelope.
    fn decode_object(&mut self, stream: StreamId, id: EntryId, shape: &'static str, object: Object<'_>) -> Decoded {
        let kind = self.streams.kind(stream);
        let mut subject = Subject {
            object,
            stream,
            id,
            symbols: &mut self.symbols,
            shape,
            symbol: None,
            stream_account: self.accounts[usize::from(stream.0)],
            account: AccountId::NONE,
            position_side: None,
            refusal: false,
            kills: false,
            gap: false,
        };
        let decoded = decode_kind(kind, &mut subject);
        let (mut any_account, mut moves) = (false, false);
        if decoded.is_err() && kind != StreamKind::Price {
            any_account = subject.account().is_err();
            moves = kind == StreamKind::Observation && observation::may_move(&subject.object);
            // The order of a trade could be of any account. A position is of its own.
            any_account |= moves && subject.shape != "exchange.position" && !subject.account.is_named();
            subject.position_side = position::position_side(&subject.object).ok().flatten();
        }
        let Subject { shape, symbol, account, position_side, refusal, kills, gap, .. } = subject;
        let unreadable = |reason| Unreadable { refusal, moves, kills, gap, any_account, ..Unreadable::new(reason) };
        Decoded { shape, symbol, account, position_side, content: decoded.map_err(unreadable) }
    }

    /// Verifies an entry that could be read. An unreadable one has been judged before, and is never milder.
    fn verified(
        &self,
        stream: StreamId,
        id: EntryId,
        fields: &Fields<'_>,
        content: Result<Event, Unreadable>,
    ) -> Result<Event, Unreadable> {
        match (content, &self.key) {
            (Ok(Event::Control(mut fact)), Some(key)) => {
                control::verify(key, &self.streams.get(stream).name, id, fields, &mut fact).map_err(Unreadable::new)?;
                Ok(Event::Control(fact))
            }
            (Ok(Event::Decision(mut fact)), key) => {
                fact.is_sealed = decision::is_sealed(key.as_ref(), id, fields);
                fact.is_early = key.is_none() && fact.cause_id.ms > id.ms;
                Ok(Event::Decision(fact))
            }
            (content, _) => content,
        }
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

/// Refuses an entry over the size limit, whatever it contains. Its content only decides the precautions.
fn too_large(content: Result<Event, Unreadable>) -> Result<Event, Unreadable> {
    let mut unreadable = Unreadable::new(Reason::TooLarge);
    match content {
        Ok(Event::Control(control)) => {
            (unreadable.kills, unreadable.gap) =
                (control::is_safety(&control.control), control::is_gap(&control.control));
        }
        Ok(Event::Result(fact)) => unreadable.refusal = result::is_refusal(&fact),
        Ok(Event::Trade(_) | Event::Position(_)) => unreadable.moves = true,
        Ok(_) => {}
        Err(other) => unreadable = Unreadable { reason: Reason::TooLarge, ..other },
    }
    Err(unreadable)
}

/// Returns the shape, as far as the names of the fields determine it.
fn envelope_shape(kind: StreamKind, fields: &Fields<'_>) -> &'static str {
    let filled = |name: &str| match fields.get(name) {
        Some(FieldValue::Text(text)) => !number::is_absent_word(text),
        Some(FieldValue::Bytes(_)) => true,
        None => false,
    };
    let any = |names: &[&str]| names.iter().any(|name| fields.has(name));
    let payload = filled("payload");
    if kind == StreamKind::Result
        && let Some(shape) = result::shape_of(any)
    {
        return shape;
    }
    match kind {
        StreamKind::Intent if payload && any(&["trace_id", "correlation_id"]) => "T-a",
        StreamKind::Intent if payload && any(&["event_type", "source", "timestamp"]) => "T-b",
        StreamKind::Intent if payload => "T-c",
        StreamKind::Intent if filled("data") => "T-e",
        StreamKind::Intent => "T-d",
        _ if payload => "payload",
        _ if filled("data") => "data",
        StreamKind::Result => "E1",
        _ => "flat",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::engine::{Disposition, Engine};
    use crate::domain::event::streams::SYMBOLS_MAX;
    use crate::domain::exit::policy::Policy;

    /// Folds entries, and before each of them starts again from the state that an engine keeps.
    fn dispositions(symbols_max: usize, entries: &[(&str, &str)], restarts: bool) -> Vec<Disposition> {
        let streams = Streams::default().with_symbols_max(symbols_max);
        let mut engine = Engine::new(streams.clone(), Policy::default());
        let mut decoder = Decoder::new(streams.clone(), Symbols::default());
        let mut found = Vec::new();
        for (at, (stream, payload)) in (1..).zip(entries) {
            if restarts {
                decoder = Decoder::new(streams.clone(), Symbols::of(&engine));
            }
            let stream_id = streams.id_of(stream).expect("a stream");
            let id = format!("1770163200000-{at}");
            let fields = Fields { pairs: vec![("payload".into(), FieldValue::Text((*payload).into()))] };
            let text = line::write(stream, &id, &fields);
            let id = id.parse().expect("an id");
            let entry = decoder.decode_line(stream_id, id, text.as_bytes()).expect("a line");
            decoder.symbols.take_new().tell(&mut engine);
            found.push(engine.step(&entry).disposition);
        }
        found
    }

    #[test]
    fn prices_introduce_so_many_symbols_and_others_are_not_counted() {
        const TICK: &str = "quantum:stream:market.tick";
        const INTENT: &str = "quantum:stream:trade.intent";
        let tick = |name: &str| (TICK, format!(r#"{{"symbol":"{name}","price":"1"}}"#));
        let intent = |name: &str| (INTENT, format!(r#"{{"symbol":"{name}","action":"BUY"}}"#));
        let applied = Disposition::Applied;
        let refused = Disposition::Quarantined(Reason::TooManySymbols);
        let steps = [
            (tick("AAAUSDT"), applied),
            (tick("bbbusdt"), applied),
            // The limit is two, for plain and other forms alike. Known symbols are still accepted.
            (tick("CCCUSDT"), refused),
            (tick("cccusdt"), refused),
            ((TICK, r#"{"symbol":"CCCUSDT","price":"#.to_owned()), Disposition::Quarantined(Reason::BadJson)),
            (tick("AAAUSDT"), applied),
            (tick(" BBBUSDT"), applied),
            // A symbol that another entry names is known, and does not count.
            (intent("DDDUSDT"), applied),
            (tick("DDDUSDT"), applied),
            (tick("CCCUSDT"), refused),
            // One of the two is named by now: there is room for exactly one more.
            (intent("AAAUSDT"), applied),
            (intent("AAAUSDT"), applied),
            (tick("CCCUSDT"), applied),
            (tick("EEEUSDT"), refused),
        ];
        let entries: Vec<(&str, &str)> = steps.iter().map(|((stream, text), _)| (*stream, text.as_str())).collect();
        let wanted: Vec<Disposition> = steps.iter().map(|(_, wanted)| *wanted).collect();
        assert_eq!(dispositions(2, &entries, false), wanted);
        assert_eq!(dispositions(2, &entries, true), wanted, "a start in between changes nothing");
        assert!(dispositions(SYMBOLS_MAX, &entries, false).iter().all(|found| *found != refused));
    }

    /// An entry over the limit is refused, whatever it says. What it would have done decides the precautions.
    #[test]
    fn a_control_entry_that_is_too_large_is_never_milder_than_it_says() {
        const CONTROL: &str = "quantum:stream:harvest.control";
        let policy = r#""policy":{"mode":"shadow"}"#;
        let (kills, gap) = ((true, false), (false, true));
        let cases = [
            ("kill.changed", r#""kill":true"#, kills),
            ("kill.changed", r#""kill":false"#, kills),
            ("policy.adopted", policy, kills),
            // Its content cannot be read either.
            ("policy.adopted", r#""policy":7"#, kills),
            ("kill.changed", r#""kill":"#, kills),
            ("history.gap", r#""stream":"quantum:stream:apply.result""#, gap),
            ("gap.accepted", r#""reason":"r""#, (false, false)),
            ("entry.skipped", r#""stream":"s","id":"1-1""#, (false, false)),
        ];
        for (event_type, body, wanted) in cases {
            let read = |padding: usize| {
                let payload = format!(r#"{{{body},"x":"{}"}}"#, "x".repeat(padding));
                let pairs = [("event_type", event_type), ("payload", &*payload)];
                let pairs = pairs.map(|(name, value)| (name.into(), FieldValue::Text(value.into())));
                let mut decoder = Decoder::new(Streams::default(), Symbols::default());
                let stream = decoder.streams().id_of(CONTROL).expect("a stream");
                decoder.decode(stream, EntryId::new(1_770_163_200_000, 0), &Fields { pairs: pairs.into() }).content
            };
            let large = read(2_000_000).expect_err("it is too large");
            assert_eq!((large.reason, (large.kills, large.gap)), (Reason::TooLarge, wanted), "{event_type} {body}");
            let small = read(1_000).map_err(|unreadable| unreadable.reason);
            assert_ne!(small, Err(Reason::TooLarge), "{event_type} {body}");
        }
    }
}
