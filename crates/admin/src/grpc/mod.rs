//! The gRPC services, one file each: wire to domain, authorize, call `app`, domain to wire. `crate::auth` explains who may call
//! what.

mod audit;
mod convert;
mod event;
mod keys;
mod members;
mod peer;
mod projects;
mod sdks;
mod service;

pub(crate) use audit::AuditApi;
pub(crate) use keys::KeyApi;
pub(crate) use members::MemberApi;
pub(crate) use peer::PeerApi;
pub(crate) use projects::ProjectApi;
pub(crate) use sdks::SdkApi;
