//! The limits of an address of the exchange: its weight and its bans.
//!
//! The exchange limits an IP address, so all clients of a process share them, whatever account or cell they are for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::ban::Ban;
use super::budget::Budget;
use super::clock::Since;
use super::settings::Settings;

/// The limits of each address with a client, by its base URL.
static LIMITS: Mutex<BTreeMap<String, Weak<Limits>>> = Mutex::new(BTreeMap::new());

/// The limits of one address.
#[derive(Debug)]
pub(super) struct Limits {
    since: Since,
    budget: Mutex<Budget>,
    /// The ban that this process received.
    pub(super) ban: Arc<Mutex<Option<Ban>>>,
}

impl Limits {
    /// Returns the limits of the address of a client. The first client of an address decides how large its budget is.
    pub(super) fn of(settings: &Settings) -> Arc<Self> {
        let mut all = locked(&LIMITS);
        all.retain(|_, limits| limits.strong_count() > 0);
        let address = settings.base_url.trim_end_matches('/');
        if let Some(limits) = all.get(address).and_then(Weak::upgrade) {
            return limits;
        }
        let since = Since::now();
        let budget = Mutex::new(Budget::new(settings.weight_per_min, settings.venue.terms(), since.ms()));
        let limits = Arc::new(Self { since, budget, ban: Arc::default() });
        all.insert(address.to_owned(), Arc::downgrade(&limits));
        limits
    }

    /// Takes a weight, or returns the time until it is available. [ms]
    pub(super) fn take(&self, weight: u64) -> Result<(), u64> {
        locked(&self.budget).take(weight, self.since.ms())
    }

    /// Adopts the weight that the address has used, according to the exchange. [weight]
    pub(super) fn learn(&self, used: u64) {
        locked(&self.budget).learn(used, self.since.ms());
    }

    /// Returns the exchange's last report, if it is from this minute. [weight]
    pub(super) fn used(&self) -> Option<u64> {
        locked(&self.budget).used(self.since.ms())
    }
}

/// Every change is complete before anything can panic.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::error::CallError;
    use super::super::gate::Gate;
    use super::*;
    use crate::codec::exchange::VENUES;

    #[test]
    fn i46_all_clients_of_an_address_share_its_weight_and_its_bans() {
        let weight_max = VENUES[0].terms().weight_max;
        let gate = |url: &str| Gate::new(&Settings { weight_per_min: weight_max, ..Settings::new(VENUES[0], url) });
        let version = Settings::new(VENUES[0], "https://shared.example").position_version;
        let call = VENUES[0].positions(version).call;
        let (of_a_cell, of_another) = (gate("https://shared.example"), gate("https://shared.example/"));
        let elsewhere = gate("https://alone.example");
        let admitted = |gate: &Gate| gate.admit("main", call);
        for _ in 0..weight_max / call.weight {
            admitted(&of_a_cell).unwrap();
        }
        assert!(matches!(admitted(&of_another), Err(CallError::WeightSpent { .. })), "it has not made a call");
        assert_eq!(admitted(&elsewhere), Ok(()));
        assert_eq!((of_a_cell.health().sent(), of_another.health().sent()), (weight_max / call.weight, 0));
        of_a_cell.wait(418, 60_000);
        assert!(matches!(admitted(&of_another), Err(CallError::Waiting { status: 418, .. })));
        assert_eq!(admitted(&elsewhere), Ok(()));
    }
}
