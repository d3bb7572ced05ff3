//! One decision: the numbers that it rests on, and its result.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::scene::{Scene, fold, quantity_line};
use crate::codec::chain::{self, Link};
use crate::codec::{seal, state, time};
use crate::config::Config;
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionRecord, OutcomeKind};
use crate::domain::event::ids::EntryId;
use crate::drive::projection;
use crate::shell::history::{History, Input, Options};

/// Explains a decision that the rules make, or that the history has.
pub fn of_history(wanted: &str, sources: &[PathBuf], config: &Config) -> anyhow::Result<Value> {
    let emitted = emitted(wanted, sources, config)?;
    let cause = emitted.as_ref().and_then(|link| Some((link.cause()?.0.to_owned(), link.cause()?.1)));
    let mut document = None;
    let folded = fold(sources, config, None, |engine, entry, (ours, policy_since)| {
        let ours = ours.filter(|decision| decision.decision_id.starts_with(wanted));
        let is_cause = cause
            .as_ref()
            .is_some_and(|(stream, id)| entry.id == *id && engine.streams().get(entry.stream).name == *stream);
        if document.is_some() || (ours.is_none() && !is_cause) {
            return Ok(());
        }
        let recomputed = ours.map(|decision| seal::payload(engine, decision));
        let payload = match (&emitted, &recomputed) {
            (Some(link), _) => Value::Object(link.object.clone()),
            (None, Some(payload)) => payload.clone(),
            (None, None) => return Ok(()),
        };
        let symbol = payload["symbol"].as_str().unwrap_or_default();
        let mut scene = Scene::of(engine, symbol, policy_since)?.json;
        if let Some(open) = engine.find(symbol).and_then(|symbol| symbol.hot.open.as_ref())
            && let Some(lines) = scene["arithmetic"].as_array_mut()
        {
            let text = |key: &str| payload[key].as_str().unwrap_or_default();
            lines.push(quantity_line(text("close_fraction"), text("base"), text("qty"), open).into());
        }
        let agrees = recomputed.as_ref().map(|recomputed| *recomputed == payload);
        scene["decision"] = payload;
        scene["emitted"] = emitted.as_ref().map_or(Value::Null, |link| {
            json!({"entry": link.id.to_string(), "seq": link.seq, "hash": link.hash, "recomputed_alike": agrees})
        });
        document = Some(scene);
        Ok(())
    })?;
    let mut document = document.with_context(|| {
        format!("no decision of the history has an id that begins with {wanted}: give a longer history, or the journal")
    })?;
    let decision_id = document["decision"]["decision_id"].as_str().unwrap_or_default().to_owned();
    document["outcome"] = find(folded.engine.symbols().flat_map(|symbol| symbol.positions()), &decision_id)
        .map_or(Value::Null, |(position, record)| outcome(position, record));
    Ok(document)
}

/// Returns the decision entry of a history.
fn emitted(wanted: &str, sources: &[PathBuf], config: &Config) -> anyhow::Result<Option<Link>> {
    let inputs: Vec<Input> = sources.iter().cloned().map(Input::from).collect();
    let history = History::open(&inputs, &config.streams, Options::default())?;
    let found: Vec<chain::Found<'_>> = history
        .decision_lines()
        .map(|at| chain::Found { id: at.id, line: at.bytes, file: at.file, number: at.number })
        .collect();
    let chain = chain::verify(&found, None, &[]);
    let mut links = chain.links.into_iter().filter(|link| link.decision_id().starts_with(wanted));
    let link = links.next();
    if let (Some(link), Some(other)) = (&link, links.next()) {
        bail!(
            "{wanted} is the beginning of several decision ids, {} and {}: give more digits",
            link.decision_id(),
            other.decision_id()
        );
    }
    Ok(link)
}

/// Explains a decision of a store: the numbers that it was written with, and its result.
pub fn of_store(wanted: &str, dir: &Path) -> anyhow::Result<Value> {
    let (engine, rows) = projection::read(dir)?;
    let lines = state::decisions(&rows)?;
    let payload = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|entry| serde_json::from_str::<Value>(entry["fields"]["payload"].as_str()?).ok())
        .find(|payload| payload["decision_id"].as_str().is_some_and(|id| id.starts_with(wanted)));
    let payload = payload.with_context(|| {
        format!("no decision of the store has an id that begins with {wanted}: give a history, or the journal")
    })?;
    let text = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
    let symbol = text("symbol");
    let closed = state::closed_positions(&rows, &symbol)?;
    let open = engine.find(&symbol).and_then(|symbol| symbol.hot.open.as_ref());
    let outcome = find(closed.iter().chain(open), &text("decision_id"));
    let outcome = outcome.map_or(Value::Null, |(position, record)| self::outcome(position, record));
    Ok(json!({
        "symbol": symbol,
        "decision": payload,
        "arithmetic": [
            format!("r_net      = (pnl − cost) / risk = ({} − {}) / {} = {}", text("unrealized_pnl"), text("cost"), text("entry_risk_usdt"), text("r_net")),
        ],
        "outcome": outcome,
    }))
}

fn find<'a>(
    positions: impl Iterator<Item = &'a Position>,
    decision_id: &str,
) -> Option<(&'a Position, &'a DecisionRecord)> {
    let mut found = positions.flat_map(|position| position.decisions.iter().map(move |record| (position, record)));
    found.find(|(_, record)| &*record.decision_id == decision_id)
}

/// Returns the result of a decision, event by event.
fn outcome(position: &Position, record: &DecisionRecord) -> Value {
    let price = |entry: EntryId| {
        let change = position.changes.iter().find(|change| change.entry.id == entry)?;
        Some(json!({"qty": change.delta.abs().to_string(), "price": change.price.map(|p| p.price.to_string())}))
    };
    let events: Vec<Value> = record
        .outcomes
        .iter()
        .map(|outcome| {
            let what = match outcome.what {
                OutcomeKind::Accepted => "accepted",
                OutcomeKind::Filled => "filled",
                OutcomeKind::Refused => "refused",
                OutcomeKind::Expired => "expired",
                OutcomeKind::Adopted => "adopted",
                OutcomeKind::Rearmed => "rearmed",
            };
            let mut event = Map::new();
            event.insert("what".to_owned(), what.into());
            event.insert("entry".to_owned(), outcome.entry.to_string().into());
            event.insert("time".to_owned(), time::iso(outcome.entry.ms).into());
            if let Some(Value::Object(fill)) = price(outcome.entry).filter(|_| outcome.what == OutcomeKind::Filled) {
                event.extend(fill);
            }
            event.into()
        })
        .collect();
    json!({"state": record.state.name(), "expired": record.expired, "plan_id": &*record.plan_id, "events": events})
}
