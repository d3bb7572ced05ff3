//! The density of a history: how many entries each piece of time has.

use crate::drive::film::PARTS;

/// Pieces of time in which entries are counted while the end is not known. [1]
const BINS_MAX: usize = 16 * PARTS;

/// Counts entries in pieces of time. The pieces grow with the range of time.
#[derive(Clone, Debug)]
pub(super) struct Density {
    from_ms: u64,
    width_ms: u64,
    bins: Vec<u32>,
}

impl Density {
    pub(super) fn over(from_ms: u64, to_ms: u64) -> Self {
        let span = to_ms.saturating_sub(from_ms);
        Self { from_ms, width_ms: span / BINS_MAX as u64 + 1, bins: Vec::new() }
    }

    pub(super) fn count(&mut self, ms: u64) {
        let mut bin = ms.saturating_sub(self.from_ms) / self.width_ms;
        while bin >= BINS_MAX as u64 {
            // Two pieces become one.
            self.bins = self.bins.chunks(2).map(|pair| pair.iter().fold(0, |sum, n| n.saturating_add(sum))).collect();
            self.width_ms = self.width_ms.saturating_mul(2);
            bin = ms.saturating_sub(self.from_ms) / self.width_ms;
        }
        let bin = usize::try_from(bin).unwrap_or(0);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] = self.bins[bin].saturating_add(1);
    }

    /// Returns the entries in each part of a time.
    pub(super) fn parts(&self, (from_ms, to_ms): (u64, u64)) -> Vec<u32> {
        let span = u128::from(to_ms.saturating_sub(from_ms).max(1));
        let mut parts = vec![0_u32; PARTS];
        for (bin, entries) in (0_u64..).zip(&self.bins) {
            let middle =
                self.from_ms.saturating_add(bin.saturating_mul(self.width_ms)).saturating_add(self.width_ms / 2);
            let part = u128::from(middle.saturating_sub(from_ms)) * PARTS as u128 / span;
            let part = &mut parts[usize::try_from(part).unwrap_or(PARTS).min(PARTS - 1)];
            *part = part.saturating_add(*entries);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_density_keeps_every_entry_while_the_time_grows() {
        let mut density = Density::over(1_000, 2_000);
        for ms in (1_000..2_000).chain((0..500).map(|n| 2_000 + n * 60_000)) {
            density.count(ms);
        }
        let parts = density.parts((1_000, 2_000 + 499 * 60_000));
        assert_eq!(parts.iter().sum::<u32>(), 1_500);
        assert!(parts[0] >= 1_000, "{parts:?}");
        assert!(parts[1..].iter().all(|n| (1..=6).contains(n)), "{parts:?}");
        assert!(density.bins.len() <= BINS_MAX);
    }
}
