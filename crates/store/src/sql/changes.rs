use keyward_domain::{Error, LoggedChange, Position, Revision};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::convert::to_change;
use crate::entity::change;
use crate::error::{corrupt, from_driver};
use crate::sql::rows;

impl Store {
    /// Up to `limit` changes after `after`, in order and without a gap.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` when the log has a gap.
    pub async fn changes_after(&self, after: Revision, limit: u64) -> Result<Vec<LoggedChange>, Error> {
        let rows = change::Entity::find()
            .filter(change::Column::Revision.gt(after.0))
            .order_by_asc(change::Column::Revision)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        in_order(rows, after)
    }

    /// The same after a place that was read before; `None`: the log does not have that place any more.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`; `INTERNAL` when the log has a gap.
    pub async fn changes_following(&self, place: &Position, limit: u64) -> Result<Option<Vec<LoggedChange>>, Error> {
        let mut rows = change::Entity::find()
            .filter(change::Column::Revision.gte(place.revision.0))
            .order_by_asc(change::Column::Revision)
            .limit(rows(limit.saturating_add(1)))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        if !rows.first().is_some_and(|row| row.revision == place.revision.0 && row.chain == place.chain) {
            return Ok(None);
        }
        rows.remove(0);
        in_order(rows, place.revision).map(Some)
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
