//! The rules of each method, free of transport: one file a method, with the name of the method.

pub(crate) mod accept_epoch;
pub(crate) mod activate_key;
pub(crate) mod create_key;
pub(crate) mod create_member;
pub(crate) mod create_project;
pub(crate) mod deactivate_key;
mod fence;
pub(crate) mod get_key;
pub(crate) mod get_member;
pub(crate) mod get_project;
pub(crate) mod grant_role;
pub(crate) mod issue_credential;
pub(crate) mod list_events;
pub(crate) mod list_keys;
pub(crate) mod list_members;
pub(crate) mod list_projects;
mod list_sdks;
pub(crate) mod lookup_key;
mod member;
mod page;
pub(crate) mod reveal_token;
pub(crate) mod revoke_credential;
pub(crate) mod revoke_role;
pub(crate) mod rotate_default_key;
pub(crate) mod rotate_key;
mod schedule;
mod service;
pub(crate) mod update_key;
pub(crate) mod verify_log;
pub(crate) mod wait_enforced;

pub(crate) use fence::{EnforcedBy, Receipt};
pub(crate) use member::MemberView;
pub(crate) use page::{Page, PageRequest};
pub use service::{App, AppOptions};
