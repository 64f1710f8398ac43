//! The protocols of callers. Each front finds the token, calls [`crate::validate`], and renders the answer.

mod batch_validate_tokens;
mod ext_authz;
mod gate;
mod http_hook;
mod route;
mod stream_validate_tokens;
mod validate_service;
mod validate_token;

pub(crate) use ext_authz::ExtAuthzApi;
pub(crate) use gate::Gate;
pub(crate) use http_hook::router;
pub(crate) use validate_service::ValidateApi;
