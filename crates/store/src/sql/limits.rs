/// The LIMIT of a query that returns `limit` rows at most. Databases count in 63 bits, and sea-query panics beyond.
pub(crate) fn rows(limit: u64) -> u64 {
    limit.min(i64::MAX.unsigned_abs())
}
