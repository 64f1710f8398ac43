//! Authentication (which member calls) and authorization (may this member call this method on this resource).
//!
//! A call passes five stations, each at the first moment at which its question can be answered:
//!
//! 1. **Layer**, before the message is read: [`AuthLayer`], a tower layer around every gRPC service. It finds the member by
//!    the credential of the header `authorization`. A member that has the method's permission nowhere is denied. The
//!    [`Caller`] travels in the request's extensions, together with the permission, so no handler names a permission.
//! 2. **Access table**, which the layer reads: [`access`] lists each method with its permission. A method that it does not
//!    list is denied.
//! 3. **Second lookup**, when the message has arrived: `grpc::service` reads the member from the database again, because a
//!    client may send its message long after the headers.
//! 4. **Resource**: the handler parses the name of the resource and asks the caller for an [`Authorized`]
//!    ([`Caller::on_project`] and its siblings): the proof that the permission holds on that resource. The functions of `app`
//!    take the proof instead of a name, so none of them can run unchecked. A resource of a project that the caller may not
//!    see does not exist for it: the answer is `…_NOT_FOUND`, not `PERMISSION_DENIED`. Methods on keys and projects ask
//!    before they parse the rest of the request, so a refused caller learns nothing from field violations.
//! 5. **Transaction**, for a change: [`Authorized::call`] turns the proof into the store's `Call`. The store compares it with
//!    the credential and the roles in the database twice: at the start of the transaction, and again under the lock of the
//!    counter row, so that no change commits at a revision after the one that revoked the right.
//!
//! A method that only reads ends with station 4. ListProjects, ListSdks, WaitEnforced and WhoAmI name no resource, so
//! stations 1 to 3 decide alone; ListProjects lists only projects that the caller may see.
//!
//! A `Sync` stream outlives all stations. It passes 1 and 2, its member is read again once the session is registered, and the
//! change log ends the session when it shows that its credential or role is revoked. Calls between admins (`Barrier`, `Hint`)
//! reveal nothing about keys and change nothing, so they end with station 2. The validator in the same process as the admin
//! connects over a channel that only this process holds, without a credential.
//!
//! Which role gives which permission is decided in one `match` of `keyward_domain`'s `Role`.

mod access;
mod authenticate;
mod authorized;
mod caller;
mod layer;
mod service;

pub(crate) use authorized::Authorized;
pub(crate) use caller::{Caller, caller_of};
pub(crate) use layer::AuthLayer;
