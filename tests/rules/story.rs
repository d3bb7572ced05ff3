//! `story.txt` of a case: each entry and all changes that it caused, for review by a person.
//!
//! The fields are those of `harvester history`, and the arithmetic is that of `harvester explain`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use harvester::codec::fields::{self, Field, FieldDifference, NONE};
use harvester::codec::plural::plural;
use harvester::codec::seal::Sealed;
use harvester::codec::time;
use harvester::config::Config;
use harvester::domain::book::counters::Count;
use harvester::domain::book::state::Book;
use harvester::domain::book::symbol::Symbol;
use harvester::domain::book::view::BookView;
use harvester::domain::engine::{Decisions, Disposition, Engine};
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::{Entry, Event};
use harvester::drive::driver::{Driver, Stepped};
use harvester::drive::explain;
use harvester::shell::history::{History, Options};
use serde_json::Value;

/// From this number of entries on, a story contains only openings, closings, decisions and quarantined entries. [1]
const LONG: usize = 100;
/// Number of characters that are shown of an entry. [characters]
const ENTRY_CHARS_MAX: usize = 110;
/// The midnight from which most cases count their seconds.
const MIDNIGHT_MS: u64 = 1_770_163_200_000;
const DAY_MS: u64 = 86_400_000;

/// Folds the history of a case. Returns its story.
pub fn of(case: &Path, config: &Config) -> String {
    let inputs = [case.join("events.jsonl").into()];
    let mut history = History::open(&inputs, &config.streams, Options::default()).expect("the history opens");
    let mut driver = Driver::over(&history, config, Decisions::Recorded, None).expect("the keys of a case read");
    let is_long = history_is_long(case);
    let mut writer = Writer { is_long, ..Writer::default() };
    let each = |engine: &Engine, entry: &Entry, bytes: &[u8], folded: &Stepped| {
        let payload = |sealed: &Sealed| serde_json::from_str(&sealed.payload).expect("a payload is JSON");
        let payloads: Vec<Value> = folded.decided.iter().map(|(_, sealed)| payload(sealed)).collect();
        writer.write_entry(engine, entry, bytes, folded.disposition, &payloads);
    };
    driver.fold_all(&mut history, each).expect("the history folds");
    writer.end(&driver.engine);
    writer.text
}

fn history_is_long(case: &Path) -> bool {
    std::fs::read_to_string(case.join("events.jsonl")).expect("a history").lines().count() > LONG
}

#[derive(Default)]
struct Writer {
    is_long: bool,
    text: String,
    /// Books after the last entry, each with its symbol, and their fields.
    books: BTreeMap<Box<str>, (Symbol, Book, Vec<Field>)>,
    whole: Vec<Field>,
    policy: String,
    counts: BTreeMap<Count, u64>,
    /// The position of the last line.
    last: String,
}

impl Writer {
    fn write_entry(
        &mut self,
        engine: &Engine,
        entry: &Entry,
        bytes: &[u8],
        disposition: Disposition,
        decisions: &[Value],
    ) {
        let named = entry.symbol.map(|id| engine.symbol(id));
        let mut lines = self.changes(engine, named.map(|symbol| &*symbol.name));
        if self.is_long {
            // One line for all changes.
            self.last.clear();
            let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace().chain(["; "])).collect();
            let line = words.join(" ").replace(" ;  ", "; ").replace(":; ", ": ");
            let line = line.trim_end_matches([';', ' ']).to_owned();
            lines = Some(line).filter(|line| !line.is_empty()).into_iter().collect();
        }
        for book in entry.symbol.into_iter().flat_map(|symbol| engine.books_of(symbol)) {
            let of_book = |decision: &&Value| {
                let position = decision["position_id"].as_str().unwrap_or_default();
                position.rsplit_once('@').is_some_and(|(name, _)| *name == *book.name)
            };
            let arithmetic = self.arithmetic(engine, book, entry, decisions.iter().find(of_book));
            let prefix = if book.is_plain() { String::new() } else { format!("{}: ", book.name) };
            lines.extend(arithmetic.into_iter().map(|line| format!("{prefix}{line}")));
        }
        match disposition {
            Disposition::Applied => {}
            Disposition::Duplicate => lines.push("duplicate".to_owned()),
            Disposition::Quarantined(reason) => lines.push(format!("quarantined: {}", reason.name())),
        }
        let counts = engine.counters.counts.clone();
        for (count, n) in counts.iter().filter(|_| !self.is_long) {
            if self.counts.get(count) != Some(n) {
                lines.push(format!("counted: {}", count.name()));
            }
        }
        self.counts = counts;
        if self.is_long && lines.is_empty() {
            return;
        }
        let stream = engine.streams().get(entry.stream).short_name();
        let symbol = named.map_or("", |symbol| &symbol.name);
        let head = format!("{}  {stream} {} {symbol}", self.moment(entry.id), entry.shape);
        let _ = writeln!(self.text, "{}", format!("{}  {}", head.trim_end(), fields_of(bytes)).trim_end());
        for line in lines {
            let _ = writeln!(self.text, "    {}", self.shortened(&line));
        }
    }

    /// Writes the last line: the number of entries and, for a long history, the counts.
    fn end(&mut self, engine: &Engine) {
        let counters = &engine.counters;
        let open = engine.books().filter(|book| book.hot.open.is_some()).count();
        let _ = write!(
            self.text,
            "{}, {}, {open} open",
            plural(counters.entries(), "entry"),
            plural(counters.decisions, "decision")
        );
        for (count, n) in counters.counts.iter().filter(|_| self.is_long) {
            let _ = write!(self.text, ", {} {n}", count.name());
        }
        self.text.push('\n');
    }

    /// Returns all formulas of a decision; for another price only R and the hold.
    fn arithmetic(&self, engine: &Engine, book: BookView<'_>, entry: &Entry, decision: Option<&Value>) -> Vec<String> {
        let Some(open) = &book.hot.open else { return Vec::new() };
        let mut lines = explain::arithmetic(engine, book, open);
        let Some(payload) = decision else {
            if self.is_long || !matches!(entry.content, Ok(Event::Price(_))) {
                return Vec::new();
            }
            let hold = open.holds.last().and_then(|change| change.hold);
            return lines
                .pop()
                .map(|r| format!("{r}: {}", hold.map_or("decided", |hold| hold.name())))
                .into_iter()
                .collect();
        };
        if self.is_long {
            lines.drain(..lines.len().saturating_sub(1));
        }
        let text = |key: &str| payload[key].as_str().unwrap_or_default();
        lines.push(explain::quantity_line(text("close_fraction"), text("base"), text("qty"), open));
        lines
    }

    /// Returns the differences from the state after the last entry, one line for each field.
    fn changes(&mut self, engine: &Engine, named: Option<&str>) -> Vec<String> {
        let mut lines = Vec::new();
        let whole: Vec<Field> = fields::of_whole(engine);
        for FieldDifference { field, a, b, .. } in fields::differing(&self.whole, &whole) {
            if !matches!(field.as_str(), "decisions" | "chain" | "positions_known") && !self.whole.is_empty() {
                lines.push(change(&field, &a, &b));
            }
        }
        self.whole = whole;
        let is_other_policy = self.policy != *engine.policy().hash;
        self.policy = engine.policy().hash.to_string();
        for book in engine.books() {
            let (last_symbol, last, before) = self.books.entry(book.name.clone()).or_default();
            let is_same = last == book.book && (!book.is_plain() || last_symbol == book.symbol);
            if is_same && !is_other_policy {
                continue;
            }
            let now = fields::of_book(engine, book);
            let mut differing = fields::differing(before, &now);
            // Lines of one position are together, with the positions in the order of their openings.
            differing.sort_by(|x, y| (!x.of.contains('@'), &x.of).cmp(&(!y.of.contains('@'), &y.of)));
            for FieldDifference { of, field: name, a: from, b: to } in differing {
                // Closed positions are forgotten after a week. That is not a change.
                let is_forgotten = now.iter().all(|field| field.of != of);
                if is_forgotten || !is_shown(&name, &from, &to, self.is_long) {
                    continue;
                }
                if of.contains('@') && self.last != of {
                    lines.push(format!("{of}:"));
                    self.last = of;
                } else if !of.contains('@') && named != Some(&of) {
                    lines.push(change(&format!("{of} {name}"), &from, &to));
                    continue;
                }
                lines.push(change(&name, &from, &to));
            }
            (*last_symbol, *last, *before) = (book.symbol.clone(), book.book.clone(), now);
        }
        lines
    }

    /// Returns the seconds after the midnight of the cases, or the time of day of a night.
    fn moment(&self, id: EntryId) -> String {
        match id.ms.checked_sub(MIDNIGHT_MS) {
            Some(ms) if !self.is_long && ms < 10 * DAY_MS => format!("{} s{}", seconds(ms), nth(id.seq)),
            Some(_) | None if self.is_long => format!("{}{}", &time::iso(id.ms)[11..23], nth(id.seq)),
            Some(_) | None => id.to_string(),
        }
    }

    /// Shortens entry ids in a text to the form of the heads of the lines.
    fn shortened(&self, text: &str) -> String {
        let is_of_id = |c: char| c.is_ascii_digit() || c == '-';
        let mut out = String::new();
        for part in text.split_inclusive(|c: char| !is_of_id(c)) {
            let end = part.trim_end_matches(|c: char| !is_of_id(c)).len();
            match part[..end].parse::<EntryId>() {
                Ok(id) if id.ms >= MIDNIGHT_MS => out += &self.moment(id),
                _ => out += &part[..end],
            }
            out += &part[end..];
        }
        out
    }
}

/// Returns true for a field that a reviewer follows.
fn is_shown(name: &str, from: &str, to: &str, is_long: bool) -> bool {
    let is_state = matches!(name, "mark_price" | "orders" | "intents" | "digest");
    let is_latest = name.starts_with("latest_");
    let is_unset = matches!((name, from, to), ("history_gap" | "diverged", NONE, "false"));
    if is_state || is_latest || is_unset {
        return false;
    }
    let is_of_opening = matches!(name, "entry_price" | "risk") && from == NONE;
    !is_long || matches!(name, "qty" | "closed") || is_of_opening || name.starts_with("decision ")
}

fn change(name: &str, from: &str, to: &str) -> String {
    let from = if from == NONE { String::new() } else { format!("{from} → ") };
    format!("{name:<12} {from}{to}")
}

fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns the sequence number of an entry within its millisecond, unless it is the first.
fn nth(seq: u64) -> String {
    if seq == 0 { String::new() } else { format!("/{seq}") }
}

/// Returns the business fields of an entry as `name=value`.
fn fields_of(bytes: &[u8]) -> String {
    let entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut pairs = Vec::new();
    for (name, value) in entry["fields"].as_object().into_iter().flatten() {
        let inner = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match (name.as_str(), inner) {
            ("payload" | "data", Some(Value::Object(inner))) => {
                pairs.extend(inner.iter().map(|(name, value)| pair(name, value)));
            }
            _ => pairs.push(pair(name, value)),
        }
    }
    let text = pairs.into_iter().flatten().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= ENTRY_CHARS_MAX {
        return text;
    }
    text.chars().take(ENTRY_CHARS_MAX - 1).chain(['…']).collect()
}

/// Returns `None` for fields that describe the envelope.
fn pair(name: &str, value: &Value) -> Option<String> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let is_of_envelope = matches!(name, "event_type" | "trace_id" | "correlation_id" | "symbol" | "message_id");
    let is_empty = text.is_empty() || name == "source" || name == "timestamp" && text == "null";
    (!is_of_envelope && !is_empty).then(|| format!("{name}={}", text.escape_debug()))
}
