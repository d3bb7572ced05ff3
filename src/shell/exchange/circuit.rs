//! A circuit breaker: after consecutive failures it admits no call for a while, then one call as a trial.

/// Maximum time for which it admits no call. [ms]
const OPEN_MAX_MS: u64 = 300_000;

/// The state of the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Admits every call.
    Closed,
    /// Admits no call for this time. [ms]
    Open { wait_ms: u64 },
    /// Admits one call and waits for its result.
    HalfOpen,
}

impl CircuitState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The circuit breaker. Its times are monotonic. [ms]
#[derive(Debug)]
pub(super) struct Circuit {
    failures_max: u32,
    open_ms: u64,
    failures: u32,
    /// End of the open state, and its length; `None` while closed.
    open: Option<(u64, u64)>,
    /// Start of the running trial. An abandoned trial must not keep the circuit open forever.
    trial_ms: Option<u64>,
}

impl Circuit {
    pub(super) fn new(failures_max: u32, open_ms: u64) -> Self {
        Self { failures_max: failures_max.max(1), open_ms: open_ms.max(1), failures: 0, open: None, trial_ms: None }
    }

    /// Admits a call, or returns the time until the next attempt is allowed. [ms]
    pub(super) fn admit(&mut self, now_ms: u64) -> Result<(), u64> {
        let Some((until_ms, for_ms)) = self.open else { return Ok(()) };
        if now_ms < until_ms {
            return Err(until_ms - now_ms);
        }
        match self.trial_ms {
            Some(since_ms) if now_ms < since_ms + for_ms => Err(since_ms + for_ms - now_ms),
            _ => {
                self.trial_ms = Some(now_ms);
                Ok(())
            }
        }
    }

    /// Records that a call was answered, possibly with a refusal.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.open = None;
        self.trial_ms = None;
    }

    /// Records that a call was not answered.
    pub(super) fn failed(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        match (self.open, self.trial_ms) {
            // The trial failed: the time doubles.
            (Some((_, for_ms)), Some(_)) => self.open_for((for_ms * 2).min(OPEN_MAX_MS.max(self.open_ms)), now_ms),
            // The call was already running when the circuit opened.
            (Some(_), None) => {}
            (None, _) if self.failures >= self.failures_max => self.open_for(self.open_ms, now_ms),
            (None, _) => {}
        }
    }

    /// Ends a trial that was never sent.
    pub(super) fn withdrawn(&mut self) {
        self.trial_ms = None;
    }

    pub(super) fn state(&self, now_ms: u64) -> CircuitState {
        match self.open {
            None => CircuitState::Closed,
            Some((until_ms, _)) if now_ms < until_ms => CircuitState::Open { wait_ms: until_ms - now_ms },
            Some(_) => CircuitState::HalfOpen,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    fn open_for(&mut self, for_ms: u64, now_ms: u64) {
        self.open = Some((now_ms + for_ms, for_ms));
        self.trial_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_after_a_trial() {
        let mut circuit = Circuit::new(3, 100);
        for _ in 0..2 {
            circuit.failed(0);
        }
        circuit.succeeded();
        for _ in 0..2 {
            circuit.failed(0);
        }
        assert_eq!((circuit.admit(0), circuit.state(0)), (Ok(()), CircuitState::Closed), "a success starts anew");
        circuit.failed(0);
        assert_eq!(circuit.state(1), CircuitState::Open { wait_ms: 99 });
        assert_eq!(circuit.admit(1), Err(99));
        assert_eq!(circuit.state(100), CircuitState::HalfOpen);
        assert_eq!((circuit.admit(100), circuit.admit(101)), (Ok(()), Err(99)), "one trial and no more");
        circuit.failed(110);
        assert_eq!(circuit.admit(111), Err(199), "twice as long");
        assert_eq!(circuit.admit(310), Ok(()));
        circuit.succeeded();
        assert_eq!((circuit.admit(311), circuit.admit(311), circuit.failures()), (Ok(()), Ok(()), 0));
    }

    #[test]
    fn a_trial_that_never_ends_is_followed_by_another() {
        let mut circuit = Circuit::new(1, 100);
        circuit.failed(0);
        assert_eq!((circuit.admit(100), circuit.admit(150)), (Ok(()), Err(50)));
        assert_eq!(circuit.admit(200), Ok(()));
        circuit.withdrawn();
        assert_eq!(circuit.admit(200), Ok(()), "what was not sent was not a trial");
    }
}
