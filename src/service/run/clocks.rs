//! The clocks of the servers in a round. Without a cluster there is one.

use crate::shell::redis::Round;

/// The clocks of the servers in a round. [µs since 1970]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Of the server that has the lease.
    pub home_us: u64,
    pub slowest_us: u64,
    pub fastest_us: u64,
}

impl Clocks {
    pub fn of(round: &Round) -> Self {
        Self { home_us: round.time_us, slowest_us: round.slowest_time_us(), fastest_us: round.fastest_time_us() }
    }

    /// Returns the difference of the clocks. A server that answers late adds to it. [ms]
    pub const fn apart_ms(self) -> u64 {
        (self.fastest_us - self.slowest_us) / 1000
    }

    /// Returns the time up to which everything was read, by the clock of the server that has the lease. [ms since 1970]
    ///
    /// The watermark covers the clocks of all servers. Suppose the fastest clock is 3 s ahead of ours: an entry with
    /// the id 10:00:03 was added there at our 10:00:00. So a watermark of 10:00:03 proves only that everything up to
    /// 10:00:00 was read.
    pub const fn home_watermark_ms(self, watermark_ms: u64) -> u64 {
        watermark_ms.saturating_sub((self.fastest_us - self.home_us) / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_of_a_server_whose_clock_is_ahead_is_older_than_its_ids_say() {
        let alone = Clocks { home_us: 10_000_000, slowest_us: 10_000_000, fastest_us: 10_000_000 };
        assert_eq!((alone.apart_ms(), alone.home_watermark_ms(9_990)), (0, 9_990));
        // Another server is 3 s ahead: all that is known is what happened 3 s ago.
        let ahead = Clocks { fastest_us: 13_000_000, ..alone };
        assert_eq!((ahead.apart_ms(), ahead.home_watermark_ms(10_000)), (3_000, 7_000));
        // Another is 3 s behind: it keeps the watermark back by itself.
        let behind = Clocks { slowest_us: 7_000_000, ..alone };
        assert_eq!((behind.apart_ms(), behind.home_watermark_ms(7_000)), (3_000, 7_000));
    }
}
