//! Decisions: the chain as it was verified, and the outcome of each decision.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use rust_decimal::Decimal;

use super::Made;
use super::book_beside;
use crate::codec::chain::Link;
use crate::codec::plural::plural;
use crate::codec::time;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::{self, Number, When};
use crate::console::frame::{Frame, PageContext, Part};
use crate::domain::event::ids::EntryId;
use crate::drive::explain::{Outcome, decision::outcomes};
use crate::drive::film::DecisionSource;
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
    /// The name of its book, if the symbol does not say all: account and position side.
    pub book: String,
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
    /// False if these rules made it and no entry of the decision stream has it.
    pub is_recorded: bool,
    pub faults: Vec<String>,
}

/// A fault of the chain that belongs to no listed decision.
struct FaultRow {
    what: &'static str,
    seq: Option<u64>,
    entry: Option<(String, Option<Address>)>,
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
    source: DecisionSource,
    remarks: Vec<String>,
    /// Decisions of positions that are not in the list. [1]
    unlisted: usize,
    is_odd: bool,
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

/// Returns the decisions up to the moment: those of the chain in its order, then those that are not recorded.
pub fn rows(context: &PageContext<'_>) -> Vec<Row> {
    let outcomes = outcomes(&context.engine);
    let film = context.film;
    let links = film.decisions.links.iter().map(|link| (link, film.source == DecisionSource::Recorded));
    let links = links.chain(film.beside.iter().map(|link| (link, false)));
    links
        .filter(|(link, _)| is_past(context, link))
        .map(|(link, is_recorded)| Row::of(context, (link, is_recorded), &outcomes))
        .collect()
}

fn is_past(context: &PageContext<'_>, link: &Link) -> bool {
    link.cause().map_or(link.id, |(_, id)| id) <= context.until()
}

/// Differences between the recorded decisions and those of these rules, up to the moment, as the fold has noticed them.
/// It adopts recorded decisions, so an audit, which judges each one by itself, may count others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Decisions that were made after the last recorded one, without those that wait to be sent. [1]
    pub made: u64,
    /// Decisions that these rules make at an earlier entry, and that are not recorded. [1]
    pub left_out: u64,
    /// Recorded decisions with another id or quantity, or at an entry that causes none. [1]
    pub unlike: u64,
    /// Recorded decisions of positions that are not there. [1]
    pub orphaned: u64,
}

impl Differences {
    pub fn of(context: &PageContext<'_>) -> Self {
        let film = context.film;
        let waiting = context.present.map_or(0, |present| present.outbox);
        let beside: BTreeSet<&str> =
            film.beside.iter().filter(|link| is_past(context, link)).map(Link::decision_id).collect();
        let recorded: BTreeSet<&str> = film.decisions.links.iter().map(Link::decision_id).collect();
        let compared = &context.engine.counters.comparison;
        let is_left_out = |id: &&str| !recorded.contains(id) && !beside.contains(id);
        Self {
            made: (beside.len() as u64).saturating_sub(waiting),
            left_out: compared.missing.iter().map(|id| &**id).filter(is_left_out).count() as u64,
            unlike: compared.differ + compared.unexpected,
            orphaned: compared.orphaned,
        }
    }

    /// Returns the number of decisions that are not recorded. [1]
    pub fn lacking(self) -> u64 {
        self.made + self.left_out
    }

    /// Returns the number of recorded decisions that these rules do not make. [1]
    pub fn odd(self) -> u64 {
        self.unlike + self.orphaned
    }

    fn remarks(self) -> Vec<String> {
        let of = |n: u64, one: &str, more: &str| {
            (n > 0).then(|| if n == 1 { format!("1 {one}") } else { format!("{n} {more}") })
        };
        let made = "made here after the last recorded one: the end of the chain may be missing, or it was never sent.";
        let left_out = "of these rules at earlier entries, and not recorded.";
        let unlike = "not as these rules decide: another id or quantity, or at an entry that causes none.";
        let orphaned = "of a position that is not there.";
        [
            of(self.made, &format!("decision was {made}"), &format!("decisions were {made}")),
            of(self.left_out, &format!("decision is {left_out}"), &format!("decisions are {left_out}")),
            of(self.unlike, &format!("recorded decision is {unlike}"), &format!("recorded decisions are {unlike}")),
            of(
                self.orphaned,
                &format!("recorded decision is {orphaned}"),
                &format!("recorded decisions are {orphaned}"),
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Returns the number of decisions of positions that the list does not have. [1]
fn unlisted(context: &PageContext<'_>) -> usize {
    let listed: BTreeSet<&str> = context.film.all_decisions().map(Link::decision_id).collect();
    outcomes(&context.engine).keys().filter(|id| !listed.contains(&***id)).count()
}

/// Returns the number of faults of the chain. [1]
pub fn faults(context: &PageContext<'_>) -> usize {
    context.film.decisions.tampered.len() + context.film.decisions.duplicated.len()
}

/// Returns the result of the verification as one word and one sentence.
pub fn verdict(context: &PageContext<'_>) -> (&'static str, String) {
    let film = context.film;
    match (film.decisions.links.len(), faults(context)) {
        (0, 0) if film.source == DecisionSource::MadeHere => ("not recorded", "No decision was made here.".to_owned()),
        (made, 0) if film.source == DecisionSource::MadeHere => {
            ("not recorded", format!("{} made here, sealed right.", plural(made, "decision")))
        }
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
pub fn decisions(context: &PageContext<'_>, _: &Asked, _: &Stop) -> Result<Made, PageError> {
    let chain = &context.film.decisions;
    let all = rows(context);
    let (verdict, verdict_text) = verdict(context);
    let differences = Differences::of(context);
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
    let of_entry = |id: EntryId| (id.to_string(), context.entry_link(&id.to_string()));
    let tampered = chain.tampered.iter().map(|fault| FaultRow {
        what: fault.what.name(),
        seq: fault.seq,
        entry: fault.entry.map(of_entry),
        why: fault.why.clone(),
    });
    let duplicated = chain.duplicated.iter().map(|twice| FaultRow {
        what: "duplicate",
        seq: None,
        entry: twice.entries.last().copied().map(of_entry),
        why: format!("decision {} is in {}", twice.decision_id, plural(twice.entries.len(), "entry")),
    });
    let faults = tampered.chain(duplicated).take(FAULTS_SHOWN);
    let mut rows: Vec<Row> = all.into_iter().filter(passes).rev().collect();
    let page = DecisionsPage {
        part: Part::of(context, &mut rows, ROWS_SHOWN),
        rows,
        total,
        verdict,
        verdict_text,
        source: context.film.source,
        is_odd: differences.odd() > 0,
        remarks: differences.remarks(),
        unlisted: unlisted(context),
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
        audit: context.audit_command(),
        frame: Frame::of(context, "Decisions", None),
    };
    Ok(page.render()?.into())
}

impl Row {
    fn of(context: &PageContext<'_>, (link, is_recorded): (&Link, bool), outcomes: &BTreeMap<String, Outcome>) -> Self {
        let film = context.film;
        let of_link = |entry: &Option<EntryId>, seq: Option<u64>| {
            *entry == Some(link.id) || (entry.is_none() && seq == Some(link.seq))
        };
        // A decision that is not recorded has no entry that could be altered.
        let is_in_chain = is_recorded || film.source != DecisionSource::Recorded;
        let of_chain = film.decisions.tampered.iter().filter(|_| is_in_chain);
        let faults: Vec<&crate::codec::chain::Tampered> =
            of_chain.filter(|fault| of_link(&fault.entry, fault.seq)).collect();
        let has = |names: &[&str]| faults.iter().any(|fault| names.contains(&fault.what.name()));
        let cause = link.cause().map(|(_, id)| id);
        let outcome = outcomes.get(link.decision_id());
        let delay = cause.filter(|_| is_recorded).map(|cause| link.id.ms.saturating_sub(cause.ms));
        Self {
            seq: link.seq,
            when: cause.or(Some(link.id)).map(When::of),
            symbol: link.text("symbol").to_owned(),
            book: book_beside(link.text("position_id"), link.text("symbol")),
            href: context.decision(link.decision_id()),
            decision_id: link.decision_id().to_owned(),
            side: link.text("side").to_owned(),
            qty: Number::of(link.text("qty")),
            share: link.text("close_fraction").to_owned(),
            rungs: link.object.rungs().join(", "),
            r: Number::of_r(link.text("r_net")),
            mark: Number::of(link.text("mark_price")),
            mode: link.text("mode").to_owned(),
            outcome: outcome.map_or("none", outcome_word).to_owned(),
            delay: delay.map_or_else(String::new, time::span),
            slippage: outcome.and_then(|outcome| slippage(link, outcome)),
            hash: !has(&["payload", "hash", "unreadable", "outside"]),
            signature: match (&link.signature, has(&["signature"])) {
                (_, true) => Some(false),
                (Some(_), false) if film.decisions.signatures.good > 0 => Some(true),
                (Some(_) | None, false) => None,
            },
            is_signed: link.signature.is_some(),
            is_recorded,
            order: !has(&["previous", "seq", "order", "fork", "gap", "id", "twin", "anchor"]),
            faults: faults.iter().map(|fault| format!("{}: {}", fault.what.name(), fault.why)).collect(),
        }
    }
}

/// Returns the outcome of a decision. Its rung may be armed again; the decision itself expired, or was given up.
pub fn outcome_word(outcome: &Outcome) -> &'static str {
    let is_rearmed = outcome.events.iter().any(|event| event.what == "rearmed");
    match outcome.state {
        "armed" if outcome.expired => "expired",
        "armed" if is_rearmed => "rearmed",
        state => state,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::explain::OutcomeEvent;

    #[test]
    fn a_decision_whose_rung_is_armed_again_is_not_armed_itself() {
        let event = |what| OutcomeEvent { what, entry: String::new(), time: String::new(), fill: None };
        let of = |state, expired, what: &[&'static str]| {
            let events = what.iter().map(|what| event(*what)).collect();
            outcome_word(&Outcome { state, expired, plan_id: String::new(), events })
        };
        assert_eq!(of("armed", true, &["expired"]), "expired");
        assert_eq!(of("armed", false, &["accepted", "rearmed"]), "rearmed");
        assert_eq!(of("filled", false, &["rearmed", "filled"]), "filled", "a late fill counts");
        assert_eq!(of("requested", false, &["accepted"]), "requested");
    }
}
