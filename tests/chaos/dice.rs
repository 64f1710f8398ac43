//! Choices that a seed makes.

/// Marsaglia's xorshift64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of one who chooses; each has others under the same seed.
    pub(crate) const fn of(seed: u64, who: u64) -> Self {
        // SplitMix64's finalizer: neighbours get nothing alike, and nobody gets zero, which xorshift would never leave.
        let mut mixed = seed.wrapping_add(who.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// From `low` to below `high`.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (self.0 >> 11) % (high - low)
    }

    /// A place in a list of so many.
    pub(crate) const fn place(&mut self, count: usize) -> usize {
        self.between(0, count as u64) as usize
    }

    /// Brings a list into another order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.place(last + 1));
        }
    }
}
