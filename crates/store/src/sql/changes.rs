use keyward_domain::{Error, LoggedChange, Revision};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::convert::to_change;
use crate::entity::change;
use crate::error::{corrupt, unavailable};
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
            .map_err(|e| unavailable(&e))?;
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
}
