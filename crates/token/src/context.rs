//! What keys are derived for: the contexts of [`DigestKey::derive`](crate::DigestKey::derive), each spelled once.
//!
//! BLAKE3 asks that a context be hard-coded, unique to its purpose and never made from input. Changing one of these
//! strings changes the key: digests, chains and page tokens made before then no longer verify.

/// Digests of member credentials (`kwm_…`), so that they never meet the digests of project tokens.
pub const MEMBER_CREDENTIALS: &str = "keyward v1 member credentials";

/// The hash chain over the change log, which is also the audit log.
pub const AUDIT_CHAIN: &str = "keyward v1 audit chain";

/// Digests of project tokens. Validators are handed keys derived for this and never the digest keys themselves, so that a
/// validator that was broken into can neither forge the audit chain nor know the credentials of members.
pub const TOKEN_DIGESTS: &str = "keyward v1 token digests";

/// Integrity of the page tokens that list methods hand out.
pub const PAGE_TOKENS: &str = "keyward v1 page tokens";
