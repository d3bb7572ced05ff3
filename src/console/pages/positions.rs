//! Positions: a dense table that can be filtered, and sorted by any column. Filter and order are in the address.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use askama::Template;
use rust_decimal::Decimal;

use super::position::state_of;
use super::{Field, Made, age_ms, book_of, meaning_of, tone_of};
use crate::codec::view::{PositionView, Rung};
use crate::console::address::Address;
use crate::console::chart::{self, Tick};
use crate::console::error::PageError;
use crate::console::format::{self, Age, Number};
use crate::console::frame::{Frame, PageContext, Part};
use crate::domain::event::ids::EntryId;
use crate::drive::film::held_since;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Rows of one part of the table. [1]
const ROWS_SHOWN: usize = 80;

/// The columns: key in the address, head, and true if it is a number. A narrow page shows the first ones.
const COLUMNS: [(&str, &str, bool); 14] = [
    ("symbol", "Symbol", false),
    ("side", "Side", false),
    ("r", "R net", true),
    ("", "Ladder", false),
    ("hold", "Held by", false),
    ("since", "For", true),
    ("mark", "Mark", true),
    ("age", "Age", true),
    ("next", "Next rung at", true),
    ("away", "Away", true),
    ("qty", "Qty, base", true),
    ("entry", "Entry", true),
    ("pnl", "PnL, quote", true),
    ("flags", "Missing, flags", false),
];

struct Column {
    head: &'static str,
    is_number: bool,
    href: Option<Address>,
    /// `ascending` or `descending` if the table is in this order.
    order: Option<&'static str>,
}

pub struct Row {
    symbol: String,
    /// Account and position side, where there are any.
    book: String,
    account: String,
    position_id: String,
    href: Address,
    side: String,
    is_closed: bool,
    qty: Number,
    entry: Option<Field>,
    mark: Option<Field>,
    age: Option<Age>,
    pnl: Option<Number>,
    r: Option<Number>,
    bar: String,
    next: Option<(String, Option<Number>)>,
    away: Option<Decimal>,
    hold: String,
    meaning: String,
    tone: &'static str,
    since: Option<Age>,
    missing: Vec<String>,
    flags: Vec<String>,
    keys: Keys,
}

/// The values by which rows are sorted.
#[derive(Default)]
struct Keys {
    qty: Option<Decimal>,
    entry: Option<Decimal>,
    mark: Option<Decimal>,
    age_ms: Option<u64>,
    pnl: Option<Decimal>,
    r: Option<Decimal>,
    next: Option<Decimal>,
    since_ms: Option<u64>,
}

/// A choice of a filter.
struct Select {
    name: &'static str,
    label: &'static str,
    options: Vec<(String, bool)>,
}

#[derive(Template)]
#[template(path = "positions.html")]
struct PositionsPage {
    frame: Frame,
    columns: Vec<Column>,
    rows: Vec<Row>,
    part: Part,
    total: usize,
    text: String,
    within: String,
    /// True if the text is not a distance. Then it excludes no row.
    within_refused: bool,
    closed: bool,
    selects: Vec<Select>,
    kept: Vec<(String, String)>,
    clear: Option<Address>,
    positions_unknown: bool,
    unconfirmed: Vec<String>,
    gap_only: Vec<String>,
}

/// Makes the page.
pub fn positions(context: &PageContext<'_>, asked: &Asked, _: &Stop) -> Result<Made, PageError> {
    let closed = asked.is_on("closed");
    let sheet = context.sheet(closed)?;
    let since = held_since(&context.engine, context.now_ms());
    let of = |position| Row::of(context, position, since.get(&position.position_id).copied());
    let all: Vec<Row> = sheet.positions.iter().map(of).collect();
    let total = all.len();
    let selects = selects(context, &all);
    let mut rows: Vec<Row> = all.into_iter().filter(|row| row.passes(context)).collect();
    let (by, is_descending) = (context.parameter("sort"), context.parameter("dir") == "desc");
    rows.sort_by(|a, b| {
        let order = a.cmp_by(b, by, is_descending);
        order.then_with(|| a.symbol.cmp(&b.symbol)).then_with(|| a.position_id.cmp(&b.position_id))
    });
    let filters = ["q", "account", "side", "hold", "flag", "missing", "source", "within"];
    let is_filtered = filters.iter().any(|name| !context.parameter(name).is_empty());
    let kept = context.here.query().iter().filter(|(name, _)| matches!(&**name, "at" | "sort" | "dir"));
    let is_open = |name: &String| sheet.positions.iter().any(|p| book_of(p) == name && p.closed.is_none());
    let page = PositionsPage {
        columns: columns(context, by, is_descending),
        part: Part::of(context, &mut rows, ROWS_SHOWN),
        total,
        text: context.parameter("q").to_owned(),
        within: context.parameter("within").to_owned(),
        within_refused: within(context).is_some_and(|most| most.is_err()),
        closed,
        selects,
        kept: kept.cloned().collect(),
        clear: is_filtered.then(|| filters.iter().fold(context.here.clone(), |here, name| here.with(name, ""))),
        positions_unknown: sheet.positions_unknown,
        gap_only: sheet.history_gap.iter().filter(|name| !is_open(name)).cloned().collect(),
        unconfirmed: sheet.unconfirmed,
        rows,
        frame: Frame::of(context, "Positions", None),
    };
    Ok(page.render()?.into())
}

/// Returns the filters, each with the values that the rows have.
fn selects(context: &PageContext<'_>, all: &[Row]) -> Vec<Select> {
    let names = |of: fn(&Row) -> Vec<String>| -> BTreeSet<String> { all.iter().flat_map(of).collect() };
    let select = |name: &'static str, label: &'static str, values: BTreeSet<String>| {
        let chosen = context.parameter(name).to_owned();
        let chosen_too = (!chosen.is_empty()).then(|| chosen.clone());
        let values: BTreeSet<String> = values.into_iter().chain(chosen_too).collect();
        Select { name, label, options: values.into_iter().map(|value| (value.clone(), value == chosen)).collect() }
    };
    let mut selects = vec![
        select("side", "Side", names(|row| vec![row.side.clone()])),
        select("hold", "Held by", names(|row| vec![row.hold.clone()])),
        select("flag", "Flag", names(|row| row.flags.clone())),
        select("missing", "Missing", names(|row| row.missing.clone())),
        select("source", "Source", names(Row::sources)),
    ];
    let accounts = names(|row| vec![row.account.clone()].into_iter().filter(|name| !name.is_empty()).collect());
    if !accounts.is_empty() {
        selects.insert(0, select("account", "Account", accounts));
    }
    selects
}

/// Returns the heads of the columns, with the address of the page in the order of each.
fn columns(context: &PageContext<'_>, by: &str, is_descending: bool) -> Vec<Column> {
    let column = |(key, head, is_number): &(&str, &'static str, bool)| {
        let is_order = if by.is_empty() { *key == "symbol" } else { by == *key };
        // The first click on a number shows the largest first.
        let turned = if is_order { !is_descending } else { *is_number };
        let to = context.here.clone().with("part", "").with("sort", key).with("dir", if turned { "desc" } else { "" });
        Column {
            head,
            is_number: *is_number,
            href: (!key.is_empty()).then_some(to),
            order: is_order.then_some(if is_descending { "descending" } else { "ascending" }),
        }
    };
    COLUMNS.iter().map(column).collect()
}

/// Returns the distance to the next rung that the address asks for; an error if the text is not a distance. [percent]
fn within(context: &PageContext<'_>) -> Option<Result<Decimal, ()>> {
    let text = context.parameter("within").trim().trim_end_matches('%').trim_end();
    let distance = || format::decimal(text).filter(|most| !most.is_sign_negative()).ok_or(());
    (!text.is_empty()).then(distance)
}

/// Returns the rungs of a position as ticks.
pub fn ticks(position: &PositionView) -> Vec<Tick> {
    let tick = |rung: &Rung| {
        Some(Tick { r: format::float(&rung.r)?, text: rung.r.clone(), state: state_of(position, rung).to_owned() })
    };
    position.rungs.iter().filter_map(tick).collect()
}

/// Returns R as a bar.
pub fn bar(position: &PositionView) -> String {
    let r = position.r_net.as_ref().and_then(|text| Some((format::float(text)?, text.as_str())));
    chart::bar(r, &ticks(position))
}

impl Row {
    fn of(context: &PageContext<'_>, position: &PositionView, since: Option<EntryId>) -> Self {
        let number = |text: Option<&String>| text.and_then(|text| format::decimal(text));
        let (entry, mark) = (position.entry_price.as_ref(), position.mark_price.as_ref());
        let marked: Option<EntryId> = mark.and_then(|mark| mark.entry.parse().ok());
        // What is realized is not what an open position is worth.
        let pnl = if position.closed.is_some() { &position.realized_pnl } else { &position.unrealized_pnl };
        let pnl = pnl.as_ref();
        let next = position.next_rung.as_ref();
        let next_price = next.and_then(|next| next.price.as_ref());
        let is_closed = position.closed.is_some();
        let since = since.filter(|_| !is_closed);
        let hold = match (&position.hold, &position.closed) {
            (Some(hold), _) => hold.clone(),
            (None, Some(_)) => "closed".to_owned(),
            (None, None) => "nothing".to_owned(),
        };
        Self {
            symbol: position.symbol.clone(),
            book: Some(book_of(position)).filter(|book| *book != position.symbol).unwrap_or_default().to_owned(),
            account: position.account.clone().unwrap_or_default(),
            position_id: position.position_id.clone(),
            href: context.position(&position.position_id),
            side: position.side.clone(),
            is_closed,
            qty: Number::of(&position.qty),
            entry: entry.map(|field| Field::of(context, field)),
            mark: mark.map(|field| Field::of(context, field)),
            age: marked.map(|id| Age::of(id, context.now_ms())),
            pnl: pnl.map(|text| Number::of_money(text)),
            r: position.r_net.as_ref().map(|text| Number::of_r(text)),
            bar: bar(position),
            next: next.map(|next| (next.r.clone(), Number::of_option(next.price.as_ref()))),
            away: mark.zip(next_price).and_then(|(mark, price)| format::away(&mark.value, price)),
            tone: tone_of(position.hold.as_deref()),
            meaning: meaning_of(&hold),
            hold,
            since: since.map(|id| Age::of(id, context.now_ms())),
            missing: position.missing.clone(),
            flags: position.flags.clone(),
            keys: Keys {
                qty: format::decimal(&position.qty),
                entry: number(entry.map(|field| &field.value)),
                mark: number(mark.map(|field| &field.value)),
                age_ms: marked.map(|id| age_ms(context.now_ms(), id)),
                pnl: number(pnl),
                r: number(position.r_net.as_ref()),
                next: number(next_price),
                since_ms: since.map(|id| age_ms(context.now_ms(), id)),
            },
        }
    }

    fn sources(&self) -> Vec<String> {
        [&self.entry, &self.mark].into_iter().flatten().map(|field| field.source.clone()).collect()
    }

    /// Returns true if no filter of the address excludes the row.
    fn passes(&self, context: &PageContext<'_>) -> bool {
        let wanted = |name: &str| Some(context.parameter(name)).filter(|value| !value.is_empty());
        let text = wanted("q").is_none_or(|text| {
            let text = text.to_uppercase();
            self.symbol.to_uppercase().contains(&text) || self.position_id.to_uppercase().contains(&text)
        });
        let within = within(context).and_then(Result::ok);
        let is_near = within.is_none_or(|most| self.away.is_some_and(|away| away.abs() <= most));
        text && is_near
            && wanted("account").is_none_or(|account| self.account == account)
            && wanted("side").is_none_or(|side| self.side == side)
            && wanted("hold").is_none_or(|hold| self.hold == hold)
            && wanted("flag").is_none_or(|flag| self.flags.iter().any(|of| of == flag))
            && wanted("missing").is_none_or(|field| self.missing.iter().any(|of| of == field))
            && wanted("source").is_none_or(|source| self.sources().iter().any(|of| of == source))
    }

    /// Compares two rows by a column. A missing value comes last in either direction.
    fn cmp_by(&self, other: &Self, by: &str, is_descending: bool) -> Ordering {
        fn known<T: Ord>(a: Option<T>, b: Option<T>, is_descending: bool) -> Ordering {
            match (a, b) {
                (Some(a), Some(b)) if is_descending => b.cmp(&a),
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            }
        }
        let (a, b) = (&self.keys, &other.keys);
        match by {
            "side" => known(Some(&self.side), Some(&other.side), is_descending),
            "qty" => known(a.qty, b.qty, is_descending),
            "entry" => known(a.entry, b.entry, is_descending),
            "mark" => known(a.mark, b.mark, is_descending),
            "age" => known(a.age_ms, b.age_ms, is_descending),
            "pnl" => known(a.pnl, b.pnl, is_descending),
            "r" => known(a.r, b.r, is_descending),
            "next" => known(a.next, b.next, is_descending),
            "away" => known(self.away.map(|away| away.abs()), other.away.map(|away| away.abs()), is_descending),
            "hold" => known(Some(&self.hold), Some(&other.hold), is_descending),
            "since" => known(a.since_ms, b.since_ms, is_descending),
            "flags" => known(
                Some((self.missing.len(), self.flags.len())),
                Some((other.missing.len(), other.flags.len())),
                is_descending,
            ),
            _ => known(Some(&self.symbol), Some(&other.symbol), is_descending),
        }
    }
}
