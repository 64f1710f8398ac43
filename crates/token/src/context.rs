//! Contexts of [`DigestKey::derive`](crate::DigestKey::derive): one string for each purpose of a derived key.
//!
//! BLAKE3 requires a context to be hard-coded, unique to its purpose, and independent of any input. Changing a context
//! changes the derived key: digests, chain values and page tokens made with the old key no longer verify.

/// Digests of member credentials (`kwm_…`). Keeps them separate from the digests of key tokens.
pub const MEMBER_CREDENTIALS: &str = "keyward v1 member credentials";

/// The hash chain over the change log, which is also the audit log.
pub const AUDIT_CHAIN: &str = "keyward v1 audit chain";

/// Digests of key tokens. Validators receive keys derived for this purpose, never the digest keys of the keyring. So a
/// compromised validator can neither forge the audit chain nor compute digests of member credentials.
pub const TOKEN_DIGESTS: &str = "keyward v1 token digests";

/// MACs of database rows. Derived from the key of [`AUDIT_CHAIN`], which the store has, so that the MAC of a row is never a
/// chain value.
pub const ROW_MACS: &str = "keyward v1 row macs";

/// Integrity of the page tokens that list methods return.
pub const PAGE_TOKENS: &str = "keyward v1 page tokens";

/// Integrity of the files in a backup.
pub const BACKUPS: &str = "keyward v1 backups";
