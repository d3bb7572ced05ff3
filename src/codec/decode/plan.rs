//! Plans. Only executed ones with a plan id are remembered.

use super::Subject;
use super::intent::producer;
use super::market::{optional_price, risk_fields};
use crate::codec::object::Object;
use crate::domain::event::{Event, Plan, Reason, Side};

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    let symbol = subject.symbol()?;
    let account = subject.account()?;
    let object = &subject.object;
    let decision = object.word(&["decision"])?;
    let plan_id = object.text(&["plan_id"])?;
    let executed = decision.is_none_or(|word| word == "EXECUTE");
    let Some(plan_id) = plan_id.filter(|_| executed) else {
        subject.shape = if executed { "plan" } else { "proposal" };
        return Ok(Event::PlanIgnored);
    };
    subject.shape = "plan";
    let position_side = subject.position_side()?;
    let object = &subject.object;
    let written = |name| Ok::<_, Reason>(object.text(&[name])?.unwrap_or_default());
    let (atr_value, volatility_factor) = risk_fields(object)?;
    let plan = Plan {
        plan_id: plan_id.into(),
        symbol,
        id: subject.id,
        side: side(object)?,
        reduce_only: object.boolean(&["reduceOnly", "reduce_only"])?,
        entry_price: optional_price(object.positive(&["entry_price"])?),
        atr_value,
        volatility_factor,
        producer: producer(object),
        bridge_text: format!("|{}|{}|{}", written("symbol")?, written("side")?, written("qty")?).into(),
        account,
        position_side,
        has_qty: object.positive(&["qty"])?.is_some(),
    };
    Ok(Event::Plan(Box::new(plan)))
}

/// Reads `side`: BUY or SELL. Any other word is unknown.
pub(super) fn side(object: &Object<'_>) -> Result<Option<Side>, Reason> {
    match object.word(&["side"])?.as_deref() {
        None => Ok(None),
        Some("BUY") => Ok(Some(Side::Buy)),
        Some("SELL") => Ok(Some(Side::Sell)),
        Some(_) => Err(Reason::UnknownWord),
    }
}
