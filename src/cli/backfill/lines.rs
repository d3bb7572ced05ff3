//! One line for each position, in the format that operators know.

use std::collections::BTreeMap;

use rust_decimal::RoundingStrategy;
use serde::Serialize;

use crate::codec::view;
use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::engine::needs::Want;
use crate::domain::exit;
use crate::domain::named;
use crate::service::fetch::TickReport;
use crate::service::write_back::HashChange;

named! {
    /// The result for a position.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Verdict {
        /// The position or its hash lacked a value, and has it now.
        Updated => "updated",
        /// No value was missing.
        Complete => "skipped",
        /// It still lacks a value.
        Missing => "missing",
    }
}

/// One position's line.
#[derive(Clone, Debug)]
pub struct Line {
    pub symbol: Box<str>,
    pub verdict: Verdict,
    /// The text as it is printed, without the verdict in brackets.
    text: String,
    /// Why each field is missing.
    missing: BTreeMap<&'static str, String>,
}

impl Line {
    pub fn text(&self) -> String {
        match self.verdict {
            Verdict::Updated => format!("[OK] {}: {}", self.symbol, self.text),
            Verdict::Complete => format!("[SKIP] {}: already complete", self.symbol),
            Verdict::Missing => format!("[MISSING] {}: {}", self.symbol, self.text),
        }
    }

    pub fn document<'a>(&'a self, hash: Option<&'a HashChange>) -> LineDocument<'a> {
        LineDocument {
            symbol: &self.symbol,
            verdict: self.verdict.name(),
            line: self.text(),
            missing: &self.missing,
            hash,
        }
    }
}

/// A line, with the change of the position's hash.
#[derive(Serialize)]
pub struct LineDocument<'a> {
    symbol: &'a str,
    verdict: &'static str,
    line: String,
    missing: &'a BTreeMap<&'static str, String>,
    hash: Option<&'a HashChange>,
}

/// Returns the values that open positions lacked before anything was fetched, by book.
pub fn lacking(engine: &Engine) -> BTreeMap<Box<str>, Vec<&'static str>> {
    open(engine).map(|(book, open)| (book.name.clone(), view::missing(book, open))).collect()
}

fn open(engine: &Engine) -> impl Iterator<Item = (BookView<'_>, &Position)> {
    view::by_name(engine).into_iter().filter_map(|book| book.book.hot.open.as_ref().map(|open| (book, open)))
}

/// Returns the lines of all open positions. `misses` has the sources' answers for needs that were not met.
pub fn lines(
    engine: &Engine,
    before: &BTreeMap<Box<str>, Vec<&'static str>>,
    changes: &BTreeMap<Box<str>, HashChange>,
    misses: &TickReport,
    no_credentials: Option<&str>,
) -> Vec<Line> {
    open(engine)
        .map(|(book, open)| {
            let lacks = view::missing(book, open);
            // A position that was unknown before lacked all values.
            let lacked = before.get(&book.name).is_none_or(|lacked| !lacked.is_empty());
            let changed = changes.get(&book.name).is_some_and(HashChange::has_changed);
            if lacks.is_empty() {
                let verdict = if lacked || changed { Verdict::Updated } else { Verdict::Complete };
                let text = complete(engine, book, open);
                return Line { symbol: book.name.clone(), verdict, text, missing: BTreeMap::new() };
            }
            let why = |field| (field, reasons(field, book, misses, no_credentials));
            let missing: BTreeMap<&str, String> = lacks.into_iter().map(why).collect();
            let text: Vec<String> = missing.iter().map(|(field, why)| format!("{field}: {why}")).collect();
            Line { symbol: book.name.clone(), verdict: Verdict::Missing, text: text.join(" | "), missing }
        })
        .collect()
}

/// Formats a complete position: `entry_price=0.3 (fill 1770…-0) atr=0.0398 vol=1.0107 entry_risk=26.80 (intent 1770…-0)
/// mark=0.301 (api 1770…-0)`
fn complete(engine: &Engine, book: BookView<'_>, open: &Position) -> String {
    let mut parts = Vec::new();
    if let Some(entry) = open.totals.entry {
        parts.push(format!("entry_price={} ({} {})", entry.price, entry.source.name(), entry.entry.id));
    }
    if let Some(fields) = &open.risk {
        let policy = engine.policy_of(book.account);
        let risk = exit::risk(open, policy).ok().flatten();
        let entry_risk = risk.and_then(|risk| risk.risk_price.for_qty(open.totals.qty.abs()).ok());
        let shown = entry_risk.map_or_else(
            || "-".to_owned(),
            |risk| format!("{:.2}", risk.get().round_dp_with_strategy(2, RoundingStrategy::MidpointNearestEven)),
        );
        parts.push(format!(
            "atr={} vol={} entry_risk={shown} ({} {})",
            exit::atr_value(open, policy).unwrap_or(fields.atr_value),
            fields.volatility_factor,
            fields.source.name(),
            fields.entry.id
        ));
    }
    if let Some(mark) = book.symbol.mark {
        parts.push(format!("mark={} ({} {})", mark.price, engine.source_name(mark.source), mark.entry));
    }
    parts.join(" ")
}

/// Returns why a field is missing: the gap in the history, and the answer of each source.
fn reasons(field: &str, book: BookView<'_>, misses: &TickReport, no_credentials: Option<&str>) -> String {
    let of = |want: Want| {
        let subject = if want.is_general() { &book.symbol.name } else { &book.name };
        misses.misses.get(&(subject.clone(), want)).cloned().unwrap_or_default()
    };
    let (of_history, answered) = match field {
        "entry_price" => {
            let mut answered = of(Want::EntryPrice);
            if let Some(reason) = no_credentials
                && answered.is_empty()
                && !book.account.is_named()
            {
                answered.push(format!("exchange: no credentials ({reason})"));
            }
            (Some("no fill, plan or intent"), answered)
        }
        "mark_price" => (Some("no price in the streams"), of(Want::Price)),
        _ => (Some("no plan or intent in this direction has both ATR and volatility"), Vec::new()),
    };
    of_history.map(str::to_owned).into_iter().chain(answered).collect::<Vec<_>>().join("; ")
}
