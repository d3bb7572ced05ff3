//! Positions at the exchange: snapshots of another service, and our own look-ups.

use super::Subject;
use super::market::optional_price;
use crate::codec::object::Object;
use crate::domain::event::{Direction, Event, PositionFact, PositionSide, Reason};
use crate::domain::units::Qty;

pub(super) fn decode(subject: &mut Subject<'_>, looked_up: bool) -> Result<Event, Reason> {
    subject.symbol()?;
    subject.account()?;
    let side = subject.position_side()?;
    let object = &subject.object;
    let qty = signed_qty(object)?;
    // A signed amount that contradicts its position side.
    if side.and_then(PositionSide::direction).is_some_and(|direction| direction.signed(qty) != qty) {
        return Err(Reason::UnknownWord);
    }
    let entry_price =
        if qty.is_zero() { None } else { optional_price(object.rounded(&["entry_price", "entryPrice"])?) };
    Ok(Event::Position(PositionFact { qty, entry_price, looked_up }))
}

/// Names of the position side.
pub(super) const POSITION_SIDES: [&str; 5] = ["positionSide", "position_side", "posSide", "pos_side", "ps"];

/// Reads the position side: the first of its names that is present.
pub(super) fn position_side(object: &Object<'_>) -> Result<Option<PositionSide>, Reason> {
    match object.word(&POSITION_SIDES)?.as_deref() {
        None => Ok(None),
        Some("LONG") => Ok(Some(PositionSide::Long)),
        Some("SHORT") => Ok(Some(PositionSide::Short)),
        Some("BOTH") => Ok(Some(PositionSide::Both)),
        Some(_) => Err(Reason::UnknownWord),
    }
}

/// Names of the signed quantity.
pub(super) const AMOUNTS: [&str; 2] = ["position_amt", "positionAmt"];

/// Returns true if a signed quantity is present and has the other direction. One that cannot be read is not used.
fn contradicts(object: &Object<'_>, direction: Direction) -> bool {
    let amount = object.number(&AMOUNTS).ok().flatten().map(Qty::new);
    amount.is_some_and(|amount| direction.signed(amount) != amount)
}

/// Reads `position_qty` with a side, or a signed `position_amt`/`positionAmt`. FLAT needs no quantity.
fn signed_qty(object: &Object<'_>) -> Result<Qty, Reason> {
    let side = object.word(&["side"])?;
    let direction = match side.as_deref() {
        None => None,
        Some("FLAT") => Some(None),
        Some("LONG") => Some(Some(Direction::Long)),
        Some("SHORT") => Some(Some(Direction::Short)),
        Some(_) => return Err(Reason::UnknownWord),
    };
    if let Some(qty) = object.quantity(&["position_qty"])? {
        let qty = Qty::new(qty);
        return match direction {
            _ if qty.is_zero() => Ok(Qty::ZERO),
            None => Err(Reason::NoSide),
            Some(None) => Err(Reason::UnknownWord),
            Some(Some(direction)) if contradicts(object, direction) => Err(Reason::UnknownWord),
            Some(Some(direction)) => Ok(direction.signed(qty)),
        };
    }
    let Some(amount) = object.number(&AMOUNTS)?.map(Qty::new) else {
        return if direction == Some(None) { Ok(Qty::ZERO) } else { Err(Reason::NoQuantity) };
    };
    match direction {
        _ if amount.is_zero() => Ok(Qty::ZERO),
        None => Ok(amount),
        Some(Some(direction)) if direction.signed(amount) == amount => Ok(amount),
        Some(_) => Err(Reason::UnknownWord),
    }
}
