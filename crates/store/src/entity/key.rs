use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub uid: Uuid,
    pub project_id: String,
    pub key_id: String,
    pub state: String,
    pub default_key: bool,
    pub description: String,
    pub platform: String,
    pub last4: String,
    pub creator: String,
    pub create_time: i64,
    pub update_time: i64,
    pub deactivator: Option<String>,
    pub deactivate_time: Option<i64>,
    pub expire_time: Option<i64>,
    pub scheduled_deactivate_time: Option<i64>,
    pub scheduler: Option<String>,
    pub replaces: Option<String>,
    pub replaced_by: Option<String>,
    pub annotations: String,
    pub create_revision: i64,
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
