//! The transaction in which every change runs: authorize, read, lock the head of the log, write rows and log entry, commit.
//!
//! Queries that lock rows request the locks on both databases. SQLite has no row locks, and sea-query omits the clause there;
//! SQLite needs none, because it runs one writing transaction at a time.

use std::time::Duration;

use keyward_domain::{
    Change, Error, MemberId, Permission, Position, ProjectId, RequestId, Revision, Timestamp, allows,
};
use keyward_token::Digest;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter};

use crate::clock::now;
use crate::connection::Transaction;
use crate::convert::{to_change, to_role};
use crate::entity::{credential, request, role_binding};
use crate::error::{TxError, corrupt};
use crate::log::chain::{Author, append, entry_at};
use crate::log::head::{lock_head, move_head, read_head};
use crate::log::notifications::notify;
use crate::remembered::{Trust, forged, trust};
use crate::row_mac::Authentic;
use crate::secret::SealedSecret;
use crate::store::Store;

/// How long a request id identifies a retry.
const REQUEST_ID_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A member's request to change something.
#[derive(Clone, Debug)]
pub struct Call {
    /// The member that calls.
    pub actor: MemberId,
    /// Digest of the credential that authenticated the member; the call fails if it is revoked by now. `None` if Keyward
    /// itself acts in the member's name: no credential is checked then.
    pub credential: Option<Digest>,
    /// The permission that the method needs.
    pub permission: Permission,
    /// The project on which the permission is needed; `None` for the deployment.
    pub scope: Option<ProjectId>,
    /// Identifies a retry of the request; `None` if the caller gave no request id.
    pub request: Option<RequestStamp>,
}

/// What a request and its retries have in common.
#[derive(Clone, Debug)]
pub struct RequestStamp {
    /// The method's name, such as `CreateKey`.
    pub method: &'static str,
    /// The caller's id for the request.
    pub id: RequestId,
    /// Hash of the request without its id.
    pub payload: [u8; 32],
}

/// The outcome of an earlier request with the same id.
pub(crate) struct Replay {
    pub(crate) resource: String,
    pub(crate) revision: Revision,
    /// The secret in the first answer; `None` if it was not kept.
    pub(crate) sealed: Option<SealedSecret>,
}

/// A transaction that is about to change something. Dropped before its commit, it is rolled back.
pub(crate) struct Write<'a> {
    pub(crate) tx: Transaction,
    authority: Authority<'a>,
    store: &'a Store,
}

/// What permits a write.
#[derive(Clone, Copy)]
enum Authority<'a> {
    /// A member's call, which the transaction authorizes.
    Call(&'a Call),
    /// A deactivation that this member scheduled. It was authorized when it was scheduled, and is not authorized again.
    Schedule(&'a MemberId),
}

/// The log entry that a transaction is about to write. The head of the log is locked until the transaction ends.
pub(crate) struct NextEntry {
    pub(crate) revision: Revision,
    /// The database's wall clock, read under the lock, so that times are in the order of revisions.
    pub(crate) time: Timestamp,
    /// The head of the log: the position before the entry.
    pub(crate) head: Position,
}

impl Store {
    /// Begins a transaction for a member's call, and authorizes the call.
    pub(crate) async fn begin<'a>(&'a self, call: &'a Call) -> Result<Write<'a>, TxError> {
        let tx = self.writer().begin_write().await?;
        let write = Write { tx, authority: Authority::Call(call), store: self };
        write.authorize().await?;
        Ok(write)
    }

    /// Begins a transaction for a deactivation that `scheduler` scheduled.
    pub(crate) async fn begin_scheduled<'a>(&'a self, scheduler: &'a MemberId) -> Result<Write<'a>, TxError> {
        let tx = self.writer().begin_write().await?;
        Ok(Write { tx, authority: Authority::Schedule(scheduler), store: self })
    }
}

impl Write<'_> {
    /// Authorizes the call: its credential must not be revoked, and the actor's roles must permit it. keyward-admin checks
    /// rights before it calls the store, on roles read earlier, to choose the error that a caller sees; the checks here
    /// decide what is committed.
    ///
    /// Each transaction authorizes twice:
    ///
    /// 1. In [`Store::begin`], before it reads anything else. A caller without the right learns nothing about the rows, and
    ///    calls that change nothing are authorized although they never lock the head.
    /// 2. In [`Write::next_entry`], with the head of the log locked. Revoking a role or a credential takes the same lock, so
    ///    no change commits after the revision that revoked its right.
    ///
    /// A lock on the actor's role bindings could replace the second check, but would cost more: a shared lock lets a member
    /// that never stops writing delay the revocation of its roles for ever, and an exclusive lock makes the member's writers
    /// take turns.
    async fn authorize(&self) -> Result<(), TxError> {
        let Authority::Call(call) = self.authority else { return Ok(()) };
        if let Some(digest) = &call.credential {
            let row = credential::Entity::find_by_id(digest.as_bytes().to_vec()).one(&self.tx).await?;
            if row.is_none_or(|row| row.revoke_time.is_some() || row.member_id != call.actor.as_str()) {
                return Err(Error::credential_invalid().into());
            }
        }
        let rows = role_binding::Entity::find()
            .filter(role_binding::Column::MemberId.eq(call.actor.as_str()))
            .all(&self.tx)
            .await?;
        let roles = rows.into_iter().map(to_role).collect::<Result<Vec<_>, _>>()?;
        if allows(&roles, call.permission, call.scope.as_ref()) {
            Ok(())
        } else {
            Err(Error::permission_denied(call.permission.as_str()).into())
        }
    }

    /// The member in whose name the change is made.
    pub(crate) const fn actor(&self) -> &MemberId {
        match self.authority {
            Authority::Call(call) => &call.actor,
            Authority::Schedule(scheduler) => scheduler,
        }
    }

    /// What the log entry records of the authority.
    const fn author(&self) -> Author<'_> {
        let credential = match self.authority {
            Authority::Call(call) => call.credential.as_ref(),
            Authority::Schedule(_) => None,
        };
        Author { member: self.actor(), credential }
    }

    const fn request(&self) -> Option<&RequestStamp> {
        match self.authority {
            Authority::Call(call) => call.request.as_ref(),
            Authority::Schedule(_) => None,
        }
    }

    /// The outcome of the earlier request, if this one is a retry. `resource` is the resource that this request names; `None` if
    /// Keyward chooses the name.
    ///
    /// Call this after the query for the requested name, and before refusing a name that is taken. Each statement in
    /// PostgreSQL sees what was committed before the statement began. In the other order, a request whose twin commits
    /// between the two statements would find no earlier request, then find its own result, and refuse the name as taken.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` if the id came with another payload; `INTERNAL` if the row of the earlier request was changed outside
    /// Keyward.
    pub(crate) async fn replay(&self, resource: Option<&str>) -> Result<Option<Replay>, TxError> {
        let Some(stamp) = self.request() else { return Ok(None) };
        let id = (self.actor().to_string(), stamp.method.to_owned(), stamp.id.to_string());
        let Some(row) = request::Entity::find_by_id(id).one(&self.tx).await? else { return Ok(None) };
        if row.create_time < now(&self.tx).await?.minus(REQUEST_ID_LIFE).as_micros() {
            return Ok(None);
        }
        let trust = trust(&self.tx, self.store, &row).await?;
        if trust == Trust::None {
            return Err(forged(&row).into());
        }
        if row.payload != stamp.payload || resource.is_some_and(|resource| resource != row.resource) {
            return Err(Error::request_id_reused().into());
        }
        self.check_history().await?;
        let sealed = match trust {
            Trust::Whole => SealedSecret::from_columns(row.sealing_key_id, row.sealed)?,
            Trust::WithoutSecret | Trust::None => None,
        };
        Ok(Some(Replay { resource: row.resource, revision: Revision(row.revision), sealed }))
    }

    /// Fails if the log lacks a position that this process has seen. For calls that change nothing: their caller waits for a
    /// revision, which must exist in the history that validators follow.
    pub(crate) async fn check_history(&self) -> Result<(), TxError> {
        let head = read_head(&self.tx).await?;
        self.store.check_history(&self.tx, &head).await
    }

    /// The change that the log has at a revision.
    ///
    /// # Errors
    /// `INTERNAL` if the entry is missing, or Keyward did not write it.
    pub(crate) async fn change_at(&self, revision: Revision) -> Result<Change, TxError> {
        let row = entry_at(&self.tx, &self.store.chain_key, revision.0).await?;
        let row = row.ok_or_else(|| corrupt(format!("the change log lacks revision {revision}, or it was changed")))?;
        Ok(to_change(row)?.change)
    }

    /// Locks the head of the log, authorizes the call once more ([`Write::authorize`]), and returns the entry to be written.
    /// The head is the last lock that a transaction takes, so that transactions hold it briefly and never deadlock.
    pub(crate) async fn next_entry(&self) -> Result<NextEntry, TxError> {
        let head = lock_head(&self.tx, &self.store.chain_key).await?;
        self.store.check_history(&self.tx, &head).await?;
        self.authorize().await?;
        let time = now(&self.tx).await?;
        Ok(NextEntry { revision: head.revision.next(), time, head })
    }

    /// Writes the log entry, remembers the request, moves the head and commits. `sealed` is the secret of the answer, for a
    /// retry.
    pub(crate) async fn commit(
        self,
        next: NextEntry,
        change: &Change,
        sealed: Option<&SealedSecret>,
    ) -> Result<(), TxError> {
        self.remember(&change.resource(), &next, sealed).await?;
        self.commit_entry(next, change).await
    }

    /// Writes the log entry, moves the head and commits. The request is not remembered.
    pub(crate) async fn commit_entry(self, next: NextEntry, change: &Change) -> Result<(), TxError> {
        let key = &self.store.chain_key;
        let head = append(&self.tx, key, &next.head, next.time, self.author(), change).await?;
        notify(&self.tx).await?;
        move_head(&self.tx, key, &head).await?;
        self.tx.commit().await?;
        self.store.record_seen(head);
        Ok(())
    }

    /// Stores the outcome for retries of the request, and deletes outcomes that are too old.
    async fn remember(&self, resource: &str, next: &NextEntry, sealed: Option<&SealedSecret>) -> Result<(), TxError> {
        let Some(stamp) = self.request() else { return Ok(()) };
        let oldest = next.time.minus(REQUEST_ID_LIFE).as_micros();
        request::Entity::delete_many().filter(request::Column::CreateTime.lt(oldest)).exec(&self.tx).await?;
        let (sealing_key_id, sealed) = SealedSecret::to_columns(sealed)?;
        let mut row = request::Model {
            member_id: self.actor().to_string(),
            method: stamp.method.to_owned(),
            request_id: stamp.id.to_string(),
            payload: stamp.payload.to_vec(),
            resource: resource.to_owned(),
            revision: next.revision.0,
            sealed,
            sealing_key_id,
            create_time: next.time.as_micros(),
            mac: None,
        };
        row.mac = Some(row.mac(&self.store.row_key).to_vec());
        // `reset_all` marks every column as set: sea-orm takes the columns of a model for stored already.
        request::ActiveModel::from(row).reset_all().insert(&self.tx).await?;
        Ok(())
    }
}
