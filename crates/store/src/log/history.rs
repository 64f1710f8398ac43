//! Compares positions with the log, to detect a database that has lost changes.

use keyward_domain::{Error, Position};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::entity::{change, history_fork};
use crate::error::{TxError, from_driver};
use crate::log::head::read_head;
use crate::store::Store;

/// How a position compares with the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PositionStatus {
    /// The log contains the position.
    InLog,
    /// The log lacks the position, and a fork that the log records explains that.
    KnownLost,
    /// The log lacks the position, and no recorded fork explains that: the database has lost changes.
    NewlyLost,
}

impl Store {
    /// Compares a position with the log. Returns the status and the head of the log.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn position_status(&self, position: &Position) -> Result<(PositionStatus, Position), Error> {
        let reader = self.reader();
        let head = read_head(&reader).await?;
        Ok((status_of(&reader, &head, position).await.map_err(from_driver)?, head))
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

    /// Fails if the log lacks a position that this process has seen. A change committed to such a log would be waited for in
    /// the history that validators follow, where it does not exist.
    pub(crate) async fn check_history(&self, db: &impl ConnectionTrait, head: &Position) -> Result<(), TxError> {
        let (published, newest) = {
            let seen = self.seen();
            (seen.published(), seen.newest())
        };
        // Both are checked: a position seen after the published one may belong to another history.
        for position in published.into_iter().chain(newest) {
            // Usually the position is the head itself, and needs no query.
            let found = position == *head || (position.epoch == head.epoch && is_in_log(db, &position).await?);
            if !found {
                return Err(Error::history_changed().into());
            }
        }
        Ok(())
    }
}

/// Compares a position with the log that ends at `head`.
pub(crate) async fn status_of(
    db: &impl ConnectionTrait,
    head: &Position,
    position: &Position,
) -> Result<PositionStatus, DbErr> {
    let is_current = position.epoch == head.epoch;
    let is_known = is_current || {
        let is = |column: history_fork::Column| column.eq(Uuid::from(position.epoch));
        let any = Condition::any()
            .add(is(history_fork::Column::Epoch))
            .add(is(history_fork::Column::Former))
            .add(is(history_fork::Column::Lost));
        history_fork::Entity::find().filter(any).one(db).await?.is_some()
    };
    Ok(match (is_known, is_in_log(db, position).await?) {
        (false, _) => PositionStatus::NewlyLost,
        (true, true) => PositionStatus::InLog,
        (true, false) if is_current => PositionStatus::NewlyLost,
        (true, false) => PositionStatus::KnownLost,
    })
}

/// Returns `true` if the log contains the position, in whichever epoch the log has continued.
pub(crate) async fn is_in_log(db: &impl ConnectionTrait, position: &Position) -> Result<bool, DbErr> {
    let row = change::Entity::find_by_id(position.revision.0).one(db).await?;
    Ok(row.is_some_and(|row| row.chain == position.chain))
}
