//! Random choices, determined by a seed.

/// Marsaglia's xorshift64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Returns the generator of one task. Each task has another sequence under the same seed.
    pub(crate) const fn of(seed: u64, task: u64) -> Self {
        // SplitMix64's finalizer: neighbouring seeds give unrelated states. No state may be zero, which xorshift would
        // never leave.
        let mut mixed = seed.wrapping_add(task.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// Returns a number from `low` to below `high`.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (self.0 >> 11) % (high - low)
    }

    /// Returns an index into a list of that length.
    pub(crate) const fn index(&mut self, count: usize) -> usize {
        self.between(0, count as u64) as usize
    }

    /// Shuffles a list.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.index(last + 1));
        }
    }
}
