//! Admits calls: no wait or ban in force, circuit closed, weight left. Also records the result of each call.
//!
//! The accounts of a service share all of this, because it belongs to the address. Only a refusal of credentials belongs
//! to one account. Several services in one process (cells) share weight and bans (`address`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::address::{Limits, locked};
use super::ban::BanFile;
use super::circuit::Circuit;
use super::clock::{ServerClock, Since, wall_ms};
use super::counts::{CallCount, Health};
use super::error::CallError;
use super::settings::Settings;
use crate::codec::exchange::Call;

/// Decides on calls. Its state is in memory, and its lock is never held across an await.
pub(super) struct Gate {
    since: Since,
    /// Weight and bans, which all clients of the address share.
    limits: Arc<Limits>,
    refused_wait_ms: u64,
    state: Mutex<State>,
}

struct State {
    bans: BanFile,
    circuit: Circuit,
    clock: ServerClock,
    /// Calls that were refused for key, address or permission, by account: the code, and the time until which they are
    /// not admitted. [ms]
    refused: BTreeMap<(Box<str>, &'static str), (i64, u64)>,
    counts: BTreeMap<&'static str, CallCount>,
    answered_ms: Option<u64>,
    failure: Option<String>,
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        let (since, limits) = (Since::now(), Limits::of(settings));
        let state = State {
            bans: BanFile::new(settings.state_file.clone(), settings.base_url.clone(), Arc::clone(&limits.ban)),
            circuit: Circuit::new(settings.circuit_failures, settings.circuit_open_ms),
            clock: ServerClock::default(),
            refused: BTreeMap::new(),
            counts: BTreeMap::new(),
            answered_ms: None,
            failure: None,
        };
        Self { since, limits, refused_wait_ms: settings.refused_wait_ms, state: Mutex::new(state) }
    }

    /// Admits a call of an account and takes its weight, or returns the reason for the refusal.
    pub(super) fn admit(&self, account: &str, call: &'static Call) -> Result<(), CallError> {
        let (now_ms, wall) = (self.since.ms(), wall_ms());
        let mut state = self.state();
        let admitted = state.admit(account, call, &self.limits, (now_ms, wall));
        let count = state.counts.entry(call.name).or_default();
        match &admitted {
            Ok(()) => {
                count.sent += 1;
                count.weight += call.weight;
            }
            Err(_) => count.held_back += 1,
        }
        admitted
    }

    /// Adopts the weight that the address has used, according to the exchange. [weight]
    pub(super) fn learn_used(&self, used: u64) {
        self.limits.learn(used);
    }

    /// Records a proper answer of the exchange, which may be a refusal.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.circuit.succeeded();
        state.answered_ms = Some(wall_ms());
        state.failure = None;
    }

    /// Records a call of an account without a usable answer.
    pub(super) fn failed(&self, account: &str, error: &CallError) {
        let now_ms = self.since.ms();
        let mut state = self.state();
        state.counts.entry(error.call().name).or_default().failed += 1;
        state.failure = Some(error.to_string());
        if let CallError::Refused { call, code, .. } = error
            && error.is_about_credentials()
        {
            // A repetition at every tick would be refused every time, and would look like an attack.
            state.refused.insert((account.into(), call.name), (*code, now_ms.saturating_add(self.refused_wait_ms)));
        }
        match error {
            CallError::Unreachable { .. } | CallError::OutcomeUnknown { .. } | CallError::Unreadable { .. } => {
                state.circuit.failed(now_ms);
            }
            // The exchange answers. Either its demand is stored as a wait, or the refusal is a mistake of the caller.
            CallError::TooMany { .. } | CallError::Banned { .. } | CallError::Refused { .. } => {
                state.circuit.succeeded();
            }
            // The call was never sent.
            CallError::NoCredentials { .. }
            | CallError::Waiting { .. }
            | CallError::CircuitOpen { .. }
            | CallError::HeldOff { .. }
            | CallError::WeightSpent { .. } => {}
        }
    }

    /// Records that the exchange accepts no call for a while. Returns the end of the wait. [ms since 1970]
    pub(super) fn wait(&self, status: u16, wait_ms: u64) -> u64 {
        let (ban, written) = self.state().bans.remember(status, wait_ms, wall_ms());
        if let Err(error) = written {
            tracing::warn!(%error, "the wait that the exchange asks for could not be written down; a restart forgets it");
        }
        ban.until_ms
    }

    /// Adopts a server time from a call that was sent at `sent_ms` of our clock.
    pub(super) fn learn_time(&self, server_ms: u64, sent_ms: u64) {
        let now_ms = self.since.ms();
        self.state().clock.learn(server_ms, sent_ms, now_ms, wall_ms());
    }

    /// Returns the server's present time, if known. [ms since 1970]
    pub(super) fn server_ms(&self) -> Option<u64> {
        let now_ms = self.since.ms();
        self.state().clock.now_ms(now_ms)
    }

    /// Returns the greatest age that a time of the server can have now, if its clock is known. [ms]
    pub(super) fn age_ms(&self, server_ms: u64) -> Option<u64> {
        let now_ms = self.since.ms();
        self.state().clock.age_ms(server_ms, now_ms)
    }

    /// Returns how long ago the server was asked for its time, if it has answered. [ms]
    pub(super) fn clock_asked_ago_ms(&self) -> Option<u64> {
        let now_ms = self.since.ms();
        self.state().clock.asked_ago_ms(now_ms)
    }

    /// Returns our monotonic clock. [ms]
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
            used_weight: self.limits.used(),
            clock_offset_ms: state.clock.offset_ms(),
            answered_ms: state.answered_ms,
            failure: state.failure.clone(),
            calls: state.counts.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl State {
    fn admit(
        &mut self,
        account: &str,
        call: &'static Call,
        limits: &Limits,
        (now_ms, wall): (u64, u64),
    ) -> Result<(), CallError> {
        if let Some(ban) = self.bans.in_force(wall) {
            let wait_ms = ban.until_ms - wall;
            return Err(CallError::Waiting { call, status: ban.status, until_ms: ban.until_ms, wait_ms });
        }
        let refused = self.refused.get(&(account.into(), call.name)).copied();
        if let Some((code, until_ms)) = refused.filter(|(_, until_ms)| now_ms < *until_ms) {
            return Err(CallError::HeldOff { call, code, wait_ms: until_ms - now_ms });
        }
        let failures = self.circuit.failures();
        self.circuit.admit(now_ms).map_err(|wait_ms| CallError::CircuitOpen { call, failures, wait_ms })?;
        limits.take(call.weight).map_err(|wait_ms| {
            self.circuit.withdrawn();
            CallError::WeightSpent { call, wait_ms }
        })
    }
}
