//! Control entries: policy, kill switch, gaps, and acceptances by operators.

use super::Subject;
use super::account;
use super::subject::optional_symbol;
use crate::codec::line::{FieldValue, Fields};
use crate::codec::object::Object;
use crate::codec::policy;
use crate::codec::signing::{self, SigningKey};
use crate::domain::event::ids::EntryId;
use crate::domain::event::{Control, ControlFact, Event, Issue, Reason};
use crate::domain::exit::policy::Policy;
use crate::domain::units::RMultiple;

/// Events that kill if they cannot be read.
const SAFETY: [&str; 2] = ["policy.adopted", "kill.changed"];
/// The event that holds every symbol if it cannot be read.
const GAP: &str = "history.gap";
/// Largest distance between the time of issue and the id of the entry. [ms]
const ISSUE_WINDOW_MS: u64 = 60_000;
/// A longer nonce is refused, because nonces are remembered. [bytes]
const NONCE_BYTES_MAX: usize = 64;

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
            subject.signed_account()?;
            ("gap.accepted", Ok(Control::GapAccepted))
        }
        "risk.accepted" => ("risk.accepted", risk_accepted(subject)),
        "decision.expired" => ("decision.expired", decision_expired(subject)),
        "rung.rearmed" => ("rung.rearmed", rung_rearmed(subject)),
        "entry.skipped" => ("entry.skipped", entry_skipped(subject)),
        _ => return Err(Reason::UnknownEvent),
    };
    subject.shape = shape;
    let control = control?;
    let issue = if control.loosens() { issue(&subject.object) } else { None };
    Ok(Event::Control(Box::new(ControlFact { control, issue })))
}

/// Returns the time of issue and the nonce of an entry, or `None` if one of them cannot be read.
fn issue(object: &Object<'_>) -> Option<Issue> {
    use rust_decimal::prelude::ToPrimitive as _;
    let issued_ms = object.number(&["issued_ms"]).ok()??.to_u64()?;
    let nonce = object.text(&["nonce"]).ok()??;
    (nonce.len() <= NONCE_BYTES_MAX).then(|| Issue { issued_ms, nonce: nonce.into(), is_verified: false })
}

/// Verifies an entry that loosens: its signature, and that it was issued close to its id. (The fold checks that its
/// nonce is new.) Errors if the entry must be refused.
pub(super) fn verify(
    key: &SigningKey,
    stream: &str,
    id: EntryId,
    fields: &Fields<'_>,
    fact: &mut ControlFact,
) -> Result<(), Reason> {
    if !fact.control.loosens() {
        return Ok(());
    }
    if !fields.has("signature") && key.needs_no_signature(id) {
        return Ok(());
    }
    let text = |name: &str| match fields.get(name) {
        Some(FieldValue::Text(text)) => Ok(&**text),
        Some(FieldValue::Bytes(_)) | None => Err(Reason::BadSignature),
    };
    let signed = signing::control_text(stream, text("event_type")?, text("payload")?);
    let issue = fact.issue.as_mut().filter(|issue| issue.issued_ms.abs_diff(id.ms) <= ISSUE_WINDOW_MS);
    let issue = issue.ok_or(Reason::BadSignature)?;
    if !key.vouches(id, &signed, Some(text("signature")?)) {
        return Err(Reason::BadSignature);
    }
    issue.is_verified = true;
    Ok(())
}

fn event_type(object: &Object<'_>) -> Result<Option<String>, Reason> {
    let beside = object.beside().text(&["event_type"])?;
    let name = if beside.is_some() { beside } else { object.text(&["event_type"])? };
    Ok(name.map(|name| name.to_ascii_lowercase()))
}

/// Returns the safety effect of an entry whose payload cannot be read: kill, and gap.
pub(super) fn precaution(fields: &Fields<'_>) -> (bool, bool) {
    let mentions = |name: &str| {
        fields.pairs.iter().any(|(_, value)| match value {
            FieldValue::Text(text) => text.to_ascii_lowercase().contains(name),
            FieldValue::Bytes(bytes) => String::from_utf8_lossy(bytes).to_ascii_lowercase().contains(name),
        })
    };
    (SAFETY.iter().any(|name| mentions(name)), mentions(GAP))
}

/// Returns true if an entry kills as soon as it is read, before its turn in the fold: a `kill.changed` that is on, or a
/// `kill.changed` or `policy.adopted` that cannot be read.
pub fn kills_when_read(fields: &Fields<'_>) -> bool {
    let Ok(object) = Object::of(fields) else { return precaution(fields).0 };
    let Ok(Some(name)) = event_type(&object) else { return false };
    let is_unreadable = fields.size() > super::ENTRY_SIZE_MAX || account::signed_name(&object).is_err();
    match name.as_str() {
        "kill.changed" => is_unreadable || object.boolean(&["kill"]) != Ok(Some(false)),
        "policy.adopted" => is_unreadable || policy_adopted_by(&object).is_err(),
        _ => false,
    }
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

fn policy_adopted(subject: &mut Subject<'_>) -> Result<Control, Reason> {
    subject.signed_account()?;
    policy_adopted_by(&subject.object).map(Control::PolicyAdopted)
}

/// Returns the policy that is adopted. Null gives an account the general policy again.
fn policy_adopted_by(object: &Object<'_>) -> Result<Option<Box<Policy>>, Reason> {
    if object.is_null("policy") && account::signed_name(object)?.is_some() {
        return Ok(None);
    }
    Ok(Some(Box::new(policy_of(object)?)))
}

fn policy_of(object: &Object<'_>) -> Result<Policy, Reason> {
    let text = object.json_text(&["policy"])?.ok_or(Reason::BadJson)?;
    policy::from_json(&text).map_err(|error| error.reason())
}

fn kill_changed(subject: &mut Subject<'_>) -> Result<Control, Reason> {
    subject.signed_account()?;
    Ok(Control::KillChanged { kill: subject.object.boolean(&["kill"])?.ok_or(Reason::UnknownWord)? })
}

fn history_gap(subject: &Subject<'_>) -> Result<Control, Reason> {
    let stream = subject.object.text(&["stream"])?.ok_or(Reason::UnknownWord)?.into();
    Ok(Control::HistoryGap { stream, after: bound(subject, "after"), before: bound(subject, "before") })
}

/// Returns a bound of a gap. A bound that is not an id is ignored, because bounds are information only: the gap still
/// counts.
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
