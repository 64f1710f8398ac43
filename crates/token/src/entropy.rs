//! Random bytes from the operating system, the only external input of this crate.

use zeroize::Zeroizing;

/// The operating system provided no random bytes.
///
/// Likely cause: a sandbox that forbids `getrandom(2)` and hides `/dev/urandom`. A retry rarely helps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct EntropyError(#[source] getrandom::Error);

/// Fills `buffer` with random bytes of cryptographic quality.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(buffer).map_err(EntropyError)
}

/// Generates a 256-bit key.
pub(crate) fn key() -> Result<Zeroizing<[u8; 32]>, EntropyError> {
    let mut key = Zeroizing::new([0; 32]);
    fill(key.as_mut_slice())?;
    Ok(key)
}

#[cfg(test)]
impl EntropyError {
    /// The error of a machine without a source of randomness.
    pub(crate) const UNSUPPORTED: Self = Self(getrandom::Error::UNSUPPORTED);
}
