//! The remaining weight: a token bucket of our own, and the weight that the address has used according to the exchange.
//!
//! It is written by hand: the exchange's report corrects it, which the buckets of crates (`governor`) have no way for,
//! and it reads no clock, so that its tests do not wait.

use crate::codec::exchange::VenueTerms;

/// The share of the exchange's limit that is reserved for other processes at the same address: a tenth. [1]
const RESERVE: u64 = 10;
const MINUTE_MS: u64 = 60_000;

/// The budget of this process. Its times are monotonic. [ms]
#[derive(Debug)]
pub(super) struct Budget {
    /// Weight of the address that counts as spent: the exchange's limit less the reserve. [weight]
    of_address: u64,
    /// Capacity of the bucket, and its refill per minute. [weight]
    limit: u64,
    /// Content of the bucket, in parts of 60,000. [weight / 60,000]
    parts: u64,
    filled_ms: u64,
    /// Weight that the address has used in this minute, as the exchange last reported it, and the time of the report.
    /// [weight]
    used: Option<(u64, u64)>,
}

impl Budget {
    pub(super) fn new(limit: u64, terms: &VenueTerms, now_ms: u64) -> Self {
        // A bucket smaller than the heaviest call would never admit it.
        let limit = limit.clamp(terms.weight_max, terms.weight_per_min);
        let of_address = terms.weight_per_min - terms.weight_per_min / RESERVE;
        Self { of_address, limit, parts: limit * MINUTE_MS, filled_ms: now_ms, used: None }
    }

    /// Takes a weight, or returns the time until it is available. [ms]
    pub(super) fn take(&mut self, weight: u64, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        if let Some((used, at_ms)) = self.used
            && used.saturating_add(weight) > self.of_address
        {
            return Err((at_ms + MINUTE_MS).saturating_sub(now_ms).max(1));
        }
        let wanted = weight * MINUTE_MS;
        if self.parts < wanted {
            return Err((wanted - self.parts).div_ceil(self.limit));
        }
        self.parts -= wanted;
        Ok(())
    }

    /// Adopts the exchange's report. [weight]
    pub(super) fn learn(&mut self, used: u64, now_ms: u64) {
        self.used = Some((used, now_ms));
    }

    /// Returns the exchange's last report, if it is from this minute. [weight]
    pub(super) fn used(&self, now_ms: u64) -> Option<u64> {
        self.used.filter(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < MINUTE_MS).map(|(used, _)| used)
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_ms).min(MINUTE_MS);
        self.parts = (self.parts + passed_ms * self.limit).min(self.limit * MINUTE_MS);
        self.filled_ms = now_ms;
        if self.used.is_some_and(|(_, at_ms)| now_ms.saturating_sub(at_ms) >= MINUTE_MS) {
            self.used = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::exchange::VENUES;

    #[test]
    fn i46_a_spent_bucket_says_how_long_and_fills_by_the_minute() {
        let mut budget = Budget::new(60, VENUES[0].terms(), 0);
        for _ in 0..6 {
            assert_eq!(budget.take(10, 0), Ok(()));
        }
        assert_eq!(budget.take(10, 0), Err(10_000), "10 of 60 come in a sixth of a minute");
        assert_eq!(budget.take(10, 9_999), Err(1));
        assert_eq!(budget.take(10, 10_000), Ok(()));
        assert_eq!(budget.take(60, 1_000_000), Ok(()), "it holds no more than a minute's");
        assert_eq!(budget.take(1, 1_000_000), Err(1_000));
    }

    #[test]
    fn i46_what_the_exchange_says_counts_above_our_own_sum() {
        let mut budget = Budget::new(1_200, VENUES[0].terms(), 0);
        budget.learn(2_155, 1_000);
        assert_eq!(budget.take(10, 2_000), Err(59_000), "others have used it up");
        assert_eq!(budget.take(5, 2_000), Ok(()));
        assert_eq!(budget.used(2_000), Some(2_155));
        assert_eq!(budget.take(10, 61_000), Ok(()), "a minute later it says nothing any more");
        assert_eq!(budget.used(61_000), None);
        budget.learn(u64::MAX, 61_000);
        assert!(budget.take(10, 61_000).is_err(), "whatever it says");
    }
}
