//! The one shape of every change: authorize, look, lock the counter, write rows and log entry, commit.
//!
//! Queries that lock rows say so for both databases. SQLite knows no such locks (sea-query leaves them out) and needs
//! none: its writers are alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyward_domain::{
    Change, Epoch, Error, MemberId, Permission, Position, ProjectId, RequestId, Revision, Timestamp, Uid, allows,
};
use keyward_token::{Digest, DigestKey};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseBackend, DbErr, EntityTrait, QueryFilter, QuerySelect,
    SqliteTransactionMode, Statement, TransactionOptions,
};

use crate::connect::Store;
use crate::connection::{Connection, Transaction};
use crate::convert::{to_chain, to_change, to_role};
use crate::entity::{change, counter, credential, request, role_binding};
use crate::error::{TxError, corrupt};
use crate::sql::head::read_head;
use crate::sql::hints::announce;

/// How long a request id protects a retry.
const REQUEST_ID_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a transaction that lost a race is run again.
const ATTEMPTS: u32 = 5;

/// Who wants to change something, and by what right.
#[derive(Clone, Debug)]
pub struct Call {
    /// The member that calls.
    pub actor: MemberId,
    /// What it proved itself with, which must not be revoked; `None`: the platform acts in its name.
    pub credential: Option<Digest>,
    /// What the method needs.
    pub permission: Permission,
    /// On which project; `None`: on the platform.
    pub scope: Option<ProjectId>,
    /// What makes a retry recognizable.
    pub request: Option<RequestStamp>,
}

/// A request as a retry of it would look.
#[derive(Clone, Debug)]
pub struct RequestStamp {
    /// The method's name, as `CreateKey`.
    pub method: &'static str,
    /// The caller's id for the request.
    pub id: RequestId,
    /// Hash of the request without its id.
    pub payload: [u8; 32],
}

/// A secret as the database may hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSecret {
    /// Which sealing key.
    pub key_id: u32,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

/// A new token's traces: everything that is stored of it.
#[derive(Clone, Debug)]
pub struct SecretRecord {
    /// The uid of the key or member that it is for; bound into `sealed`.
    pub uid: Uid,
    /// What it is looked up by.
    pub digest: Digest,
    /// Which digest key made the digest.
    pub digest_key_id: u32,
    /// Its last four characters.
    pub last4: String,
    /// The token, sealed; `None` without a sealing key.
    pub sealed: Option<SealedSecret>,
}

/// What a request did before, when this one is a retry of it.
pub(crate) struct Replay {
    pub(crate) resource: String,
    pub(crate) revision: Revision,
    pub(crate) sealed: Option<SealedSecret>,
}

/// A transaction that is about to change something.
pub(crate) struct Write<'a> {
    pub(crate) tx: Transaction,
    call: &'a Call,
    /// Whether the actor must have the right now.
    asked: bool,
    store: &'a Store,
}

/// A place in the log, taken: the counter row is locked until the transaction ends.
pub(crate) struct Place {
    pub(crate) revision: Revision,
    /// Read under the lock, so that times are in the order of revisions.
    pub(crate) time: Timestamp,
    previous_chain: [u8; 32],
    pub(crate) epoch: Epoch,
}

impl Place {
    /// The newest revision there is, for a transaction that gives its place back.
    pub(crate) const fn newest(&self) -> Revision {
        Revision(self.revision.0 - 1)
    }
}

impl Store {
    /// Begins a transaction for an actor that may do `call`.
    pub(crate) async fn begin<'a>(&'a self, call: &'a Call) -> Result<Write<'a>, TxError> {
        let write = Write { tx: begin(&self.writer()).await?, call, asked: true, store: self };
        write.authorize().await?;
        Ok(write)
    }

    /// Begins a transaction for what the actor was allowed before, and the platform does now.
    pub(crate) async fn begin_unasked<'a>(&'a self, call: &'a Call) -> Result<Write<'a>, TxError> {
        Ok(Write { tx: begin(&self.writer()).await?, call, asked: false, store: self })
    }
}

/// Runs a transaction again for as long as another one got in between.
macro_rules! retry {
    ($once:expr) => {{
        let mut attempt = 1;
        loop {
            match $once.await {
                Ok(done) => break Ok(done),
                Err($crate::error::TxError::Answer(error)) => break Err(error),
                Err($crate::error::TxError::Conflict(error)) => {
                    $crate::write::after_conflict(&mut attempt, &error).await?
                }
            }
        }
    }};
}
pub(crate) use retry;

/// Waits a little, or gives up.
pub(crate) async fn after_conflict(attempt: &mut u32, error: &DbErr) -> Result<(), Error> {
    if *attempt >= ATTEMPTS {
        return Err(crate::error::from_driver(error));
    }
    tokio::time::sleep(Duration::from_millis(5 << *attempt)).await;
    *attempt += 1;
    Ok(())
}

/// SQLite: IMMEDIATE, because a transaction that turns from reading to writing gets SQLITE_BUSY at once.
pub(crate) async fn begin(connection: &Connection) -> Result<Transaction, DbErr> {
    let options =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    connection.begin(options).await
}

/// The database's wall clock.
pub(crate) async fn now(connection: &impl ConnectionTrait) -> Result<Timestamp, TxError> {
    let backend = connection.get_database_backend();
    if backend == DatabaseBackend::Sqlite {
        // The embedded database has the clock of this process.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(corrupt)?;
        return Ok(Timestamp::default().plus(since));
    }
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
    let row = connection.query_one_raw(Statement::from_string(backend, sql)).await?;
    let micros = row.ok_or_else(|| corrupt("no time"))?.try_get::<i64>("", "now")?;
    Ok(Timestamp::from_micros(micros))
}

// === impl Write ===

impl Write<'_> {
    /// Checks the actor's credential and its roles as they are now.
    async fn authorize(&self) -> Result<(), TxError> {
        if !self.asked {
            return Ok(());
        }
        if let Some(digest) = &self.call.credential {
            let row = credential::Entity::find_by_id(digest.as_bytes().to_vec()).one(&self.tx).await?;
            if row.is_none_or(|row| row.revoke_time.is_some() || row.member_id != self.call.actor.as_str()) {
                return Err(Error::credential_invalid().into());
            }
        }
        let rows = role_binding::Entity::find()
            .filter(role_binding::Column::MemberId.eq(self.call.actor.as_str()))
            .all(&self.tx)
            .await?;
        let roles = rows.into_iter().map(to_role).collect::<Result<Vec<_>, _>>()?;
        if allows(&roles, self.call.permission, self.call.scope.as_ref()) {
            Ok(())
        } else {
            Err(Error::permission_denied(self.call.permission.as_str()).into())
        }
    }

    pub(crate) fn actor(&self) -> &MemberId {
        &self.call.actor
    }

    /// What this request did before, if it is a retry.
    ///
    /// Ask after looking whether the wished name is taken, and before refusing because it is. PostgreSQL shows each
    /// statement what was committed until then: asked first, a request whose twin commits between the two statements
    /// would not know its own result again.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when the id came with another payload.
    pub(crate) async fn replay(&self) -> Result<Option<Replay>, TxError> {
        let Some(stamp) = &self.call.request else { return Ok(None) };
        let id = (self.call.actor.to_string(), stamp.method.to_owned(), stamp.id.to_string());
        let Some(row) = request::Entity::find_by_id(id).one(&self.tx).await? else { return Ok(None) };
        if row.create_time < now(&self.tx).await?.minus(REQUEST_ID_LIFE).as_micros() {
            return Ok(None);
        }
        if row.payload != stamp.payload {
            return Err(Error::request_id_reused().into());
        }
        self.check_history().await?;
        let sealed = match (row.sealing_key_id, row.sealed) {
            (Some(id), Some(bytes)) => Some(SealedSecret { key_id: u32::try_from(id).map_err(corrupt)?, bytes }),
            _ => None,
        };
        Ok(Some(Replay { resource: row.resource, revision: Revision(row.revision), sealed }))
    }

    /// Refuses to answer, from a history that has forked, what would be waited for in another.
    pub(crate) async fn check_history(&self) -> Result<(), TxError> {
        let head = read_head(&self.tx).await?;
        self.store.check_history(&self.tx, &head).await
    }

    /// What the log says at a revision.
    pub(crate) async fn change_at(&self, revision: Revision) -> Result<Change, TxError> {
        let row = change::Entity::find_by_id(revision.0).one(&self.tx).await?;
        Ok(to_change(row.ok_or_else(|| corrupt(format!("the change log lacks revision {revision}")))?)?.change)
    }

    /// Locks the counter row and takes the next place in the log. Called last before the writes: it is a leaf lock.
    ///
    /// Then asks for the actor's right again. Whoever takes a role away has a place in the log for that too, so no change
    /// commits after the one that took its right away. A lock on the roles themselves would do the same, but shared it
    /// lets a member that never stops writing keep its roles for ever, and exclusive it makes its writers take turns.
    pub(crate) async fn take_place(&self) -> Result<Place, TxError> {
        let head = lock_head(&self.tx, &self.store.chain_key).await?;
        self.store.check_history(&self.tx, &head).await?;
        self.authorize().await?;
        let time = now(&self.tx).await?;
        let Position { epoch, revision, chain: previous_chain } = head;
        Ok(Place { revision: revision.next(), time, previous_chain, epoch })
    }

    /// Writes the log entry, remembers the request, moves the counter and commits.
    pub(crate) async fn commit(
        self,
        place: Place,
        change: &Change,
        sealed: Option<&SealedSecret>,
    ) -> Result<(), TxError> {
        let resource = change.resource();
        let text = serde_json::to_string(change).map_err(corrupt)?;
        let entry = Entry {
            revision: place.revision,
            time: place.time,
            actor: &self.call.actor,
            resource: &resource,
            project: change.project(),
            change: &text,
        };
        let chain = entry.chain(&self.store.chain_key, &place.previous_chain);
        entry.insert(&self.tx, chain).await?;
        self.remember(&resource, &place, sealed).await?;
        announce(&self.tx).await?;
        let head = Position { epoch: place.epoch, revision: place.revision, chain };
        move_counter(&self.tx, &self.store.chain_key, &head).await?;
        self.tx.commit().await?;
        self.store.record_seen(head);
        Ok(())
    }

    async fn remember(&self, resource: &str, place: &Place, sealed: Option<&SealedSecret>) -> Result<(), TxError> {
        let Some(stamp) = &self.call.request else { return Ok(()) };
        let oldest = place.time.minus(REQUEST_ID_LIFE).as_micros();
        request::Entity::delete_many().filter(request::Column::CreateTime.lt(oldest)).exec(&self.tx).await?;
        let row = request::ActiveModel {
            member_id: Set(self.call.actor.to_string()),
            method: Set(stamp.method.to_owned()),
            request_id: Set(stamp.id.to_string()),
            payload: Set(stamp.payload.to_vec()),
            resource: Set(resource.to_owned()),
            revision: Set(place.revision.0),
            sealed: Set(sealed.map(|s| s.bytes.clone())),
            sealing_key_id: Set(sealed.map(|s| i32::try_from(s.key_id)).transpose().map_err(corrupt)?),
            create_time: Set(place.time.as_micros()),
        };
        row.insert(&self.tx).await?;
        Ok(())
    }
}

/// Locks the counter row, and returns the head.
pub(crate) async fn lock_head(tx: &Transaction, key: &DigestKey) -> Result<Position, TxError> {
    let row = counter::Entity::find_by_id(1).lock_exclusive().one(tx).await?;
    let row = row.ok_or_else(|| corrupt("no revision counter"))?;
    let head = Position { epoch: row.epoch.into(), revision: Revision(row.revision), chain: to_chain(&row.chain)? };
    // Nothing is built on a head that somebody else has made: it would be covered up for good.
    if row.mac.is_none_or(|found| found != mac(key, &head)) {
        return Err(corrupt("the head of the change log was changed past Keyward").into());
    }
    Ok(head)
}

/// A log entry about to be written.
pub(crate) struct Entry<'a> {
    pub(crate) revision: Revision,
    pub(crate) time: Timestamp,
    pub(crate) actor: &'a MemberId,
    pub(crate) resource: &'a str,
    /// Not in the hash: the change tells it.
    pub(crate) project: Option<&'a ProjectId>,
    pub(crate) change: &'a str,
}

impl Entry<'_> {
    /// The chain value: keyed BLAKE3 over the previous one and every column, each text with its length before it so
    /// that no two entries hash alike.
    pub(crate) fn chain(&self, key: &DigestKey, previous: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(previous);
        hasher.update(&self.revision.0.to_be_bytes());
        hasher.update(&self.time.as_micros().to_be_bytes());
        for text in [self.actor.as_str(), self.resource, self.change] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    pub(crate) async fn insert(&self, tx: &Transaction, chain: [u8; 32]) -> Result<(), TxError> {
        let row = change::ActiveModel {
            revision: Set(self.revision.0),
            chain: Set(chain.to_vec()),
            time: Set(self.time.as_micros()),
            actor: Set(self.actor.to_string()),
            resource: Set(self.resource.to_owned()),
            project_id: Set(self.project.map(ToString::to_string)),
            change: Set(self.change.to_owned()),
        };
        row.insert(tx).await?;
        Ok(())
    }
}

/// The chain value that a row must have.
pub(crate) fn chain_of(row: &change::Model, key: &DigestKey, previous: &[u8; 32]) -> [u8; 32] {
    let entry = Entry {
        revision: Revision(row.revision),
        time: Timestamp::from_micros(row.time),
        actor: &MemberId::from_store(row.actor.clone()),
        resource: &row.resource,
        project: None,
        change: &row.change,
    };
    entry.chain(key, previous)
}

/// What shows that a head was made by whoever has the keyring. Nothing else in the database tells what an earlier one
/// was, so whoever cuts the log's end off cannot take the head back with it; and nothing is written on another head.
pub(crate) fn mac(key: &DigestKey, head: &Position) -> [u8; 32] {
    // Shorter than any entry, so it can be taken for none.
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(head.epoch.as_bytes()).update(&head.revision.0.to_be_bytes()).update(&head.chain);
    *hasher.finalize().as_bytes()
}

/// Moves the head of the log.
pub(crate) async fn move_counter(tx: &Transaction, key: &DigestKey, head: &Position) -> Result<(), TxError> {
    let row = counter::ActiveModel {
        id: Set(1),
        revision: Set(head.revision.0),
        chain: Set(head.chain.to_vec()),
        epoch: Set(head.epoch.into()),
        mac: Set(Some(mac(key, head).to_vec())),
    };
    row.update(tx).await?;
    Ok(())
}
