//! The gRPC services: one file a method (wire to domain, call `app`, domain to wire), and who may call what.

mod accept_epoch;
pub(crate) mod access;
mod activate_key;
pub(crate) mod auth;
mod convert;
mod create_key;
mod create_member;
mod create_project;
mod deactivate_key;
mod event;
mod get_key;
mod get_member;
mod get_project;
mod grant_role;
mod issue_credential;
mod list_events;
mod list_keys;
mod list_members;
mod list_projects;
mod list_sdks;
mod lookup_key;
mod peer;
mod reveal_token;
mod revoke_credential;
mod revoke_role;
mod rotate_default_key;
mod rotate_key;
mod services;
mod update_key;
mod verify_log;
mod wait_enforced;
mod who_am_i;

pub(crate) use peer::PeerApi;
pub(crate) use services::{AuditApi, KeyApi, MemberApi, ProjectApi, SdkApi};
