//! Control entries: the policy, the kill switch, gaps, and what operators accept.

use super::Subject;
use super::optional_symbol;
use crate::codec::line::{FieldValue, Fields};
use crate::codec::object::Object;
use crate::codec::policy;
use crate::domain::event::{Control, Event, Reason};
use crate::domain::ids::EntryId;
use crate::domain::units::RMultiple;

/// Events that kill when they cannot be read.
const SAFETY: [&str; 2] = ["policy.adopted", "kill.changed"];
/// The event that holds every symbol when it cannot be read.
const GAP: &str = "history.gap";

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    let name = event_type(&subject.object)?.ok_or(Reason::UnknownEvent)?;
    subject.kills = is_safety_name(&name);
    subject.gap = name == GAP;
    let (shape, control) = match name.as_str() {
        "policy.adopted" => ("policy.adopted", policy_adopted(subject)),
        "kill.changed" => ("kill.changed", kill_changed(subject)),
        "history.gap" => ("history.gap", history_gap(subject)),
        "gap.accepted" => {
            subject.symbol = optional_symbol(&subject.object, subject.symbols)?;
            ("gap.accepted", Ok(Control::GapAccepted))
        }
        "risk.accepted" => ("risk.accepted", risk_accepted(subject)),
        "decision.expired" => ("decision.expired", decision_expired(subject)),
        "rung.rearmed" => ("rung.rearmed", rung_rearmed(subject)),
        "entry.skipped" => ("entry.skipped", entry_skipped(subject)),
        _ => return Err(Reason::UnknownEvent),
    };
    subject.shape = shape;
    control.map(|control| Event::Control(Box::new(control)))
}

fn event_type(object: &Object<'_>) -> Result<Option<String>, Reason> {
    let beside = object.beside().text(&["event_type"])?;
    let name = if beside.is_some() { beside } else { object.text(&["event_type"])? };
    Ok(name.map(|name| name.to_ascii_lowercase()))
}

/// What an entry whose payload does not read must do all the same: stop everything, or tell of a gap.
pub(super) fn precaution(fields: &Fields<'_>) -> (bool, bool) {
    let mentions = |name: &str| {
        fields.pairs.iter().any(|(_, value)| match value {
            FieldValue::Text(text) => text.to_ascii_lowercase().contains(name),
            FieldValue::Bytes(bytes) => String::from_utf8_lossy(bytes).to_ascii_lowercase().contains(name),
        })
    };
    (SAFETY.iter().any(|name| mentions(name)), mentions(GAP))
}

fn is_safety_name(name: &str) -> bool {
    SAFETY.contains(&name)
}

pub(super) fn is_safety(control: &Control) -> bool {
    matches!(control, Control::PolicyAdopted(_) | Control::KillChanged { .. })
}

pub(super) fn is_gap(control: &Control) -> bool {
    matches!(control, Control::HistoryGap { .. })
}

fn policy_adopted(subject: &Subject<'_>) -> Result<Control, Reason> {
    let text = subject.object.json_text(&["policy"])?.ok_or(Reason::BadJson)?;
    let policy = policy::from_json(&text).map_err(|error| error.reason())?;
    Ok(Control::PolicyAdopted(Box::new(policy)))
}

fn kill_changed(subject: &Subject<'_>) -> Result<Control, Reason> {
    Ok(Control::KillChanged { kill: subject.object.boolean(&["kill"])?.ok_or(Reason::UnknownWord)? })
}

fn history_gap(subject: &Subject<'_>) -> Result<Control, Reason> {
    let stream = subject.object.text(&["stream"])?.ok_or(Reason::UnknownWord)?.into();
    Ok(Control::HistoryGap { stream, after: bound(subject, "after"), before: bound(subject, "before") })
}

/// The bounds of a gap are information: one that is no id is none, and the gap is a gap all the same.
fn bound(subject: &Subject<'_>, name: &str) -> Option<EntryId> {
    subject.object.text(&[name]).ok().flatten().and_then(|text| text.parse().ok())
}

fn risk_accepted(subject: &Subject<'_>) -> Result<Control, Reason> {
    Ok(Control::RiskAccepted { position_id: needed(subject, "position_id")? })
}

fn needed(subject: &Subject<'_>, name: &str) -> Result<Box<str>, Reason> {
    Ok(subject.object.text(&[name])?.ok_or(Reason::UnknownWord)?.into())
}

fn decision_expired(subject: &Subject<'_>) -> Result<Control, Reason> {
    Ok(Control::DecisionExpired { decision_id: needed(subject, "decision_id")? })
}

fn rung_rearmed(subject: &Subject<'_>) -> Result<Control, Reason> {
    let r = subject.object.positive(&["r"])?.ok_or(Reason::BadNumber)?;
    Ok(Control::RungRearmed { position_id: needed(subject, "position_id")?, r: RMultiple::new(r) })
}

fn entry_skipped(subject: &Subject<'_>) -> Result<Control, Reason> {
    let id = needed(subject, "id")?.parse().map_err(|_| Reason::BadNumber)?;
    Ok(Control::EntrySkipped { stream: needed(subject, "stream")?, id })
}
