#![doc = include_str!("../README.md")]

mod clock;
mod connection;
mod convert;
mod entity;
mod error;
mod log;
mod migration;
mod open;
mod pools;
mod remembered;
mod retry;
mod row_mac;
mod secret;
mod sql;
mod store;
mod verify;
mod write;

#[cfg(feature = "simulation")]
pub use connection::simulation;
pub use log::notifications::LogNotifications;
pub use open::error::{DatabaseAt, OpenError};
pub use open::exposure::check_exposure;
pub use open::renew::RenewError;
pub use open::url::UrlError;
pub use secret::{IssuedSecret, SealedSecret, SecretRecord};
pub use sql::accept_epoch::AcceptedEpoch;
pub use sql::admin_node::Heartbeat;
pub use sql::change_key::ChangedKey;
pub use sql::change_member::ChangedMember;
pub use sql::create_key::CreatedKey;
pub use sql::create_member::CreatedMember;
pub use sql::create_project::CreatedProject;
pub use sql::events::Events;
pub use sql::image::History;
pub use sql::issue_credential::IssuedCredential;
pub use sql::repair_history::HistoryRepair;
pub use sql::reveal_token::RevealedToken;
pub use sql::rotate_default_key::RotatedToken;
pub use sql::rotate_key::{RotatedKey, Rotation};
pub use store::Store;
pub use verify::{Finding, LogHead, Verification};
pub use write::{Call, RequestStamp};
