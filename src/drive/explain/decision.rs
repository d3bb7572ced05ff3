//! One decision: the numbers that it is based on, and its result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ExplainError;
use super::document::{Decided, Emission, Emitted, Explanation, Outcome, OutcomeEvent, OutcomeFill, Subject};
use super::position_at_time::{fold, quantity_line};
use crate::codec::chain::{self, Link};
use crate::codec::payload::Payload;
use crate::codec::{seal, state, time, view};
use crate::config::Config;
use crate::domain::book::change::Cause;
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionRecord, OutcomeKind};
use crate::domain::book::state::book_of_position;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::drive::stop::Stop;
use crate::drive::{projection, scope};
use crate::shell::history::{History, Input, Options};

/// Explains a decision that the rules make, or that the history contains.
pub fn of_history(
    wanted: &str,
    sources: &[PathBuf],
    config: &Config,
    stop: &Stop,
) -> Result<Explanation, ExplainError> {
    let emitted = emitted(wanted, sources, config)?;
    let cause = emitted.as_ref().and_then(|link| Some((link.cause()?.0.to_owned(), link.cause()?.1)));
    let mut found = None;
    let folded = fold(sources, config, None, |engine, entry, (ours, policy_since)| {
        stop.check()?;
        let ours = ours.iter().find(|decision| decision.decision_id.starts_with(wanted));
        let is_cause = cause
            .as_ref()
            .is_some_and(|(stream, id)| entry.id == *id && engine.streams().get(entry.stream).name == *stream);
        if found.is_some() || (ours.is_none() && !is_cause) {
            return Ok(());
        }
        let recomputed = ours.map(|decision| seal::payload(engine, decision));
        let decision = match (&emitted, &recomputed) {
            (Some(link), _) => link.object.clone(),
            (None, Some(payload)) => payload.clone(),
            (None, None) => return Ok(()),
        };
        let emitted = emitted.as_ref().map(|link| Emitted {
            entry: link.id.to_string(),
            seq: link.seq,
            hash: link.hash.clone(),
            recomputed_alike: recomputed.as_ref().map(|recomputed| *recomputed == decision),
        });
        let text = |field: &str| decision.text(field);
        let (book, decision_id) = (book_of(&decision).to_owned(), decision.decision_id().to_owned());
        let qty = view::named_one(engine, &book)
            .and_then(|book| book.book.hot.open.as_ref())
            .map(|open| quantity_line(text("close_fraction"), text("base"), text("qty"), open));
        let decided = Decided { decision, emission: Some(Emission { emitted }), outcome: None };
        let mut explanation = Explanation::of(engine, &book, policy_since, Subject::Decision(decided))?;
        explanation.arithmetic.extend(qty);
        found = Some((explanation, decision_id));
        Ok(())
    })?;
    let none = || ExplainError::NotInHistory { wanted: wanted.to_owned() };
    let (mut explanation, decision_id) = found.ok_or_else(none)?;
    if let Subject::Decision(decided) = &mut explanation.subject {
        decided.outcome = Outcome::of(folded.engine.books().flat_map(|book| book.book.positions()), &decision_id);
    }
    Ok(explanation)
}

/// Returns the decision entry of a history.
fn emitted(wanted: &str, sources: &[PathBuf], config: &Config) -> Result<Option<Link>, ExplainError> {
    let inputs: Vec<Input> = sources.iter().cloned().map(Input::from).collect();
    let config = &*scope::over(config, &inputs)?;
    let history = History::open(&inputs, &config.streams, Options::default())?;
    let found: Vec<chain::Found<'_>> = history
        .decision_lines()
        .map(|at| chain::Found { id: at.id, line: at.bytes, file: at.file, number: at.number })
        .collect();
    let chain = chain::verify(&found, None, &[]);
    let mut links = chain.links.into_iter().filter(|link| link.decision_id().starts_with(wanted));
    let link = links.next();
    if let (Some(link), Some(other)) = (&link, links.next()) {
        return Err(ExplainError::Several {
            wanted: wanted.to_owned(),
            one: link.decision_id().to_owned(),
            other: other.decision_id().to_owned(),
        });
    }
    Ok(link)
}

/// Explains a decision of a store: the numbers that it was written with, and its result.
pub fn of_store(wanted: &str, dir: &Path) -> Result<Explanation, ExplainError> {
    let (engine, rows) = projection::read(dir)?;
    let lines = state::decisions(&rows)?;
    let mut payloads = lines.iter().filter_map(|line| Some(Payload::of_line(line)?.1));
    let decision = payloads.find(|payload| payload.decision_id().starts_with(wanted));
    let decision = decision.ok_or_else(|| ExplainError::NotInStore { wanted: wanted.to_owned() })?;
    let text = |field: &str| decision.text(field);
    let symbol = text("symbol").to_owned();
    let book = book_of(&decision);
    let closed = state::closed_positions(&rows, book)?;
    let open = view::named_one(&engine, book).and_then(|book| book.book.hot.open.as_ref());
    let outcome = Outcome::of(closed.iter().chain(open), decision.decision_id());
    let r_net = format!(
        "r_net      = (pnl − cost) / risk = ({} − {}) / {} = {}",
        text("unrealized_pnl"),
        text("cost"),
        text("entry_risk_usdt"),
        text("r_net")
    );
    let subject = Subject::Decision(Decided { decision, emission: None, outcome });
    Ok(Explanation { symbol, arithmetic: vec![r_net], at_time: None, subject, origins: None })
}

/// Returns the results of all decisions of an engine's positions, by decision id.
pub fn outcomes(engine: &Engine) -> BTreeMap<String, Outcome> {
    let records = engine.books().flat_map(|book| book.book.positions()).flat_map(|position| {
        position
            .decisions
            .iter()
            .map(move |record| (record.decision_id.to_string(), Outcome::of_record(position, record)))
    });
    records.collect()
}

/// Returns the name of the book of a decision: the book of its position, or else its symbol.
fn book_of(payload: &Payload) -> &str {
    let position = payload.text("position_id");
    book_of_position(position).unwrap_or_else(|| payload.text("symbol"))
}

impl Outcome {
    /// Returns the result of a decision, event by event; `None` if no position contains it.
    fn of<'a>(positions: impl Iterator<Item = &'a Position>, decision_id: &str) -> Option<Self> {
        let mut found = positions.flat_map(|position| position.decisions.iter().map(move |record| (position, record)));
        let (position, record) = found.find(|(_, record)| &*record.decision_id == decision_id)?;
        Some(Self::of_record(position, record))
    }

    fn of_record(position: &Position, record: &DecisionRecord) -> Self {
        let fill = |entry: EntryId| {
            // An entry of another stream can have the same id, such as a snapshot.
            let mut fills = position.changes.iter().filter(|change| matches!(change.cause, Cause::Fill { .. }));
            let change = fills.find(|change| change.entry.id == entry)?;
            let price = change.price.map(|price| price.price.to_string());
            Some(OutcomeFill { qty: change.delta.abs().to_string(), price })
        };
        let events = record.outcomes.iter().map(|outcome| {
            let what = match outcome.what {
                OutcomeKind::Accepted => "accepted",
                OutcomeKind::Filled => "filled",
                OutcomeKind::Refused => "refused",
                OutcomeKind::Expired => "expired",
                OutcomeKind::Adopted => "adopted",
                OutcomeKind::Rearmed => "rearmed",
            };
            let fill = if outcome.what == OutcomeKind::Filled { fill(outcome.entry) } else { None };
            OutcomeEvent { what, entry: outcome.entry.to_string(), time: time::iso(outcome.entry.ms), fill }
        });
        Self {
            state: record.state.name(),
            expired: record.expired,
            plan_id: record.plan_id.to_string(),
            events: events.collect(),
        }
    }
}
