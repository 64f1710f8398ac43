use keyward_domain::{Error, LoggedChange, Position, Revision};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::convert::to_change;
use crate::entity::change;
use crate::error::{corrupt, from_driver};
use crate::sql::limits::rows;
use crate::store::Store;

impl Store {
    /// Up to `limit` changes after the revision `after`, in order and without a gap.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` if the log has a gap.
    pub async fn changes_after(&self, after: Revision, limit: u64) -> Result<Vec<LoggedChange>, Error> {
        let rows = change::Entity::find()
            .filter(change::Column::Revision.gt(after.0))
            .order_by_asc(change::Column::Revision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
        in_order(rows, after)
    }

    /// Up to `limit` changes after a position that was read before, in order and without a gap. Returns `None` if the log no
    /// longer contains the position.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` if the log has a gap.
    pub async fn changes_following(&self, position: &Position, limit: u64) -> Result<Option<Vec<LoggedChange>>, Error> {
        let mut rows = change::Entity::find()
            .filter(change::Column::Revision.gte(position.revision.0))
            .order_by_asc(change::Column::Revision)
            .limit(rows(limit.saturating_add(1)))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
        if !rows.first().is_some_and(|row| row.revision == position.revision.0 && row.chain == position.chain) {
            return Ok(None);
        }
        rows.remove(0);
        in_order(rows, position.revision).map(Some)
    }
}

fn in_order(rows: Vec<change::Model>, after: Revision) -> Result<Vec<LoggedChange>, Error> {
    let changes = rows.into_iter().map(to_change).collect::<Result<Vec<_>, _>>()?;
    let mut expected = after;
    for change in &changes {
        expected = expected.next();
        if change.revision != expected {
            return Err(corrupt(format!("the change log lacks revision {expected}")));
        }
    }
    Ok(changes)
}
