#![doc = include_str!("../README.md")]

mod admin_node;
mod change;
mod credential;
mod entry;
mod error;
pub mod filter;
mod id;
mod issuance;
mod key;
mod key_filter;
mod log;
mod member;
mod project;
mod reason;
mod refusal;
mod remote;
mod right;
mod rule;
mod text;
mod time;
mod token_sources;
mod uuid_id;
mod verdict;

pub use admin_node::AdminNode;
pub use change::{
    Change, Event, EventFilter, KeyEntry, KeyRecord, LoggedChange, TokenEntry, TokenRecord, WithheldToken,
};
pub use credential::{Credential, CredentialId, CredentialName};
pub use entry::Entry;
pub use error::{Error, OnField, Resource, Violation};
pub use id::{KeyId, KeyName, MemberId, ProjectId, RequestId, Uid};
pub use issuance::Issuance;
pub use key::{EnforcedState, Key, KeyDraft, KeyState, KeyUpdate, Patch, Platform, Schedule};
pub use key_filter::KeyFilter;
pub use log::{AdminLife, Epoch, Position, ProvenPosition, Revision};
pub use member::{Member, MemberDraft, Permission, Role, RoleBinding, allows, allows_somewhere};
pub use project::{Project, ProjectDraft};
pub use reason::{Kind, Reason};
pub use refusal::Refusal;
pub use remote::{AddressError, Exposed, Remote, is_local};
pub use right::RequiredRight;
pub use rule::Rule;
pub use time::Timestamp;
pub use token_sources::{Presented, TokenSources};
pub use verdict::{Expectation, TokenFacts, Verdict, evaluate};
