//! One position: its hold, its life as a chart, its fields with their entries, the arithmetic, the story.

mod drawing;
mod story;

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use rust_decimal::Decimal;

pub use self::drawing::chart_of;
use self::drawing::{draw, rung_lines, since_of};
use self::story::{StoryRow, story};
use super::message::not_yet;
use super::{Field, Link, Made, book_of, meaning_of, tone_of};
use crate::codec::plural::plural;
use crate::codec::time;
use crate::codec::view::{Fill, PositionView, Rung, named_one};
use crate::console::address::Address;
use crate::console::chart::RungLine;
use crate::console::error::PageError;
use crate::console::format::{self, Age, Number, When};
use crate::console::frame::{Frame, PageContext};
use crate::domain::event::ids::EntryId;
use crate::drive::explain::{Explanation, Later, Origin, Origins, Subject, origins};
use crate::drive::film::DecisionSource;
use crate::drive::life::{Life, life};
use crate::drive::sheet::Sheet;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Returns the state of a rung as the pages name it: an armed rung of a closed position is never taken any more.
pub fn state_of<'a>(view: &PositionView, rung: &'a Rung) -> &'a str {
    if view.closed.is_some() && rung.state == "armed" { "not taken" } else { &rung.state }
}

/// A field that the evaluation uses, with its origin.
pub struct FieldRow {
    pub name: &'static str,
    /// `None` if it is missing.
    pub field: Option<Field>,
    /// False if nothing needs the field any more: a closed position has no mark price.
    pub is_needed: bool,
    pub streams: String,
    pub shapes: String,
    pub age: Option<Age>,
}

/// Number of other positions with the same hold.
pub struct HeldBy {
    pub hold: String,
    pub meaning: String,
    pub positions: u64,
    pub href: Address,
}

impl HeldBy {
    /// Returns the counts, with links to the positions at a moment.
    pub fn of(context: &PageContext<'_>, others: BTreeMap<&'static str, u64>, at: &str) -> Vec<Self> {
        let list = context.to("/console/positions");
        let list = if context.film.has_past() { list.with("at", at) } else { list };
        let of = |(hold, positions): (&str, u64)| Self {
            hold: hold.to_owned(),
            meaning: meaning_of(hold),
            positions,
            href: list.clone().with("hold", hold),
        };
        others.into_iter().map(of).collect()
    }
}

struct FillRow {
    when: Option<When>,
    href: Option<Address>,
    side: String,
    qty: Number,
    price: Option<Number>,
    source: String,
    order: String,
}

struct RungRow {
    r: String,
    price: Option<Number>,
    away: Option<Decimal>,
    fraction: String,
    state: String,
    /// The beginning of its id, and its page if there is one.
    decision: Option<(String, Option<Address>)>,
}

#[derive(Template)]
#[template(path = "position.html")]
struct PositionPage {
    frame: Frame,
    view: PositionView,
    is_open: bool,
    opened: Option<When>,
    closed: Option<When>,
    hold: String,
    tone: &'static str,
    since: Option<(When, Age)>,
    why: Vec<String>,
    later: Option<Later>,
    charts: Vec<String>,
    prices_seen: String,
    bar: String,
    fields: Vec<FieldRow>,
    ages_of_then: bool,
    arithmetic: Vec<String>,
    rungs: Vec<RungRow>,
    fills: Vec<FillRow>,
    story: Vec<StoryRow>,
    story_cut: usize,
    changed_by: String,
    siblings: Vec<Sibling>,
    others: Vec<HeldBy>,
    policy: String,
    command: String,
    qty: Number,
    pnl: Option<Number>,
    realized: Option<Number>,
    /// Fills without a price: what they realized is unknown. [1]
    unpriced: usize,
    risk: Option<Number>,
    r: Option<Number>,
}

/// Makes the page.
pub fn position(context: &PageContext<'_>, asked: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let wanted = asked.name.as_deref().unwrap_or_default();
    let sheet = context.sheet(true)?;
    // The name of a symbol leads to its open position, else to the last one.
    let found = found(&sheet, wanted);
    let film = context.film;
    let Some(view) = found.cloned() else { return opened_later(context, wanted, stop) };
    let is_open = view.closed.is_none();
    let closed: Option<EntryId> = view.closed.as_ref().and_then(|id| id.parse().ok());
    let (lived, range_ms) = lived(context, &view, stop)?;

    let subject = Subject::Symbol { asked: None, later: None };
    let policy_since = policy_since(context, &view);
    let mut explanation = Explanation::of(&context.engine, book_of(&view), policy_since, subject)?;
    if film.has_past() {
        explanation.origins = origins(&explanation, film.origin.sources(), false, &film.config, stop)?;
    }
    let Explanation { arithmetic, at_time: seen, origins, .. } = explanation;
    let seen = seen.ok_or_else(|| PageError::failed(format!("{} has no explanation", view.symbol)))?;
    let is_explained = seen.position.as_ref().is_some_and(|position| position.position_id == view.position_id);
    let none = Origins::default();
    let since = since_of(context, &view, &lived).filter(|_| is_open);
    let rungs = rung_lines(&view, &seen.policy.cost_bps);
    let rung_rows = rung_rows(context, &view, &rungs);
    let (story, story_cut) = story(context, &lived);
    let siblings = of_siblings(context, &sheet.positions, &view);
    let page = PositionPage {
        is_open,
        opened: When::of_text(&view.opened),
        closed: closed.map(When::of),
        hold: view.hold.clone().unwrap_or_else(|| if is_open { "nothing" } else { "closed" }.to_owned()),
        tone: tone_of(view.hold.as_deref()),
        since: since.map(|id| (When::of(id), Age::of(id, context.now_ms()))),
        why: if !is_open { Vec::new() } else { undecided(context, &view).map_or(seen.why, |why| vec![why]) },
        later: Later::of(&context.engine, book_of(&view), context.now_ms()).filter(|_| is_open),
        charts: draw(context, &view, &lived, (rungs, &seen.policy.cost_bps), range_ms),
        prices_seen: plural(lived.prices_seen, "price"),
        bar: super::positions::bar(&view),
        fields: fields(context, &view, origins.as_ref().filter(|_| is_explained).unwrap_or(&none), context.now_ms()),
        ages_of_then: false,
        arithmetic: if is_open { arithmetic } else { Vec::new() },
        rungs: rung_rows,
        fills: view.fills.iter().map(|fill| FillRow::of(context, fill)).collect(),
        changed_by: plural(story.len() + story_cut, "entry"),
        story,
        story_cut,
        siblings,
        others: HeldBy::of(context, seen.others, context.parameter("at")),
        policy: format!("{}… ({})", seen.policy.hash.get(..12).unwrap_or_default(), seen.policy.mode),
        command: command(context, book_of(&view)),
        qty: Number::of(&view.qty),
        pnl: Number::of_option(view.unrealized_pnl.as_ref()),
        realized: Number::of_option(view.realized_pnl.as_ref()),
        unpriced: view.fills.iter().filter(|fill| fill.price.is_none()).count(),
        risk: Number::of_option(view.entry_risk_usdt.as_ref()),
        r: Number::of_option(view.r_net.as_ref()),
        frame: Frame::of(context, format!("{} {}", view.symbol, view.side), Some(&view.symbol)),
        view,
    };
    Ok(page.render()?.into())
}

/// Returns why no decision was made although no hold applies: the fold only compares its own decisions up to the last
/// recorded one.
fn undecided(context: &PageContext<'_>, view: &PositionView) -> Option<String> {
    let book = named_one(&context.engine, book_of(view))?;
    let open = book.book.hot.open.as_ref()?;
    let last = open.holds.last().filter(|last| last.hold.is_none())?;
    let causes =
        open.decisions.iter().filter_map(|decision| decision.cause.rsplit_once('/')?.1.parse::<EntryId>().ok());
    let is_decided = causes.max().is_some_and(|cause| cause >= last.since);
    if context.film.source != DecisionSource::Recorded || view.hold.is_some() || is_decided {
        return None;
    }
    Some(format!(
        "No hold applies. These rules decided at {}, and the history has no such decision: up to its last decision entry \
         only recorded decisions take effect. The audit names what is missing.",
        time::iso(last.since.ms)
    ))
}

/// Makes the page of a position that was opened after the moment. Errors if there is none.
fn opened_later(context: &PageContext<'_>, wanted: &str, stop: &Stop) -> Result<Made, PageError> {
    let end = context.film.state(None, stop)?;
    let all = Sheet::of(&end, &context.film.rows, None, true)?.map_or_else(Vec::new, |sheet| sheet.positions);
    let symbol = wanted.trim().to_uppercase();
    let later = all.iter().find(|position| position.position_id == wanted || position.symbol == symbol);
    let later = later.ok_or_else(|| PageError::NotFound(format!("There is no position {wanted}.")))?;
    let opened = When::of_text(&later.opened).unwrap_or_default();
    let says = format!("{} was opened later, at {}.", later.position_id, opened.iso);
    Ok(not_yet(context, &says, Some(&later.symbol))?.into())
}

fn rung_rows(context: &PageContext<'_>, view: &PositionView, lines: &[RungLine]) -> Vec<RungRow> {
    let mark = view.mark_price.as_ref().map(|mark| &mark.value);
    let row = |rung: &Rung| {
        let price = lines.iter().find(|line| line.r_text == rung.r);
        RungRow {
            r: rung.r.clone(),
            price: price.map(|line| Number::of(&line.price_text)),
            away: mark.zip(price).and_then(|(mark, line)| format::away(mark, &line.price_text)),
            fraction: rung.fraction.clone(),
            state: state_of(view, rung).to_owned(),
            decision: rung.decision_id.as_ref().map(|id| (short_id(id), context.decision_link(id))),
        }
    };
    view.rungs.iter().map(row).collect()
}

fn short_id(id: &str) -> String {
    id.get(..12).unwrap_or(id).to_owned()
}

/// Returns the command that gives the same explanation.
fn command(context: &PageContext<'_>, symbol: &str) -> String {
    let at = context.parameter("at");
    let at = if at.is_empty() { String::new() } else { format!(" --at \"{at}\"") };
    format!("harvester explain {symbol}{at} {}", context.film.origin.arguments())
}

/// Returns the fields that an evaluation uses, with their streams and shapes, and their ages at a time. [ms since 1970]
pub fn fields(context: &PageContext<'_>, view: &PositionView, origins: &Origins, now_ms: u64) -> Vec<FieldRow> {
    let row = |(name, field): (&'static str, Option<&crate::codec::view::Sourced>)| {
        let of: Vec<&Origin> = field.map_or_else(Vec::new, |field| origins.of_field(&field.entry, name).collect());
        let mut streams: Vec<&str> = of.iter().map(|origin| &*origin.stream).collect();
        let mut shapes: Vec<&str> = of.iter().map(|origin| origin.shape).collect();
        streams.dedup();
        shapes.dedup();
        let id: Option<EntryId> = field.and_then(|field| field.entry.parse().ok());
        FieldRow {
            name,
            field: field.map(|field| Field::of(context, field)),
            is_needed: view.closed.is_none() || name != "mark_price",
            streams: streams.join(" "),
            shapes: shapes.join(" "),
            age: id.map(|id| Age::of(id, now_ms)),
        }
    };
    view.inputs().into_iter().map(row).collect()
}

impl FillRow {
    fn of(context: &PageContext<'_>, fill: &Fill) -> Self {
        Self {
            when: When::of_text(&fill.entry),
            href: context.entry_link(&fill.entry),
            side: fill.side.clone(),
            qty: Number::of(&fill.qty),
            price: Number::of_option(fill.price.as_ref()),
            source: fill.source.clone().unwrap_or_default(),
            order: fill.order.clone().unwrap_or_default(),
        }
    }
}

/// Another position of the symbol.
struct Sibling {
    link: Link,
    side: String,
    largest: Number,
    realized: Option<Number>,
    /// `None` while it is open.
    closed: Option<When>,
    is_here: bool,
}

/// Returns the positions of the symbol, the latest first; none if there is only this one.
fn of_siblings(context: &PageContext<'_>, all: &[PositionView], view: &PositionView) -> Vec<Sibling> {
    let of_symbol: Vec<&PositionView> = all.iter().filter(|other| book_of(other) == book_of(view)).collect();
    if of_symbol.len() < 2 {
        return Vec::new();
    }
    let row = |other: &PositionView| Sibling {
        link: Link { text: other.position_id.clone(), href: context.position(&other.position_id) },
        side: other.side.clone(),
        largest: Number::of(&other.qty_initial),
        realized: Number::of_option(other.realized_pnl.as_ref()),
        closed: other.closed.as_ref().and_then(|id| When::of_text(id)),
        is_here: other.position_id == view.position_id,
    };
    of_symbol.into_iter().rev().map(row).collect()
}

/// Returns a position by its id, or the open or last one of a symbol.
fn found<'a>(sheet: &'a Sheet, name: &str) -> Option<&'a PositionView> {
    let symbol = name.trim().to_uppercase();
    let of_symbol = || sheet.positions.iter().filter(|position| position.symbol == symbol || book_of(position) == name);
    let named = sheet.positions.iter().find(|position| position.position_id == name);
    named.or_else(|| of_symbol().find(|position| position.closed.is_none()).or_else(|| of_symbol().next_back()))
}

/// Returns the entry that adopted the policy of a position's account; `None` for a configured one.
fn policy_since(context: &PageContext<'_>, view: &PositionView) -> Option<EntryId> {
    let accounts = context.engine.accounts();
    let name = view.account.as_deref().unwrap_or_default();
    let own = accounts.find(name).map(|id| accounts.get(id)).filter(|account| account.policy.is_some());
    match own {
        Some(account) if !account.policy_adopted => None,
        Some(_) => context.film.policy_since(context.until(), name),
        None => context.film.policy_since(context.until(), ""),
    }
}

/// Returns the life of a position up to the moment, and the times that its chart spans. [ms since 1970]
fn lived(context: &PageContext<'_>, view: &PositionView, stop: &Stop) -> Result<(Arc<Life>, (u64, u64)), PageError> {
    let opened: EntryId = view.opened.parse().map_err(PageError::failed)?;
    let closed: Option<EntryId> = view.closed.as_ref().and_then(|id| id.parse().ok());
    let until = closed.unwrap_or_else(|| context.until()).min(context.until());
    let lived = life(context.film, book_of(view), &view.position_id, (opened, until), stop)?;
    let end_ms = closed.map_or(context.now_ms(), |closed| closed.ms);
    Ok((lived, (opened.ms, end_ms.max(opened.ms))))
}
