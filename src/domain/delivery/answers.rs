//! Answers to actions.

use super::action::{Appended, Notice, OfferAnswer, Recorded};
use super::fault::Fault;
use super::row::RowChange;
use super::{Checkpointing, Delivery};
use crate::domain::engine::Engine;

/// Nothing is offered for this time after the server named another owner of the lease. [ms]
const STALE_PAUSE_MS: u64 = 50;

impl Delivery {
    /// Handles the answer to one offer.
    pub fn handle_offered(&mut self, seq: u64, answer: OfferAnswer, now_ms: u64) {
        self.outbox.answered(seq);
        match answer {
            OfferAnswer::Written { entry, refusal, is_new } => {
                self.gate.written(seq);
                if self.outbox.written(seq, entry).is_some() {
                    self.notices.push_back(Notice::Emitted { seq, entry, refusal, is_new });
                }
            }
            OfferAnswer::Stale => self.not_before_ms = now_ms.saturating_add(STALE_PAUSE_MS),
            OfferAnswer::Halted => {}
            OfferAnswer::Behind => self.gate.wait_for_news(),
            OfferAnswer::Unfit => self.gate.wait_for_outputs(now_ms),
            OfferAnswer::Lost => self.gate.doubt_written(),
            OfferAnswer::Doubtful { known } => {
                if self.gate.doubt(seq, now_ms) {
                    let decision_id = self.outbox.get(seq).map_or_else(String::new, |row| row.decision_id.clone());
                    self.notices.push_back(Notice::Doubtful { seq, decision_id, known });
                }
            }
        }
    }

    /// Handles the outcome of an append.
    pub fn handle_appended(&mut self, number: u64, outcome: Appended, now_ms: u64, engine: &Engine) {
        let outcome = match outcome {
            Appended::Unknown(_) if self.settings.faults.has(Fault::RetryWithoutAsking) => Appended::Unknown(None),
            outcome => outcome,
        };
        self.control.appended(number, outcome, now_ms);
        // It may have come back before its own answer.
        let control = engine.streams().id_of(&self.settings.control);
        if let Some(cursor) = control.and_then(|control| engine.cursor(control)) {
            let back = self.control.folded_to(cursor);
            self.came_back(back);
        }
    }

    /// Handles the outcome of a record.
    pub fn handle_recorded(&mut self, number: u64, outcome: Recorded, now_ms: u64) {
        let written = self.records.done(number, outcome, now_ms);
        self.changes.extend(written.map(|(stream, id)| RowChange::Recorded { stream, id }));
    }

    /// Handles the end of an acknowledgement.
    pub fn handle_acknowledged(&mut self) {
        self.acks.done();
    }

    /// Handles the end of an [`Action::Checkpoint`], or of a checkpoint that the shell wrote by itself.
    pub fn handle_checkpointed(&mut self) {
        if self.checkpoint == Checkpointing::Running {
            self.checkpoint = Checkpointing::Idle;
        }
    }
}
