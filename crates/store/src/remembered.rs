//! Rows of remembered requests: which of them Keyward wrote.

#[cfg(feature = "simulation")]
use keyward_domain::Timestamp;
use keyward_domain::{Entry, Error};
#[cfg(feature = "simulation")]
use sea_orm::{ActiveModelTrait, EntityTrait};
use sea_orm::{ConnectionTrait, DbErr};

use crate::entity::request;
use crate::error::corrupt;
#[cfg(feature = "simulation")]
use crate::error::from_driver;
use crate::log::chain::entry_at;
use crate::row_mac::Authentic;
use crate::store::Store;

/// What may be believed of the row of a remembered request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// Every column.
    Whole,
    /// The row has no MAC, as a version before 2026-11-28 writes it, and the log has the change. The log does not have the
    /// secret, so the row's secret must not be returned.
    WithoutSecret,
    /// Nothing: the row was changed outside Keyward.
    None,
}

/// What may be believed of the row.
pub(crate) async fn trust(db: &impl ConnectionTrait, store: &Store, row: &request::Model) -> Result<Trust, DbErr> {
    if row.is_authentic(&store.row_key) {
        return Ok(Trust::Whole);
    }
    if row.mac.is_some() {
        return Ok(Trust::None);
    }
    let entry = entry_at(db, &store.chain_key, row.revision).await?;
    // Versions that write MACs also write the credential of each call into its entry.
    let is_logged = entry.is_some_and(|entry| {
        let is_of_row = entry.actor == row.member_id && entry.resource == row.resource && entry.time == row.create_time;
        is_of_row && Entry::from_json(&entry.change).is_ok_and(|entry| entry.credential.is_none())
    });
    Ok(if is_logged { Trust::WithoutSecret } else { Trust::None })
}

/// The error for a row that Keyward did not write.
pub(crate) fn forged(row: &request::Model) -> Error {
    tracing::error!(
        member = row.member_id,
        method = row.method,
        request_id = row.request_id,
        "a remembered request was changed outside Keyward: its retry is refused"
    );
    corrupt("a remembered request was changed outside Keyward")
}

/// Ages of remembered requests, for tests: no test waits for a day.
#[cfg(feature = "simulation")]
impl Store {
    /// Makes every remembered request older by `by`.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn age_requests(&self, by: std::time::Duration) -> Result<(), Error> {
        let tx = self.writer().begin_write().await.map_err(from_driver)?;
        for row in request::Entity::find().all(&tx).await.map_err(from_driver)? {
            let create_time = Timestamp::from_micros(row.create_time).minus(by).as_micros();
            let mut row = request::Model { create_time, ..row };
            row.mac = Some(row.mac(&self.row_key).to_vec());
            request::ActiveModel::from(row).reset_all().update(&tx).await.map_err(from_driver)?;
        }
        tx.commit().await.map_err(from_driver)
    }
}
