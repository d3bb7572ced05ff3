//! Random numbers that are the same on every machine.

/// Returns the next number of SplitMix64, and advances its state.
pub const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The numbers of a seed.
pub struct Random(pub u64);

impl Random {
    pub const fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// Returns a number from 0 to `end`, without `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
