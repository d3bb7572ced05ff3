//! The disturbances of a run: processes end or are paused, links are cut, the server stops, loses and trims entries.

use harvester::domain::event::ids::EntryId;

use super::ambush::{Ambush, AtOffer};
use super::redis::Data;
use super::run::{PLAN, PRICE, RESULT};
use super::world::World;

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Crash,
    Pause,
    Cut,
    Loss,
    Restart,
    ClockStep,
    Trim,
    FullDisk,
}

impl World {
    /// Disturbs the run, and again later, until the run becomes calm.
    pub fn disturb(&mut self) {
        if self.is_calm {
            return;
        }
        let plan = &self.plan;
        let possible: Vec<Disturbance> = [
            (plan.crashes, Disturbance::Crash),
            (plan.pauses, Disturbance::Pause),
            (plan.cuts, Disturbance::Cut),
            (plan.losses, Disturbance::Loss),
            (plan.restarts, Disturbance::Restart),
            (plan.clock_steps, Disturbance::ClockStep),
            (plan.trims, Disturbance::Trim),
            (plan.full_disks, Disturbance::FullDisk),
        ]
        .into_iter()
        .filter_map(|(is_possible, what)| is_possible.then_some(what))
        .collect();
        if possible.is_empty() {
            return;
        }
        let what = self.rng.pick(&possible);
        let instance = self.rng.within(0, self.instances.len() as u64) as usize;
        self.carry_out(what, instance);
        let us = self.rng.within(100_000, 2_500_000);
        self.after(us, World::disturb);
    }

    fn carry_out(&mut self, what: Disturbance, instance: usize) {
        let name = self.instances[instance].name.clone();
        match what {
            Disturbance::Crash if self.rng.chance(400) => self.ambush.at_commit = true,
            Disturbance::Crash => self.end(instance, "killed"),
            Disturbance::Pause if self.rng.chance(400) => {
                self.ambush.at_offer = Some(AtOffer::StandStillBefore { us: self.rng.within(1_500_000, 6_000_000) });
            }
            Disturbance::Pause => {
                let us = self.rng.within(50_000, 6_000_000);
                self.instances[instance].paused_until_us = self.now_us + us;
                self.note(&name, format!("is paused for {} ms", us / 1000));
            }
            Disturbance::Cut if self.rng.chance(300) => self.ambush.at_append = true,
            Disturbance::Cut if self.rng.chance(300) => self.ambush.at_offer = Some(AtOffer::LoseAnswer),
            Disturbance::Cut => {
                let us = self.rng.within(20_000, 5_000_000);
                self.cut_off(instance, us);
            }
            Disturbance::Loss => match self.rng.within(0, 8) {
                0 | 1 => self.ambush.at_offer = Some(AtOffer::Lose),
                2 | 3 => self.plot_at_lease(),
                4 | 5 => self.ambush.at_offer = Some(AtOffer::LoseWithCause),
                _ => {
                    let until_us = self.begin_loss();
                    self.ambush.at_offer = match self.rng.within(0, 4) {
                        0 => Some(AtOffer::StandStill { until_us }),
                        1 | 2 => Some(AtOffer::Betray { until_us }),
                        _ => None,
                    };
                }
            },
            Disturbance::Restart => {
                let data = self.redis.data.clone();
                let us = self.away_us();
                self.stop_server("is restarted", data, us);
            }
            Disturbance::ClockStep => {
                let off_us = self.rng.within(0, 8_000_000) as i64 - 4_000_000;
                self.redis.clock_off_us += off_us;
                self.checks.clock_stepped = true;
                self.note("server", format!("its clock steps by {} ms", off_us / 1000));
            }
            Disturbance::Trim if !self.redis.is_up => {}
            Disturbance::Trim => {
                let stream = self.rng.pick(&[PRICE, PRICE, RESULT, PLAN]);
                let length = self.rng.within(0, 12) as usize;
                // What is trimmed of the results counts most while an order is on its way.
                if stream == RESULT {
                    self.ambush.at_offer = Some(AtOffer::TrimUnread);
                } else {
                    self.trim(stream, length);
                }
            }
            Disturbance::FullDisk => {
                let us = self.rng.within(50_000, 2_000_000);
                self.instances[instance].disk.full_until_us = self.now_us + us;
                self.note(&name, format!("has a full disk for {} ms", us / 1000));
            }
        }
    }

    pub fn trim(&mut self, stream: &str, length: usize) {
        let gone = self.redis.stream(stream).trim(length);
        self.redis.trimmed.extend(gone.into_iter().map(|id| (stream.to_owned(), id)));
        self.checks.trimmed = true;
        self.note("server", format!("{stream} is trimmed to {length}"));
    }

    pub fn cut_off(&mut self, instance: usize, us: u64) {
        self.network.cut(instance, self.now_us + us);
        self.redis.changes += 1;
        let name = self.instances[instance].name.clone();
        self.note(&name, format!("is cut off for {} ms", us / 1000));
    }

    /// Loses the entries from now on until a failover. Returns the time of the failover. [µs]
    pub fn begin_loss(&mut self) -> u64 {
        let us = match self.rng.within(0, 5) {
            0 => self.rng.within(1_000_000, 4_000_000),
            _ => self.rng.within(2_000, 600_000),
        };
        self.begin_loss_of(us)
    }

    /// Loses the entries that are written in this time. Returns its end. [µs]
    pub fn begin_loss_of(&mut self, us: u64) -> u64 {
        let away_us = self.away_us();
        self.lose_since(self.redis.data.clone(), us, away_us);
        self.now_us + us
    }

    /// Stops the server after some time. It comes back with an earlier copy of its data.
    pub fn lose_since(&mut self, copy: Data, us: u64, away_us: u64) {
        let epoch = self.redis.epoch;
        self.after(us, move |world| {
            if world.redis.epoch == epoch {
                world.fail_over(copy, away_us);
            }
        });
    }

    /// Returns the time for which the server is away. [µs]
    fn away_us(&mut self) -> u64 {
        self.rng.within(5_000, 1_500_000)
    }

    /// Promotes a replica that lagged, or restores a backup. The server is away for some time.
    pub fn fail_over(&mut self, data: Data, away_us: u64) {
        if self.is_calm || !self.redis.is_up {
            return;
        }
        let mut count = 0;
        for (name, stream) in &self.redis.data.streams {
            let last = data.streams.get(name).map_or(EntryId::default(), |stream| stream.last_id);
            for entry in stream.after(last) {
                count += 1;
                self.checks.lost.push((name.clone(), entry.clone()));
            }
        }
        // Entries that were trimmed after the copy are in it again, or never existed.
        self.redis.trimmed.retain(|(name, id)| {
            data.streams.get(name).is_some_and(|stream| *id <= stream.last_id && stream.get(*id).is_none())
        });
        let cursor = self.executor.cursor;
        self.checks.forget_orders(&data, cursor);
        self.checks.has_lost |= count > 0;
        // The lease and the fencing token may be lost as well.
        self.stop_server(&format!("fails over and loses {count} entries"), data, away_us);
    }

    fn stop_server(&mut self, what: &str, data: Data, away_us: u64) {
        if !self.redis.is_up {
            return;
        }
        self.note("server", what);
        self.redis.is_up = false;
        self.redis.changes += 1;
        self.after(away_us, move |world| {
            world.redis.restart(data);
            world.note("server", "is there again");
        });
    }

    /// Ends all disturbances.
    pub fn calm(&mut self) {
        self.is_calm = true;
        let now_us = self.now_us;
        for instance in 0..self.instances.len() {
            self.network.cut(instance, now_us);
            self.network.cut_reader(instance, now_us);
            self.network.cut_emitter(instance, now_us);
            self.instances[instance].disk.full_until_us = now_us;
        }
        self.ambush = Ambush::default();
        self.note("world", "is calm");
    }
}
