//! Randomness of the operating system: the one thing this crate asks of the world outside.

use zeroize::Zeroizing;

/// The operating system gave no random bytes.
///
/// Likely cause: a sandbox that forbids `getrandom(2)` and hides `/dev/urandom`. Trying again seldom helps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct EntropyError(#[source] getrandom::Error);

/// Fills `buffer` with random bytes fit for keys.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(buffer).map_err(EntropyError)
}

/// A new 256-bit key.
pub(crate) fn key() -> Result<Zeroizing<[u8; 32]>, EntropyError> {
    let mut key = Zeroizing::new([0; 32]);
    fill(key.as_mut_slice())?;
    Ok(key)
}

#[cfg(test)]
impl EntropyError {
    /// What a machine without randomness would answer.
    pub(crate) const UNSUPPORTED: Self = Self(getrandom::Error::UNSUPPORTED);
}
