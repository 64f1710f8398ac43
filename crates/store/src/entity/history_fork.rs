use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "history_fork")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub epoch: Uuid,
    pub former: Uuid,
    pub lost: Uuid,
    pub time: i64,
    pub accept_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
