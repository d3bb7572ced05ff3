//! The rungs of a position: taken, requested, refused, unknown, armed again.

use super::position::Position;
use super::rung::{DecisionOutcome, DecisionRecord, OutcomeKind, OutcomeRecord, Rung, RungState};
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::{LadderStep, OnLive, Policy};
use crate::domain::units::{OutOfRange, Qty, RMultiple, Ratio};

impl Position {
    /// Returns the rung of an R. It is created from the ladder at its first use.
    pub fn rung_mut(&mut self, r: RMultiple, ladder: &[LadderStep]) -> &mut Rung {
        let slot = match self.rungs.binary_search_by(|rung| rung.r.cmp(&r)) {
            Ok(slot) => slot,
            Err(slot) => {
                let fraction = ladder.iter().find(|s| s.r == r).map_or(Ratio::ZERO, |s| s.fraction);
                self.rungs.insert(
                    slot,
                    Rung {
                        r,
                        fraction,
                        share_skipped: Ratio::ZERO,
                        state: RungState::Armed,
                        decision_id: None,
                        attempt: 0,
                        refusals: 0,
                        retry_at_ms: None,
                    },
                );
                slot
            }
        };
        &mut self.rungs[slot]
    }

    pub fn rung(&self, r: RMultiple) -> Option<&Rung> {
        self.rungs.binary_search_by(|rung| rung.r.cmp(&r)).ok().map(|slot| &self.rungs[slot])
    }

    /// Returns the state of a rung at a time. A refusal ends with its wait.
    pub fn rung_state(&self, r: RMultiple, now_ms: u64) -> RungState {
        match self.rung(r) {
            None => RungState::Armed,
            Some(rung) if rung.state == RungState::Refused && rung.retry_at_ms.is_none_or(|at| now_ms >= at) => {
                RungState::Armed
            }
            Some(rung) => rung.state,
        }
    }

    /// Returns the sum of shares that count as taken, by decisions and by skipped rungs. [1]
    pub fn share_taken(&self) -> Result<Ratio, OutOfRange> {
        let mut skipped = self.rungs.iter().filter(|r| r.state == RungState::Skipped);
        let skipped = skipped.try_fold(Ratio::ZERO, |sum, rung| sum.plus(rung.share_skipped))?;
        skipped.plus(self.share_of(RungState::is_taken)?)
    }

    /// Returns the sum of shares that were filled. [1]
    pub fn share_filled(&self) -> Result<Ratio, OutOfRange> {
        self.share_of(|state| state == RungState::Filled)
    }

    fn share_of(&self, counts: impl Fn(RungState) -> bool) -> Result<Ratio, OutOfRange> {
        let shares = self.decisions.iter().filter(|d| counts(d.state)).flat_map(|d| &d.shares);
        shares.copied().try_fold(Ratio::ZERO, Ratio::plus)
    }

    pub fn awaits_result(&self) -> bool {
        self.decisions.iter().any(|d| d.state.is_in_flight())
    }

    /// Returns true if time alone can change a decision of this position.
    pub fn awaits_time(&self) -> bool {
        self.decisions.iter().any(|d| matches!(d.state, RungState::Requested | RungState::Partial))
    }

    pub fn has_decision(&self, decision_id: &str) -> bool {
        self.decisions.iter().any(|d| &*d.decision_id == decision_id)
    }

    /// Returns true if an order is known to have filled something for a decision.
    pub fn has_filled(&self, decision_id: &str) -> bool {
        let mut outcomes = self.decisions.iter().filter(|d| &*d.decision_id == decision_id).flat_map(|d| &d.outcomes);
        outcomes.any(|outcome| outcome.what == OutcomeKind::Filled)
    }

    /// Returns the id of the entry that caused a decision.
    pub fn decided(&self, decision_id: &str) -> Option<EntryId> {
        let decision = self.decisions.iter().find(|d| &*d.decision_id == decision_id)?;
        decision.cause.rsplit_once('/')?.1.parse().ok()
    }

    /// Takes the rungs of a decision, and keeps its record. Each rung gets its fraction. The excess over the fractions
    /// (of a rung that failed before) goes to the lowest rung.
    pub fn take_rungs(&mut self, mut record: DecisionRecord, ladder: &[LadderStep]) {
        for &r in &record.rungs {
            let fraction = ladder.iter().find(|step| step.r == r).map(|step| step.fraction);
            let rung = self.rung_mut(r, ladder);
            rung.fraction = fraction.unwrap_or(rung.fraction);
            rung.state = record.state;
            rung.decision_id = Some(record.decision_id.clone());
            rung.attempt = rung.attempt.max(record.attempt);
            rung.retry_at_ms = None;
        }
        record.shares = self.shares_of(&record);
        self.decisions.push(record);
        self.dirty.0 = true;
    }

    /// Returns the share that each rung of a decision has. [1]
    fn shares_of(&self, record: &DecisionRecord) -> Vec<Ratio> {
        let mut rest = record.share;
        let mut shares = vec![Ratio::ZERO; record.rungs.len()];
        for (i, &r) in record.rungs.iter().enumerate().rev() {
            let fraction = self.rung(r).map_or(Ratio::ZERO, |rung| rung.fraction);
            shares[i] = if i == 0 { rest } else { fraction.min(rest) };
            rest = rest.minus(shares[i]).unwrap_or(Ratio::ZERO);
        }
        shares
    }

    /// Applies an outcome to its decision. Returns true if anything changed.
    pub fn apply_outcome(
        &mut self,
        decision_id: &str,
        outcome: DecisionOutcome,
        entry: EntryId,
        qty: Qty,
        policy: &Policy,
    ) -> bool {
        let Some(slot) = self.decisions.iter().position(|d| &*d.decision_id == decision_id) else { return false };
        self.dirty.0 = true;
        let state = self.decisions[slot].state;
        let what = match outcome {
            DecisionOutcome::Accepted => OutcomeKind::Accepted,
            DecisionOutcome::Filled { .. } => OutcomeKind::Filled,
            DecisionOutcome::Refused { .. } => OutcomeKind::Refused,
            DecisionOutcome::Expired => OutcomeKind::Expired,
            DecisionOutcome::AdoptedSmaller => OutcomeKind::Adopted,
        };
        if what == OutcomeKind::Filled && self.decisions[slot].is_rearmed_before(qty) {
            self.decisions[slot].shares = self.shares_of(&self.decisions[slot]);
        }
        self.decisions[slot].outcomes.push(OutcomeRecord { what, entry, qty });
        match outcome {
            DecisionOutcome::Accepted => {
                if matches!(state, RungState::Requested | RungState::Unknown) {
                    self.decisions[slot].last_outcome_ms = entry.ms;
                    self.set_decision_state(slot, RungState::Requested);
                }
            }
            DecisionOutcome::Filled { is_final } => {
                self.decisions[slot].last_outcome_ms = entry.ms;
                let done = is_final || state == RungState::Filled;
                self.set_decision_state(slot, if done { RungState::Filled } else { RungState::Partial });
            }
            DecisionOutcome::AdoptedSmaller => {
                if state.is_in_flight() {
                    self.set_decision_state(slot, RungState::Filled);
                }
            }
            DecisionOutcome::Refused { permanent } => match state {
                // The order is final, and a part of it was filled.
                RungState::Partial => self.set_decision_state(slot, RungState::Filled),
                RungState::Requested | RungState::Unknown => self.refuse(slot, permanent, entry.ms, policy),
                RungState::Refused if permanent => self.fail_refused(slot),
                RungState::Armed
                | RungState::Refused
                | RungState::Filled
                | RungState::Shadowed
                | RungState::Skipped
                | RungState::Failed => {}
            },
            DecisionOutcome::Expired => {
                if matches!(state, RungState::Requested | RungState::Unknown) {
                    self.decisions[slot].expired = true;
                    self.set_decision_state(slot, RungState::Armed);
                }
            }
        }
        true
    }

    /// Sets the state of a decision and of its rungs.
    ///
    /// A fill counts for a rung whatever its state was, and only an operator takes it back: a refusal of a later
    /// attempt does not arm a rung that an earlier attempt filled.
    fn set_decision_state(&mut self, slot: usize, state: RungState) {
        self.decisions[slot].state = state;
        let decision = &self.decisions[slot];
        let fills = matches!(state, RungState::Filled | RungState::Partial);
        for rung in &mut self.rungs {
            let counts = if fills {
                decision.rungs.contains(&rung.r) && rung.state != RungState::Filled
            } else {
                rung.decision_id.as_deref() == Some(&*decision.decision_id) && !rung.is_sold()
            };
            if counts {
                rung.state = state;
                rung.retry_at_ms = None;
            }
        }
    }

    fn refuse(&mut self, slot: usize, permanent: bool, now_ms: u64, policy: &Policy) {
        let decision = &mut self.decisions[slot];
        decision.state = RungState::Refused;
        let own = |rung: &&mut Rung| rung.decision_id.as_deref() == Some(&*decision.decision_id) && !rung.is_sold();
        for rung in self.rungs.iter_mut().filter(own) {
            rung.refusals += 1;
            if permanent || rung.refusals >= policy.max_attempts {
                rung.state = RungState::Failed;
            } else {
                rung.state = RungState::Refused;
                rung.retry_at_ms = Some(now_ms.saturating_add(policy.retry_after_ms));
            }
        }
    }

    /// Fails the rungs of a decision that was refused before, and is now refused for good. A rung that a later decision
    /// has taken, or an operator has armed, stays.
    fn fail_refused(&mut self, slot: usize) {
        let decision_id = &self.decisions[slot].decision_id;
        for rung in &mut self.rungs {
            if rung.state == RungState::Refused && rung.decision_id.as_ref() == Some(decision_id) {
                rung.state = RungState::Failed;
                rung.retry_at_ms = None;
            }
        }
    }

    /// Expires the timeouts of decisions in flight. Returns true if anything changed.
    pub fn expire_timeouts(&mut self, now_ms: u64, policy: &Policy) -> bool {
        let mut changed = false;
        for slot in 0..self.decisions.len() {
            let decision = &self.decisions[slot];
            if now_ms.saturating_sub(decision.last_outcome_ms) <= policy.result_timeout_ms {
                continue;
            }
            match decision.state {
                RungState::Requested => self.set_decision_state(slot, RungState::Unknown),
                RungState::Partial => self.set_decision_state(slot, RungState::Filled),
                RungState::Armed
                | RungState::Refused
                | RungState::Unknown
                | RungState::Filled
                | RungState::Shadowed
                | RungState::Skipped
                | RungState::Failed => continue,
            }
            changed = true;
        }
        self.dirty.0 |= changed;
        changed
    }

    /// Arms a rung again on behalf of an operator: no decision has a share for it any longer. Returns true if one
    /// did.
    pub fn rearm(&mut self, r: RMultiple, entry: EntryId) -> bool {
        let Ok(slot) = self.rungs.binary_search_by(|rung| rung.r.cmp(&r)) else { return false };
        let rung = &mut self.rungs[slot];
        rung.state = RungState::Armed;
        rung.share_skipped = Ratio::ZERO;
        rung.refusals = 0;
        rung.retry_at_ms = None;
        for decision in &mut self.decisions {
            let Some(i) = decision.rungs.iter().position(|of| *of == r) else { continue };
            decision.shares[i] = Ratio::ZERO;
            decision.outcomes.push(OutcomeRecord { what: OutcomeKind::Rearmed, entry, qty: Qty::ZERO });
            // A request without a result is settled once none of its rungs waits for it.
            let waits = |rung: &Rung| decision.rungs.contains(&rung.r) && rung.state.is_in_flight();
            if decision.state.is_in_flight() && !self.rungs.iter().any(waits) {
                decision.state = RungState::Armed;
            }
        }
        true
    }

    /// Marks rungs as taken because they were reached before the mode became live.
    pub fn skip(&mut self, reached: &[LadderStep]) {
        for step in reached {
            if self.rung(step.r).is_none_or(|rung| matches!(rung.state, RungState::Armed | RungState::Refused)) {
                let rung = self.rung_mut(step.r, reached);
                rung.fraction = step.fraction;
                rung.share_skipped = step.fraction;
                rung.state = RungState::Skipped;
                rung.retry_at_ms = None;
            }
        }
    }

    /// Applies the policy to shadowed rungs when the mode becomes live: they are skipped (their decisions keep the
    /// share) or armed.
    pub fn release_shadowed(&mut self, on_live: OnLive) {
        let state = match on_live {
            OnLive::Skip => RungState::Skipped,
            OnLive::Take => RungState::Armed,
        };
        for rung in self.rungs.iter_mut().filter(|r| r.state == RungState::Shadowed) {
            rung.state = state;
        }
        if on_live == OnLive::Take {
            for decision in self.decisions.iter_mut().filter(|d| d.state == RungState::Shadowed) {
                decision.state = RungState::Armed;
            }
        }
    }
}
