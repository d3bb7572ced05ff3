//! Recorded decisions.

use serde_json::value::RawValue;

use super::Subject;
use super::plan::side;
use crate::codec::depth;
use crate::codec::line::{FieldValue, Fields};
use crate::codec::number;
use crate::codec::seal::chained;
use crate::codec::signing::SigningKey;
use crate::domain::event::ids::EntryId;
use crate::domain::event::{DecisionFact, Event, Reason};
use crate::domain::units::{Qty, RMultiple, Ratio};

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    let symbol = subject.symbol();
    let beside = subject.object.beside();
    if let Some(name) = beside.text(&["event_type"])?
        && !name.eq_ignore_ascii_case("harvest.decision")
    {
        return Err(Reason::UnknownEvent);
    }
    subject.shape = "harvest.decision";
    let symbol = symbol?;
    let account = subject.account()?;
    let position_side = subject.position_side()?;
    let object = &subject.object;
    let text =
        |name: &str| -> Result<Box<str>, Reason> { Ok(object.text(&[name])?.ok_or(Reason::UnknownWord)?.into()) };
    let mode = object.word(&["mode"])?;
    let live = match mode.as_deref() {
        Some("LIVE") => true,
        Some("SHADOW") => false,
        Some(_) | None => return Err(Reason::UnknownWord),
    };
    let decision_id = text("decision_id")?;
    let plan_id = match object.text(&["plan_id"])? {
        Some(plan_id) => plan_id.into(),
        None => decision_id.chars().take(16).collect::<String>().into(),
    };
    let (cause_stream, cause_id) = cause(&text("cause")?)?;
    let fact = DecisionFact {
        plan_id,
        position_id: text("position_id")?,
        symbol,
        account,
        position_side,
        side: side(object)?.ok_or(Reason::NoSide)?,
        qty: object.positive(&["qty"])?.map(Qty::new).ok_or(Reason::NoQuantity)?,
        share: object.positive(&["close_fraction"])?.map(Ratio::new).ok_or(Reason::BadNumber)?,
        rungs: rungs(&object.json_text(&["rungs"])?.ok_or(Reason::BadNumber)?)?,
        attempt: whole(object.number(&["attempt"])?)?,
        live,
        // Its rungs count even if its place in the chain is unknown.
        seq: beside.number(&["seq"])?.map(|seq| whole(Some(seq))).transpose()?.unwrap_or(0),
        prev: beside.text(&["prev"])?.unwrap_or_default().into(),
        hash: beside.text(&["hash"])?.unwrap_or_default().into(),
        is_sealed: false,
        is_early: false,
        is_former: false,
        decision_id,
        cause_stream,
        cause_id,
    };
    Ok(Event::Decision(Box::new(fact)))
}

/// Returns true if the hash matches `prev` and the payload as written and, with a key, the signature verifies.
pub(super) fn is_sealed(key: Option<&SigningKey>, id: EntryId, fields: &Fields<'_>) -> bool {
    let text = |name: &str| match fields.get(name) {
        Some(FieldValue::Text(text)) => Some(&**text),
        Some(FieldValue::Bytes(_)) | None => None,
    };
    let (Some(prev), Some(hash), Some(payload)) = (text("prev"), text("hash"), text("payload")) else { return false };
    let signature = text("signature");
    let is_signed =
        |key: &SigningKey| (signature.is_some() || !fields.has("signature")) && key.vouches(id, hash, signature);
    chained(prev, payload) == hash && key.is_none_or(is_signed)
}

fn cause(text: &str) -> Result<(Box<str>, EntryId), Reason> {
    let (stream, id) = text.rsplit_once('/').ok_or(Reason::UnknownWord)?;
    Ok((stream.into(), id.parse().map_err(|_| Reason::BadNumber)?))
}

fn rungs(text: &str) -> Result<Vec<RMultiple>, Reason> {
    if !depth::is_bounded(text.as_bytes()) {
        return Err(Reason::BadJson);
    }
    let raw: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Reason::BadJson)?;
    let mut rungs = Vec::with_capacity(raw.len());
    for value in raw {
        rungs.push(RMultiple::new(number::decimal(value.get().trim_matches('"'))?));
    }
    rungs.sort();
    if rungs.is_empty() { Err(Reason::BadNumber) } else { Ok(rungs) }
}

fn whole<N: TryFrom<u64>>(value: Option<rust_decimal::Decimal>) -> Result<N, Reason> {
    use rust_decimal::prelude::ToPrimitive as _;
    let value = value.filter(|v| v.fract().is_zero()).and_then(|v| v.to_u64()).ok_or(Reason::BadNumber)?;
    N::try_from(value).map_err(|_| Reason::OutOfRange)
}
