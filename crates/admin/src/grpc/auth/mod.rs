//! Authentication as a tower layer: no call gets past it without a member, but for those that the table gives to anyone.

mod layer;
mod service;

pub(crate) use layer::AuthLayer;

use std::sync::Arc;

use keyward_domain::{Error, Member};
use tonic::Request;

/// The member that calls; put into the request's extensions by the layer.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<Member>);

/// The member behind a request. A request without one came around the layer, and goes no further.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Arc<Member>, Error> {
    let caller = request.extensions().get::<Caller>().ok_or_else(Error::credential_missing)?;
    Ok(Arc::clone(&caller.0))
}
