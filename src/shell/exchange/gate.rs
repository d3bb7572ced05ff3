//! May a call go out now: no wait or ban in force, the circuit closed, weight left. And what came of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ban::BanFile;
use super::budget::Budget;
use super::call::Call;
use super::circuit::Circuit;
use super::clock::{ServerClock, Since, wall_ms};
use super::counts::{CallCount, Health};
use super::error::CallError;
use super::settings::Settings;

/// All of it is in memory and short: a lock is never held while something is awaited.
pub(super) struct Gate {
    since: Since,
    refused_wait_ms: u64,
    state: Mutex<State>,
}

struct State {
    bans: BanFile,
    circuit: Circuit,
    budget: Budget,
    clock: ServerClock,
    /// Calls that were refused for key, address or permission: the code, and until when they are held off. [ms]
    refused: BTreeMap<Call, (i64, u64)>,
    counts: BTreeMap<Call, CallCount>,
    answered_ms: Option<u64>,
    failure: Option<String>,
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        let since = Since::now();
        let state = State {
            bans: BanFile::new(settings.state_file.clone(), settings.base_url.clone()),
            circuit: Circuit::new(settings.circuit_failures, settings.circuit_open_ms),
            budget: Budget::new(settings.weight_per_min, since.ms()),
            clock: ServerClock::default(),
            refused: BTreeMap::new(),
            counts: BTreeMap::new(),
            answered_ms: None,
            failure: None,
        };
        Self { since, refused_wait_ms: settings.refused_wait_ms, state: Mutex::new(state) }
    }

    /// Lets a call out and takes its weight, or says why not.
    pub(super) fn admit(&self, call: Call) -> Result<(), CallError> {
        let (now_ms, wall) = (self.since.ms(), wall_ms());
        let mut state = self.state();
        let admitted = state.admit(call, now_ms, wall);
        let count = state.counts.entry(call).or_default();
        match &admitted {
            Ok(()) => {
                count.sent += 1;
                count.weight += call.weight();
            }
            Err(_) => count.held_back += 1,
        }
        admitted
    }

    /// Takes over what the exchange says that the address has used. [weight]
    pub(super) fn learn_used(&self, used: u64) {
        let now_ms = self.since.ms();
        self.state().budget.learn(used, now_ms);
    }

    /// The exchange answered as it should, be it with a refusal.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.circuit.succeeded();
        state.answered_ms = Some(wall_ms());
        state.failure = None;
    }

    /// A call brought no answer that can be used.
    pub(super) fn failed(&self, error: &CallError) {
        let now_ms = self.since.ms();
        let mut state = self.state();
        state.counts.entry(error.call()).or_default().failed += 1;
        state.failure = Some(error.to_string());
        if let CallError::Refused { call, code, .. } = error
            && error.is_about_credentials()
        {
            // Asked at every tick it would be refused at every tick, and looks like an attack.
            state.refused.insert(*call, (*code, now_ms.saturating_add(self.refused_wait_ms)));
        }
        match error {
            CallError::Unreachable { .. } | CallError::OutcomeUnknown { .. } | CallError::Unreadable { .. } => {
                state.circuit.failed(now_ms);
            }
            // It answers; what it wants is kept as a wait, or is the caller's mistake.
            CallError::TooMany { .. } | CallError::Banned { .. } | CallError::Refused { .. } => {
                state.circuit.succeeded();
            }
            // Never went out.
            CallError::NoCredentials { .. }
            | CallError::Waiting { .. }
            | CallError::CircuitOpen { .. }
            | CallError::HeldOff { .. }
            | CallError::WeightSpent { .. } => {}
        }
    }

    /// The exchange wants no call for a while; answers until when. [ms since 1970]
    pub(super) fn wait(&self, status: u16, wait_ms: u64) -> u64 {
        let (ban, written) = self.state().bans.remember(status, wait_ms, wall_ms());
        if let Err(error) = written {
            tracing::warn!(%error, "the wait that the exchange asks for could not be written down; a restart forgets it");
        }
        ban.until_ms
    }

    /// Takes over a time of the server, for a call that went out at `sent_ms` of our clock.
    pub(super) fn learn_time(&self, server_ms: u64, sent_ms: u64) {
        let now_ms = self.since.ms();
        self.state().clock.learn(server_ms, sent_ms, now_ms, wall_ms());
    }

    /// The server's time now, if it is known. [ms since 1970]
    pub(super) fn server_ms(&self) -> Option<u64> {
        let now_ms = self.since.ms();
        self.state().clock.now_ms(now_ms)
    }

    /// Our clock. [ms]
    pub(super) fn now_ms(&self) -> u64 {
        self.since.ms()
    }

    pub(super) fn health(&self) -> Health {
        let (now_ms, wall) = (self.since.ms(), wall_ms());
        let state = self.state();
        Health {
            circuit: state.circuit.state(now_ms),
            failures: state.circuit.failures(),
            waiting: state.bans.in_force(wall).map(|ban| (ban.status, ban.until_ms)),
            used_weight: state.budget.used(now_ms),
            clock_offset_ms: state.clock.offset_ms(),
            answered_ms: state.answered_ms,
            failure: state.failure.clone(),
            calls: state.counts.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before something could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, call: Call, now_ms: u64, wall: u64) -> Result<(), CallError> {
        if let Some(ban) = self.bans.in_force(wall) {
            let wait_ms = ban.until_ms - wall;
            return Err(CallError::Waiting { call, status: ban.status, until_ms: ban.until_ms, wait_ms });
        }
        if let Some((code, until_ms)) = self.refused.get(&call).copied().filter(|(_, until_ms)| now_ms < *until_ms) {
            return Err(CallError::HeldOff { call, code, wait_ms: until_ms - now_ms });
        }
        let failures = self.circuit.failures();
        self.circuit.admit(now_ms).map_err(|wait_ms| CallError::CircuitOpen { call, failures, wait_ms })?;
        self.budget.take(call.weight(), now_ms).map_err(|wait_ms| {
            self.circuit.withdrawn();
            CallError::WeightSpent { call, wait_ms }
        })
    }
}
