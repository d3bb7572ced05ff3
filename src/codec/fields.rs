//! The state as named fields with one text each. States are compared, and changes are described, by these fields.

use serde::{Serialize, Serializer};

use crate::domain::book::change::{Cause, PositionChange};
use crate::domain::book::hold_log::HoldChange;
use crate::domain::book::intents::Intents;
use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::{Engine, Globals};
use crate::domain::event::ids::EntryId;
use crate::domain::exit;

use super::checksum::hex;
use super::state::{cold_value, encode, hot_value};
use super::view;

/// The text of a field without a value.
pub const NONE: &str = "-";

/// One field of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// A position, a symbol, or [`WHOLE`].
    pub of: String,
    pub name: String,
    pub value: String,
    /// The value without the entry that it came from; `None` if it names no such entry.
    gist: Option<String>,
}

impl Field {
    /// Returns the part of the value whose change is news. A newer entry with the same value is none.
    fn gist(&self) -> &str {
        self.gist.as_deref().unwrap_or(&self.value)
    }
}

/// The owner of fields that belong to no symbol.
pub const WHOLE: &str = "all";

fn field(of: &str, name: impl Into<String>, value: impl ToString) -> Field {
    Field { of: of.to_owned(), name: name.into(), value: value.to_string(), gist: None }
}

/// Returns a field whose value came from an entry. `value` lacks its closing bracket.
fn sourced(of: &str, name: &str, value: Option<(String, EntryId)>) -> Field {
    match value {
        Some((value, entry)) => Field { gist: Some(value.clone()), ..field(of, name, format!("{value} {entry})")) },
        None => field(of, name, NONE),
    }
}

/// Returns true if an entry caused a decision of a position. Without its stream, only the id is compared.
pub fn is_cause(position: &Position, stream: Option<&str>, id: EntryId) -> bool {
    let id = id.to_string();
    position.decisions.iter().any(|decision| {
        let cause = decision.cause.rsplit_once('/');
        cause.is_some_and(|(of, cause)| cause == id && stream.is_none_or(|stream| of == stream))
    })
}

/// Returns the text of the last hold. Without a hold, the rules decided: up to the last recorded decision only recorded
/// decisions take effect, and there may be none. `stream` is that of the entry that changed the hold, if it is known.
fn hold(position: &Position, stream: Option<&str>) -> &'static str {
    match position.holds.last() {
        None => NONE,
        Some(HoldChange { hold: Some(hold), .. }) => hold.name(),
        Some(HoldChange { hold: None, since }) if is_cause(position, stream, since) => "none: decision made",
        Some(HoldChange { hold: None, .. }) => "none: these rules decide, and no decision is recorded",
    }
}

/// Returns the fields of a position that only entries about the position change, in the order of a story: not its
/// price. `held_by` is the stream of the entry that changed its hold, if it is known.
pub fn of_position_fields(
    engine: &Engine,
    book: BookView<'_>,
    position: &Position,
    held_by: Option<&str>,
) -> Vec<Field> {
    let position_id = book.position_id(position);
    let policy = engine.policy_of(book.account);
    let of = |name: &str, value: String| field(&position_id, name, value);
    let totals = &position.totals;
    let changes = position.changes.iter().filter(|change| change.cause != Cause::EntrySet);
    let mut fields: Vec<Field> =
        changes.enumerate().map(|(n, change)| field(&position_id, format!("fill {}", n + 1), fill(change))).collect();
    fields.push(of("side", position.direction.name().to_owned()));
    fields.push(of("qty", totals.qty.abs().to_string()));
    let entry_price = totals.entry.map(|entry| (format!("{} ({}", entry.price, entry.source.name()), entry.entry.id));
    fields.push(sourced(&position_id, "entry_price", entry_price));
    let risk = position.risk.as_ref().map(|risk| {
        let atr = exit::atr_value(position, policy).unwrap_or(risk.atr_value);
        (format!("{atr} × {} ({}", risk.volatility_factor, risk.source.name()), risk.entry.id)
    });
    fields.push(sourced(&position_id, "risk", risk));
    fields.push(of("realized_pnl", or_none(totals.realized.map(|realized| realized.to_string()))));
    let flags: Vec<&str> = exit::flags(book, position, policy).iter().map(|flag| flag.name()).collect();
    fields.push(of("flags", if flags.is_empty() { NONE.to_owned() } else { flags.join(", ") }));
    fields.push(of("hold", hold(position, held_by).to_owned()));
    for decision in &position.decisions {
        let rungs: Vec<String> = decision.rungs.iter().map(ToString::to_string).collect();
        let text = format!("{} of {} R, {}", decision.qty, rungs.join(", "), decision.state.name());
        fields.push(field(&position_id, format!("decision {}", decision.decision_id), text));
    }
    // An untouched rung is armed because the ladder contains it, so it is not news of the position.
    for rung in view::rungs(position, policy, engine.globals().last.ms) {
        if position.rung(rung.r).is_some() {
            fields.push(field(&position_id, format!("rung {}", rung.r), rung.state.name()));
        }
    }
    fields.push(of("closed", or_none(position.closed.map(|entry| entry.id.to_string()))));
    fields
}

/// Returns all fields of a book: its positions, and the values remembered for later entries. The one-way book of the
/// account without a name has those of its symbol as well.
pub fn of_book(engine: &Engine, book: BookView<'_>) -> Vec<Field> {
    let name = &*book.name;
    let mut fields = Vec::new();
    for position in book.positions() {
        fields.extend(of_position_fields(engine, book, position, None));
    }
    let latest = |intent: &Option<crate::domain::event::Intent>| or_none(intent.as_ref().map(|i| i.id.to_string()));
    let symbol = book.symbol;
    let no_intents = Intents::default();
    let intents = if book.is_plain() { Some(&symbol.intents) } else { symbol.of_accounts.get(&book.account) };
    let intents = intents.unwrap_or(&no_intents);
    if book.is_plain() {
        let mark =
            symbol.mark.map(|mark| format!("{} ({} {})", mark.price, engine.source_name(mark.source), mark.entry));
        fields.push(field(name, "mark_price", or_none(mark)));
        fields.push(field(name, "held_price", or_none(symbol.held_price.map(|held| held.price.to_string()))));
    }
    fields.push(field(name, "history_gap", book.hot.history_gap));
    fields.push(field(name, "diverged", book.hot.diverged));
    fields.push(field(name, "orders", book.orders.len()));
    fields.push(field(name, "intents", intents.entries.len()));
    fields.push(field(name, "latest_intent_long", latest(&intents.latest_long)));
    fields.push(field(name, "latest_intent_short", latest(&intents.latest_short)));
    // A value without a field of its own is still compared.
    fields.push(field(name, "digest", short(&encode(&(hot_value(book, None), cold_value(book), &book.closed)))));
    fields
}

/// Returns the fields that belong to no symbol.
pub fn of_whole(engine: &Engine) -> Vec<Field> {
    let Globals { policy, killed, chain, gap_everywhere, gaps, positions_known, .. } = engine.globals();
    vec![
        field(WHOLE, "policy", &policy.hash[..16]),
        field(WHOLE, "killed", killed),
        field(WHOLE, "decisions", chain.seq),
        field(WHOLE, "chain", &chain.hash[..16]),
        field(WHOLE, "gap_everywhere", gap_everywhere),
        field(WHOLE, "gaps", gaps.len()),
        field(WHOLE, "positions_known", positions_known),
    ]
}

/// Returns how far each stream was read, as fields that belong to no symbol.
pub fn of_cursors(engine: &Engine) -> Vec<Field> {
    let streams = engine.streams().iter().filter_map(|(id, stream)| Some((&stream.name, engine.cursor(id)?)));
    streams.map(|(name, cursor)| field(WHOLE, format!("cursor {name}"), cursor)).collect()
}

/// A field that two states have with different values; [`NONE`] if one lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    pub of: String,
    pub field: String,
    #[serde(serialize_with = "or_null")]
    pub a: String,
    #[serde(serialize_with = "or_null")]
    pub b: String,
}

/// Serialises the text of a field, null for [`NONE`].
pub fn or_null<S: Serializer>(value: &str, to: S) -> Result<S::Ok, S::Error> {
    (value != NONE).then_some(value).serialize(to)
}

/// Returns the fields that differ.
pub fn differing(a: &[Field], b: &[Field]) -> Vec<FieldDifference> {
    differing_in(a, b, |field| &field.value)
}

/// Returns the fields with news: those that differ in more than the entry that a value came from.
pub fn news(before: &[Field], now: &[Field]) -> Vec<FieldDifference> {
    differing_in(before, now, Field::gist)
}

fn differing_in(a: &[Field], b: &[Field], part: impl Fn(&Field) -> &str) -> Vec<FieldDifference> {
    let find = |fields: &'_ [Field], of: &Field| fields.iter().position(|f| f.of == of.of && f.name == of.name);
    let only_b = b.iter().filter(|field| find(a, field).is_none());
    let difference = |field: &Field| {
        let (of_a, of_b) = (find(a, field).map(|at| &a[at]), find(b, field).map(|at| &b[at]));
        let text = |found: Option<&Field>| found.map_or_else(|| NONE.to_owned(), |field| field.value.clone());
        let is_same = of_a.map_or(NONE, &part) == of_b.map_or(NONE, &part);
        (!is_same).then(|| FieldDifference {
            of: field.of.clone(),
            field: field.name.clone(),
            a: text(of_a),
            b: text(of_b),
        })
    };
    a.iter().chain(only_b).filter_map(difference).collect()
}

fn fill(change: &PositionChange) -> String {
    let side = if change.delta.is_negative() { "SELL" } else { "BUY" };
    let what = match &change.cause {
        Cause::Fill { order, .. } => format!("order {}", order.text()),
        Cause::Explained { order, .. } => format!("explained by order {order}"),
        Cause::StatedOpening => "seen by the exchange".to_owned(),
        Cause::Adoption => "adopted from the exchange".to_owned(),
        Cause::EntrySet => String::new(),
    };
    let price = change.price.map_or_else(|| "no price".to_owned(), |p| format!("{} ({})", p.price, p.source.name()));
    let explained = change.late_fills.iter().map(|fill| {
        let price = fill.price.map_or_else(|| "no price".to_owned(), |price| price.to_string());
        format!("; {} told by order {} at {price}", fill.qty, fill.order.text())
    });
    format!("{side} {} at {price}, {what}{}", change.delta.abs(), explained.collect::<String>())
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| NONE.to_owned())
}

fn short(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    hex(&Sha256::digest(bytes)[..8])
}
