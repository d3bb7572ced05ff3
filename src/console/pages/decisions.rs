//! Decisions: the chain as it was verified, and the outcome of each decision.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use rust_decimal::Decimal;

use crate::codec::chain::Link;
use crate::codec::plural::plural;
use crate::codec::time;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::{self, Number, When};
use crate::console::frame::{Frame, PageContext, Part};
use crate::drive::explain::{Outcome, decision::outcomes};
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Rows of one part of the table. [1]
const ROWS_SHOWN: usize = 80;
/// Faults that are listed. [1]
const FAULTS_SHOWN: usize = 100;

/// One decision.
#[derive(Clone)]
pub struct Row {
    pub seq: u64,
    pub when: Option<When>,
    pub symbol: String,
    pub href: Address,
    pub decision_id: String,
    pub side: String,
    pub qty: Number,
    pub share: String,
    pub rungs: String,
    pub r: Number,
    pub mark: Number,
    pub mode: String,
    pub outcome: String,
    /// From the cause to the emission.
    pub delay: String,
    /// How much worse than the mark the fill was. [basis points]
    pub slippage: Option<Decimal>,
    /// Hash, signature and order in the chain: true if verified, false if it is a fault, `None` if there is nothing to
    /// verify.
    pub hash: bool,
    pub signature: Option<bool>,
    pub is_signed: bool,
    pub order: bool,
    pub faults: Vec<String>,
}

/// A fault of the chain that belongs to no listed decision.
struct FaultRow {
    what: &'static str,
    seq: Option<u64>,
    entry: Option<(String, Address)>,
    why: String,
}

#[derive(Template)]
#[template(path = "decisions.html")]
struct DecisionsPage {
    frame: Frame,
    rows: Vec<Row>,
    part: Part,
    total: usize,
    verdict: &'static str,
    verdict_text: String,
    is_recorded: bool,
    lacking: u64,
    head_seq: u64,
    head_hash: String,
    good: u64,
    bad: u64,
    unchecked: u64,
    unsigned: u64,
    faults: Vec<FaultRow>,
    text: String,
    modes: Vec<(String, bool)>,
    outcomes: Vec<(String, bool)>,
    kept: Vec<(String, String)>,
    audit: String,
}

/// Returns the decisions up to the moment, in the order of the chain.
pub fn rows(context: &PageContext<'_>) -> Vec<Row> {
    let outcomes = outcomes(&context.engine);
    let until = context.until();
    let of_past = |link: &&Link| link.cause().map_or(link.id, |(_, id)| id) <= until;
    context.film.decisions.links.iter().filter(of_past).map(|link| Row::of(context, link, &outcomes)).collect()
}

/// Returns the number of decisions that these rules make and the chain lacks, without those that still wait to be sent.
/// It shows decisions that were cut off the end of a chain: such a chain has no other fault.
pub fn lacking(context: &PageContext<'_>) -> u64 {
    let made = u64::try_from(context.film.made_beside).unwrap_or(u64::MAX);
    made.saturating_sub(context.present.map_or(0, |present| present.outbox))
}

/// Returns the result of the verification as one word and one sentence.
pub fn verdict(context: &PageContext<'_>) -> (&'static str, String) {
    let chain = &context.film.decisions;
    let faults = chain.tampered.len() + chain.duplicated.len();
    match (chain.links.len(), faults) {
        (0, 0) => ("empty", "No decision was made.".to_owned()),
        (links, 0) => {
            let of = if context.at.is_some() { " of the whole history" } else { "" };
            let links = plural(links, "decision");
            ("whole", format!("{links}{of}: each hash is right, and each follows the one before it."))
        }
        (_, faults) => ("broken", format!("{}.", plural(faults, "fault"))),
    }
}

/// Makes the page.
pub fn decisions(context: &PageContext<'_>, _: &Asked, _: &Stop) -> Result<String, PageError> {
    let chain = &context.film.decisions;
    let all = rows(context);
    let (verdict, verdict_text) = verdict(context);
    let choice = |name: &str, of: fn(&Row) -> &String| -> Vec<(String, bool)> {
        let values: BTreeSet<&String> = all.iter().map(of).collect();
        values.into_iter().map(|value| (value.clone(), *value == context.parameter(name))).collect()
    };
    let (modes, outcomes) = (choice("mode", |row| &row.mode), choice("outcome", |row| &row.outcome));
    let wanted = |name: &str| Some(context.parameter(name)).filter(|value| !value.is_empty());
    let total = all.len();
    let passes = |row: &Row| {
        let text = wanted("q").map(str::to_uppercase);
        text.is_none_or(|text| {
            row.symbol.to_uppercase().contains(&text) || row.decision_id.to_uppercase().starts_with(&text)
        }) && wanted("mode").is_none_or(|mode| row.mode == mode)
            && wanted("outcome").is_none_or(|outcome| row.outcome == outcome)
    };
    let faults = chain.tampered.iter().take(FAULTS_SHOWN).map(|fault| FaultRow {
        what: fault.what.name(),
        seq: fault.seq,
        entry: fault.entry.map(|id| (id.to_string(), context.entry(&id.to_string()))),
        why: fault.why.clone(),
    });
    let mut rows: Vec<Row> = all.into_iter().filter(passes).rev().collect();
    let page = DecisionsPage {
        part: Part::of(context, &mut rows, ROWS_SHOWN),
        rows,
        total,
        verdict,
        verdict_text,
        is_recorded: context.film.is_recorded,
        lacking: lacking(context),
        head_seq: chain.head.seq,
        head_hash: chain.head.hash.to_string(),
        good: chain.signatures.good,
        bad: chain.signatures.bad,
        unchecked: chain.signatures.unchecked,
        unsigned: chain.signatures.none,
        faults: faults.collect(),
        text: context.parameter("q").to_owned(),
        modes,
        outcomes,
        kept: context.here.query().iter().filter(|(name, _)| name == "at").cloned().collect(),
        audit: format!("harvester audit {}", context.film.origin.arguments()),
        frame: Frame::of(context, "Decisions", None),
    };
    Ok(page.render()?)
}

impl Row {
    fn of(context: &PageContext<'_>, link: &Link, outcomes: &BTreeMap<String, Outcome>) -> Self {
        let film = context.film;
        let of_link = |entry: &Option<crate::domain::event::ids::EntryId>, seq: Option<u64>| {
            *entry == Some(link.id) || (entry.is_none() && seq == Some(link.seq))
        };
        let faults: Vec<&crate::codec::chain::Tampered> =
            film.decisions.tampered.iter().filter(|fault| of_link(&fault.entry, fault.seq)).collect();
        let has = |names: &[&str]| faults.iter().any(|fault| names.contains(&fault.what.name()));
        let cause = link.cause().map(|(_, id)| id);
        let outcome = outcomes.get(link.decision_id());
        let delay = cause.filter(|_| film.is_recorded).map(|cause| link.id.ms.saturating_sub(cause.ms));
        Self {
            seq: link.seq,
            when: cause.or(Some(link.id)).map(When::of),
            symbol: link.text("symbol").to_owned(),
            href: context.decision(link.decision_id()),
            decision_id: link.decision_id().to_owned(),
            side: link.text("side").to_owned(),
            qty: Number::of(link.text("qty")),
            share: link.text("close_fraction").to_owned(),
            rungs: link.object.rungs().join(", "),
            r: Number::of(link.text("r_net")),
            mark: Number::of(link.text("mark_price")),
            mode: link.text("mode").to_owned(),
            outcome: outcome.map_or("none", |outcome| outcome.state).to_owned(),
            delay: delay.map_or_else(String::new, time::span),
            slippage: outcome.and_then(|outcome| slippage(link, outcome)),
            hash: !has(&["payload", "hash", "unreadable", "outside"]),
            signature: match (&link.signature, has(&["signature"])) {
                (_, true) => Some(false),
                (Some(_), false) if film.decisions.signatures.good > 0 => Some(true),
                (Some(_) | None, false) => None,
            },
            is_signed: link.signature.is_some(),
            order: !has(&["previous", "seq", "order", "fork", "gap", "id", "twin", "anchor"]),
            faults: faults.iter().map(|fault| format!("{}: {}", fault.what.name(), fault.why)).collect(),
        }
    }
}

/// Returns how much worse than the mark of the decision the first fill was. [basis points]
fn slippage(link: &Link, outcome: &Outcome) -> Option<Decimal> {
    let mark = format::decimal(link.text("mark_price"))?;
    let fill = outcome.events.iter().find_map(|event| event.fill.as_ref()?.price.as_ref());
    let fill = format::decimal(fill?)?;
    let worse = if link.text("side") == "SELL" { mark.checked_sub(fill)? } else { fill.checked_sub(mark)? };
    Some(worse.checked_div(mark)?.checked_mul(Decimal::from(10_000))?.round_dp(1))
}
