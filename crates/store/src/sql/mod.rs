//! One file per operation; every query about keys takes the project.

pub(crate) mod accept_epoch;
pub(crate) mod activate_key;
pub(crate) mod admin_node;
pub(crate) mod change_key;
pub(crate) mod change_member;
pub(crate) mod changes;
pub(crate) mod create_key;
pub(crate) mod create_member;
pub(crate) mod create_project;
pub(crate) mod deactivate_key;
pub(crate) mod events;
pub(crate) mod get;
mod grant_role;
pub(crate) mod head;
pub(crate) mod hints;
pub(crate) mod image;
pub(crate) mod initialize;
pub(crate) mod issue_credential;
pub(crate) mod list;
mod matching;
pub(crate) mod repair_history;
pub(crate) mod reveal_token;
mod revoke_credential;
mod revoke_role;
pub(crate) mod rotate_default_key;
pub(crate) mod rotate_key;
mod scheduled;
mod setting;
pub(crate) mod sign_head;
mod update_key;

/// How many rows a query may return at most: databases count in 63 bits, and sea-query panics beyond.
pub(crate) fn rows(limit: u64) -> u64 {
    limit.min(i64::MAX.unsigned_abs())
}
