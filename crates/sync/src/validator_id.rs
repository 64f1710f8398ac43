/// Returns `true` if `id` may name a process that keeps a replica, in logs and receipts: 1 to 64 letters, digits and
/// hyphens.
pub fn is_validator_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
