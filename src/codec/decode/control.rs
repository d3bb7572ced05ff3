//! Control entries: the policy, the kill switch, gaps, and what operators accept.

use super::Subject;
use super::optional_symbol;
use crate::codec::object::Object;
use crate::codec::policy;
use crate::domain::event::{Control, Event, Reason};
use crate::domain::ids::EntryId;
use crate::domain::units::RMultiple;

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    let name = event_type(&subject.object)?.ok_or(Reason::UnknownEvent)?;
    subject.kills = is_safety_name(&name);
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

/// Is the event one that must stop everything when it cannot be read.
pub(super) fn kills(flat: &Object<'_>) -> bool {
    // An event type that is no UTF-8 may be one of these.
    match event_type(flat) {
        Ok(Some(name)) => is_safety_name(&name),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn is_safety_name(name: &str) -> bool {
    matches!(name, "policy.adopted" | "kill.changed")
}

pub(super) fn is_safety(control: &Control) -> bool {
    matches!(control, Control::PolicyAdopted(_) | Control::KillChanged { .. })
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
    Ok(Control::HistoryGap { stream, after: id(subject, "after")?, before: id(subject, "before")? })
}

fn id(subject: &Subject<'_>, name: &str) -> Result<Option<EntryId>, Reason> {
    match subject.object.text(&[name])? {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| Reason::BadNumber),
    }
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
    let id = id(subject, "id")?.ok_or(Reason::BadNumber)?;
    Ok(Control::EntrySkipped { stream: needed(subject, "stream")?, id })
}
