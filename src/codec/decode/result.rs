//! Results: fills, acceptances and refusals, in every shape of the executors.

use serde_json::value::RawValue;

use super::Subject;
use super::market;
use super::plan::side;
use super::position::position_side;
use crate::codec::depth;
use crate::codec::line::Fields;
use crate::codec::object::{Envelope, Object, without_bare_words};
use crate::domain::event::ids::AccountId;
use crate::domain::event::{
    Event, FillFact, NamedOrder, Outcome, PositionSide, PriceFact, PriceSource, Reason, ResultFact,
};
use crate::domain::units::{Price, Qty, Quote};

const QUANTITIES: [&str; 3] = ["filled_qty", "executedQty", "executed_qty"];
/// The filled quantity of status FILLED, if no field states it.
const FILLED_IF_FILLED: [&str; 3] = ["qty", "quantity", "close_qty"];
/// The ordered quantity.
const ORDERED: [&str; 3] = ["qty", "quantity", "origQty"];
const AVERAGES: [&str; 3] = ["avgPrice", "avg_price", "fill_price"];
const COSTS: [&str; 2] = ["cumQuote", "cum_quote"];
/// Reasons that an executor refuses for good.
const PERMANENT_PREFIXES: [&str; 4] = ["SOURCE_NOT_ALLOWED", "SYMBOL_NOT_IN_ALLOWLIST", "P33_PERMIT", "NOT_EXIT_OWNER"];

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    if subject.object.envelope != Envelope::Flat {
        subject.shape = shape_of(|names| subject.object.has(names)).unwrap_or(subject.shape);
    }
    let details = subject.object.lay_details();
    subject.refusal = details.is_ok() && is_plain_refusal(&subject.object);
    let symbol = subject.symbol();
    details?;
    symbol?;
    // A price has no account and no side, so their errors count only further down.
    let side_or_error = subject.account().and_then(|_| subject.position_side());
    let object = &subject.object;
    let plan_id: Option<Box<str>> = object.text(&["plan_id"])?.map(Into::into);
    let time = object.event_time(&["timestamp"], subject.id);
    let fact = |outcome| Event::Result(Box::new(ResultFact { plan_id: plan_id.clone(), time, outcome }));

    let steps = steps(object, side_or_error.unwrap_or_default())?;
    if !steps.fills.is_empty() && !steps.lacks_a_fill {
        side_or_error?;
        return Ok(fact(Outcome::Fills(steps.fills)));
    }
    let status = object.word(&["order_status"])?;
    let status = if status.is_some() { status } else { object.word(&["status"])? };
    let status = status.as_deref();
    let filled = filled_qty(object, status)?;
    if filled.is_positive() {
        let position_side = side_or_error?;
        let fill = fill(&subject.object, None, filled, status)?;
        return Ok(fact(Outcome::Fills(vec![FillFact { position_side, ..fill }])));
    }
    if steps.lacks_a_fill {
        return Err(Reason::NoQuantity);
    }
    if status == Some("PRICE_UPDATE") && is_e1(object) {
        let (price, shape) = market::price(object)?;
        let time = market::event_time(object, shape, subject.id);
        let source = PriceSource::Stream(subject.stream);
        subject.shape = "PRICE_UPDATE";
        (subject.account, subject.position_side) = (AccountId::NONE, None);
        return Ok(Event::Price(PriceFact { price, source, time }));
    }
    side_or_error?;
    unfilled(object, status).map(fact)
}

/// Returns the shape of a result, as far as the names of its fields determine it. `None` for E1, which has none of
/// them.
pub(super) fn shape_of(any: impl Fn(&[&str]) -> bool) -> Option<&'static str> {
    let shapes: [(&[&str], &str); 4] = [
        (&["steps_results"], "R-A"),
        (&["details"], "R-C"),
        (&["avgPrice", "executedQty"], "R-D"),
        (&["plan_id", "executed", "filled_qty", "executed_qty", "action"], "R-B"),
    ];
    shapes.into_iter().find(|(names, _)| any(names)).map(|(_, shape)| shape)
}

/// Reads an entry that filled nothing.
fn unfilled(object: &Object<'_>, status: Option<&str>) -> Result<Outcome, Reason> {
    // Side and purpose only describe the order here. A word that cannot be read describes nothing.
    let order = NamedOrder {
        order_id: order_id(object)?,
        side: side(object).ok().flatten(),
        reduce_only: object.boolean(&["reduceOnly", "reduce_only"]).ok().flatten(),
    };
    let accepted = || Outcome::Accepted { order: order.clone() };
    match status {
        Some(word) if is_filled(word) => return Err(Reason::NoQuantity),
        Some("NEW" | "ACCEPTED" | "PENDING" | "UNKNOWN") => return Ok(accepted()),
        Some(word) if is_dead(word) => {}
        Some(_) => return Err(Reason::UnknownWord),
        None => match object.boolean(&["executed"])? {
            Some(true) => return Ok(accepted()),
            Some(false) => {}
            None => return Err(Reason::NoOutcome),
        },
    }
    let error = object.word(&["error"]).ok().flatten().unwrap_or_default();
    if error.ends_with("_OK") {
        return Ok(accepted());
    }
    let permanent = error == "NOT_IN_ALLOWLIST" || PERMANENT_PREFIXES.iter().any(|prefix| error.starts_with(prefix));
    Ok(Outcome::Refused { order, duplicate: error == "DUPLICATE_PLAN", permanent })
}

/// Returns true if a result is `executed` false and nothing in it may state a fill: no filled quantity and no step that
/// is positive or cannot be read, and no status of a fill. If it cannot be read for another reason, it moved nothing
/// nevertheless.
fn is_plain_refusal(object: &Object<'_>) -> bool {
    let is_zero = |name: &&str| matches!(object.quantity(&[name]), Ok(filled) if filled.unwrap_or_default().is_zero());
    let is_unfilled = |name: &str| matches!(object.word(&[name]), Ok(word) if !word.as_deref().is_some_and(is_filled));
    object.boolean(&["executed"]) == Ok(Some(false))
        && QUANTITIES.iter().all(is_zero)
        && is_unfilled("order_status")
        && is_unfilled("status")
        && steps(object, None).is_ok_and(|steps| steps.fills.is_empty() && !steps.lacks_a_fill)
}

/// Returns true for a status that states a fill.
fn is_filled(status: &str) -> bool {
    matches!(status, "FILLED" | "PARTIALLY_FILLED" | "PARTIAL_FILL" | "PARTIAL")
}

/// Returns true for a status after which nothing more is filled, except FILLED.
fn is_dead(status: &str) -> bool {
    matches!(status, "CANCELED" | "CANCELLED" | "EXPIRED" | "EXPIRED_IN_MATCH" | "REJECTED" | "FAILED")
}

/// Returns the quantity filled so far; for FILLED without one, the ordered quantity. Zero if nothing is filled.
fn filled_qty(object: &Object<'_>, status: Option<&str>) -> Result<Qty, Reason> {
    if let Some(filled) = object.quantity(&QUANTITIES)? {
        return Ok(Qty::new(filled));
    }
    if status == Some("FILLED") {
        return Ok(object.positive(&FILLED_IF_FILLED)?.map_or(Qty::ZERO, Qty::new));
    }
    Ok(Qty::ZERO)
}

/// Reads `order_id`/`orderId`, with whole numbers in one spelling. Empty, `0` and `-1` count as absent.
fn order_id(object: &Object<'_>) -> Result<Option<Box<str>>, Reason> {
    object.id_text(&["order_id", "orderId"], &["0", "-1"])
}

/// Returns true for shape E1: flat, without a plan, an outcome and a filled quantity.
fn is_e1(object: &Object<'_>) -> bool {
    object.envelope == Envelope::Flat && !object.has(&["plan_id", "executed"]) && !object.has(&QUANTITIES)
}

/// Returns the average price of a cumulative quantity: as stated, or else its cost divided by it. The `price` of an
/// order is its limit, so it is used only in E1, which has no other. [quote per base]
fn average(object: &Object<'_>, cumulative: Qty) -> Result<Option<Price>, Reason> {
    if let Some(average) = object.rounded(&AVERAGES)? {
        return Ok(Some(Price::new(average)));
    }
    if let Some(cost) = object.rounded(&COSTS)? {
        return Ok(Some(Quote::new(cost).per(cumulative)?));
    }
    Ok(if is_e1(object) { object.rounded(&["price"])?.map(Price::new) } else { None })
}

/// Reads a fill from `object`. `outer` is the entry around a step.
fn fill(
    object: &Object<'_>,
    outer: Option<&Object<'_>>,
    cumulative: Qty,
    status: Option<&str>,
) -> Result<FillFact, Reason> {
    let mut closes = false;
    for name in ["action", "step"] {
        closes |= object.word(&[name])?.is_some_and(|word| word.contains("CLOSE"));
    }
    let mut reduce_only = object.boolean(&["reduceOnly", "reduce_only"])?;
    let mut own_side = side(object)?;
    if let Some(outer) = outer {
        closes |= outer.word(&["action"])?.is_some_and(|word| word.contains("CLOSE"));
        reduce_only = match reduce_only {
            None => outer.boolean(&["reduceOnly", "reduce_only"])?,
            known => known,
        };
        own_side = match own_side {
            None => side(outer)?,
            known => known,
        };
    }
    // The price would be that of the whole entry, so a step has none.
    let average = if outer.is_some() { None } else { average(object, cumulative)? };
    let ordered = if status == Some("FILLED") { object.positive(&ORDERED)?.map(Qty::new) } else { None };
    Ok(FillFact {
        order_id: order_id(object)?,
        side: own_side,
        position_side: None,
        reduce_only,
        closes,
        cumulative,
        average,
        ordered,
        is_final: status.is_some_and(|word| word == "FILLED" || is_dead(word)),
    })
}

/// The steps of R-A.
#[derive(Default)]
struct Steps {
    fills: Vec<FillFact>,
    /// True if a step has the status of a fill, but no order id or no quantity: it filled, and cannot be counted.
    lacks_a_fill: bool,
}

/// Reads R-A: each step with an order id and a positive `executed_qty` is a fill.
fn steps(object: &Object<'_>, outer_side: Option<PositionSide>) -> Result<Steps, Reason> {
    let Some(text) = object.json_text(&["steps_results"])? else { return Ok(Steps::default()) };
    if !depth::is_bounded(text.as_bytes()) {
        return Err(Reason::BadJson);
    }
    let text = match serde_json::from_str::<Vec<&RawValue>>(&text) {
        Ok(_) => text,
        Err(_) => without_bare_words(&text).ok_or(Reason::BadJson)?,
    };
    let raw: Vec<&RawValue> = serde_json::from_str(&text).map_err(|_| Reason::BadJson)?;
    let none = Fields::default();
    let mut steps = Steps::default();
    for step in raw {
        let step = Object::inner(&none, step.get())?;
        let has_order = order_id(&step)?.is_some();
        let executed = step.quantity(&["executed_qty", "executedQty"])?.map_or(Qty::ZERO, Qty::new);
        if !has_order || !executed.is_positive() {
            steps.lacks_a_fill |= step.word(&["status"]).is_ok_and(|word| word.as_deref().is_some_and(is_filled));
            continue;
        }
        let status = step.word(&["status"])?;
        let position_side = position_side(&step)?.or(outer_side);
        steps.fills.push(FillFact { position_side, ..fill(&step, Some(object), executed, status.as_deref())? });
    }
    Ok(steps)
}

/// Returns true if the result moved nothing.
pub(super) fn is_refusal(fact: &ResultFact) -> bool {
    match fact.outcome {
        Outcome::Refused { .. } => true,
        Outcome::Fills(_) | Outcome::Accepted { .. } => false,
    }
}
