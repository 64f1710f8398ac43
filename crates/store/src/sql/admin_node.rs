use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Error, Position, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter};
use uuid::Uuid;

use crate::connect::Store;
use crate::entity::admin_node::{ActiveModel, Column, Entity, Model};
use crate::error::{TxError, corrupt, from_driver};
use crate::sql::head::read_head;
use crate::write::{begin, now};

/// What a heartbeat found.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The end of the log: everything that had been committed when the heartbeat was sent is at or before it.
    pub head: Position,
    /// Every life that may have leases in use, the asker's own included.
    pub nodes: Vec<AdminNode>,
    /// The database's wall clock.
    pub time: Timestamp,
}

/// The lives of the admin processes that share this database.
impl Store {
    /// Notes that a life begins, and at which URL other admins reach it, if at any. To be done before it reads anything. May
    /// be repeated when its outcome is unknown.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn register_admin(&self, life: AdminLife, lease: Duration, address: Option<&str>) -> Result<(), Error> {
        let lease_ms = i64::try_from(lease.as_millis()).map_err(corrupt)?;
        let row = ActiveModel {
            incarnation: Set(life.into()),
            lease_ms: Set(lease_ms),
            heartbeat: Set(0),
            address: Set(address.map(str::to_owned)),
        };
        let once = OnConflict::column(Column::Incarnation).do_nothing().to_owned();
        let insert = Entity::insert(row).on_conflict(once).exec_without_returning(&self.pulse()).await;
        insert.map(|_| ()).map_err(|e| from_driver(&e))
    }

    /// A heartbeat: durable when it returns. `None`: that life was struck off; it must grant nothing any more and begin
    /// another one.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: it is not known whether it was written.
    pub async fn heartbeat(&self, life: AdminLife) -> Result<Option<Heartbeat>, Error> {
        self.heartbeat_once(life).await.map_err(|error| match error {
            TxError::Answer(error) => error,
            TxError::Conflict(error) => from_driver(&error),
        })
    }

    /// A write, because a database that was replaced by another and does not know it would go on to answer reads.
    async fn heartbeat_once(&self, life: AdminLife) -> Result<Option<Heartbeat>, TxError> {
        let tx = begin(&self.pulse()).await?;
        let beaten = Entity::update_many()
            .col_expr(Column::Heartbeat, Expr::col(Column::Heartbeat).add(1))
            .filter(Column::Incarnation.eq(Uuid::from(life)))
            .exec(&tx)
            .await?;
        if beaten.rows_affected == 0 {
            return Ok(None);
        }
        let head = read_head(&tx).await?;
        let nodes = Entity::find().all(&tx).await?.iter().map(to_node).collect::<Result<_, _>>()?;
        let time = now(&tx).await?;
        tx.commit().await?;
        Ok(Some(Heartbeat { head, nodes, time }))
    }

    /// Strikes off a life, if it has had no heartbeat since it was listed. Whether it is gone now.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn evict_admin(&self, node: &AdminNode) -> Result<bool, Error> {
        let same = Column::Heartbeat.eq(node.heartbeat);
        let delete = Entity::delete_many().filter(Column::Incarnation.eq(Uuid::from(node.life))).filter(same);
        let deleted = delete.exec(&self.pulse()).await.map_err(|e| from_driver(&e))?;
        Ok(deleted.rows_affected > 0)
    }

    /// Strikes off one's own life. Only when nothing that it granted can be in use.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn deregister_admin(&self, life: AdminLife) -> Result<(), Error> {
        let deleted = Entity::delete_by_id(Uuid::from(life)).exec(&self.pulse()).await;
        deleted.map(|_| ()).map_err(|e| from_driver(&e))
    }
}

fn to_node(row: &Model) -> Result<AdminNode, Error> {
    let lease = Duration::from_millis(u64::try_from(row.lease_ms).map_err(corrupt)?);
    Ok(AdminNode { life: row.incarnation.into(), lease, heartbeat: row.heartbeat, address: row.address.clone() })
}
