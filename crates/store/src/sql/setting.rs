use keyward_domain::Error;
use sea_orm::ActiveValue::Set;
use sea_orm::EntityTrait;
use sea_orm::sea_query::OnConflict;

use crate::entity::setting;
use crate::error::from_driver;
use crate::store::Store;

/// Settings of the deployment, by name.
impl Store {
    /// The value of a setting; `None` if it was never set.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        let row = setting::Entity::find_by_id(name).one(&self.reader()).await.map_err(from_driver)?;
        Ok(row.map(|row| row.value))
    }

    /// Sets a setting. The value is durable when this returns.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn put_setting(&self, name: &str, value: &str) -> Result<(), Error> {
        let row = setting::ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()) };
        let replace = OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned();
        let put = setting::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.writer()).await;
        put.map(|_| ()).map_err(from_driver)
    }
}
