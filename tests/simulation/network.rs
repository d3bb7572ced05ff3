//! The network between the instances and the server: delays, cuts before and after the effect, half-open connections.

use super::world::World;

/// How long a client waits for an answer that never comes. [µs]
const TIMEOUT_US: u64 = 30_000_000;

/// The reply did not come: the request may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Links, by instance.
#[derive(Debug)]
pub struct Network {
    /// The link is cut until then. [µs]
    cut_until_us: Vec<u64>,
    /// The connection of the reader alone is cut until then. [µs]
    reader_cut_until_us: Vec<u64>,
    /// The emitter does not connect until then. [µs]
    emitter_cut_until_us: Vec<u64>,
    /// The connection of the lease task alone is cut until then. [µs]
    lease_cut_until_us: Vec<u64>,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered {
        there_us: u64,
        back_us: u64,
    },
    /// The client is told, and nothing has happened.
    CutBefore {
        us: u64,
    },
    /// It has happened, and the client is not told the answer.
    CutAfter {
        there_us: u64,
        back_us: u64,
    },
    /// The client is told that the connection broke, and it happens later.
    Late {
        us: u64,
        there_us: u64,
    },
}

impl Network {
    pub fn new(instances: usize) -> Self {
        let none = vec![0; instances];
        Self {
            cut_until_us: none.clone(),
            reader_cut_until_us: none.clone(),
            emitter_cut_until_us: none.clone(),
            lease_cut_until_us: none,
        }
    }

    pub fn cut(&mut self, instance: usize, until_us: u64) {
        self.cut_until_us[instance] = until_us;
    }

    pub fn cut_reader(&mut self, instance: usize, until_us: u64) {
        self.reader_cut_until_us[instance] = until_us;
    }

    pub fn cut_emitter(&mut self, instance: usize, until_us: u64) {
        self.emitter_cut_until_us[instance] = until_us;
    }

    pub fn cut_lease(&mut self, instance: usize, until_us: u64) {
        self.lease_cut_until_us[instance] = until_us;
    }

    pub fn is_lease_cut(&self, instance: usize, now_us: u64) -> bool {
        now_us < self.lease_cut_until_us[instance]
    }

    pub fn is_emitter_cut(&self, instance: usize, now_us: u64) -> bool {
        now_us < self.emitter_cut_until_us[instance]
    }

    pub fn is_reader_cut(&self, instance: usize, now_us: u64) -> bool {
        self.is_cut(instance, now_us) || now_us < self.reader_cut_until_us[instance]
    }

    pub fn is_cut(&self, instance: usize, now_us: u64) -> bool {
        now_us < self.cut_until_us[instance]
    }
}

impl World {
    fn delay_us(&mut self) -> u64 {
        match self.rng.within(0, 100) {
            0..90 => self.rng.within(50, 400),
            90..99 => self.rng.within(400, 5_000),
            _ if self.is_calm => self.rng.within(400, 5_000),
            _ => self.rng.within(5_000, 300_000),
        }
    }

    pub fn reaches(&self, instance: usize) -> bool {
        self.redis.is_up && !self.network.is_cut(instance, self.now_us)
    }

    fn fate(&mut self, instance: usize) -> Fate {
        let (there_us, back_us) = (self.delay_us(), self.delay_us());
        if !self.reaches(instance) {
            let us = self.rng.within(200, 50_000);
            return Fate::CutBefore { us };
        }
        if !self.is_calm && self.rng.chance(self.plan.breaks_permille) {
            return match self.rng.within(0, 10) {
                0..3 => Fate::CutBefore { us: there_us },
                3..8 => Fate::CutAfter { there_us, back_us },
                8 => Fate::Late { us: there_us, there_us: there_us + self.rng.within(1_000, 3_000_000) },
                _ => Fate::CutAfter { there_us, back_us: TIMEOUT_US / 10 },
            };
        }
        Fate::Answered { there_us, back_us }
    }

    /// Sends a request of an instance. `effect` happens at the server; `is_whole` is false if only a part of a pipeline
    /// may have arrived. `done` gets the answer, if the process lives that long.
    pub fn call<T: 'static>(
        &mut self,
        instance: usize,
        effect: impl FnOnce(&mut World, bool) -> T + 'static,
        done: impl FnOnce(&mut World, Result<T, Broken>) + 'static,
    ) {
        let (life, epoch) = (self.instances[instance].life, self.redis.epoch);
        let fate = self.fate(instance);
        match fate {
            Fate::Answered { there_us, back_us } => self.after(there_us, move |world| {
                // What was on its way when the link or the server went is gone.
                if !world.reaches(instance) || world.redis.epoch != epoch {
                    return world.at_instance(instance, life, 1_000, move |world| done(world, Err(Broken)));
                }
                let answer = effect(world, true);
                world.after(back_us, move |world| {
                    let is_there = world.reaches(instance) && world.redis.epoch == epoch;
                    let answer = if is_there { Ok(answer) } else { Err(Broken) };
                    world.at_instance(instance, life, 0, move |world| done(world, answer));
                });
            }),
            Fate::CutBefore { us } => {
                self.at_instance(instance, life, us, move |world| done(world, Err(Broken)));
            }
            Fate::CutAfter { there_us, back_us } => {
                self.at_instance(instance, life, there_us + back_us, move |world| done(world, Err(Broken)));
                self.late(there_us, epoch, effect);
            }
            Fate::Late { us, there_us } => {
                self.checks.is_late = true;
                self.at_instance(instance, life, us, move |world| done(world, Err(Broken)));
                self.late(there_us, epoch, effect);
            }
        }
    }

    fn late<T: 'static>(&mut self, us: u64, epoch: u64, effect: impl FnOnce(&mut World, bool) -> T + 'static) {
        self.after(us, move |world| {
            if world.redis.is_up && world.redis.epoch == epoch {
                effect(world, false);
            }
        });
    }

    /// Lets something happen at an instance, if the process still lives then. A paused one does it later.
    pub fn at_instance(&mut self, instance: usize, life: u64, us: u64, act: impl FnOnce(&mut World) + 'static) {
        self.after(us, move |world| {
            let at = &world.instances[instance];
            if at.life != life {
                return;
            }
            if at.paused_until_us > world.now_us {
                let left_us = at.paused_until_us - world.now_us;
                return world.at_instance(instance, life, left_us, act);
            }
            act(world);
        });
    }
}
