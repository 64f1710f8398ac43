use keyward_domain::{Change, Error, Key, KeyState, Permission};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::convert::to_key;
use crate::entity::key;
use crate::error::from_driver;
use crate::sql::change_key::{Alteration, ChangedKey};
use crate::sql::rows;
use crate::write::{Call, retry};

/// Deactivations whose time has come.
impl Store {
    /// Active keys that are to be deactivated by now, by the database's clock; the longest overdue first.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn due_deactivations(&self, limit: u64) -> Result<Vec<Key>, Error> {
        let now = self.now().await?;
        let due = key::Entity::find()
            .filter(key::Column::ScheduledDeactivateTime.lte(now.as_micros()))
            .filter(key::Column::Scheduler.is_not_null())
            .filter(key::Column::State.eq("active"))
            .order_by_asc(key::Column::ScheduledDeactivateTime)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(|e| from_driver(&e))?;
        // One that cannot be read must not keep the others alive; whoever looks at it is told.
        Ok(due.into_iter().filter_map(|row| to_key(row).ok()).collect())
    }

    /// Deactivates a key whose time has come, in the name of whoever scheduled it: the right was asked for then. Does
    /// nothing if the schedule is another one by now, so that of many who try one does it. Whether this call did.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn deactivate_scheduled(&self, due: &Key) -> Result<Option<ChangedKey>, Error> {
        let Some(schedule) = &due.schedule else { return Ok(None) };
        let call = Call {
            actor: schedule.by.clone(),
            credential: None,
            permission: Permission::KeyDeactivate,
            scope: Some(due.name.project.clone()),
            request: None,
        };
        let alteration = Alteration {
            is_done: &|key| key.state != KeyState::Active || key.schedule.as_ref() != Some(schedule),
            apply: &|key, place| key.deactivated(&schedule.by, "", place.time, place.revision),
            log: |before, after| Change::KeyDeactivated { before, after },
        };
        retry!(self.change_key_unasked_once(&call, &due.name, &alteration))
    }
}
