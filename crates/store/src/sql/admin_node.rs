use std::time::Duration;

use keyward_domain::{AdminLife, AdminNode, Error, Position, Timestamp};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter};
use uuid::Uuid;

use crate::clock::now;
use crate::entity::admin_node::{ActiveModel, Column, Entity, Model};
use crate::error::{TxError, corrupt, from_driver};
use crate::log::head::read_head;
use crate::store::Store;

/// The result of a heartbeat: the state of the database when it was written.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The head of the log. Everything committed before the heartbeat was sent is at or before it.
    pub head: Position,
    /// Every admin life whose leases may be in use, including the caller's own.
    pub nodes: Vec<AdminNode>,
    /// The database's wall clock.
    pub time: Timestamp,
}

/// The rows of the admin lives that share this database.
impl Store {
    /// Adds the row of an admin life, with its longest lease and the URL at which other admins reach it, if any. Must be called
    /// before the process reads anything. May be repeated if the outcome is unknown.
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
        let insert = Entity::insert(row).on_conflict(once).exec_without_returning(&self.heartbeats()).await;
        insert.map(|_| ()).map_err(from_driver)
    }

    /// Writes a heartbeat, which is durable when this returns. Returns `None` if the life was evicted: it must grant no more
    /// leases, and the process must begin another life.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`: the heartbeat may or may not have been written.
    pub async fn heartbeat(&self, life: AdminLife) -> Result<Option<Heartbeat>, Error> {
        Ok(self.heartbeat_once(life).await?)
    }

    /// A heartbeat writes, because a database server that lost its role to another one without notice still answers reads.
    async fn heartbeat_once(&self, life: AdminLife) -> Result<Option<Heartbeat>, TxError> {
        let tx = self.heartbeats().begin_write().await?;
        let updated = Entity::update_many()
            .col_expr(Column::Heartbeat, Expr::col(Column::Heartbeat).add(1))
            .filter(Column::Incarnation.eq(Uuid::from(life)))
            .exec(&tx)
            .await?;
        if updated.rows_affected == 0 {
            return Ok(None);
        }
        let head = read_head(&tx).await?;
        let nodes = Entity::find().all(&tx).await?.iter().map(to_node).collect::<Result<_, _>>()?;
        let time = now(&tx).await?;
        tx.commit().await?;
        Ok(Some(Heartbeat { head, nodes, time }))
    }

    /// Deletes the row of an admin life that has had no heartbeat since it was listed. Returns `true` if this call deleted it.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn evict_admin(&self, node: &AdminNode) -> Result<bool, Error> {
        let is_silent = Column::Heartbeat.eq(node.heartbeat);
        let delete = Entity::delete_many().filter(Column::Incarnation.eq(Uuid::from(node.life))).filter(is_silent);
        let deleted = delete.exec(&self.heartbeats()).await.map_err(from_driver)?;
        Ok(deleted.rows_affected > 0)
    }

    /// Deletes the row of the caller's own life. Allowed only when none of its leases can be in use.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn deregister_admin(&self, life: AdminLife) -> Result<(), Error> {
        let deleted = Entity::delete_by_id(Uuid::from(life)).exec(&self.heartbeats()).await;
        deleted.map(|_| ()).map_err(from_driver)
    }
}

fn to_node(row: &Model) -> Result<AdminNode, Error> {
    let lease = Duration::from_millis(u64::try_from(row.lease_ms).map_err(corrupt)?);
    Ok(AdminNode { life: row.incarnation.into(), lease, heartbeat: row.heartbeat, address: row.address.clone() })
}
