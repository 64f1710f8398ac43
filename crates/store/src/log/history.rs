//! Looks positions up in the log, to detect a database that has lost changes.

use keyward_domain::{Error, Position};
use keyward_protocol::log::{EpochRecord, LogRelation, continues};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::entity::{change, history_fork};
use crate::error::{TxError, corrupt, from_driver};
use crate::log::head::read_head;
use crate::store::Store;

impl Store {
    /// Looks a position up in the log. Returns its relation to the log, and the head of the log.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn log_relation(&self, position: &Position) -> Result<(LogRelation, Position), Error> {
        let reader = self.reader();
        let head = read_head(&reader).await?;
        Ok((relation(&reader, &head, position).await.map_err(from_driver)?, head))
    }

    /// The head of the log, if the log still contains every position that this process has seen.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, also if the log lacks one.
    pub async fn checked_head(&self) -> Result<Position, Error> {
        let reader = self.reader();
        let head = read_head(&reader).await?;
        self.check_history(&reader, &head).await?;
        Ok(head)
    }

    /// Fails if the log lacks a position that this process has seen.
    pub(crate) async fn check_history(&self, db: &impl ConnectionTrait, head: &Position) -> Result<(), TxError> {
        let required = self.seen().required();
        for position in required {
            // Usually the position is the head itself, and needs no query.
            let in_log = position == *head || is_in_log(db, &position).await?;
            if !continues(head, &position, in_log) {
                return Err(Error::history_changed().into());
            }
        }
        Ok(())
    }
}

/// Fails if the log does not contain its own head. Entries that are written over such a gap would hide it for good.
pub(crate) async fn check_head_in_log(db: &impl ConnectionTrait, head: &Position) -> Result<(), TxError> {
    if is_in_log(db, head).await? {
        return Ok(());
    }
    Err(corrupt(format!("the change log does not contain its head, revision {}", head.revision)).into())
}

/// Looks a position up in the log that ends at `head`.
pub(crate) async fn relation(
    db: &impl ConnectionTrait,
    head: &Position,
    position: &Position,
) -> Result<LogRelation, DbErr> {
    Ok(LogRelation::new(epoch_record(db, head, position).await?, is_in_log(db, position).await?))
}

async fn epoch_record(db: &impl ConnectionTrait, head: &Position, position: &Position) -> Result<EpochRecord, DbErr> {
    if position.epoch == head.epoch {
        return Ok(EpochRecord::Current);
    }
    let is = |column: history_fork::Column| column.eq(Uuid::from(position.epoch));
    let any = Condition::any()
        .add(is(history_fork::Column::Epoch))
        .add(is(history_fork::Column::Former))
        .add(is(history_fork::Column::Lost));
    let fork = history_fork::Entity::find().filter(any).one(db).await?;
    Ok(fork.map_or(EpochRecord::Unknown, |_| EpochRecord::Former))
}

/// Returns `true` if the log has an entry with the revision and the chain value of the position, in whichever epoch the log
/// has continued.
pub(crate) async fn is_in_log(db: &impl ConnectionTrait, position: &Position) -> Result<bool, DbErr> {
    let row = change::Entity::find_by_id(position.revision.0).one(db).await?;
    Ok(row.is_some_and(|row| row.chain == position.chain))
}
