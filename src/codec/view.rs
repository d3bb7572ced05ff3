//! Positions and summaries as JSON documents for programs and people (docs/spec/commands.md, "positions", "replay").

use serde_json::{Map, Value, json};

use crate::domain::book::change::Cause;
use crate::domain::book::counters::Counters;
use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::symbol::Symbol;
use crate::domain::engine::Engine;
use crate::domain::exit::policy::Policy;
use crate::domain::exit::{self, Flag, Valuation};
use crate::domain::units::{RMultiple, Ratio};

/// Returns the names of the fields that a position lacks to be evaluated.
pub fn missing(symbol: &Symbol, position: &Position) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if position.totals.entry.is_none() {
        missing.push("entry_price");
    }
    if position.risk.is_none() {
        missing.extend(["atr_value", "volatility_factor"]);
    }
    if symbol.hot.mark.is_none() {
        missing.push("mark_price");
    }
    missing
}

/// One rung of a position at a time.
pub struct RungView {
    pub r: RMultiple,
    pub fraction: Ratio,
    pub state: RungState,
    pub decision_id: Option<Box<str>>,
}

/// Returns the rungs of the ladder, and those that were touched under an earlier ladder, ascending.
pub fn rungs(position: &Position, policy: &Policy, now_ms: u64) -> Vec<RungView> {
    let of_ladder = policy.ladder.iter().map(|step| RungView {
        r: step.r,
        fraction: step.fraction,
        state: position.rung_state(step.r, now_ms),
        decision_id: position.rung(step.r).and_then(|rung| rung.decision_id.clone()),
    });
    let others =
        position.rungs.iter().filter(|rung| policy.ladder.iter().all(|step| step.r != rung.r)).map(|rung| RungView {
            r: rung.r,
            fraction: rung.fraction,
            state: position.rung_state(rung.r, now_ms),
            decision_id: rung.decision_id.clone(),
        });
    let mut rungs: Vec<RungView> = of_ladder.chain(others).collect();
    rungs.sort_by_key(|rung| rung.r);
    rungs
}

/// Returns the lowest armed rung of the ladder.
pub fn next_rung(position: &Position, policy: &Policy, now_ms: u64) -> Option<RMultiple> {
    let armed = |r| position.rung_state(r, now_ms) == RungState::Armed;
    policy.ladder.iter().map(|step| step.r).find(|&r| armed(r))
}

/// Returns one position as JSON, with its hold at the last entry after which symbols are evaluated.
pub fn position_document(engine: &Engine, symbol: &Symbol, position: &Position) -> Value {
    position_document_at(engine, symbol, position, engine.evaluated_ms())
}

/// Returns one position as JSON, with hold and rungs at a time. [ms since 1970]
pub fn position_document_at(engine: &Engine, symbol: &Symbol, position: &Position, now_ms: u64) -> Value {
    let policy = engine.policy();
    let totals = &position.totals;
    let open = position.is_open();
    let sourced =
        |value: String, source: &str, entry: String| json!({"value": value, "source": source, "entry": entry});
    let risk = exit::risk(position, policy).ok().flatten();
    let valuation = if open { Valuation::of(symbol, policy).ok().flatten() } else { None };
    let mark = symbol.hot.mark.filter(|_| open);
    let entry_risk = risk.and_then(|risk| risk.risk_price.for_qty(totals.qty.abs()).ok());
    let pnl = mark.and_then(|mark| position.unrealized(mark.price).ok().flatten());
    let text = |value: Option<String>| value.map_or(Value::Null, Value::from);
    let next = next_rung(position, policy, now_ms).filter(|_| open).map(|r| {
        let reached = exit::price_at(position, policy, r.max(policy.min_r)).ok().flatten();
        json!({"r": r.to_string(), "price": text(reached.map(|p| p.to_string()))})
    });
    let rungs: Vec<Value> = rungs(position, policy, now_ms)
        .iter()
        .map(|rung| {
            json!({
                "r": rung.r.to_string(),
                "fraction": rung.fraction.to_string(),
                "state": rung.state.name(),
                "decision_id": text(rung.decision_id.as_deref().map(str::to_owned)),
            })
        })
        .collect();
    let hold = if open { engine.hold_at(symbol, now_ms).map(|hold| hold.name()) } else { None };
    json!({
        "symbol": &*symbol.name,
        "position_id": position.id.with_symbol(&symbol.name),
        "side": position.direction.name(),
        "qty": totals.qty.abs().to_string(),
        "qty_initial": totals.qty_largest.to_string(),
        "entry_price": totals.entry.map(|e| sourced(e.price.to_string(), e.source.name(), e.entry.id.to_string())),
        "atr_value": position.risk.as_ref().map(|r| {
            sourced(r.atr_value.to_string(), r.source.name(), r.entry.id.to_string())
        }),
        "volatility_factor": position.risk.as_ref().map(|r| {
            sourced(r.volatility_factor.to_string(), r.source.name(), r.entry.id.to_string())
        }),
        "mark_price": mark.map(|m| sourced(m.price.to_string(), engine.source_name(m.source), m.entry.to_string())),
        "risk_price": text(risk.map(|r| r.risk_price.to_string())),
        "entry_risk_usdt": text(entry_risk.map(|r| r.to_string())),
        "unrealized_pnl": text(pnl.map(|p| p.to_string())),
        "realized_pnl": text(totals.realized.map(|p| p.to_string())),
        "r_net": text(valuation.map(|r| r.r_net.to_string())),
        "next_rung": next,
        "rungs": rungs,
        "fills": fills(position),
        "missing": if open { missing(symbol, position) } else { Vec::new() },
        "flags": exit::flags(symbol, position, policy).iter().map(|flag: &Flag| flag.name()).collect::<Vec<_>>(),
        "hold": hold,
        "opened": position.opened.id.to_string(),
        "closed": text(position.closed.map(|entry| entry.id.to_string())),
    })
}

/// Returns the changes of a position's quantity, in order. In a look-up the part that fills have explained comes first.
fn fills(position: &Position) -> Vec<Value> {
    let changes = position.changes.iter().filter(|m| m.cause != Cause::EntrySet);
    changes
        .flat_map(|change| {
            let side = if change.delta.is_negative() { "SELL" } else { "BUY" };
            let explained = change.late_fills.iter().map(move |fill| {
                json!({
                    "order": fill.order.text(),
                    "side": side,
                    "qty": fill.qty.to_string(),
                    "price": fill.price.map(|price| price.to_string()),
                    "source": "fill",
                    "entry": fill.entry.id.to_string(),
                })
            });
            let rest = change.unexplained().unwrap_or(change.delta);
            let (order, source) = match &change.cause {
                Cause::Fill { order, .. } => (Some(order.text()), change.price.map(|p| p.source.name())),
                Cause::Explained { order } => (Some(order.to_string()), Some("fill")),
                Cause::SnapshotOpening => (None, Some("snapshot")),
                Cause::Adoption => (None, Some("exchange")),
                Cause::EntrySet => (None, None),
            };
            let whole = json!({
                "order": order,
                "side": side,
                "qty": rest.abs().to_string(),
                "price": change.price.map(|p| p.price.to_string()),
                "source": source,
                "entry": change.entry.id.to_string(),
            });
            explained.chain((!rest.is_zero()).then_some(whole)).collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the positions of an engine, by name of their symbol: the open ones and, with `all`, the remembered closed
/// ones.
pub fn positions(engine: &Engine, all: bool) -> Vec<Value> {
    let of_symbol = |symbol: &Symbol| -> Vec<Value> {
        let shown = |position: &&Position| all || position.is_open();
        symbol.positions().filter(shown).map(|position| position_document(engine, symbol, position)).collect()
    };
    by_name(engine).into_iter().flat_map(of_symbol).collect()
}

/// Returns the symbols in the order of their names.
pub fn by_name(engine: &Engine) -> Vec<&Symbol> {
    let mut symbols: Vec<&Symbol> = engine.symbols().collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    symbols
}

/// Returns the summary of a replay. The caller adds its own values (lines, seconds).
pub fn summary(engine: &Engine, counters: &Counters) -> Map<String, Value> {
    let open: Vec<(&Symbol, &Position)> =
        by_name(engine).into_iter().filter_map(|s| s.hot.open.as_ref().map(|open| (s, open))).collect();
    let mut missing_fields: Map<String, Value> = Map::new();
    let mut evaluable = 0;
    for (symbol, position) in &open {
        let missing = missing(symbol, position);
        evaluable += u64::from(missing.is_empty());
        for field in missing {
            let n = missing_fields.get(field).and_then(Value::as_u64).unwrap_or(0);
            missing_fields.insert(field.to_owned(), (n + 1).into());
        }
    }
    let names = |keep: &dyn Fn(&Symbol) -> bool| -> Vec<&str> {
        by_name(engine).into_iter().filter(|s| keep(s)).map(|s| &*s.name).collect()
    };
    let comparison = &counters.comparison;
    let id = |id: Option<crate::domain::event::ids::EntryId>| id.map(|id| id.to_string());
    let summary = json!({
        "entries": counters.entries(),
        "applied": counters.applied,
        "duplicates": counters.duplicates,
        "quarantined": counters.quarantined.iter().map(|(r, n)| (r.name().to_owned(), (*n).into())).collect::<Map<_, _>>(),
        "fills_repeated": counters.of(crate::domain::book::counters::Count::FillsRepeated),
        "shapes": counters.shapes(),
        "positions_open": open.len(),
        "evaluable": evaluable,
        "missing": missing_fields,
        "holds": counters.holds().map(|(h, n)| (h.name().to_owned(), n.into())).collect::<Map<_, _>>(),
        "decisions": counters.decisions,
        "first_id": id(counters.first),
        "last_id": id(counters.last),
        "positions_unknown": !engine.globals().positions_known,
        "unconfirmed": names(&Symbol::is_unconfirmed),
        "history_gap": names(&|s| s.hot.history_gap),
        "killed": engine.globals().killed,
        "counts": counters.counts.iter().map(|(c, n)| (c.name().to_owned(), (*n).into())).collect::<Map<_, _>>(),
        "own_decisions": {
            "agree": comparison.agree,
            "differ": comparison.differ,
            "missing": comparison.missing.len(),
            "unexpected": comparison.unexpected,
            "homeless": comparison.orphaned,
        },
    });
    match summary {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
