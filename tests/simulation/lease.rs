//! The lease task of an instance, as `src/service/run/lease_task.rs`, and the look at the kill key.

use harvester::codec::operator;

use super::process::Event;
use super::run::{KILL_KEY, LEASE};
use super::script;
use super::world::World;

/// Time between two reads of the kill key. [µs]
const KILL_INTERVAL_US: u64 = 200_000;
/// Time before a failed read is repeated. [µs]
const AGAIN_US: u64 = 300_000;

impl World {
    /// Takes the lease or extends it, and does so again and again.
    pub fn keep_lease(&mut self, instance: usize) {
        let (began_us, lasts_us, life) = (self.now_us, self.plan.lease_us, self.instances[instance].life);
        let (name, epoch) = (self.instances[instance].name.clone(), self.redis.epoch);
        let Some(process) = self.instances[instance].process() else { return };
        let (held, owner) = (process.held_value.clone(), process.owner.clone());
        // The connection of before a failover or a restart is broken.
        let is_broken = process.lease_epoch.replace(epoch).is_some_and(|of| of != epoch);
        if is_broken || self.network.is_lease_cut(instance, began_us) {
            process.lease_epoch = None;
            return self.at_instance(instance, life, AGAIN_US, move |world| world.keep_lease(instance));
        }
        let inherits_from = process.inherits.then_some(name);
        let effect = move |world: &mut World, _: bool| {
            if world.redis.get(LEASE).is_none() {
                world.ambush_at_lease(instance);
            }
            let value = script::hold(&mut world.redis, &owner, held.as_deref(), lasts_us, inherits_from.as_deref());
            if value.is_some() && value != held {
                world.note(&owner, format!("takes the lease {}", value.clone().unwrap_or_default()));
            }
            value
        };
        self.call(instance, effect, move |world, value| {
            let Some(process) = world.instances[instance].process() else { return };
            match value {
                Ok(value) => {
                    process.inherits = false;
                    process.held_value.clone_from(&value);
                    process.lease = value.map(|value| (value, began_us + lasts_us));
                    process.set_role(world.now_us);
                    world.report(instance, Event::Lease);
                    world.at_instance(instance, life, lasts_us / 4, move |world| world.keep_lease(instance));
                }
                // The lease is held until its time is over; the role knows that time.
                Err(_) => world.at_instance(instance, life, AGAIN_US, move |world| world.keep_lease(instance)),
            }
        });
    }

    /// Looks at the kill key again and again.
    pub fn watch_kill_key(&mut self, instance: usize) {
        let (life, began_us) = (self.instances[instance].life, self.now_us);
        let effect = |world: &mut World, _: bool| world.redis.get(KILL_KEY).map(str::to_owned);
        self.call(instance, effect, move |world, value| {
            if let Ok(Some(value)) = value {
                world.report(instance, Event::KillKey { kill: operator::kills(value.as_bytes()), began_us });
            }
            world.at_instance(instance, life, KILL_INTERVAL_US, move |world| world.watch_kill_key(instance));
        });
    }
}
