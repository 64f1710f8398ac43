#![doc = include_str!("../README.md")]

mod connect;
mod connection;
mod convert;
mod entity;
mod error;
mod migration;
mod seen;
mod sql;
mod suitable;
mod verify;
mod write;
mod writer;

pub use connect::{OpenError, Store};
pub use connection::{Carrier, Step, Work};
pub use sql::accept_epoch::AcceptedEpoch;
pub use sql::admin_node::Pulse;
pub use sql::change_key::ChangedKey;
pub use sql::change_member::ChangedMember;
pub use sql::create_key::CreatedKey;
pub use sql::create_member::CreatedMember;
pub use sql::create_project::CreatedProject;
pub use sql::events::Events;
pub use sql::head::Head;
pub use sql::hints::Hints;
pub use sql::image::History;
pub use sql::initialize::RootDraft;
pub use sql::issue_credential::IssuedCredential;
pub use sql::mend_history::{Bearing, Mended};
pub use sql::reveal_token::RevealedToken;
pub use sql::rotate_default_key::RotatedToken;
pub use sql::rotate_key::{RotatedKey, Rotation};
pub use verify::{Finding, LogHead, Verification};
pub use write::{Call, Mint, RequestStamp, SealedSecret};
