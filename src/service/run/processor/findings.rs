//! Facts about an entry that an operator has to know: log lines, and findings that stay.

use super::Processor;
use crate::domain::delivery::row::{OutboxRow, SOMEWHERE};
use crate::domain::engine::Disposition;
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, DecisionFact, Entry, Event, Reason};

impl Processor {
    /// Returns the finding about an entry that is skipped because a service did not believe it. A store that is folded
    /// again gets the finding in this way.
    fn refused_before(&self, entry: &Entry) -> Option<&'static str> {
        let is_refused = match &entry.content {
            Err(unreadable) => unreadable.reason == Reason::BadSignature || entry.kind == StreamKind::Decision,
            Ok(Event::Decision(fact)) => self.engine().is_foreign(fact),
            Ok(Event::Control(fact)) => self.engine().globals().nonces.clone().take(fact, entry.id).is_err(),
            Ok(_) => false,
        };
        let finding = if entry.kind == StreamKind::Decision { "decision_foreign" } else { "bad_signature" };
        is_refused.then_some(finding)
    }

    /// Logs and counts the facts about an entry that an operator has to know.
    pub(super) fn note(
        &mut self,
        entry: &Entry,
        disposition: Disposition,
        is_foreign: bool,
        policy_before: &str,
        is_skipped: bool,
    ) {
        if let Some(finding) = self.refused_before(entry).filter(|_| is_skipped) {
            self.findings.refuse(finding, entry.id);
        }
        let (stream, id) = (&self.driver.streams().get(entry.stream).name, entry.id);
        if let Disposition::Quarantined(reason) = disposition {
            if matches!(entry.kind, StreamKind::Result | StreamKind::Snapshot) || entry.is_of_exchange() {
                tracing::warn!(%stream, %id, reason = reason.name(), "UNREADABLE");
            }
            if is_foreign {
                self.findings.refuse("decision_foreign", id);
                tracing::error!(%stream, entry = %id, finding = "decision_foreign", reason = reason.name(), "a decision entry cannot be read: the symbols that it may concern are held");
            }
        }
        if is_foreign && disposition == Disposition::Applied {
            self.findings.refuse("decision_foreign", id);
            tracing::error!(%stream, entry = %id, finding = "decision_foreign", "a decision is none of ours: its symbol is held");
        } else if disposition == Disposition::Quarantined(Reason::BadSignature) {
            self.findings.refuse("bad_signature", id);
            tracing::error!(%stream, entry = %id, finding = "bad_signature", "a control entry is not signed with our key: it is refused. If it is ours, from before the key: set [emit] believe_unsigned_until to the last id from before the key, and restart");
        } else if disposition == Disposition::Applied
            && !is_skipped
            && let Ok(Event::Control(fact)) = &entry.content
            && let Control::PolicyAdopted(policy) = &fact.control
        {
            let account = &self.engine().accounts().get(entry.account).name;
            let own = self.order_settings.account_policies.get(account);
            let configured = own.map_or(&self.order_settings.policy, |own| &own.hash);
            // Without a policy the account follows the general one.
            let adopted = policy.as_ref().map_or(&self.engine().globals().policy.hash, |policy| &policy.hash);
            if adopted == configured {
                tracing::info!(entry = %id, %account, %adopted, %configured, before = policy_before, "policy adopted");
            } else {
                tracing::warn!(
                    entry = %id, %account, %adopted, %configured, before = policy_before,
                    "policy adopted that is not the configured one: no order is sent"
                );
            }
        }
    }

    /// Returns true if the fold adopted a decision, or will adopt it at its cause, and if it has our signature in case
    /// there is a key.
    pub(super) fn is_believed(&self, fact: &DecisionFact, row: &OutboxRow) -> bool {
        let is_adopted =
            self.engine().book_of_decision(&row.decision_id).is_some() || self.engine().awaits_cause_of(fact);
        let signature = Some(row.field("signature")).filter(|signature| !signature.is_empty());
        let id = row.written.unwrap_or(SOMEWHERE);
        is_adopted && self.signing.as_ref().is_none_or(|key| key.vouches(id, row.field("hash"), signature))
    }
}
