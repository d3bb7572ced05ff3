//! The world of a run: virtual time, the queue of later events, and all actors.

use std::collections::BTreeMap;
use std::fmt::Display;

use harvester::config::Config;

use super::ambush::Ambush;
use super::checks::Checks;
use super::executor::Executor;
use super::instance::Instance;
use super::network::Network;
use super::operator::Operator;
use super::producer::Producer;
use super::promise::{Promise, Violation};
use super::reader::Waiter;
use super::redis::Redis;
use super::rng::Rng;
use super::run::{Plan, Request};
use super::trace::Trace;

/// An event at a moment.
pub type Act = Box<dyn FnOnce(&mut World)>;

pub struct World {
    pub request: Request,
    pub plan: Plan,
    pub config: Config,
    /// Virtual time. [µs]
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Act>,
    queued: u64,
    pub rng: Rng,
    pub redis: Redis,
    /// Readers that wait at the server, and the changes there that they have seen.
    pub waiters: Vec<Waiter>,
    pub changes_seen: u64,
    pub network: Network,
    pub instances: Vec<Instance>,
    pub producer: Producer,
    pub executor: Executor,
    pub operator: Operator,
    pub checks: Checks,
    pub ambush: Ambush,
    pub trace: Trace,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// True if nothing is disturbed any more.
    pub is_calm: bool,
    /// Number of steps so far. [1]
    pub steps: u64,
}

impl World {
    pub fn new(request: Request) -> Self {
        let mut rng = Rng::new(request.seed);
        let plan = Plan::of(&request, &mut rng);
        let config = plan.config();
        let mut world = Self {
            config,
            now_us: 0,
            queue: BTreeMap::new(),
            queued: 0,
            redis: Redis { is_up: true, ..Redis::default() },
            waiters: Vec::new(),
            changes_seen: 0,
            ambush: Ambush::default(),
            network: Network::new(plan.instances),
            instances: (0..plan.instances).map(Instance::new).collect(),
            producer: Producer::new(plan.symbols),
            executor: Executor::default(),
            operator: Operator::default(),
            checks: Checks::default(),
            trace: Trace::new(request.is_traced),
            violation: None,
            is_calm: request.is_calm,
            steps: 0,
            rng,
            plan,
            request,
        };
        world.ambush.at_append = world.plan.cuts && world.rng.chance(300);
        // The service trims its own streams, read or not.
        world.checks.trimmed = world.plan.output_maxlen > 0;
        let text = world.plan.describe();
        world.note("plan", text);
        world
    }

    /// Schedules an event after some time.
    pub fn after(&mut self, us: u64, act: impl FnOnce(&mut Self) + 'static) {
        self.queued += 1;
        self.queue.insert((self.now_us + us, self.queued), Box::new(act));
    }

    /// Runs the next event. Returns false if there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), act)) = self.queue.pop_first() else { return false };
        self.now_us = at;
        self.redis.now_us = at;
        self.steps += 1;
        act(self);
        self.wake_readers();
        true
    }

    pub fn note(&mut self, who: &str, what: impl Display) {
        self.trace.add(self.now_us, who, &what.to_string());
    }

    /// Notes a broken promise. The run ends with the first one.
    pub fn violate(&mut self, promise: Promise, text: impl Display) {
        let violation = Violation { promise, text: text.to_string() };
        self.note("CHECK", &violation);
        self.violation.get_or_insert(violation);
    }
}
