//! Positions at the exchange: snapshots of another service, and our own look-ups.

use super::Subject;
use super::market::optional_price;
use crate::codec::object::Object;
use crate::domain::event::{Direction, Event, PositionFact, Reason};
use crate::domain::units::Qty;

pub(super) fn decode(subject: &mut Subject<'_>, looked_up: bool) -> Result<Event, Reason> {
    subject.symbol()?;
    let object = &subject.object;
    refuse_hedge_mode(object)?;
    let qty = signed_qty(object)?;
    let entry_price =
        if qty.is_zero() { None } else { optional_price(object.rounded(&["entry_price", "entryPrice"])?) };
    Ok(Event::Position(PositionFact { qty, entry_price, looked_up }))
}

/// Names of the position side.
pub(super) const POSITION_SIDES: [&str; 5] = ["positionSide", "position_side", "posSide", "pos_side", "ps"];

/// Errors for a position side of LONG or SHORT under any of its names: only one-way accounts are supported.
pub(super) fn refuse_hedge_mode(object: &Object<'_>) -> Result<(), Reason> {
    for name in POSITION_SIDES {
        match object.word(&[name]) {
            Ok(Some(word)) if word == "LONG" || word == "SHORT" => return Err(Reason::HedgeMode),
            _ => {}
        }
    }
    Ok(())
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
            Some(Some(direction)) => Ok(direction.signed(qty)),
        };
    }
    let Some(amount) = object.number(&["position_amt", "positionAmt"])?.map(Qty::new) else {
        return if direction == Some(None) { Ok(Qty::ZERO) } else { Err(Reason::NoQuantity) };
    };
    match direction {
        _ if amount.is_zero() => Ok(Qty::ZERO),
        None => Ok(amount),
        Some(Some(direction)) if direction.signed(amount) == amount => Ok(amount),
        Some(_) => Err(Reason::UnknownWord),
    }
}
