//! What callers speak: each front finds the token, asks [`crate::validate`], and renders the answer.

pub(crate) mod answer;
pub(crate) mod credential;
pub(crate) mod ext_authz;
pub(crate) mod http_hook;
pub(crate) mod route;
pub(crate) mod validate_token;
