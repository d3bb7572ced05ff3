//! Disturbances that wait for the worst moment: an order in flight, a lease that is taken, a gap that is reported.

use harvester::domain::delivery::action::Offer;

use super::instance::Instance;
use super::redis::Data;
use super::run::{KILL_KEY, RESULT};
use super::world::World;

/// Largest age of the copy of the server's data. [µs]
const COPY_AGE_US: u64 = 150_000;

/// What happens at such a moment.
#[derive(Clone, Debug, Default)]
pub struct Ambush {
    pub at_offer: Option<AtOffer>,
    /// The server loses the lease that is taken next.
    pub at_lease: bool,
    /// The process that writes the next checkpoint with an unwritten decision ends then.
    pub at_commit: bool,
    /// The answer to the next entry of our own is lost.
    pub at_append: bool,
    /// The process that reports the next gap ends then, and the operator accepts the gap at once.
    pub at_gap: bool,
    /// A copy of the server's data, and its time.
    copy: Option<(u64, Data)>,
}

/// What happens when an instance offers an order; in shadow mode, a decision.
#[derive(Clone, Copy, Debug)]
pub enum AtOffer {
    /// The server loses what the offer writes, and the reader of the instance is cut off until then: no lost entry
    /// was read.
    Lose,
    /// The server loses what the offer writes, and the entries that led to it. The executor has the order, and the
    /// instance is cut off until the failover. The process ends when it has reported the gap.
    LoseWithCause,
    /// The server loses the lease of this instance before it sends the offer, with everything since that lease was taken.
    LoseLease { instance: usize },
    /// The offer takes effect, and its answer is lost.
    LoseAnswer,
    /// Another program closes a position, and the result is trimmed unread, while the offer is in flight.
    TrimUnread,
    /// Another program sets the kill key while the offer is in flight.
    KillKey,
    /// The process is paused before it sends the offer.
    StandStillBefore { us: u64 },
    /// The process is paused after it has sent the offer, until after the failover.
    StandStill { until_us: u64 },
    /// Only this instance reaches the server until the failover, and ends then.
    Betray { until_us: u64 },
}

impl World {
    /// Returns the ambush that applies to these offers.
    fn at_offer(&self, offers: &[Offer]) -> Option<AtOffer> {
        let is_order = |offer: &Offer| offer.row.is_order() && offer.refusal.is_none();
        let is_met = !self.is_calm && (!self.plan.is_live || offers.iter().any(is_order));
        self.ambush.at_offer.filter(|_| is_met)
    }

    /// Copies what the server has, for a loss that begins before an offer.
    pub fn keep_copy(&mut self) {
        if let Some(AtOffer::LoseWithCause) = self.ambush.at_offer
            && self.ambush.copy.as_ref().is_none_or(|(at_us, _)| self.now_us - at_us > COPY_AGE_US)
        {
            self.ambush.copy = Some((self.now_us, self.redis.data.clone()));
        }
    }

    /// Handles the moment before offers are sent. Returns the time for which the process is paused before that. [µs]
    pub fn ambush_before_offer(&mut self, instance: usize, offers: &[Offer]) -> Option<u64> {
        let us = match self.at_offer(offers)? {
            AtOffer::StandStillBefore { us } => us,
            AtOffer::LoseLease { instance: whose } if whose == instance => {
                let (_, copy) = self.ambush.copy.take()?;
                let us = self.rng.within(5_000, 50_000);
                self.fail_over(copy, us);
                // Another instance takes the lease in that time.
                us + self.rng.within(500_000, 900_000)
            }
            AtOffer::LoseLease { .. }
            | AtOffer::LoseAnswer
            | AtOffer::Lose
            | AtOffer::LoseWithCause
            | AtOffer::KillKey
            | AtOffer::TrimUnread
            | AtOffer::StandStill { .. }
            | AtOffer::Betray { .. } => return None,
        };
        self.ambush.at_offer = None;
        self.pause(instance, us, "before it sends an offer");
        Some(us)
    }

    /// Handles the moment after offers were sent and before they arrive.
    pub fn ambush_after_offer(&mut self, instance: usize, offers: &[Offer]) {
        let now_us = self.now_us;
        match self.at_offer(offers) {
            Some(AtOffer::StandStill { until_us }) if until_us > now_us => {
                let us = until_us - now_us + self.rng.within(1_000, 400_000);
                self.pause(instance, us, "after it has sent an offer");
            }
            Some(AtOffer::Betray { until_us }) if until_us > now_us + 50_000 => {
                for other in (0..self.instances.len()).filter(|other| *other != instance) {
                    self.network.cut(other, until_us);
                }
                self.redis.changes += 1;
                let (life, name) = (self.instances[instance].life, self.instances[instance].name.clone());
                self.note(&name, format!("alone reaches the server for {} ms", (until_us - now_us) / 1000));
                self.after(until_us - now_us, move |world| {
                    if world.instances[instance].life == life && !world.is_calm {
                        world.end(instance, "killed");
                    }
                });
            }
            Some(
                AtOffer::Lose
                | AtOffer::LoseWithCause
                | AtOffer::LoseLease { .. }
                | AtOffer::LoseAnswer
                | AtOffer::KillKey
                | AtOffer::TrimUnread
                | AtOffer::StandStillBefore { .. },
            )
            | None => return,
            // The failover is over, or too near.
            Some(AtOffer::StandStill { .. } | AtOffer::Betray { .. }) => {}
        }
        self.ambush.at_offer = None;
    }

    /// Handles the arrival of offers at the server, before anything of them is written.
    pub fn ambush_at_offer(&mut self, instance: usize, offers: &[Offer]) {
        match self.at_offer(offers) {
            Some(AtOffer::Lose) => {
                let us = self.rng.within(60_000, 400_000);
                let until_us = self.begin_loss_of(us);
                self.network.cut_reader(instance, until_us);
                self.redis.changes += 1;
            }
            Some(AtOffer::LoseWithCause) => {
                let Some((_, copy)) = self.ambush.copy.take() else { return };
                let us = self.rng.within(20_000, 200_000);
                self.after(us, World::execute_new);
                let away_us = self.rng.within(5_000, 400_000);
                self.lose_since(copy, us + 1, away_us);
                self.cut_off(instance, us + 1);
                // Its reader is connected again before that, and finds the loss.
                self.network.cut_emitter(instance, self.now_us + us + away_us + 600_000);
                self.ambush.at_gap = true;
            }
            Some(AtOffer::LoseAnswer) => self.lose_answer(instance),
            Some(AtOffer::TrimUnread) => {
                self.close_one();
                self.trim(RESULT, 0);
            }
            Some(AtOffer::KillKey) => {
                self.operator.is_killed = true;
                self.redis.set(KILL_KEY, "1".to_owned(), None);
                self.note("operator", "sets the kill key to 1, while an order is on its way");
            }
            Some(
                AtOffer::LoseLease { .. }
                | AtOffer::StandStillBefore { .. }
                | AtOffer::StandStill { .. }
                | AtOffer::Betray { .. },
            )
            | None => return,
        }
        self.ambush.at_offer = None;
    }

    /// Handles the write of an entry of our own.
    pub fn ambush_at_append(&mut self, instance: usize) {
        if !self.is_calm && std::mem::take(&mut self.ambush.at_append) {
            self.lose_answer(instance);
        }
    }

    fn lose_answer(&mut self, instance: usize) {
        let us = self.rng.within(1_000, 50_000);
        self.cut_off(instance, us);
    }

    /// Handles the write of a checkpoint.
    pub fn ambush_at_commit(&mut self, instance: usize) {
        let Some(process) = self.instances[instance].process() else { return };
        let is_waited_for = process.processor.delivery.outbox().unwritten() > 0;
        if is_waited_for && !self.is_calm && std::mem::take(&mut self.ambush.at_commit) {
            self.end(instance, "killed, when it has written a checkpoint");
        }
    }

    /// Handles the report of a gap. After the last gap, the process ends before it sends anything more.
    pub fn ambush_at_gap(&mut self, instance: usize) {
        if !self.ambush.at_gap || self.is_calm || self.has_unreported_gap(instance) {
            return;
        }
        self.ambush.at_gap = false;
        self.accept_gaps();
        let us = self.rng.within(20_000, 300_000);
        self.end_for(instance, "killed, when it has reported its gaps", us);
    }

    fn has_unreported_gap(&self, instance: usize) -> bool {
        let Some(process) = self.instances[instance].process.as_ref() else { return true };
        let delivery = &process.processor.delivery;
        process.processor.streams().iter().any(|(stream, named)| {
            delivery.position(stream) != delivery.position_over_gaps(stream) && !self.has_gap_of(&named.name)
        })
    }

    /// Cuts the leader off until another instance takes its lease, which the server then loses.
    pub fn plot_at_lease(&mut self) {
        self.ambush.at_lease = true;
        let is_leader = |at: &mut Instance| at.process().is_some_and(|process| process.processor.delivery.is_leader());
        if let Some(leader) = self.instances.iter_mut().position(is_leader) {
            let us = self.plan.lease_us + self.rng.within(50_000, 700_000);
            self.cut_off(leader, us);
        }
    }

    /// Handles the taking of a lease. The server loses it, and the new holder learns of it only after that.
    pub fn ambush_at_lease(&mut self, instance: usize) {
        if !std::mem::take(&mut self.ambush.at_lease) || self.is_calm {
            return;
        }
        if self.rng.chance(500) {
            self.ambush.copy = Some((self.now_us, self.redis.data.clone()));
            self.ambush.at_offer = Some(AtOffer::LoseLease { instance });
        } else {
            let us = self.rng.within(20_000, 200_000);
            self.begin_loss_of(us);
            let us = us + self.rng.within(200_000, 900_000);
            self.pause(instance, us, "when it takes the lease");
        }
    }

    fn pause(&mut self, instance: usize, us: u64, when: &str) {
        let name = self.instances[instance].name.clone();
        self.instances[instance].paused_until_us = self.now_us + us;
        self.note(&name, format!("is paused for {} ms, {when}", us / 1000));
    }
}
