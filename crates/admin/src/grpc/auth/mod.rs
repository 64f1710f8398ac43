//! Authentication as a tower layer: no call gets past it without a member, but for those that the table gives to
//! anyone.

mod layer;
mod service;

pub(crate) use layer::AuthLayer;

use keyward_domain::Error;
use tonic::Request;

use crate::app::Caller;

/// Who calls, as the layer put it into the request's extensions. A request without one came around the layer, and goes
/// no further.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Error> {
    request.extensions().get::<Caller>().cloned().ok_or_else(Error::credential_missing)
}
