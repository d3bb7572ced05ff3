//! Disturbances that wait for the worst moment: an offer on its way, a lease that is taken.

use super::instance::Instance;
use super::world::World;

/// What is to happen at such a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ambush {
    pub at_offer: Option<AtOffer>,
    /// The server loses the lease that is taken next.
    pub at_lease: bool,
}

/// What happens when an instance offers a decision.
#[derive(Clone, Copy, Debug)]
pub enum AtOffer {
    /// The server loses what the offer writes, and the reader of the instance is cut off until then: no entry that is lost
    /// was read.
    Lose,
    /// The process stands still before it sends the offer.
    StandStillBefore { us: u64 },
    /// The process stands still after it has sent the offer, until after the failover.
    StandStill { until_us: u64 },
    /// Only this instance reaches the server until the failover, and ends then.
    Betray { until_us: u64 },
}

impl World {
    /// An offer is about to be sent. Returns the time for which the process stands still before. [µs]
    pub fn ambush_before_offer(&mut self, instance: usize) -> Option<u64> {
        let Some(AtOffer::StandStillBefore { us }) = self.ambush.at_offer.filter(|_| !self.is_calm) else {
            return None;
        };
        self.ambush.at_offer = None;
        self.stand_still(instance, us, "before it sends an offer");
        Some(us)
    }

    /// An offer was sent, and is not there yet.
    pub fn ambush_after_offer(&mut self, instance: usize) {
        let now_us = self.now_us;
        match self.ambush.at_offer.filter(|_| !self.is_calm) {
            Some(AtOffer::StandStill { until_us }) if until_us > now_us => {
                let us = until_us - now_us + self.rng.within(1_000, 400_000);
                self.stand_still(instance, us, "after it has sent an offer");
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
            Some(AtOffer::Lose | AtOffer::StandStillBefore { .. }) | None => return,
            // The failover is over, or too near.
            Some(AtOffer::StandStill { .. } | AtOffer::Betray { .. }) => {}
        }
        self.ambush.at_offer = None;
    }

    /// An offer has reached the server, and nothing of it is written.
    pub fn ambush_at_offer(&mut self, instance: usize) {
        if let Some(AtOffer::Lose) = self.ambush.at_offer.filter(|_| !self.is_calm) {
            self.ambush.at_offer = None;
            let us = self.rng.within(60_000, 400_000);
            let until_us = self.begin_loss_of(us);
            self.network.cut_reader(instance, until_us);
            self.redis.changes += 1;
        }
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

    /// A lease is about to be taken. The server loses it, and who takes it learns of it only after that.
    pub fn ambush_at_lease(&mut self, instance: usize) {
        if std::mem::take(&mut self.ambush.at_lease) && !self.is_calm {
            let us = self.rng.within(20_000, 200_000);
            self.begin_loss_of(us);
            let us = us + self.rng.within(200_000, 900_000);
            self.stand_still(instance, us, "when it takes the lease");
        }
    }

    fn stand_still(&mut self, instance: usize, us: u64, when: &str) {
        let name = self.instances[instance].name.clone();
        self.instances[instance].paused_until_us = self.now_us + us;
        self.note(&name, format!("stands still for {} ms, {when}", us / 1000));
    }
}
