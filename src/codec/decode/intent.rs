//! Intents: signals to enter, and exit intents, which are kept only for the record.

use super::Subject;
use super::market::{optional_price, risk_fields};
use super::position::position_side;
use crate::codec::object::{Envelope, Object};
use crate::domain::event::{Direction, Event, ExitIntent, Intent, PositionSide, Reason};

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.symbol()?;
    subject.account()?;
    let id = subject.id;
    let object = &subject.object;
    let beside = object.beside();
    if is_exit(object, &beside)? {
        let decision_id = object.text(&["decision_id"])?.map(Into::into);
        return Ok(Event::ExitIntent(Box::new(ExitIntent { id, decision_id })));
    }
    let direction = direction(object)?;
    // BUY for SHORT, or SELL for LONG, closes.
    let side = position_side(object)?;
    if side.and_then(PositionSide::direction).is_some_and(|of_side| of_side != direction) {
        let decision_id = object.text(&["decision_id"])?.map(Into::into);
        return Ok(Event::ExitIntent(Box::new(ExitIntent { id, decision_id })));
    }
    let entry_price = optional_price(object.positive(&["entry_price"])?);
    let (atr_value, volatility_factor) = risk_fields(object)?;
    let producer = producer(if object.envelope == Envelope::Flat { object } else { &beside });
    Ok(Event::Intent(Box::new(Intent { id, direction, entry_price, atr_value, volatility_factor, producer })))
}

/// Returns true if `reduceOnly`/`reduce_only` is true inside or beside the object, `intent_type` is an exit, or
/// `action`/`side` contains CLOSE or EXIT.
fn is_exit(object: &Object<'_>, beside: &Object<'_>) -> Result<bool, Reason> {
    for rank in [object, beside] {
        for name in ["reduceOnly", "reduce_only"] {
            if rank.boolean(&[name])? == Some(true) {
                return Ok(true);
            }
        }
        if let Some(word) = rank.word(&["intent_type"])?
            && (word == "REDUCE_ONLY" || word.starts_with("HARVEST"))
        {
            return Ok(true);
        }
    }
    for name in ["action", "side"] {
        if let Some(word) = object.word(&[name])?
            && (word.contains("CLOSE") || word.contains("EXIT"))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns `action` if it is a direction, or else `side`.
fn direction(object: &Object<'_>) -> Result<Direction, Reason> {
    let of = |word: &str| match word {
        "BUY" | "LONG" => Some(Direction::Long),
        "SELL" | "SHORT" => Some(Direction::Short),
        _ => None,
    };
    if let Some(direction) = object.word(&["action"])?.as_deref().and_then(of) {
        return Ok(direction);
    }
    match object.word(&["side"])? {
        None => Err(Reason::NoDirection),
        Some(word) => of(&word).ok_or(Reason::UnknownWord),
    }
}

/// Returns the producer in lower case. An unreadable one counts as absent.
pub(super) fn producer(object: &Object<'_>) -> Option<Box<str>> {
    object.text(&["source"]).ok().flatten().map(|name| name.to_lowercase().into())
}
