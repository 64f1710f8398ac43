use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "admin_node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub incarnation: Uuid,
    pub lease_ms: i64,
    pub heartbeat: i64,
    pub address: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
