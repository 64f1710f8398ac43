use keyward_domain::{Change, Error, Key, KeyState};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::convert::{from_state, to_key};
use crate::entity::key;
use crate::error::from_driver;
use crate::retry::retry;
use crate::sql::change_key::{ChangedKey, KeyChange};
use crate::sql::limits::rows;
use crate::store::Store;

/// Scheduled deactivations that are due.
impl Store {
    /// Active keys whose scheduled deactivation is due by the database's clock, the longest overdue first.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn due_deactivations(&self, limit: u64) -> Result<Vec<Key>, Error> {
        let now = self.now().await?;
        let due = key::Entity::find()
            .filter(key::Column::ScheduledDeactivateTime.lte(now.as_micros()))
            .filter(key::Column::Scheduler.is_not_null())
            .filter(key::Column::State.eq(from_state(KeyState::Active)))
            .order_by_asc(key::Column::ScheduledDeactivateTime)
            .limit(rows(limit))
            .all(&self.reader())
            .await
            .map_err(from_driver)?;
        // An unreadable row must not keep the other keys active. Methods that return the key report it.
        Ok(due.into_iter().filter_map(|row| to_key(row).ok()).collect())
    }

    /// Deactivates a key that [`Self::due_deactivations`] returned, in the name of the member that scheduled it. The
    /// member's rights were checked when the member scheduled the deactivation. Returns `None` if the key was deactivated or
    /// scheduled anew meanwhile, so that only one of several admins that try succeeds.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn deactivate_scheduled(&self, due: &Key) -> Result<Option<ChangedKey>, Error> {
        let Some(schedule) = &due.schedule else { return Ok(None) };
        let change = KeyChange {
            is_done: &|key| key.state != KeyState::Active || key.schedule.as_ref() != Some(schedule),
            apply: &|key, next| key.deactivated(&schedule.by, "", next.time, next.revision),
            log: |before, after| Change::KeyDeactivated { before, after },
        };
        retry(|| self.change_scheduled_key_once(&schedule.by, &due.name, &change)).await
    }
}
