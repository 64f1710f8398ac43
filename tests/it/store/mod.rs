//! The conformance suite of the store: the guarantees of every database, through the public API of `keyward_store`.
//!
//! Each guarantee is one function over a [`Database`]. [`on_all!`] makes it a test on each of the three databases, and
//! [`on_durable!`] on the two that survive a restart, so that `cargo test store` lists each guarantee with its database. In the
//! full proof both also make it a test on each supported version of PostgreSQL. A guarantee that takes thousands of steps is
//! not tested on each version ([`large_on_all!`], [`large_on_durable!`]). A guarantee that only one of the databases can break
//! is a test of that one alone.

mod admin_nodes;
mod changes;
mod database;
mod forks;
mod image;
mod keys;
mod lists;
mod members;
mod open;
mod permissions;
mod projects;
mod requests;
mod rights;
mod rotation;
mod server;
mod verify;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use keyward_domain::{
    Error, Key, KeyDraft, KeyId, KeyName, LoggedChange, MemberDraft, MemberId, Permission, ProjectDraft, ProjectId,
    Reason, RequestId, Revision, Role, RoleBinding, Uid,
};
use keyward_store::{Call, RequestStamp, SealedSecret, SecretRecord, Store};
use keyward_token::Digest;

/// Makes guarantees tests on one database, in a module with its name.
macro_rules! tests_on {
    ($database:ident, $($guarantee:ident,)+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $guarantee() {
                    use super::*;
                    super::$guarantee(&Database::$database()).await;
                }
            )+
        }
    };
}
use tests_on;

/// Makes a guarantee a test on each version of PostgreSQL, in the full proof.
macro_rules! on_each_version {
    ($($guarantee:ident,)+) => {
        #[cfg(feature = "proof")]
        mod each_version {
            use super::*;

            crate::store::tests_on! { postgres_14, $($guarantee,)+ }
            crate::store::tests_on! { postgres_15, $($guarantee,)+ }
            crate::store::tests_on! { postgres_16, $($guarantee,)+ }
            crate::store::tests_on! { postgres_17, $($guarantee,)+ }
            crate::store::tests_on! { postgres_18, $($guarantee,)+ }
        }
    };
}
use on_each_version;

/// Makes a guarantee a test on each database.
macro_rules! on_all {
    ($($guarantee:ident,)+) => {
        crate::store::tests_on! { sqlite, $($guarantee,)+ }
        crate::store::tests_on! { postgres, $($guarantee,)+ }
        crate::store::tests_on! { memory, $($guarantee,)+ }
        crate::store::on_each_version! { $($guarantee,)+ }
    };
}
use on_all;

/// Makes a guarantee a test on SQLite and PostgreSQL. In memory it means nothing, because it opens the database again or
/// connects to it outside the store.
macro_rules! on_durable {
    ($($guarantee:ident,)+) => {
        mod durable {
            use super::*;

            crate::store::tests_on! { sqlite, $($guarantee,)+ }
            crate::store::tests_on! { postgres, $($guarantee,)+ }
            crate::store::on_each_version! { $($guarantee,)+ }
        }
    };
}
use on_durable;

/// Makes a guarantee of thousands of steps a test on each database.
macro_rules! large_on_all {
    ($($guarantee:ident,)+) => {
        mod large {
            use super::*;

            crate::store::tests_on! { sqlite, $($guarantee,)+ }
            crate::store::tests_on! { postgres, $($guarantee,)+ }
            crate::store::tests_on! { memory, $($guarantee,)+ }
        }
    };
}
use large_on_all;

/// Makes a guarantee of thousands of steps a test on SQLite and PostgreSQL.
macro_rules! large_on_durable {
    ($($guarantee:ident,)+) => {
        mod large {
            use super::*;

            crate::store::tests_on! { sqlite, $($guarantee,)+ }
            crate::store::tests_on! { postgres, $($guarantee,)+ }
        }
    };
}
use large_on_durable;

/// The head of a database that has root and the project `6666`.
const START: Revision = Revision(2);

/// A well-formed request id. Which one does not matter.
const REQUEST: &str = "3f8a2c6e-2b1d-4b7e-9d55-0c6a2f1f9a10";

// === Names ===

fn project_id(id: &str) -> ProjectId {
    ProjectId::parse(id).unwrap()
}

fn member_id(id: &str) -> MemberId {
    MemberId::parse(id).unwrap()
}

/// The name of a key of the project `6666`.
fn key_name(key: &str) -> KeyName {
    key_name_in("6666", key)
}

fn key_name_in(project: &str, key: &str) -> KeyName {
    KeyName { project: project_id(project), key: KeyId::parse(key).unwrap() }
}

// === Requests ===

/// The digest of the secret that the test knows by the name `of`.
fn digest(of: &str) -> Digest {
    Digest::from_bytes(*blake3::hash(of.as_bytes()).as_bytes())
}

fn sealed(of: &str) -> SealedSecret {
    SealedSecret { key_id: 7, bytes: format!("sealed {of}").into_bytes() }
}

/// What is stored of the secret that the test knows by the name `of`.
fn secret(of: &str) -> SecretRecord {
    let last4 = format!("{:0>4}", &of[of.len().saturating_sub(4)..]);
    SecretRecord { uid: Uid::generate(), digest: digest(of), digest_key_id: 1, last4, sealed: Some(sealed(of)) }
}

fn key_draft(name: KeyName) -> KeyDraft {
    KeyDraft::new(name, String::new(), "", None, BTreeMap::new()).unwrap()
}

fn project_draft(id: &str) -> ProjectDraft {
    let id = (!id.is_empty()).then(|| project_id(id));
    ProjectDraft::new(id, String::new()).unwrap()
}

fn member_draft(id: &str, roles: &[RoleBinding]) -> MemberDraft {
    MemberDraft::new(member_id(id), String::new(), roles.to_vec()).unwrap()
}

fn on_platform(role: Role) -> RoleBinding {
    RoleBinding::new(role, None).unwrap()
}

fn on_project(role: Role, project: &str) -> RoleBinding {
    RoleBinding::new(role, Some(project_id(project))).unwrap()
}

// === Calls ===

fn to_create_project(actor: &str) -> Call {
    Call {
        actor: member_id(actor),
        credential: None,
        permission: Permission::ProjectCreate,
        scope: None,
        request: None,
    }
}

fn to_create_member(actor: &str) -> Call {
    Call { actor: member_id(actor), credential: None, permission: Permission::MemberCreate, scope: None, request: None }
}

fn to_create_key(actor: &str, project: &str) -> Call {
    Call {
        actor: member_id(actor),
        credential: None,
        permission: Permission::KeyCreate,
        scope: Some(project_id(project)),
        request: None,
    }
}

fn to_deactivate_key(actor: &str, project: &str) -> Call {
    Call { permission: Permission::KeyDeactivate, ..to_create_key(actor, project) }
}

/// The call with a request id. `payload` stands for the hash of the request.
fn under(call: Call, method: &'static str, id: &str, payload: u8) -> Call {
    let id = RequestId::parse(id).unwrap().unwrap();
    Call { request: Some(RequestStamp { method, id, payload: [payload; 32] }), ..call }
}

// === Steps that must succeed ===

/// Root creates a project. The token of its default key is named by the project's id.
async fn create_project(store: &Store, id: &str) -> Key {
    let call = to_create_project("root");
    store.create_project(&call, &project_draft(id), 193_444, &secret(id)).await.unwrap().default_key
}

/// Root creates a key. Its token is named by the key's full name.
async fn create_key(store: &Store, name: &KeyName) -> Key {
    let call = to_create_key("root", name.project.as_str());
    store.create_key(&call, &key_draft(name.clone()), &secret(&name.to_string())).await.unwrap().key
}

/// Root deactivates a key.
async fn deactivate_key(store: &Store, name: &KeyName) -> Revision {
    store.deactivate_key(&to_deactivate_key("root", name.project.as_str()), name, "").await.unwrap().revision
}

/// Root creates a member. Its credential is named by its id.
async fn create_member(store: &Store, id: &str, roles: &[RoleBinding]) {
    store.create_member(&to_create_member("root"), &member_draft(id, roles), &secret(id)).await.unwrap();
}

/// The newest revision.
async fn head(store: &Store) -> Revision {
    store.head().await.unwrap().revision
}

/// The whole log.
async fn all_changes(store: &Store) -> Vec<LoggedChange> {
    store.changes_after(Revision(0), u64::MAX).await.unwrap()
}

// === What is expected ===

/// The reason of a step that must have failed.
#[track_caller]
fn refused<T: std::fmt::Debug>(step: Result<T, Error>) -> Reason {
    step.expect_err("this must be refused").reason()
}

/// The result of `future`. Returns `None` if it is pending more than `waits` times, and drops it there.
async fn give_up_after<F: Future>(waits: usize, future: F) -> Option<F::Output> {
    let (mut future, mut waited) = (pin!(future), 0);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}
