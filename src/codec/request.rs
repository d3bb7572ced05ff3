//! The entry beside a decision: a suggestion in shadow mode, an order request in live mode (docs/spec/emission.md,
//! "Suggestions", "Order requests").
//!
//! Orders are always reduce-only, under both names, and contain their end of validity. Their times are those of the
//! cause, so that the same history gives the same bytes.

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::decode::ACCOUNTS;
use super::line::Fields;
use super::object::Object;
use super::time;
use crate::domain::engine::{Decision, Engine};
use crate::domain::event::streams::StreamKind;
use crate::domain::named;
use crate::domain::units::{OutOfRange, Qty, RMultiple};

/// The author of suggestions.
const SUGGESTED_BY: &str = "harvester";
/// Places of the percentage by which one kind of executor multiplies. It is truncated, so that it never asks for more.
/// [1]
const PERCENT_PLACES: u32 = 10;

pub use crate::domain::delivery::row::FieldTexts;

named! {
    /// The format of orders for an executor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum OrderFormat {
        ApplyPlan => "apply_plan",
        TradeIntent => "trade_intent",
    }
}

impl OrderFormat {
    /// Returns the kind of stream that carries it.
    pub const fn kind(self) -> StreamKind {
        match self {
            Self::ApplyPlan => StreamKind::Plan,
            Self::TradeIntent => StreamKind::Intent,
        }
    }
}

/// The terms of an order beside the decision.
#[derive(Clone, Copy, Debug)]
pub struct OrderTerms<'a> {
    pub format: OrderFormat,
    /// `emit.source`. Executors accept only sources that they know.
    pub source: &'a str,
    /// How long after its cause the order may be executed. [ms]
    pub valid_ms: u64,
}

/// Returns the entry of `harvest.suggestions`: one field, the object as JSON.
pub fn suggestion(engine: &Engine, decision: &Decision) -> FieldTexts {
    let mut object = common_fields(engine, decision, SUGGESTED_BY);
    object.insert("dry_run".to_owned(), true.into());
    vec![("payload".to_owned(), Value::from(object).to_string())]
}

/// Returns the entry of the request stream. Errors if a share of the position does not fit exact arithmetic.
pub fn order(engine: &Engine, decision: &Decision, terms: OrderTerms<'_>) -> Result<FieldTexts, OutOfRange> {
    let valid_until_ms = decision.cause.ms.saturating_add(terms.valid_ms);
    match terms.format {
        OrderFormat::TradeIntent => {
            let mut object = common_fields(engine, decision, terms.source);
            object.insert("reduceOnly".to_owned(), true.into());
            // The exchange takes it in place of reduceOnly.
            if let Some(side) = hedge_side(engine, decision) {
                object.insert("positionSide".to_owned(), side.into());
            }
            object.insert("decision_id".to_owned(), decision.decision_id.as_str().into());
            object.insert("valid_until_ms".to_owned(), valid_until_ms.into());
            Ok(vec![("payload".to_owned(), Value::from(object).to_string())])
        }
        OrderFormat::ApplyPlan => plan(engine, decision, terms.source, valid_until_ms),
    }
}

/// Returns the account of an order request that a service with this `source` wrote, empty for the account without a
/// name. `None`: another program wrote it.
pub fn account_of_order(fields: &Fields<'_>, source: &str) -> Option<String> {
    let object = Object::of(fields).ok()?;
    let text = |names: &[&str]| object.text(names).ok().flatten();
    let is_ours = text(&["source"]).as_deref() == Some(source) && text(&["decision_id"]).is_some();
    is_ours.then(|| text(&ACCOUNTS).unwrap_or_default())
}

/// The part of the present position that a decision closes, in the terms of executors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    pub action: &'static str,
    /// Of the present quantity, truncated. [%]
    pub percent: Decimal,
}

/// Computes the part. Errors if the share of the position does not fit exact arithmetic.
pub fn closing(engine: &Engine, decision: &Decision) -> Result<Closing, OutOfRange> {
    let share = decision.qty.ratio(position_qty(engine, decision))?.get();
    let whole = is_whole(engine, decision);
    let percent = if whole {
        Decimal::ONE_HUNDRED
    } else {
        (share * Decimal::ONE_HUNDRED).trunc_with_scale(PERCENT_PLACES).normalize()
    };
    Ok(Closing { action: action(share, whole), percent })
}

fn highest(decision: &Decision) -> String {
    decision.rungs.iter().max().map(RMultiple::to_string).unwrap_or_default()
}

fn reason(decision: &Decision) -> String {
    format!("r_net {} >= {}", decision.valuation.r_net, highest(decision))
}

/// Returns the fields that a suggestion and a `trade_intent` share.
fn common_fields(engine: &Engine, decision: &Decision, source: &str) -> Map<String, Value> {
    let whole = is_whole(engine, decision);
    let book = engine.book(decision.book);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("intent_type", if whole { "HARVEST_FULL" } else { "HARVEST_PARTIAL" }.into());
    put("symbol", (*book.symbol.name).into());
    put("side", decision.side.name().into());
    put("qty", decision.qty.to_string().into());
    put("reason", reason(decision).into());
    put("r_level", highest(decision).into());
    put("unrealized_pnl", decision.valuation.pnl.to_string().into());
    put("correlation_id", decision.decision_id.as_str().into());
    put("trace_id", decision.position_id.as_str().into());
    put("reduce_only", true.into());
    put("source", source.into());
    put("timestamp", time::iso(decision.cause.ms).into());
    if !book.account_name.is_empty() {
        put("account", (*book.account_name).into());
    }
    if book.side.is_hedge() {
        put("position_side", book.side.name().into());
    }
    object
}

/// Returns the position side of a hedge book.
fn hedge_side(engine: &Engine, decision: &Decision) -> Option<&'static str> {
    let side = engine.book(decision.book).side;
    side.is_hedge().then(|| side.name())
}

fn position_qty(engine: &Engine, decision: &Decision) -> Qty {
    engine.book(decision.book).qty().abs()
}

fn is_whole(engine: &Engine, decision: &Decision) -> bool {
    decision.qty.same(position_qty(engine, decision), engine.book(decision.book).step_size())
}

fn plan(engine: &Engine, decision: &Decision, source: &str, valid_until_ms: u64) -> Result<FieldTexts, OutOfRange> {
    let Closing { action, percent } = closing(engine, decision)?;
    let steps = format!(r#"[{{"step":"CLOSE","type":"market_reduce_only","side":"close","pct":{percent}}}]"#);
    let qty = decision.qty.to_string();
    let account = &engine.book(decision.book).account_name;
    let account = (!account.is_empty()).then(|| ("account", account.to_string()));
    // The exchange takes the position side in place of reduceOnly.
    let side = hedge_side(engine, decision);
    let sides = side.map(|side| [("position_side", side.to_owned()), ("positionSide", side.to_owned())]);
    let fields = [
        ("plan_id", decision.plan_id.clone()),
        ("decision", "EXECUTE".to_owned()),
        ("symbol", engine.book(decision.book).symbol.name.to_string()),
        ("side", decision.side.name().to_owned()),
        ("type", "MARKET".to_owned()),
        ("qty", qty.clone()),
        ("reduceOnly", "true".to_owned()),
        ("reduce_only", "true".to_owned()),
        ("action", action.to_owned()),
        ("steps", steps),
        ("close_qty", qty),
        ("source", source.to_owned()),
        // Executors compare it with `source`; it signs nothing.
        ("signature", source.to_owned()),
        ("timestamp", (decision.cause.ms / 1000).to_string()),
        ("reason", reason(decision)),
        ("r_level", highest(decision)),
        ("decision_id", decision.decision_id.clone()),
        ("valid_until_ms", valid_until_ms.to_string()),
    ];
    let fields = fields.into_iter().chain(account).chain(sides.into_iter().flatten());
    Ok(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Returns the smallest word that is not below the share. Between 75 % and the whole it is the largest part, never the
/// whole.
fn action(share: Decimal, whole: bool) -> &'static str {
    let quarters = |n: i64| share <= Decimal::new(25 * n, 2);
    match () {
        () if whole => "FULL_CLOSE_PROPOSED",
        () if quarters(1) => "PARTIAL_25",
        () if quarters(2) => "PARTIAL_50",
        () => "PARTIAL_75",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i21_an_action_never_names_less_than_it_must_nor_the_whole_for_a_part() {
        let cases = [
            ("0.1", "PARTIAL_25"),
            ("0.25", "PARTIAL_25"),
            ("0.2500001", "PARTIAL_50"),
            ("0.5", "PARTIAL_50"),
            ("0.75", "PARTIAL_75"),
            ("0.9", "PARTIAL_75"),
        ];
        for (share, want) in cases {
            assert_eq!(action(share.parse().unwrap(), false), want, "{share}");
        }
        assert_eq!(action(Decimal::ONE, true), "FULL_CLOSE_PROPOSED");
    }
}
