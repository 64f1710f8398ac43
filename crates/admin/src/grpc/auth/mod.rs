//! Authentication as a tower layer: no call gets past it without a member, but for those that the table gives to anyone.

mod layer;
mod service;

pub(crate) use layer::AuthLayer;

use std::sync::Arc;

use keyward_domain::{Error, Member};
use keyward_token::Digest;
use tonic::Request;

/// Who calls; put into the request's extensions by the layer.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The member.
    pub(crate) member: Arc<Member>,
    /// What it proved itself with.
    pub(crate) credential: Digest,
}

/// The member behind a request. A request without one came around the layer, and goes no further.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Arc<Member>, Error> {
    let caller = request.extensions().get::<Caller>().ok_or_else(Error::credential_missing)?;
    Ok(Arc::clone(&caller.member))
}
